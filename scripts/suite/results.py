# SPDX-License-Identifier: GPL-2.0
"""What a test can come to, and how programs other than ours say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from harness import ktap
from harness.ktap import FAIL, PASS, SKIP

_CARGO = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:, (.*))?$")
_CARGO_OUTPUT = re.compile(r"^---- (.+) stdout ----$")


@dataclass
class Outcome:
    """One test, and what there is to say about it."""

    name: str
    result: str                  # PASS, FAIL, SKIP or XFAIL of harness.ktap
    note: str = ""
    details: list[str] = field(default_factory=list)


class Reader(Protocol):
    """Takes the output of a program line by line and finds the results in it."""

    def feed(self, line: str) -> Iterator[Outcome]:
        """Take one line; yield the results it completes."""

    def finish(self) -> Iterator[Outcome]:
        """The output has ended; yield what is left."""


class CargoReader:
    """Read the output of `cargo test` line by line.

    What a failed test printed comes after all results, so failures are held
    back until the end.
    """

    def __init__(self) -> None:
        self._failed: dict[str, Outcome] = {}
        self._current: Outcome | None = None

    def feed(self, line: str) -> Iterator[Outcome]:
        """Take one line; yield the result it holds."""
        text = line.rstrip("\r\n")
        match = _CARGO.match(text)
        if match:
            result = {"ok": PASS, "FAILED": FAIL, "ignored": SKIP}[match[2]]
            outcome = Outcome(match[1], result, match[3] or "")
            if result == FAIL:
                self._failed[match[1]] = outcome
            else:
                yield outcome
            return
        match = _CARGO_OUTPUT.match(text)
        if match:
            self._current = self._failed.get(match[1])
        elif text == "failures:":
            self._current = None
        elif self._current is not None:
            self._current.details.append(text)

    def finish(self) -> Iterator[Outcome]:
        """The output has ended."""
        yield from self._failed.values()


class KtapReader:
    """Read KTAP line by line; tests with subtests are counted by these."""

    def __init__(self) -> None:
        self.reader = ktap.Reader()

    @staticmethod
    def _outcome(result: ktap.Result) -> Outcome:
        return Outcome(result.name, result.outcome, result.note, result.diagnostics)

    def feed(self, line: str) -> Iterator[Outcome]:
        """Take one line; yield the results it completes."""
        for result in self.reader.feed(line):
            if not result.group:
                yield self._outcome(result)

    def finish(self) -> Iterator[Outcome]:
        """The output has ended."""
        for result in self.reader.finish():
            yield self._outcome(result)


class OneReader:
    """For a program that is a test by itself: its lines are only kept."""

    def feed(self, line: str) -> Iterator[Outcome]:
        """Take one line."""
        del line
        return iter(())

    def finish(self) -> Iterator[Outcome]:
        """The output has ended."""
        return iter(())
