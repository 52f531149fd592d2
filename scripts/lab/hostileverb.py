# SPDX-License-Identifier: GPL-2.0
"""The verb `hostile`: the driver against a target that breaks the rules."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from lab import chroot, config, debugkernel, resume, verbs, vm
from lab.core import Lab
from lab.report import LabError

CRATE = "tests/hostile"
SIMULATOR, OLD_KEYS = "iser-hostile", "libiser_oldkeys.so"
# Each test has a limit of its own; this one, times the slowness of the kernel, is for a machine that has stopped.
SECONDS = 4 * 3600
# PDUs made by chance: in `make hostile`, and in a full run on each kernel.
FEW, ALL = 2000, {"stock": 100_000, "debug": 20_000}


def build(lab: Lab) -> Path:
    """Compile the target, and what is put into tgt, with the toolchain root's own compiler; returns where they are."""
    top = config.checkout()
    log = lab.cache.root / "logs" / "hostile-cargo.log"
    argv = ["cargo", "build", "--release", "--locked", "--workspace", "--manifest-path", f"{CRATE}/Cargo.toml"]
    full = chroot.command(lab.roots.toolchain(), lab.cache.root, argv, top, [top])
    # Its dependencies are compiled once, for all checkouts.
    built = lab.cache.root / "home" / CRATE.replace("/", "-")
    env = {**chroot.environment(lab.cache.root, dict(os.environ)), "CARGO_TARGET_DIR": str(built)}
    with lab.report.step("hostile target: cargo build"), lab.cache.mutex("hostile"):
        with open(log, "wb") as sink:
            done = subprocess.run(full, env=env, stdin=subprocess.DEVNULL, stdout=sink,
                                  stderr=subprocess.STDOUT, check=False,
                                  preexec_fn=chroot.die_with_parent)
        if done.returncode != 0:
            rows = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise LabError("\n".join(["cargo failed:", *rows[-30:], f"all of it: {log}"]))
        # Another checkout may build its own meanwhile.
        where = vm.results_dir(lab.cache, "hostile")
        for name in (SIMULATOR, OLD_KEYS):
            shutil.copy(built / "release" / name, where)
        return where


def cmd_hostile(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `hostile`: build the target, and run its tests in a machine."""
    tests = resume.Tests(resume.listed(config.checkout() / CRATE, args.program, args.only))
    verbs.prepare(lab, args.driver)
    first = out = build(lab)
    if args.kernel == "debug":
        debugkernel.kernel(lab.roots)
        lab.module("debug")
    seed = args.seed if args.seed is not None else secrets.randbelow(1 << 32)
    count = args.pdus if args.pdus is not None else ALL[args.kernel] if args.full else FEW
    accel = lab.accel()
    lab.report.line(f"machine: starting ({accel.upper()}); logs: {out}")
    lab.report.line(f"seed: {seed} (--seed {seed} --pdus {count} plays it again)")
    command = [str(config.checkout() / CRATE / "run")]
    for pattern in args.only:
        command += ["--only", pattern]
    slowness = debugkernel.SLOWNESS if args.kernel == "debug" else 1
    timeout = SECONDS * slowness if args.timeout is None else args.timeout
    status, machines, seconds, more = 0, 0, 0.0, True
    while more:
        machines += 1
        if machines > 1:
            out = first / f"machine-{machines}"
            out.mkdir()
            for name in (SIMULATOR, OLD_KEYS):
                shutil.copy(first / name, out)
            lab.report.line(f"machine {machines}: for the tests that are left; logs: {out}")
        tests.begin()
        env = {"ISER_DRIVER": args.driver, "ISER_SEED": str(seed), "ISER_PDUS": str(count),
               "ISER_HOSTILE": str(out / SIMULATOR), "ISER_OLD_KEYS_LIBRARY": str(out / OLD_KEYS),
               "ISER_DONE": " ".join(tests.done), "ISER_SLOWNESS": str(slowness)}
        verdict = lab.run_one(out, [*command, *tests.programs()], env, timeout,
                              kernel_choice=args.kernel, accel=accel, sink=tests.sink(vm.to_stdout))
        seconds += verdict.seconds
        more = tests.ended(verdict.reason)
        if verdict.status:
            status = verdict.status
            vm.explain(lab.report, verdict)
    status = status or int(bool(tests.failed))
    for name in tests.failed:
        lab.report.line(f"failed: {name}")
    lab.report.line(f"hostile: {'FAILED' if status else 'OK'}: {tests.summary()} ({seconds:.0f} s in "
                    f"{machines} machines, seed {seed}, logs: {first})")
    return status


def add_verbs(add: object) -> None:
    """Add the verb to the command line."""
    verb = add("hostile", help="the driver against a target that breaks the rules")  # type: ignore[operator]
    verb.add_argument("--kernel", choices=("stock", "debug"), default="stock")
    verb.add_argument("--driver", choices=("rust", "c"), default="rust")
    verb.add_argument("--only", action="append", default=[], metavar="PATTERN",
                      help="only tests whose name (program/test) has this part")
    verb.add_argument("--seed", type=int, help="of the PDUs made by chance; one is chosen and printed")
    verb.add_argument("--pdus", type=int, help=f"how many of these (default {FEW})")
    verb.add_argument("--full", action="store_true",
                      help=f"{ALL['stock']} of these; with the instrumented kernel {ALL['debug']}")
    verb.add_argument("--timeout", type=float, metavar="SECONDS",
                      help=f"of a machine (default {SECONDS}, {debugkernel.SLOWNESS} times that on the instrumented kernel)")
    verb.add_argument("program", nargs="*", help="a program of tests/hostile, such as pdus.py")
    verb.set_defaults(run=cmd_hostile)
