# SPDX-License-Identifier: GPL-2.0
"""The command line of the lab: one verb each for what a person may want."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lab import chroot, config, debugverbs, fuzzverb, hostileverb, peersverb, soakverb, verbs, vm
from lab.core import Lab
from lab.report import LabError, Reporter


def toolchain_exec(lab: Lab, argv: list[str]) -> int:
    """Replace this process by a command in the toolchain root."""
    if not argv:
        argv = ["/bin/bash"]
    cwd = Path.cwd()
    if chroot.inside():
        os.execvp(argv[0], argv)
    root = lab.roots.toolchain()
    binds = [config.checkout()]
    if not any(cwd.is_relative_to(b) for b in (*binds, lab.cache.root)):
        cwd = config.checkout()
    full = chroot.command(root, lab.cache.root, argv, cwd, binds)
    env = chroot.environment(lab.cache.root, dict(os.environ))
    env.setdefault("ISER_RELEASE", lab.versions.release)
    lab.cache.inherit()
    sys.stdout.flush()
    os.execvpe(full[0], full, env)


def cmd_toolchain(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `toolchain`: build the root, print things about it, run in it."""
    what = args.what
    if what == "exec":
        rest = args.rest[1:] if args.rest[:1] == ["--"] else args.rest
        return toolchain_exec(lab, rest)
    if what == "release":
        print(lab.versions.release)
    elif what == "kdir":
        print(f"/usr/src/linux-headers-{lab.versions.release}")
    elif what == "path":
        print(lab.roots.toolchain())
    elif what == "update":
        lab.refresh()
        lab.roots.toolchain()
    else:
        lab.report.line(f"toolchain root for {lab.versions.release}: {lab.roots.toolchain()}")
        lab.report.line("next: iser-lab toolchain exec -- make")
    return 0


def guest_command(script: str, arguments: list[str]) -> list[str]:
    """The command for a script of the checkout, or for a program of the guest."""
    path = Path(script)
    for candidate in (path, config.checkout() / path):
        if candidate.is_file():
            full = candidate.resolve()
            if not full.is_relative_to(config.checkout()):
                raise LabError(f"{full} is not in the checkout, and only that is seen in the guest")
            return [str(full), *arguments]
    if "/" in script:
        raise LabError(f"{script} does not exist")
    return [script, *arguments]


def prefixed(role: str) -> Callable[[bytes], None]:
    """Pass a machine's output on with its role before each line."""
    held = b""

    def sink(chunk: bytes) -> None:
        nonlocal held
        *rows, held = (held + chunk).split(b"\n")
        for row in rows:
            vm.to_stdout(role.encode() + b": " + row + b"\n")
    return sink


def cmd_make(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `make`: make in the toolchain root, for the stock kernel."""
    argv = ["make", f"KDIR={verbs.kdir(lab)}", *args.arguments]
    if chroot.inside():
        return toolchain_exec(lab, argv)
    with verbs.building(lab) as lock:
        # make keeps it.
        os.set_inheritable(lock, True)
        return toolchain_exec(lab, argv)


def pairs(words: list[str]) -> dict[str, str]:
    """Read NAME=VALUE arguments."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise LabError(f"--env {word}: write it as NAME=VALUE")
        found[name] = value
    return found


def cmd_run(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `run`: one command in one machine, or in each of two."""
    command = guest_command(args.script, args.arguments)
    env = pairs(args.env)
    out = vm.results_dir(lab.cache, "run") if not args.out else Path(args.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    options: dict[str, object] = {
        "kernel_choice": args.kernel, "append": tuple(args.append), "extra": tuple(args.qemu)}
    if args.accel:
        options["accel"] = args.accel
    if args.memory:
        options["memory"] = args.memory
    if args.two:
        commands = {role: [*command, role] for role in ("target", "initiator")}
        verdicts = lab.run_two(out, commands, env, args.timeout,
                               {r: prefixed(r) for r in commands}, **options)
    else:
        verdicts = {"guest": lab.run_one(out, command, env, args.timeout, **options)}
    report = Reporter(sys.stderr, start=lab.report.start)
    status = 0
    for role, verdict in verdicts.items():
        if verdict.status:
            status = status or verdict.status
            vm.explain(report, verdict, role)
    report.line(f"ended after {max(v.seconds for v in verdicts.values()):.1f} s in the machine, "
                f"exit status {status}; logs: {out}")
    return status


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="iser-lab",
                                  description="Roots and virtual machines for ib_iser_rs.")
    add = top.add_subparsers(dest="verb", required=True, metavar="VERB").add_parser

    tool = add("toolchain", help="the root that builds: build, exec -- CMD, "
                            "release, kdir, path, update")
    tool.add_argument("what", nargs="?", default="build",
                      choices=("build", "exec", "release", "kdir", "path", "update"))
    tool.add_argument("rest", nargs=argparse.REMAINDER)
    tool.set_defaults(run=cmd_toolchain)

    run = add("run", help="run a script of the checkout as root in a virtual machine")
    run.add_argument("--timeout", type=float, default=config.RUN_SECONDS, metavar="SECONDS")
    run.add_argument("--kernel",
                     help="`stock`, `debug`, or a directory with vmlinuz, modules.img, initramfs.gz")
    run.add_argument("--two", action="store_true",
                     help="two machines: the script gets `target` or `initiator` as last argument")
    run.add_argument("--accel", choices=("kvm", "tcg", "icount"))
    run.add_argument("--memory", type=int, metavar="MIB")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--append", action="append", default=[], metavar="WORD",
                     help="add to the kernel command line")
    run.add_argument("--qemu", action="append", default=[], metavar="ARG", help="add to QEMU's")
    run.add_argument("--out", metavar="DIR", help="where the results go")
    run.add_argument("script")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    run.set_defaults(run=cmd_run)

    for name, function, text in (
            ("demo", verbs.cmd_demo, "from a bare Debian to verified data over iSER"),
            ("shell", verbs.cmd_shell, "the demo's guest, module loaded, target up, and a prompt")):
        verb = add(name, help=text)
        verb.add_argument("--driver", choices=("rust", "c"),
                          default=os.environ.get("ISER_DRIVER", "rust"))
        verb.add_argument("--target", choices=("lio", "tgt"),
                          default=os.environ.get("ISER_TARGET", "lio"))
        verb.set_defaults(run=function)

    debugverbs.add_verbs(add)
    fuzzverb.add_verbs(add)
    hostileverb.add_verbs(add)
    soakverb.add_verbs(add)
    peersverb.add_verbs(add)
    make = add("make", help="make in the toolchain root, for the stock kernel")
    make.add_argument("arguments", nargs=argparse.REMAINDER)
    make.set_defaults(run=cmd_make)
    status = add("status", help="what the cache holds")
    status.set_defaults(run=verbs.cmd_status)
    clean = add("clean", help="remove cache entries that nothing uses")
    clean.add_argument("--logs", action="store_true", help="and the logs of past runs")
    clean.set_defaults(run=verbs.cmd_clean)
    return top


def _terminated(number: int, frame: object) -> None:
    """End as by Ctrl-C, so that machines and half-built entries go away."""
    del frame
    # A second one must not interrupt the ending.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    """Run one verb; a LabError becomes one line and exit status 2."""
    args = parser().parse_args(argv)
    # Answers of the toolchain verb are for scripts: progress goes to stderr.
    quiet = args.verb in ("toolchain", "run", "make")
    report = Reporter(sys.stderr if quiet else sys.stdout)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(args.run(Lab(report), args))
    except LabError as exc:
        print(f"iser-lab: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("iser-lab: interrupted", file=sys.stderr)
        return 130
