# SPDX-License-Identifier: GPL-2.0
"""Tasks that wait, and cannot be killed, in the driver, in libiscsi or in the transport class.

The kernel reports one only after minutes, so that a load that has to wait for long is not taken for it. What is
asked here is another thing: whether anybody waits in these modules when all is well again. For a moment, as a
worker or iscsid does under load, that is no fault, so whoever asks has to ask again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lab.guest.system import read

CLASS = ("libiscsi", "scsi_transport_iscsi")
PROC = Path("/proc")
_MODULE = re.compile(r"\[(\w+)\]\s*$")


def waiting(proc: Path) -> Iterator[Path]:
    """The threads in uninterruptible sleep."""
    for path in proc.glob("[0-9]*/task/[0-9]*"):
        # The name, in brackets, may hold anything.
        if read(path / "stat", "").rpartition(")")[2].split()[:1] == ["D"]:
            yield path


def inside(stack: str, modules: tuple[str, ...]) -> bool:
    """Whether a function of one of the modules is on the stack."""
    return any(found and found[1] in modules for found in map(_MODULE.search, stack.splitlines()))


def tasks(module: str, proc: Path = PROC, function: str = "") -> list[str]:
    """A line for each such task, or that waits below this function of the kernel, with its stack."""
    found = []
    for path in waiting(proc):
        stack = read(path / "stack", "")
        if inside(stack, (module, *CLASS)) or function and f" {function}+" in stack:
            rows = "; ".join(row.partition("] ")[2] for row in stack.splitlines())
            found.append(f"task {path.name} ({read(path / 'comm', '?').strip()}) waits: {rows}")
    return found
