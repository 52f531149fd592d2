# SPDX-License-Identifier: GPL-2.0
"""The verb `soak`: verified load in a machine for as long as one likes, and random faults meanwhile."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

from lab import config, debugkernel, verbs, vm
from lab.core import Lab

_SOAK = str(config.checkout() / "tests/soak")
if _SOAK not in sys.path:
    sys.path.append(_SOAK)

from soak import record  # noqa: E402 - found where the line above says

# What setting up, the last step and the end take at most, on the stock kernel.
AROUND_SECONDS = 1200


def replay(args: argparse.Namespace, first: int) -> str:
    """The command that plays a plan again, from one of its steps."""
    words = [f"--seed {args.seed}"]
    words += [f"--first {first}"] if first > 1 else []
    for name, usual in (("kernel", "stock"), ("driver", "rust"), ("target", "lio")):
        words += [f"--{name} {getattr(args, name)}"] if getattr(args, name) != usual else []
    words += [f"--only {name}" for name in args.only]
    return f"make soak MINUTES={args.minutes:g} ARGS=\"{' '.join(words)}\""


def unsurvived(records: Sequence[record.Record]) -> record.Record | None:
    """The step that failed, or that was under way when the machine died."""
    return next((r for r in records if not r.survived), None)


def report(lab: Lab, args: argparse.Namespace, verdict: vm.Verdict) -> int:
    """Print the table and how the run ended; returns the exit status."""
    records = record.read(verdict.out / record.FILE)
    if verdict.reason:
        vm.explain(lab.report, verdict)
    if records:
        lab.report.line("injected and survived; the recovery is the time from the repair until the load went on, "
                        "median and longest; lost are connections:")
        lab.report.text("\n".join([*record.table(records), *record.notes(records)]))
    failed = unsurvived(records)
    if failed:
        how = "failed" if failed.ended else "was under way when the machine ended"
        lab.report.line(f"step {failed.number}, {failed.what}, {how}; to play it again:")
        lab.report.text(f"{replay(args, 1)}\n{replay(args, failed.number)}")
    came = [r for r in records if r.injected]
    good = not verdict.status and came and not failed
    if not came and not verdict.status:
        lab.report.line("no fault was injected: is MINUTES too small?")
    lab.report.line(f"soak: {'OK' if good else 'FAILED'}: {len(came)} faults, "
                    f"{sum(r.survived for r in came)} survived, {len(records) - len(came)} did not come about "
                    f"({verdict.seconds:.0f} s in the machine, seed {args.seed}, logs: {verdict.out})")
    return 0 if good else verdict.status or 1


def cmd_soak(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `soak`."""
    verbs.prepare(lab, args.driver)
    slowness = 1
    if args.kernel == "debug":
        debugkernel.kernel(lab.roots)
        lab.module("debug")
        slowness = debugkernel.SLOWNESS
    if args.seed is None:
        args.seed = secrets.randbelow(1 << 32)
    out = vm.results_dir(lab.cache, "soak")
    accel = lab.accel()
    lab.report.line(f"machine: starting ({accel.upper()}); logs: {out}")
    lab.report.line(f"seed: {args.seed}; to play it again: {replay(args, args.first)}")
    command = [str(config.checkout() / "tests/soak/run"), "--minutes", f"{args.minutes:g}",
               "--seed", str(args.seed), "--first", str(args.first), "--target", args.target]
    for name in args.only:
        command += ["--only", name]
    env = {"ISER_DRIVER": args.driver, "ISER_SLOWNESS": str(slowness)}
    verdict = lab.run_one(out, command, env, args.minutes * 60 + AROUND_SECONDS * slowness,
                          kernel_choice=args.kernel, accel=accel)
    return report(lab, args, verdict)


def add_verbs(add: object) -> None:
    """Add the verb to the command line."""
    verb = add("soak", help="verified load, and random faults meanwhile")  # type: ignore[operator]
    verb.add_argument("--minutes", type=float, default=10, help="how long faults are injected (default 10)")
    verb.add_argument("--kernel", choices=("stock", "debug"), default="stock")
    verb.add_argument("--driver", choices=("rust", "c"), default="rust")
    verb.add_argument("--target", choices=("lio", "tgt"), default="lio")
    verb.add_argument("--seed", type=int, help="of the plan and the load; one is chosen and printed")
    verb.add_argument("--first", type=int, default=1, metavar="STEP", help="begin the plan with this step")
    verb.add_argument("--only", action="append", default=[], metavar="FAULT",
                      help="only this fault; may be given more than once")
    verb.set_defaults(run=cmd_soak)
