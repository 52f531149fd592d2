# SPDX-License-Identifier: GPL-2.0
"""One test program: run its tests, judge each, report in KTAP.

A test fails if it raises, if it takes longer than its limit, if it leaves
something behind, or if the kernel complained meanwhile. The first result of a
program is its set-up, the last its end: driver unloaded, nothing left.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness import case, ktap
from harness import kernlog as judge
from harness.case import Case, OverTime, Skip
from harness.env import Env, chosen_targets
from lab.guest import detectors, kernlog
from lab.guest.system import SLOWNESS
from lab.report import LabError

EXIT_OK, EXIT_FAILED, EXIT_SKIPPED = 0, 1, 4       # kselftest.h
SETUP_SECONDS = 90
RESTORE_SECONDS = 90
STUCK_SECONDS = 20
KASAN = "KASAN: "


@contextmanager
def time_limit(seconds: float, stuck: Callable[[str], None]) -> Iterator[None]:
    """Raise OverTime in the block when the time is up, and have blocked tasks logged.

    A process that waits in the kernel uninterruptibly gets no exception: after a
    while `stuck` is called, in a thread of its own.
    """
    seconds *= SLOWNESS
    text = f"took more than {seconds:.0f} s"

    def expired(number: int, frame: object) -> None:
        del number, frame
        log_blocked_tasks()
        raise OverTime(text)
    previous = signal.signal(signal.SIGALRM, expired)
    watchdog = threading.Timer(seconds + STUCK_SECONDS, stuck, (text + " and cannot be ended",))
    watchdog.daemon = True
    watchdog.start()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        watchdog.cancel()


def log_blocked_tasks() -> None:
    """Have the kernel log every task that waits uninterruptibly, and where."""
    try:
        Path("/proc/sysrq-trigger").write_text("w", encoding="ascii")
    except OSError:
        pass


def explained(exc: BaseException) -> str:
    """What went wrong, and in which line of the test."""
    here = [f for f in traceback.extract_tb(exc.__traceback__)
            if "/lab/" not in f.filename and "/harness/" not in f.filename]
    where = f"\nat {os.path.basename(here[-1].filename)}:{here[-1].lineno}" if here else ""
    text = str(exc) or type(exc).__name__
    if not isinstance(exc, (LabError, OverTime)):
        text = "".join(traceback.format_exception_only(type(exc), exc)).strip()
    return text + where


def judged(outcome: str, reason: str, expected: str) -> tuple[str, str]:
    """Take into account that a failure was expected: outcome and note."""
    if expected and outcome == ktap.FAIL:
        return ktap.XFAIL, expected
    if expected and outcome == ktap.PASS:
        return ktap.FAIL, f"passed, but was expected to fail: {expected}"
    return outcome, reason


class Program:
    """The run of one program."""

    def __init__(self, name: str, env: Env, cases: list[Case], out: ktap.Writer) -> None:
        self.name, self.env, self.cases, self.out = name, env, cases, out
        self._known = judge.known()
        self._lockdep = detectors.lockdep_works()
        self._without = ""           # what every result says once lockdep is off

    def _stuck(self, title: str, mark: str, why: str) -> None:
        """Report what cannot be ended, and leave; called in a thread of its own."""
        log_blocked_tasks()
        time.sleep(1)
        self.out.diagnostic(f"{why}\nkernel log:")
        self.out.diagnostic("\n".join(kernlog.since(mark)[-150:]) or "(empty)")
        self.out.result(title, ktap.FAIL, "TIMEOUT")
        self.out.bail_out(f"{self.name}/{title} cannot be ended")
        os._exit(EXIT_FAILED)

    def _guarded(self, title: str, limit: float, what: Callable[..., None],
                 arguments: tuple[object, ...] = (), restore: bool = False,
                 differs: Mapping[str, str] | None = None) -> bool:
        """Run one thing and report it; return whether it is not a failure."""
        mark = kernlog.mark(f"{self.name}/{title}")
        stuck = functools.partial(self._stuck, title, mark)
        began = time.monotonic()
        outcome, reason, notes = ktap.PASS, "", ""
        try:
            with time_limit(limit, stuck):
                what(*arguments)
        except Skip as exc:
            outcome, reason = ktap.SKIP, str(exc)
        except Exception as exc:  # whatever it is, the next test shall run
            outcome, notes = ktap.FAIL, explained(exc)
        if restore:
            try:
                with time_limit(RESTORE_SECONDS, stuck):
                    self.env.restore(outcome == ktap.FAIL)
            except Exception as exc:
                notes = f"{notes}\nafterwards: {explained(exc)}".strip()
                outcome = ktap.FAIL
        rows = kernlog.since(mark) + self.env.other_rows()
        bad = judge.complaints(rows, self._known)
        listed = judge.excused(rows, self._known)
        if bad:
            outcome = ktap.FAIL
            notes = f"{notes}\nthe kernel complained: {bad[0].title}".strip()
        without = self._without
        if self._lockdep and not detectors.lockdep_works():
            self._lockdep, without, self._without = False, "lockdep went off", "without lockdep"
            # KASAN switches it off, too.
            if not any(KASAN in report.title for report in listed):
                outcome, notes = ktap.FAIL, f"{notes}\nlockdep has switched itself off".strip()
        known = "" if bad else (differs or {}).get(self.env.driver.kind, "")
        verdict, note = judged(outcome, reason, known)
        if listed and verdict == ktap.PASS:
            note = f"known report, see known-reports: {listed[0].title}"
        note = "; ".join(filter(None, (note, without)))
        if notes:
            self.out.diagnostic(notes)
        if verdict == ktap.FAIL:
            self.out.diagnostic("kernel log:")
            self.out.diagnostic("\n".join(judge.excerpt(rows, bad)) or "(empty)")
        self.out.diagnostic(f"time: {time.monotonic() - began:.1f} s")
        self.out.result(title, verdict, note)
        return verdict != ktap.FAIL

    def begin(self) -> None:
        """Set up, where the detectors that the kernel has are on."""
        if detectors.has_lockdep() and not self._lockdep:
            raise case.Failure("lockdep is off in this machine")
        self.env.start()

    def run(self) -> int:
        """Run everything; return the exit status."""
        out = self.out
        out.plan(len(self.cases) + 2)
        out.diagnostic(f"{self.env.driver.module}, Linux {os.uname().release}")
        if not self._guarded("setup", SETUP_SECONDS, self.begin):
            out.bail_out(f"{self.name} cannot be set up")
            return EXIT_FAILED
        for item in self.cases:
            self.env.begin(item.target)
            self._guarded(item.full_name, item.limit, item.run, (self.env, *item.arguments), True,
                          item.differs)
        if not self._guarded("end", SETUP_SECONDS, self.env.stop):
            out.bail_out(f"{self.name} left the machine in a state that others cannot start from")
        out.totals()
        return EXIT_FAILED if out.outcomes[ktap.FAIL] else EXIT_OK


def chosen_set() -> str:
    """Which tests: ISER_SET."""
    name = os.environ.get("ISER_SET", "")
    if name and name not in case.SETS:
        raise LabError(f"ISER_SET={name}: a set is {', '.join(case.SETS)}")
    return name


def parser(name: str, text: str) -> argparse.ArgumentParser:
    """The argument parser of a program."""
    top = argparse.ArgumentParser(prog=name, description=text.strip().split("\n\n")[0],
                                  epilog="Environment: ISER_DRIVER=rust|c, ISER_MODULE=FILE, "
                                  "ISER_TARGET=lio|tgt (default both), ISER_SET=short|long|all (default "
                                  "short; all if patterns are given), ISER_SLOWNESS=FACTOR (of all time "
                                  "limits).")
    top.add_argument("--list", action="store_true", help="print the names of the tests")
    top.add_argument("--only", action="append", default=[], metavar="PATTERN",
                     help="tests whose name has this part, or fits it if it has * or ?")
    return top


def main(text: str, keep_loaded: bool = True, env: type[Env] = Env) -> int:
    """Run the tests that the calling program has defined, in such surroundings; `text` is its docstring."""
    name = Path(sys.argv[0]).stem
    args = parser(name, text).parse_args()
    patterns = args.only or os.environ.get("ISER_ONLY", "").split()
    # Of a machine before this one, which has ended in the middle.
    done = os.environ.get("ISER_DONE", "").split()
    cases = case.select(case.registered(), chosen_targets(), name, patterns, done,
                        chosen_set())
    if args.list:
        for item in cases:
            print(f"{name}/{item.full_name}")
        return EXIT_OK
    out = ktap.Writer()
    if not cases:
        out.skip_all("no test of this program was asked for")
        return EXIT_SKIPPED
    if os.geteuid() != 0:
        out.skip_all("the tests load modules, and so need root")
        return EXIT_SKIPPED
    return Program(name, env(keep_loaded), cases, out).run()
