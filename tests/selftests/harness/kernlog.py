# SPDX-License-Identifier: GPL-2.0
"""What the kernel log says about a test: reports that fail it, and known ones.

What is bad is said in `lab.kmsg`, what a report is, and which are known to be another's,
in `lab.kreport`, once for the whole project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lab import kreport
from lab.kreport import Report, Table, known  # noqa: F401 - the list is had from here, too

CONNECTION_ERROR = re.compile(r"connection\d+:\d+: detected conn error")


def complaints(rows: Iterable[str], excused: Table) -> list[Report]:
    """The reports that fail a test; what is said of allocations that were to fail is none."""
    return kreport.judge(kreport.of_log(rows), excused)[0]


def excused(rows: Iterable[str], table: Table) -> list[Report]:
    """The reports that are on a list; a result names them all the same."""
    return kreport.judge(kreport.reports(rows), table)[1]


def connection_errors(rows: Iterable[str]) -> list[str]:
    """The lines by which libiscsi says that a connection was lost."""
    return [row for row in rows if CONNECTION_ERROR.search(row)]


def excerpt(rows: list[str], bad: list[Report], most: int = 120) -> list[str]:
    """What to show of a log: the first reports as the list would have them, and whole; or its end."""
    if not bad:
        return rows[-40:]
    chosen: list[str] = []
    for report in bad[:3]:
        chosen += [*report.entry().splitlines(), "in full:", *report.rows]
    if len(chosen) > most:
        chosen = [*chosen[:most], f"... and {len(chosen) - most} lines more"]
    return chosen + ([f"... and {len(bad) - 3} reports more"] if len(bad) > 3 else [])
