# SPDX-License-Identifier: GPL-2.0
"""Reports of the kernel's detectors: cut out of a log, and compared with a list.

A report is what follows a bad line: the kernel prints it in one go, so it ends
with the first pause or with the next mark. What identifies it is its title
without numbers, and the functions of its backtraces in order. A report that is
proven to be another's is put on the one list that there is, with the evidence; it is
matched exactly, and several of one cause may share the evidence:

    # Evidence, in as many lines as it takes.
    title: possible circular locking dependency detected
    isert_release_work
    process_one_work
    title: the same, as another compiler has it
    process_one_work
    <empty line>
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab import config, kmsg
from lab.report import LabError

LIST = "tests/known-reports"
# `  func+0x12/0x340 [module]`, without the `? ` of a guess.
FRAME = re.compile(r"^\s*(?:\[<[0-9a-f]+>\]\s*)?([A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
# Where a report came up, which differs from time to time.
PLACE = re.compile(r",? CPU#\d+: .*$| by task .*$| at addr .*$")
NUMBERS = re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|\b\d+\b")
MARK = "iser-lab: "
# First and last line of an oops or a warning.
FIRST, LAST = "[ cut here ]", "---[ end trace"
# Before and behind a report of KASAN, and before one of lockdep.
RULE = "=" * 20
LONGEST = 400


Identity = tuple[str, tuple[str, ...]]
Table = dict[Identity, str]


# In a mangled Rust name, between the parts: what tells apart crates of one name, references
# to earlier parts, and the length of the next part.
_BETWEEN = re.compile(r"s[0-9a-zA-Z]*_|B[0-9a-zA-Z]*_|(\d+)_?|.")


def plain(name: str) -> str:
    """The function that a symbol is; of a mangled Rust name its parts."""
    if not name.startswith("_R"):
        return name
    at, parts = len("_R"), []
    while match := _BETWEEN.match(name, at):
        at = match.end()
        if match[1]:
            parts.append(name[at:at + int(match[1])])
            at += int(match[1])
    return "::".join(filter(None, parts)) or name


@dataclass
class Report:
    """One report: its title, and all of its lines."""

    title: str
    rows: list[str] = field(default_factory=list)
    mark: str = ""               # what was under way

    @property
    def functions(self) -> list[str]:
        """The functions of its backtraces, in order."""
        found = (FRAME.match(text_of(row)) for row in self.rows)
        return [plain(match[1]) for match in found if match]

    @property
    def identity(self) -> Identity:
        """What a list names it by."""
        return NUMBERS.sub("N", PLACE.sub("", self.title)), tuple(self.functions)

    def entry(self) -> str:
        """The report as the list would have it."""
        title, functions = self.identity
        return "\n".join([f"title: {title}", *functions])


def text_of(row: str) -> str:
    """A row of the log without its time."""
    match = kmsg.STAMP.match(row)
    return match[2] if match else row


def reports(rows: Iterable[str]) -> list[Report]:
    """The reports of a kernel log."""
    found: list[Report] = []
    current: Report | None = None
    last, mark = 0.0, ""
    for row in rows:
        row = row.rstrip("\r\n")
        match = kmsg.MARK.search(row)
        # A test has marks of its own in it, and none of these has its program before it.
        if match and ("/" in match[1] or "/" not in mark):
            mark = match[1]
        now = kmsg.time_of(row)
        ended = (now is not None and now - last > kmsg.PAUSE_SECONDS) or MARK in row or FIRST in row or RULE in row
        if now is not None:
            last = now
        if current is not None and (ended or len(current.rows) >= LONGEST):
            current = None
        if current is not None:
            current.rows.append(row)
            if LAST in row:
                current = None
        elif kmsg.bad_lines([row]):
            current = Report(text_of(row).strip(), [row], mark)
            found.append(current)
    return found


def of_log(rows: Iterable[str]) -> list[Report]:
    """The reports of a kernel log; what is said of allocations that were to fail is none."""
    return reports(kmsg.without_injected(rows))


def leaks(text: str) -> list[Report]:
    """The reports of /sys/kernel/debug/kmemleak; one for each place, not each object."""
    found: dict[Identity, Report] = {}
    for block in re.split(r"(?m)^(?=unreferenced object )", text):
        rows = block.rstrip("\n").split("\n")
        if not rows[0].startswith("unreferenced object"):
            continue
        size = re.search(r"\(size (\d+)\)", rows[0])
        report = Report(f"kmemleak: unreferenced object (size {size[1] if size else '?'})", rows)
        found.setdefault(report.identity, report)
    return list(found.values())


def known(path: Path | None = None) -> Table:
    """Read the list, this project's by default: what identifies a report, and the evidence that excuses it."""
    path = path or config.checkout() / LIST
    table: Table = {}
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        rows = [row.strip() for row in block.strip().splitlines()]
        evidence = " ".join(row.lstrip("# ") for row in rows if row.startswith("#"))
        entry = [row for row in rows if row and not row.startswith("#")]
        if not entry:
            continue
        if not entry[0].startswith("title: ") or not evidence:
            raise LabError(f"{path}: an entry is evidence in `#` lines, then `title: `, "
                           f"then functions; this one is not: {entry[0]}")
        titles = [at for at, row in enumerate(entry) if row.startswith("title: ")]
        for at, end in zip(titles, [*titles[1:], len(entry)]):
            identity = entry[at].removeprefix("title: "), tuple(entry[at + 1:end])
            if identity in table:
                raise LabError(f"{path} has the same report twice: {identity[0]}")
            table[identity] = evidence
    return table


def judge(found: Iterable[Report], excused: Iterable[Identity]) -> tuple[list[Report], list[Report]]:
    """Split reports into those that count and those that the list excuses."""
    table = set(excused)
    counting, listed = [], []
    for report in found:
        (listed if report.identity in table else counting).append(report)
    return counting, listed
