# SPDX-License-Identifier: GPL-2.0
"""Test programs in as many machines as it takes.

A machine that dies, or that nobody can clean up, fails the test it was in. The
tests that are left get a new one, so that one bad ending does not hide the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab import config
from lab.report import LabError

_SELFTESTS = str(config.checkout() / "tests/selftests")
if _SELFTESTS not in sys.path:
    sys.path.append(_SELFTESTS)

from harness import every, ktap  # noqa: E402 - found where the line above says

# The last result of a program, and what the reader calls one that has none.
LAST, CUT = "end", "ended early"


def listed(directory: Path, programs: Sequence[str], patterns: Sequence[str],
           target: str = "") -> dict[str, list[str]]:
    """The tests of each program that fit; the programs are asked, on this machine."""
    found = {}
    for program in programs or every.programs(directory / "Makefile"):
        done = subprocess.run([sys.executable, str(directory / program), "--list"], text=True,
                              capture_output=True, check=False,
                              env={**os.environ, "ISER_ONLY": " ".join(patterns), "ISER_TARGET": target})
        if done.returncode:
            raise LabError(f"{directory / program} --list failed:\n{done.stderr.strip()}")
        if names := done.stdout.split():
            found[Path(program).stem] = names
    if not found:
        raise LabError(f"no test of {directory} fits {' '.join(patterns)}; its `run --list` prints all")
    return found


class Tests:
    """What is left to run, and what has come of the rest."""

    def __init__(self, tests: Mapping[str, Sequence[str]]) -> None:
        self.left = {name: list(names) for name, names in tests.items()}
        self.done: list[str] = []
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A new machine."""
        self._reader = ktap.Reader()
        self._held = b""
        self._running = ""           # the program that has begun and not ended

    def programs(self) -> list[str]:
        """The programs that still have tests."""
        return [f"{name}.py" for name, names in self.left.items() if names]

    def sink(self, pass_on: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """What reads the machine's output and passes it on."""
        def read(chunk: bytes) -> None:
            pass_on(chunk)
            *rows, self._held = (self._held + chunk).split(b"\n")
            for row in rows:
                self._line(row.decode(errors="replace"))
        return read

    def _line(self, text: str) -> None:
        for result in self._reader.feed(text):
            # What never came of a program is counted by ended().
            if len(result.path) == 2 and result.path[1] != CUT:
                self._result(result)
        inner = self._reader.running()
        if inner:
            self._running = inner[0]

    def _result(self, result: ktap.Result) -> None:
        program, test = result.path
        self.counts[result.outcome] += 1
        if result.outcome == ktap.FAIL:
            self.failed.append(result.name)
        if result.name in self.left.get(program, ()):
            self.left[program].remove(result.name)
            self.done.append(result.name)
        if test == LAST:
            self._running = ""

    def ended(self, died: str) -> bool:
        """The machine has ended, maybe before its time; return whether another one has work to do."""
        began = bool(self._running) or not self.programs()
        if died and self._running:
            names = self.left.get(self._running, [])
            name = names.pop(0) if names else f"{self._running}/{LAST}"
            self.done.append(name)
            self.counts[ktap.FAIL] += 1
            self.failed.append(f"{name}: {died}")
        elif died:
            self.counts[ktap.FAIL] += 1
            self.failed.append(died)
        # Where nothing begins, a second try changes nothing.
        if (died and began) or (not died and self._reader.bailed):
            return bool(self.programs())
        for name in (name for names in self.left.values() for name in names):
            self.counts[ktap.FAIL] += 1
            self.failed.append(f"{name}: never ran")
        return False

    def summary(self) -> str:
        """The counts."""
        o = self.counts
        rest = f", {o[ktap.XFAIL]} differ" if o[ktap.XFAIL] else ""
        rest += f", {o[ktap.SKIP]} skipped" if o[ktap.SKIP] else ""
        return f"{o[ktap.PASS]} passed, {o[ktap.FAIL]} failed{rest}"
