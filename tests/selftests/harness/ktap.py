# SPDX-License-Identifier: GPL-2.0
"""KTAP, the form in which the kernel's tests report: written and read.

Documentation/dev-tools/ktap.rst of the kernel is the definition. The reader
takes lines as they come, so that a result is known the moment it is printed,
and it remembers what was announced and never came.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

PASS, FAIL, SKIP, XFAIL = "pass", "fail", "skip", "xfail"
VERSION = "KTAP version 1"
# Behind `Bail out!`: what was announced and never came is run elsewhere, and is no failure here.
CONTINUED = "to be continued: "

_VERSION = re.compile(r"^(?:K?TAP version \d+)$")
_PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*(.*))?$")
_RESULT = re.compile(r"^(ok|not ok)\s+(\d+)(?:\s+(?:-\s+)?([^#]*?))?\s*(?:#\s*(.*))?$")
_SUBTEST = re.compile(r"^#\s*Subtest:\s*(.+)$")
_BAIL = re.compile(r"^Bail out!\s*(.*)$")
_DIRECTIVE = re.compile(r"^(SKIP|XFAIL|TIMEOUT|ERROR)\b[:,]?\s*(.*)$", re.IGNORECASE)


@dataclass
class Result:
    """One result line and what was said about it."""

    path: tuple[str, ...]        # names from the outermost test to this one
    outcome: str                 # PASS, FAIL, SKIP or XFAIL
    note: str = ""               # the text behind the hash sign
    diagnostics: list[str] = field(default_factory=list)
    group: bool = False          # it has subtests, which were reported before

    @property
    def name(self) -> str:
        """The names in one string."""
        return "/".join(self.path)


def one_line(text: str) -> str:
    """Text that fits on a result line."""
    return " ".join(text.replace("#", "").split())


class Writer:
    """Print one level of KTAP."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self.count = 0
        self.outcomes = {PASS: 0, FAIL: 0, SKIP: 0, XFAIL: 0}

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def plan(self, tests: int) -> None:
        """Announce the version and how many results will follow."""
        self.begin()
        self._line(f"1..{tests}")

    def begin(self) -> None:
        """Announce the version only; how many results there are is said by `plan_at_end`."""
        self._line(VERSION)

    def plan_at_end(self) -> None:
        """Say how many results there were."""
        self._line(f"1..{self.count}")

    def skip_all(self, why: str) -> None:
        """Say that nothing will be tested."""
        self.begin()
        self._line(f"1..0 # SKIP {one_line(why)}")

    def diagnostic(self, text: str) -> None:
        """Print text that belongs to the result which comes next."""
        for row in text.rstrip("\n").split("\n"):
            self._line(f"# {row}".rstrip())

    def result(self, name: str, outcome: str, note: str = "") -> None:
        """Print one result."""
        self.count += 1
        self.outcomes[outcome] += 1
        words = ["not ok" if outcome == FAIL else "ok", str(self.count), one_line(name)]
        directive = {SKIP: "SKIP", XFAIL: "XFAIL"}.get(outcome, "")
        behind = " ".join(filter(None, (directive, one_line(note))))
        if behind:
            words.append(f"# {behind}")
        self._line(" ".join(words))

    def totals(self) -> None:
        """Print the counts, as the kernel's helpers do."""
        o = self.outcomes
        self._line(f"# Totals: pass:{o[PASS]} fail:{o[FAIL]} xfail:{o[XFAIL]} xpass:0 "
                   f"skip:{o[SKIP]} error:0")

    def go_on_elsewhere(self, why: str) -> None:
        """Say that the rest must be run in another machine; none of it has failed."""
        self.bail_out(f"{CONTINUED}{why}")

    def bail_out(self, why: str) -> None:
        """Say that what follows could not be tested."""
        self._line(f"Bail out! {one_line(why)}")


def outcome_of(word: str, behind: str) -> tuple[str, str]:
    """Outcome and note from the first word of a result and what follows the hash sign."""
    match = _DIRECTIVE.match(behind)
    if not match:
        return (PASS if word == "ok" else FAIL), behind
    directive, note = match[1].upper(), match[2]
    if directive == "SKIP":
        return SKIP, note
    if directive == "XFAIL":
        return XFAIL, note
    return FAIL, f"{directive}: {note}" if note else directive


