# SPDX-License-Identifier: GPL-2.0
"""What the user reads: one line per step with its time, and one-line errors.

Used on the host and inside the guest alike, so it imports nothing but the
standard library.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class LabError(Exception):
    """A failure a person can act on: one line says what, and what to do."""


class Reporter:
    """Print progress lines, each with the time since the start."""

    def __init__(self, stream: TextIO | None = None, start: float | None = None) -> None:
        self.stream = stream if stream is not None else sys.stdout
        self.start = time.monotonic() if start is None else start
        self.failed = 0

    def line(self, text: str) -> None:
        """Print one line after the elapsed time."""
        elapsed = time.monotonic() - self.start
        print(f"[{elapsed:7.1f}s] {text}", file=self.stream, flush=True)

    def text(self, text: str) -> None:
        """Print text as it is, indented: output that belongs to a step."""
        for row in text.rstrip("\n").split("\n"):
            print(f"           | {row}", file=self.stream, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run a step; print its name, its own time, and OK or FAILED."""
        began = time.monotonic()
        try:
            yield
        except BaseException as exc:
            self.failed += 1
            took = time.monotonic() - began
            why = str(exc) or type(exc).__name__
            self.line(f"{name:<58} {took:6.1f}s  FAILED")
            self.text(why)
            raise
        took = time.monotonic() - began
        self.line(f"{name:<58} {took:6.1f}s  OK")
