# SPDX-License-Identifier: GPL-2.0
"""The run in the machine: set up, one fault after another until the time is up, take down.

Every step is a result of its own, with a time limit, and the kernel log judged for it. The first
one that fails ends the run, since what comes after would not be the plan any more.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from harness import ktap
from harness.env import Env
from harness.program import EXIT_FAILED, EXIT_OK, SETUP_SECONDS, Program
from lab.guest import kernlog
from soak import ends, line, tasks  # noqa: F401 - the faults
from soak import plan, record
from soak.rig import Rig
from soak.table import Fault, chosen

# Made by hand in the directory of the results: the run ends as if its time were up.
STOP = "stop"
UP_SECONDS, STEP_SECONDS, DOWN_SECONDS = 240, 300, 300


class Soak(Program):
    """The run."""

    def __init__(self, env: Env, faults: Sequence[Fault], args: argparse.Namespace) -> None:
        super().__init__("soak", env, [], ktap.Writer())
        self.faults = {item.name: item for item in faults}
        self.args = args
        self.rig = Rig(env, args.seed)
        self.out_dir = Path(os.environ.get("ISER_OUT", "/tmp"))
        self.file = self.out_dir / record.FILE
        self._began = 0.0
        self._ios = self._verified = 0

    def _step(self, step: plan.Step) -> None:
        """One fault, what must hold after it, and a pause."""
        now = record.Record(step.number, step.fault, str(step), time.monotonic() - self._began)
        record.write(self.file, now)
        mark = kernlog.mark(f"step {step.number}")
        self.rig.notes, self.rig.injected = [], True
        try:
            self.faults[step.fault].run(self.rig, **step.values)
            now.recovery = self.rig.survived()
            self.rig.quiet(step.pause)
            # What broke may have been noticed only in the pause.
            now.recovery += self.rig.survived()
            now.survived = True
        finally:
            now.ended = True
            now.notes, now.injected = self.rig.notes, self.rig.injected
            now.lost = self.rig.lost_since(mark)
            ios = sum(load.ios() for load in self.rig.loads)
            verified = sum(load.verified for load in self.rig.loads)
            now.ios, self._ios = ios - self._ios, ios
            now.verified, self._verified = verified - self._verified, verified
            record.write(self.file, now)
        lost = "" if now.injected else ", did not come about"
        lost += f", {now.lost} lost" if now.lost else ""
        self.out.diagnostic(f"[{time.monotonic() - self._began:5.0f} s] {step.number} {step}: back after "
                            f"{now.recovery:.1f} s{lost}; {now.ios} I/Os, {now.verified >> 20} MiB verified")

    def _steps(self) -> bool:
        """All steps until the time is up; False after one that has failed."""
        self._began = time.monotonic()
        kinds = [item.kind for item in self.faults.values()]
        for step in plan.steps(self.args.seed, kinds, self.args.first):
            if time.monotonic() - self._began >= self.args.minutes * 60 or (self.out_dir / STOP).exists():
                return True
            if not self._guarded(f"{step.number} {step.fault}", STEP_SECONDS, self._step, (step,)):
                return False
        raise AssertionError("a plan has no end")

    def run(self) -> int:
        """Run everything; return the exit status. How many steps there will be is known at the end."""
        out, rig = self.out, self.rig
        out.begin()
        out.diagnostic(f"{self.env.driver.module}, Linux {os.uname().release}, seed {self.args.seed}, "
                       f"{len(self.faults)} faults: {', '.join(sorted(self.faults))}")
        self.env.begin(self.args.target)
        good = self._guarded("setup", SETUP_SECONDS, self.begin)
        if good:
            good = self._guarded("session and load", UP_SECONDS, rig.up)
            good = good and self._steps()
            good = good and self._guarded("load", DOWN_SECONDS, rig.stop_load)
            if good:
                good = self._guarded("logout", DOWN_SECONDS, rig.down)
            else:
                self._guarded("drop", DOWN_SECONDS, rig.drop)
            good = self._guarded("end", SETUP_SECONDS, self.env.stop) and good
        out.plan_at_end()
        out.totals()
        return EXIT_OK if good else EXIT_FAILED


def main(argv: Sequence[str]) -> int:
    """Read the arguments and run."""
    top = argparse.ArgumentParser(prog="run", description="Verified load, and random faults meanwhile.",
                                  epilog="Environment: ISER_DRIVER=rust|c, ISER_MODULE=FILE, "
                                  "ISER_SLOWNESS=FACTOR (of all time limits).")
    top.add_argument("--minutes", type=float, default=10)
    top.add_argument("--seed", type=int, required=True)
    top.add_argument("--first", type=int, default=1, metavar="STEP", help="begin the plan with this step")
    top.add_argument("--target", choices=("lio", "tgt"), default="lio")
    top.add_argument("--only", action="append", default=[], metavar="FAULT")
    args = top.parse_args(argv)
    env = Env()
    return Soak(env, chosen(args.target, env.driver.kind, args.only), args).run()
