# SPDX-License-Identifier: GPL-2.0
"""The verbs that use the instrumented kernel: check-debug and kunit."""

from __future__ import annotations

import argparse
import time

from lab import config, debugkernel, vm
from lab.core import Lab

CHECK_SECONDS = 1500
KUNIT_SECONDS = 300


def boot(lab: Lab, name: str, script: str, env: dict[str, str], seconds: float) -> vm.Verdict:
    """Run a script of tests/debug on the instrumented kernel."""
    lab.module("debug")
    out = vm.results_dir(lab.cache, name)
    accel = lab.accel()
    lab.report.line(f"machine: starting ({accel.upper()}); logs: {out}")
    return lab.run_one(out, ["python3", str(config.checkout() / "tests/debug" / script)],
                       env, seconds, kernel_choice="debug", accel=accel)


def ended(lab: Lab, what: str, verdict: vm.Verdict) -> int:
    """Say how a run ended."""
    if verdict.reason:
        vm.explain(lab.report, verdict)
    lab.report.line(f"{what}: {'FAILED' if verdict.status else 'OK'} ({verdict.seconds:.0f} s in the machine, "
                    f"{len(verdict.reports)} reports, logs: {verdict.out})")
    return verdict.status


def cmd_check_debug(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `check-debug`: the session steps with every detector on."""
    debugkernel.kernel(lab.roots)
    status = 0
    for target in args.target or ("lio", "tgt"):
        env = {"ISER_DRIVER": args.driver, "ISER_TARGET": target, "ISER_STEPS": args.steps,
               "ISER_CYCLES": str(args.cycles), "ISER_RDMA": args.rdma}
        began = time.monotonic()
        verdict = boot(lab, f"debug-{target}", "session.py", env, CHECK_SECONDS)
        status = ended(lab, f"check-debug on {target}", verdict) or status
        lab.report.line(f"{target}: {time.monotonic() - began:.0f} s")
    return status


def cmd_kunit(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `kunit`: the module's KUnit suites."""
    del args
    debugkernel.kernel(lab.roots)
    return ended(lab, "kunit", boot(lab, "kunit", "kunit.py", {"ISER_DRIVER": "rust"},
                                    KUNIT_SECONDS))


def cmd_debug_kernel(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `debug-kernel`: build it, and print its directory, for `run --kernel`."""
    del args
    print(debugkernel.kernel(lab.roots).image.parent)
    return 0


def add_verbs(add: object) -> None:
    """Add the verbs to the command line."""
    check = add("check-debug",  # type: ignore[operator]
                help="sessions, resets and losses on a kernel with every detector on")
    check.add_argument("--target", choices=("lio", "tgt"), action="append")
    check.add_argument("--driver", choices=("rust", "c"), default="rust",
                       help="c: to see whether a report is the target's or ours")
    check.add_argument("--rdma", choices=("rxe", "siw"), default="rxe",
                       help="the RDMA device: RoCE or iWARP, in software")
    check.add_argument("--steps", default="", metavar="STEP,STEP",
                       help="only these: use, cycles, resets, abort, link, daemon")
    check.add_argument("--cycles", type=int, default=10, help="logins and logouts in a row")
    check.set_defaults(run=cmd_check_debug)
    kunit = add("kunit", help="the module's KUnit suites")  # type: ignore[operator]
    kunit.set_defaults(run=cmd_kunit)
    build = add("debug-kernel",  # type: ignore[operator]
                help="build the kernel of both, and print its directory")
    build.set_defaults(run=cmd_debug_kernel)
