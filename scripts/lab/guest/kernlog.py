# SPDX-License-Identifier: GPL-2.0
"""The kernel log as seen from user space: set a mark, judge what came after.

    mark = kernlog.mark("login")
    ...
    kernlog.check(mark)        # raises LabError if a warning came since
"""

from __future__ import annotations

import itertools
import os

from lab import kreport
from lab.report import LabError

_serial = itertools.count(1)


def mark(name: str) -> str:
    """Write a mark into the kernel log and return it."""
    text = f"iser-lab: mark {os.getpid()}.{next(_serial)} {name}"
    with open("/dev/kmsg", "w", encoding="utf-8") as log:
        log.write(f"<6>{text}\n")
    return text


def _read(fd: int) -> list[str]:
    """What can be read of the kernel log now, one message a line."""
    rows: list[str] = []
    while True:
        try:
            record = os.read(fd, 16384).decode(errors="replace")
        except BlockingIOError:
            return rows
        except BrokenPipeError:  # overwritten while read: go on with the next
            continue
        head, _, text = record.partition(";")
        microseconds = int(head.split(",")[2])
        rows.append(f"[{microseconds / 1e6:12.6f}] {text.splitlines()[0] if text else ''}")


def lines() -> list[str]:
    """Everything in the kernel log now, one message a line."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return _read(fd)
    finally:
        os.close(fd)


class Tail:
    """Follows the kernel log, for who looks at it so often that reading all of it takes too long."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)

    def rows(self) -> list[str]:
        """The messages since the last call, or since the beginning."""
        return _read(self._fd)

    def close(self) -> None:
        """Stop following."""
        os.close(self._fd)


def since(after: str) -> list[str]:
    """The messages after a mark; all of them if the mark is gone."""
    rows = lines()
    for index in range(len(rows) - 1, -1, -1):
        if rows[index].endswith(after):
            return rows[index + 1:]
    return rows


def complaints(after: str) -> list[kreport.Report]:
    """The reports after a mark that are on no list."""
    return kreport.judge(kreport.of_log(since(after)), kreport.known())[0]


def check(after: str) -> None:
    """Raise if the kernel complained after the mark."""
    bad = complaints(after)
    if bad:
        rows = [row for report in bad for row in report.rows]
        raise LabError("\n".join(["the kernel log is not clean:", *rows[:20]]))
