# SPDX-License-Identifier: GPL-2.0
"""The verbs that are for the instrumented kernel only: debug-kernel and kunit."""

from __future__ import annotations

import argparse

from lab import config, debugkernel, vm
from lab.core import Lab

KUNIT_SECONDS = 300


def cmd_kunit(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `kunit`: the module's KUnit suites."""
    del args
    debugkernel.kernel(lab.roots)
    lab.module("debug")
    out = vm.results_dir(lab.cache, "kunit")
    accel = lab.accel()
    lab.report.line(f"machine: starting ({accel.upper()}); logs: {out}")
    verdict = lab.run_one(out, ["python3", str(config.checkout() / "tests/debug/kunit.py")],
                          {"ISER_DRIVER": "rust"}, KUNIT_SECONDS, kernel_choice="debug", accel=accel)
    if verdict.reason:
        vm.explain(lab.report, verdict)
    lab.report.line(f"kunit: {'FAILED' if verdict.status else 'OK'} ({verdict.seconds:.0f} s in the machine, "
                    f"{len(verdict.reports)} reports, logs: {verdict.out})")
    return verdict.status


def cmd_debug_kernel(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `debug-kernel`: build it, and print its directory, for `run --kernel`."""
    del args
    print(debugkernel.kernel(lab.roots).image.parent)
    return 0


def add_verbs(add: object) -> None:
    """Add the verbs to the command line."""
    kunit = add("kunit", help="the module's KUnit suites")  # type: ignore[operator]
    kunit.set_defaults(run=cmd_kunit)
    build = add("debug-kernel",  # type: ignore[operator]
                help="build the instrumented kernel, and print its directory")
    build.set_defaults(run=cmd_debug_kernel)
