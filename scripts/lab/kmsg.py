# SPDX-License-Identifier: GPL-2.0
"""Judging a kernel log: which lines mean that something is wrong.

The same judgement is made on the host (over the serial console's log) and in
the guest (between two marks), so it lives in one place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# As Linux 7.3 says it; scripts/lab/tests/test_kmsg.py has a line of each.
BAD = re.compile(
    r"\bBUG:|\bBUG \S+ \(|\bWARNING:|\bOops\b|Call Trace:|Kernel panic|general protection|"
    r"refcount_t|percpu ref \(|use-after-free|KASAN|UBSAN|KCSAN|DMA-API|ODEBUG:|list_(?:add|del) corruption|"
    r"unable to handle|possible recursive locking|circular locking|irq lock inversion|"
    r"suspicious RCU usage|inconsistent lock state|bad unlock balance|held lock freed|"
    r"non-static key|turning off the locking correctness validator|"
    r"hung_task|INFO: task .* blocked|waiting for writeback completion|"
    r"soft lockup|hard LOCKUP|workqueue lockup|detected (?:expedited )?stalls|self-detected stall|"
    r"Objects remaining|still has objects|kmemleak:|nobody cared|"
    r"rust_kernel: panicked|sleeping function called|scheduling while atomic|"
    r"kernel BUG at|Trying to vfree|bad page|Bad page|page allocation failure|stack-protector"
)

PANIC = re.compile(r"Kernel panic - not syncing: (.*)")

# Lines that match BAD on a machine where nothing is wrong.
HARMLESS = re.compile(
    r"Command line:|Kernel command line:|kmemleak: Kernel memory leak detector initialized|"
    r"kmemleak: Automatic|KASAN: Kernel|KernelAddressSanitizer initialized|"
    r"DMA-API: preallocated|DMA-API: debugging enabled|kmemleak: Cannot allocate a scan area|"
    # It looks only when asked, and who asks reads and judges what it has found.
    r"kmemleak: \d+ new suspected memory leaks"
)


# What the kernel says of an allocation that it was told to fail, and what the allocator says
# in the meantime, between two marks. Both end with the last line of a backtrace.
INJECTED = re.compile(r"FAULT_INJECTION: forcing a failure")
MARK = re.compile(r"iser-lab: mark \S+ (.*)")
ARMED = re.compile(r"(?:failslab|fail_page_alloc) \d+")
CONSEQUENCE = re.compile(r": (?:vmalloc error|page allocation failure): ")
TRACE_END = "</TASK>"
LONGEST_TRACE = 80


# What tasks and processors do, as somebody has asked by sysrq; it ends as a report does.
DUMP = re.compile(r"sysrq: Show (?:Blocked State|backtrace of all active CPUs)")
# What no such dump has in it.
REPORT = re.compile(r"\[ cut here \]|={20}|\bBUG\b|INFO:|Kernel panic")
STAMP = re.compile(r"^\[\s*(\d+\.\d+)\](?:\[[^\]]*\])? ?(.*)$")
PAUSE_SECONDS = 0.5


# The guest's first process writes this when it starts the command.
BOOTED = "iser-lab: booted"


def bad_lines(rows: Iterable[str]) -> list[str]:
    """The lines of a kernel log that must not be there."""
    return [r.rstrip("\r\n") for r in rows if BAD.search(r) and not HARMLESS.search(r)]


def _blocks(rows: Iterable[str]) -> Iterator[tuple[bool, list[str]]]:
    """Cut a log: the lines about one injected failure, or one other line."""
    block: list[str] = []
    armed = False
    for row in rows:
        if block:
            block.append(row)
            if TRACE_END in row or len(block) >= LONGEST_TRACE:
                yield True, block
                block = []
        elif INJECTED.search(row) or (armed and CONSEQUENCE.search(row)):
            block = [row]
        else:
            if match := MARK.search(row):
                armed = bool(ARMED.fullmatch(match[1]))
            yield False, [row]
    if block:
        yield True, block


def injected(rows: Iterable[str]) -> list[list[str]]:
    """What the kernel said of each allocation that it was told to fail."""
    return [block for inject, block in _blocks(rows) if inject and INJECTED.search(block[0])]


def without_injected(rows: Iterable[str]) -> list[str]:
    """A log without what is said of such allocations; another report in the middle stays."""
    def stays(row: str) -> bool:
        return bool(bad_lines([row])) and "Call Trace:" not in row and not CONSEQUENCE.search(row)
    return [row for inject, block in _blocks(rows) for row in block if not inject or stays(row)]


def time_of(row: str) -> float | None:
    """The time of a row of the log."""
    match = STAMP.match(row)
    return float(match[1]) if match else None


def without_dumps(rows: Iterable[str]) -> list[str]:
    """A log without the backtraces that somebody has asked for."""
    found: list[str] = []
    inside, last = False, 0.0
    for row in rows:
        now = time_of(row)
        if inside and (MARK.search(row) or REPORT.search(row) or (now is not None and now - last > PAUSE_SECONDS)):
            inside = False
        last = last if now is None else now
        inside = inside or bool(DUMP.search(row))
        if not inside:
            found.append(row)
    return found


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
