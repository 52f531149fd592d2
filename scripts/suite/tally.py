# SPDX-License-Identifier: GPL-2.0
"""Printing results as they come, one line each, and counting them; from several threads."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from harness.ktap import FAIL, PASS, SKIP, XFAIL

from suite.results import Outcome

WORDS = {PASS: "ok", FAIL: "FAILED", SKIP: "skipped", XFAIL: "differs"}
DETAIL_LINES = 60


class Tally:
    """The results of a run."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._start = time.monotonic()
        self._lock = threading.RLock()
        self.counts = dict.fromkeys(WORDS, 0)
        self.failures: list[str] = []

    def line(self, text: str) -> None:
        """Print one line after the time since the start."""
        with self._lock:
            now = time.monotonic() - self._start
            print(f"[{now:7.1f}s] {text}", file=self._stream, flush=True)

    def details(self, rows: list[str], most: int = DETAIL_LINES) -> None:
        """Print what belongs to the line before: the last rows of it, if it is long."""
        if len(rows) > most:
            rows = [f"... {len(rows) - most} lines before", *rows[-most:]]
        for row in rows:
            print(f"           | {row}", file=self._stream, flush=True)

    def add(self, stage: str, outcome: Outcome) -> None:
        """Count and print one result."""
        note = f"  ({outcome.note})" if outcome.note else ""
        name = f"{stage}/{outcome.name}"
        with self._lock:
            self.counts[outcome.result] += 1
            self.line(f"{WORDS[outcome.result]:<8} {name}{note}")
            if outcome.result == FAIL:
                self.failures.append(name)
                self.details(outcome.details)

    @property
    def total(self) -> int:
        """How many results there are."""
        return sum(self.counts.values())

    def closing(self) -> str:
        """The last line. An expected difference is a test that could not pass here: skipped."""
        skipped = self.counts[SKIP] + self.counts[XFAIL]
        text = f"{self.counts[PASS]} passed, {self.counts[FAIL]} failed"
        return text + (f", {skipped} skipped" if skipped else "")

    def end(self, logs: object) -> int:
        """Print what failed, where the logs are, and the closing line; return the exit status."""
        if not self.counts[PASS] and not self.counts[FAIL]:
            self.add("check", Outcome("something-ran", FAIL, "no test has run"))
        if self.failures:
            self.line("failed:")
            self.details(self.failures, most=len(self.failures))
        self.line(f"logs: {logs}")
        print(self.closing(), file=self._stream, flush=True)
        return 1 if self.counts[FAIL] else 0
