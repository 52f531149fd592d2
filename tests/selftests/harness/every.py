# SPDX-License-Identifier: GPL-2.0
"""Run test programs one after another in one machine, as subtests of one KTAP.

A program that takes longer than `timeout` of the file `settings` is ended. The
run stops when a program says that the machine cannot be used any more, or when
lockdep has gone off in it, as it does after a report of another detector; the
caller may then run the rest in a fresh one.
"""

from __future__ import annotations

import argparse
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import ktap
from lab.guest import detectors
from lab.guest.system import SLOWNESS

HERE = Path(__file__).resolve().parent.parent
DEFAULT_TIMEOUT = 600
BAIL_SECONDS = 10
OUTCOMES = {0: ktap.PASS, 4: ktap.SKIP}


def programs(makefile: Path = HERE / "Makefile", variable: str = "TEST_PROGS") -> list[str]:
    """The test programs, as the Makefile lists them; TEST_PROGS_EXTENDED are not run by default."""
    text = makefile.read_text(encoding="utf-8").replace("\\\n", " ")
    found: list[str] = []
    for match in re.finditer(rf"^{variable}\s*[:+]?=(.*)$", text, re.MULTILINE):
        found += match[1].split()
    return found


def timeout(settings: Path = HERE / "settings") -> float:
    """The time limit of a program."""
    match = re.search(r"^timeout=(\d+)$", settings.read_text(encoding="utf-8"), re.MULTILINE)
    return (float(match[1]) if match else DEFAULT_TIMEOUT) * SLOWNESS


def stop(process: subprocess.Popen[bytes]) -> bool:
    """End a program and all it started; False if it cannot be ended."""
    for number, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            continue
    return False


class Runner:
    """The run of several programs."""

    def __init__(self, limit: float, here: Path = HERE) -> None:
        self.limit, self.here = limit, here
        self.out = ktap.Writer()
        self.bailed = ""

    def _pass_on(self, name: str, row: bytes) -> None:
        """Print one line of a program, one level deeper."""
        text = row.decode(errors="replace").rstrip()
        match = re.match(r"Bail out!\s*(.*)", text)
        if match:
            self.bailed = match[1] or name
            text = f"# {text}"
        print(f"  {text}", flush=True)
        if text == ktap.VERSION:
            print(f"  # Subtest: {name}", flush=True)

    def _stream(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        """Pass the output on until it ends; False when the time is up."""
        assert process.stdout is not None
        end = time.monotonic() + self.limit
        held = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if self.bailed:
                    # Its process may be one that cannot end.
                    end = min(end, time.monotonic() + BAIL_SECONDS)
                if not selector.select(max(0.0, end - time.monotonic())):
                    return False
                chunk = os.read(process.stdout.fileno(), 65536)
                *rows, held = (held + chunk).split(b"\n")
                for row in rows:
                    self._pass_on(name, row)
                if not chunk:
                    if held:
                        self._pass_on(name, held)
                    return True

    def one(self, program: str) -> None:
        """Run one program and report it."""
        name = Path(program).stem
        process = subprocess.Popen([sys.executable, str(self.here / program)], cwd=self.here,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        if not self._stream(name, process):
            if self.bailed:
                stop(process)
                self.out.result(name, ktap.FAIL)
                return
            print(f"  # ended by the runner after {self.limit:.0f} s", flush=True)
            if not stop(process):
                self.bailed = f"{name} cannot be ended"
            self.out.result(name, ktap.FAIL, f"TIMEOUT {self.limit:.0f} s")
            self.bailed = self.bailed or f"{name} was ended in the middle"
            return
        status = process.wait()
        self.out.result(name, OUTCOMES.get(status, ktap.FAIL),
                        "" if status in (0, 1, 4) else f"exit status {status}")

    def run(self, names: list[str]) -> int:
        """Run the programs; the exit status says whether one failed."""
        self.out.plan(len(names))
        lockdep = detectors.lockdep_works()
        for number, name in enumerate(names, 1):
            self.one(name)
            if self.bailed:
                self.out.bail_out(self.bailed)
                break
            if lockdep and number < len(names) and not detectors.lockdep_works():
                self.out.go_on_elsewhere(f"lockdep went off in {Path(name).stem}, and the rest is to run with it")
                break
        self.out.totals()
        return 1 if self.out.outcomes[ktap.FAIL] or self.bailed else 0


def main(argv: list[str], here: Path = HERE) -> int:
    """Run the programs named, or all of a directory."""
    top = argparse.ArgumentParser(prog="run", description="Run the test programs of this directory.")
    top.add_argument("--only", action="append", default=[], metavar="PATTERN",
                     help="only tests whose name (program/target.test) has this part")
    top.add_argument("--list", action="store_true", help="print the names of all tests")
    top.add_argument("program", nargs="*")
    args = top.parse_args(argv)
    if args.only:
        os.environ["ISER_ONLY"] = " ".join(args.only)
    names = args.program or programs(here / "Makefile")
    if args.list:
        for name in names:
            subprocess.run([sys.executable, str(here / name), "--list"], check=True)
        return 0
    return Runner(timeout(here / "settings"), here).run(names)
