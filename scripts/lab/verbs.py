# SPDX-License-Identifier: GPL-2.0
"""The verbs for people: demo, shell, status and clean."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import termios
import time
from contextlib import AbstractContextManager
from pathlib import Path

from lab import chroot, config, vm
from lab.cache import building_in
from lab.core import Lab
from lab.report import LabError

MAKE_LINES = 30


def kdir(lab: Lab) -> str:
    """The kernel headers in the toolchain root."""
    return f"/usr/src/linux-headers-{lab.versions.release}"


def building(lab: Lab) -> AbstractContextManager[int]:
    """Have nobody else build in this checkout."""
    return building_in(config.checkout(), lambda: lab.report.line("waiting: something else builds in this checkout"))


def build_module(lab: Lab) -> Path:
    """Build the module with the kernel's own compiler; return the file."""
    top = config.checkout()
    log = lab.cache.root / "logs" / "make.log"
    root = lab.roots.toolchain()
    argv = ["make", f"KDIR={kdir(lab)}"]
    full = chroot.command(root, lab.cache.root, argv, top, [top])
    env = chroot.environment(lab.cache.root, dict(os.environ))
    with building(lab), lab.report.step("module: make"), lab.cache.mutex("make"):
        with open(log, "wb") as out:
            done = subprocess.run(full, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=subprocess.STDOUT, check=False,
                                  preexec_fn=chroot.die_with_parent)
        if done.returncode != 0:
            rows = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise LabError("\n".join(["make failed:", *rows[-MAKE_LINES:], f"all of it: {log}"]))
        module = top / "ib_iser_rs.ko"
        if not module.exists():
            raise LabError(f"make succeeded, but {module} does not exist")
    return module


def prepare(lab: Lab, driver: str) -> None:
    """Have everything a machine needs, with a line for whatever takes long."""
    lab.report.line(f"cache: {lab.cache.root}")
    lab.report.line(f"kernel: {lab.versions.release}, the newest with Rust in {config.BACKPORTS}")
    lab.roots.toolchain()
    lab.kernel()
    lab.roots.guest_image()
    if driver == "rust":
        build_module(lab)


def guest_environment(lab: Lab, args: argparse.Namespace) -> dict[str, str]:
    """Environment of the guest's side of demo and shell."""
    return {"ISER_DRIVER": args.driver, "ISER_TARGET": args.target,
            "ISER_ELAPSED": f"{time.monotonic() - lab.report.start:.1f}"}


def cmd_demo(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `demo`: everything from a bare machine to verified data."""
    prepare(lab, args.driver)
    accel = lab.accel()
    out = vm.results_dir(lab.cache, "demo")
    lab.report.line(f"machine: starting ({accel.upper()}, {config.GUEST_CPUS} CPUs); logs: {out}")
    verdict = lab.run_one(out, ["python3", "-m", "lab.guest.demo"], guest_environment(lab, args),
                          config.DEMO_SECONDS, accel=accel)
    if verdict.status:
        vm.explain(lab.report, verdict)
        lab.report.line("demo: FAILED")
        return verdict.status
    lab.report.line("demo: OK")
    lab.report.line("next: `make shell` for a prompt in the same guest; README tells how to "
                    "install on a real machine")
    return 0


SHELL_RC = r"""
. /etc/bash.bashrc 2>/dev/null
PS1='iser-guest:\w# '
cd "$ISER_SRC"
stty {size}
cat <<'HELP'

  discovery   iscsiadm -m discovery -t st -p {portal} -I iser
  login       iscsiadm -m node -p {portal} --login        (then lsscsi, fio, mkfs)
  state       iscsiadm -m session -P 3; rdma link; dmesg
  logout      iscsiadm -m node --logout; rmmod {module}
  leave       exit   (the machine is gone then; only $ISER_OUT stays)

HELP
"""


def cmd_shell(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `shell`: the demo's guest, module loaded and target up, and a prompt."""
    prepare(lab, args.driver)
    accel = lab.accel()
    out = vm.results_dir(lab.cache, "shell")
    width, height = shutil.get_terminal_size()
    module = "ib_iser_rs" if args.driver == "rust" else "ib_iser"
    (out / "bashrc").write_text(
        SHELL_RC.replace("{size}", f"rows {height} cols {width}").replace("{module}", module)
        .replace("{portal}", "192.168.77.1"), encoding="utf-8")
    lab.report.line(f"machine: starting ({accel.upper()}); kernel log: {out}/console.log")
    script = ('python3 -m lab.guest.demo --only-up; exec bash --rcfile "$ISER_OUT/bashrc" -i')
    terminal = sys.stdin.fileno() if sys.stdin.isatty() else None
    saved = termios.tcgetattr(terminal) if terminal is not None else None
    try:
        verdict = lab.run_one(out, ["sh", "-c", script], guest_environment(lab, args), None,
                              accel=accel, interactive=True, sink=None)
    finally:
        if terminal is not None and saved is not None:
            termios.tcsetattr(terminal, termios.TCSADRAIN, saved)
    if verdict.reason:
        vm.explain(lab.report, verdict)
        return verdict.status
    lab.report.line(f"the machine has ended; logs: {out}")
    return 0


def size_of(path: Path) -> str:
    """Space a path takes on disk, for a person."""
    done = subprocess.run(["du", "-sh", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.split()[0] if done.stdout else "?"


def cmd_status(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `status`: what is in the cache, and what it was made for."""
    del args
    print(f"cache      {lab.cache.root}")
    print(f"checkout   {config.checkout()}")
    print(f"kernel     {lab.versions.release} ({lab.versions.kernel})")
    print(f"mirror     {lab.versions.mirror}")
    for kind in lab.cache.kinds():
        for path in sorted((lab.cache.root / kind).iterdir()):
            if not path.name.startswith("."):
                print(f"{kind:<12} {path.name}  {size_of(path)}")
    logs = sorted(p for p in (lab.cache.root / "logs").iterdir() if p.is_dir())
    if logs:
        print(f"logs       {len(logs)}, last: {logs[-1]}")
    return 0


def cmd_clean(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `clean`: remove cache entries that no running command uses."""
    for path in lab.cache.clean():
        lab.report.line(f"removed {path}")
    if args.logs:
        for path in sorted((lab.cache.root / "logs").iterdir()):
            vm.remove_tree(path)
        lab.report.line("removed the logs")
    lab.report.line("next: any verb builds again what it needs")
    return 0
