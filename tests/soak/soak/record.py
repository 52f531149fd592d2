# SPDX-License-Identifier: GPL-2.0
"""What was injected and survived: one line of JSON for each step, and the table made of them.

The guest writes the lines as it goes, so that they are there when the machine is not any more.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "soak.jsonl"
HEAD = ("fault", "injected", "survived", "did not come about", "lost", "recovery", "longest", "I/Os", "MiB verified")


@dataclass
class Record:
    """One step, as it went."""

    number: int
    fault: str
    what: str                    # the step in words
    began: float                 # seconds since the first one
    survived: bool = False
    recovery: float = 0.0        # seconds from the repair until the load went on
    lost: int = 0                # connections that were lost on the way
    ios: int = 0                 # that the load has done since the step before
    verified: int = 0            # bytes that it has read back and found right
    notes: list[str] = field(default_factory=list)
    ended: bool = False          # one that has not ended was under way when the machine died
    injected: bool = True        # the fault came about: not one that was refused, or met nothing


def write(path: Path, record: Record) -> None:
    """Append a record; a step has one when it begins, and one when it has ended."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(asdict(record)) + "\n")


def read(path: Path) -> list[Record]:
    """The last record of each step, in order."""
    found: dict[int, Record] = {}
    if path.exists():
        for row in path.read_text(encoding="utf-8").splitlines():
            try:
                record = Record(**json.loads(row))
            except (ValueError, TypeError):     # cut off with the machine
                continue
            found[record.number] = record
    return [found[number] for number in sorted(found)]


def row(name: str, records: Sequence[Record]) -> tuple[str, ...]:
    """The line of the table for some steps."""
    came = [r for r in records if r.injected]
    times = [r.recovery for r in came if r.survived] or [0.0]
    return (name, str(len(came)), str(sum(r.survived for r in came)), str(len(records) - len(came)),
            str(sum(r.lost for r in records)),
            f"{statistics.median(times):.1f} s", f"{max(times):.1f} s", str(sum(r.ios for r in records)),
            str(sum(r.verified for r in records) >> 20))


def table(records: Sequence[Record]) -> list[str]:
    """The table, a line for each fault and one for all."""
    names = sorted({r.fault for r in records})
    rows = [HEAD, *(row(n, [r for r in records if r.fault == n]) for n in names), row("all", records)]
    widths = [max(len(r[column]) for r in rows) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(cells, widths))) for cells in rows]


def notes(records: Iterable[Record]) -> list[str]:
    """What was noted, and how often."""
    counts: dict[str, int] = {}
    for record in records:
        for note in record.notes:
            counts[note] = counts.get(note, 0) + 1
    return [f"{count} times: {note}" for note, count in sorted(counts.items())]