@dataclass
class _Level:
    """One nesting level while it is read."""

    indent: int
    name: str = ""
    planned: int | None = None
    seen: int = 0
    failed: int = 0
    diagnostics: list[str] = field(default_factory=list)


class Reader:
    """Read KTAP line by line.

    `feed` yields results in the order in which they arrive; a test with
    subtests comes after them, with `group` set. `finish` yields a failure for
    each level that ended early. `bailed` holds the reason of a `Bail out!`.
    """

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._closed: _Level | None = None
        self.bailed = ""

    def _path(self, *last: str) -> tuple[str, ...]:
        return (*(lv.name for lv in self._levels if lv.name), *last)

    def _close_deeper(self, indent: int) -> Iterator[Result]:
        """Leave the levels that are indented more than this line."""
        while self._levels and self._levels[-1].indent > indent:
            level = self._levels.pop()
            yield from self._shortfall(level)
            self._closed = level

    def _shortfall(self, level: _Level) -> Iterator[Result]:
        """A failure if a level did not deliver what it announced."""
        if level.planned is not None and level.seen < level.planned:
            path = self._path(*filter(None, (level.name,)))
            missing = level.planned - level.seen
            yield Result((*path, "ended early"), FAIL,
                         f"{missing} of {level.planned} announced results never came",
                         level.diagnostics)
            level.diagnostics = []
            level.failed += 1

    def feed(self, line: str) -> Iterator[Result]:
        """Take one line; yield the results it completes."""
        text = line.rstrip("\r\n")
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        if not body:
            return
        if _VERSION.match(body):
            yield from self._close_deeper(indent - 1)
            # What has ended without a result of its own, as a machine does, is not what comes next.
            self._closed = None
            self._levels.append(_Level(indent))
            return
        if not self._levels:
            return
        # A diagnostic may be indented at will; a result may not.
        structural = _RESULT.match(body) or _PLAN.match(body) or _BAIL.match(body)
        if not structural or indent > self._levels[-1].indent:
            self._diagnostic(body, indent)
            return
        yield from self._close_deeper(indent)
        yield from self._structural(body)

    def _diagnostic(self, body: str, indent: int) -> None:
        level = self._levels[-1]
        match = _SUBTEST.match(body)
        if match and indent == level.indent:
            level.name = match[1].strip()
            return
        level.diagnostics.append(body[2:] if body.startswith("# ") else body)

    def _structural(self, body: str) -> Iterator[Result]:
        if not self._levels:
            return
        level = self._levels[-1]
        plan, bail = _PLAN.match(body), _BAIL.match(body)
        if plan:
            level.planned = int(plan[1])
            if level.planned == 0 and plan[2]:
                level.diagnostics.append(plan[2])
            return
        if bail:
            self.bailed = bail[1] or "no reason given"
            if self.bailed.startswith(CONTINUED):
                for each in self._levels:
                    each.planned = each.seen
            return
        match = _RESULT.match(body)
        assert match
        level.seen += 1
        outcome, note = outcome_of(match[1], match[4] or "")
        name = (match[3] or f"test {match[2]}").strip()
        result = Result(self._path(name), outcome, note, level.diagnostics)
        level.diagnostics = []
        closed, self._closed = self._closed, None
        if closed is not None and closed.seen:
            result.group = True
            # A group that failed although none of its parts did has failed itself.
            if outcome == FAIL and not closed.failed:
                result.group = False
                result.diagnostics = closed.diagnostics + result.diagnostics
        elif closed is not None:
            result.diagnostics = closed.diagnostics + result.diagnostics
        if outcome == FAIL:
            level.failed += 1
        yield result

    def running(self) -> tuple[str, ...]:
        """The names of the levels that are open now."""
        return self._path()

    def finish(self) -> Iterator[Result]:
        """The input has ended: yield a failure for each level that is incomplete."""
        # The innermost tells most; those around it are incomplete because of it.
        told = False
        while self._levels:
            level = self._levels.pop()
            if level.planned is not None and level.seen < level.planned and not told:
                told = True
                yield from self._shortfall(level)
