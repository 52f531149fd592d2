# SPDX-License-Identifier: GPL-2.0
"""Judging a kernel log: which lines mean that something is wrong.

The same judgement is made on the host (over the serial console's log) and in
the guest (between two marks), so it lives in one place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BAD = re.compile(
    r"\bBUG:|\bWARNING:|\bOops\b|Call Trace:|Kernel panic|general protection|"
    r"refcount_t|use-after-free|KASAN|UBSAN|KCSAN|DMA-API|list_(?:add|del) corruption|"
    r"unable to handle|possible recursive locking|circular locking|"
    r"suspicious RCU usage|inconsistent lock state|hung_task|blocked for more than|"
    r"soft lockup|hard LOCKUP|detected stalls|Objects remaining|kmemleak:|"
    r"rust_kernel: panicked|sleeping function called|scheduling while atomic|"
    r"kernel BUG at|Trying to vfree|bad page|Bad page|page allocation failure|"
    r"stack-protector|rcu_preempt self-detected"
)

PANIC = re.compile(r"Kernel panic - not syncing: (.*)")

# Lines that match BAD on a machine where nothing is wrong.
HARMLESS = re.compile(
    r"Command line:|Kernel command line:|kmemleak: Kernel memory leak detector|"
    r"kmemleak: Automatic|KASAN: Kernel|KernelAddressSanitizer initialized|"
    r"DMA-API: preallocated|DMA-API: debugging enabled"
)


# The guest's first process writes this when it starts the command.
BOOTED = "iser-lab: booted"


def bad_lines(rows: Iterable[str]) -> list[str]:
    """The lines of a kernel log that must not be there."""
    return [r.rstrip("\r\n") for r in rows if BAD.search(r) and not HARMLESS.search(r)]


def panic_reason(rows: Iterable[str]) -> str | None:
    """Why the kernel panicked, if it did."""
    for row in rows:
        found = PANIC.search(row)
        if found:
            return found[1].strip()
    return None


def after_boot(rows: list[str]) -> list[str]:
    """The messages since the guest's own command began; all, if it never did."""
    for index, row in enumerate(rows):
        if BOOTED in row:
            return rows[index + 1:]
    return rows
