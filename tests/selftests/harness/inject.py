# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail on purpose: the n-th of those that the driver asks for.

    with Injector("failslab", "ib_iser_rs") as faults:
        faults.arm(7)          # the seventh from here on fails, wherever it is made
        ...
        where = faults.disarm()

The kernel's own fault injection does it. An allocation counts if a function of the
module is on the stack, so that it does not matter which task or worker makes it, nor
whether the module asks for memory itself or has another part of the kernel ask.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.case import Skip
from lab import kmsg, kreport
from lab.guest import kernlog
from lab.guest.system import write
from lab.report import LabError

DEBUGFS = Path("/sys/kernel/debug")
KALLSYMS = Path("/proc/kallsyms")
EVERYWHERE = (0, (1 << 64) - 1)
NOWHERE = (0, 0)
DEPTH = 32             # the most that the kernel looks at
PAGE = 4096
# What the attributes are besides those that choose an allocation: all kinds of it, and
# each failure with its backtrace in the log.
CONSTANT = {"probability": 0, "times": 0, "space": 0, "verbose": 2, "stacktrace-depth": DEPTH,
            "ignore-gfp-wait": "N", "cache-filter": "Y", "ignore-gfp-highmem": "N", "min-order": 0}
# kmemleak allocates beside each allocation, and has a reserve for when it cannot.
CACHES = Path("/sys/kernel/slab")
BESIDE = "kmemleak_"
# Two functions of others that go on without the memory, and of which no driver hears. They are
# spared. The first is the driver core's: a session that it cannot list in its class is not found
# in sysfs ("failed to allocate class container"), and user space can neither use nor end it. The
# second is the transport class's: iscsid is never told of a lost connection if there is no memory
# for the message ("gracefully ignored conn error"), so that nobody logs in again.
UNLISTED = "attribute_container_add_device"
UNTOLD = "iscsi_conn_error_event"


def symbols(rows: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Read kallsyms: address, name and module of each function."""
    for row in rows:
        words = row.split()
        if len(words) >= 3 and words[1] in "tT":
            yield int(words[0], 16), words[2], words[3].strip("[]") if len(words) > 3 else ""


def text_of(module: str, rows: Iterable[str]) -> tuple[int, int]:
    """Where the functions of a module are."""
    found = [address for address, _, owner in symbols(rows) if owner == module]
    if not found or not max(found):
        raise LabError(f"{KALLSYMS} shows no address of {module}")
    return min(found), (max(found) // PAGE + 1) * PAGE


def function(name: str, rows: Iterable[str]) -> tuple[int, int]:
    """Where one function of the kernel is; nowhere, if there is none of that name."""
    table = sorted(symbols(rows))
    for start, found, owner in table:
        if found == name:
            return start, next((a for a, _, o in table if a > start and o == owner), start + PAGE)
    return NOWHERE


@dataclass(frozen=True)
class Failure:
    """An allocation that was made to fail."""

    functions: tuple[str, ...]       # innermost first
    inside: str                      # the function of the module that has asked for it

    def __str__(self) -> str:
        if not self.inside:
            return "one that says nothing when it fails"
        return f"{self.inside}, in {self.functions[0] if self.functions else 'the allocator'}"


# What every such backtrace begins with.
_OWN = re.compile(r"^(dump_stack|should_fail|should_failslab|fail_|__should_fail|kmem_cache_|__kmalloc|"
                  r"___?kmalloc|__kvmalloc|kmalloc|krealloc|__do_kmalloc|slab_|alloc_pages|__alloc_|alloc_frozen|"
                  r"prepare_alloc_pages|__alloc_frozen|get_free_page|___slab|new_slab|allocate_slab)")
def failure(rows: Iterable[str], module: str) -> Failure | None:
    """The last allocation that was made to fail, from the kernel log."""
    found: Failure | None = None
    for block in kmsg.injected(rows):
        names, inside = [], ""
        for row in block:
            match = kreport.FRAME.match(kreport.text_of(row))
            if not match:
                continue
            ours = f"[{module}]" in row
            if ours and not inside:
                inside = kreport.plain(match[1])
            if not ours and not inside and not _OWN.match(match[1]):
                names.append(match[1])
        found = Failure(tuple(names), inside)
    return found


def require(name: str) -> None:
    """Skip the test unless the kernel can fail allocations this way."""
    if not (DEBUGFS / name / "require-start").exists():
        raise Skip(f"this kernel has no {name} with a filter of backtraces")


class Injector:
    """One of the kernel's ways to fail an allocation: failslab or fail_page_alloc."""

    def __init__(self, name: str, module: str, spared: str = "") -> None:
        self.name, self.module, self.spared = name, module, spared
        self.directory = DEBUGFS / name
        self._tail: kernlog.Tail
        self.rows: list[str] = []        # of the kernel log, from arming to disarming

    def __enter__(self) -> Injector:
        require(self.name)
        for name, value in CONSTANT.items():
            if (self.directory / name).exists():
                write(self.directory / name, value)
        self._tail = kernlog.Tail()
        rows = KALLSYMS.read_text(encoding="ascii").splitlines()
        self._ours = text_of(self.module, rows)
        self._others = function(self.spared, rows)
        for cache in CACHES.iterdir():
            if not cache.is_symlink() and not cache.name.startswith(BESIDE):
                with suppress(LabError):        # one that several share
                    write(cache / "failslab", 1)
        return self

    def __exit__(self, *ignored: object) -> None:
        self._set({"probability": 0, "times": 0, "task-filter": "N"})
        self._ranges(EVERYWHERE, NOWHERE)
        self._tail.close()

    def _set(self, values: dict[str, object]) -> None:
        for name, value in values.items():
            write(self.directory / name, value)

    def _ranges(self, require: tuple[int, int], reject: tuple[int, int]) -> None:
        for name, (start, end) in (("require", require), ("reject", reject)):
            self._set({f"{name}-start": f"{start:#x}", f"{name}-end": f"{end:#x}"})

    def _left(self) -> int:
        return int((self.directory / "times").read_text(encoding="ascii"))

    def _align(self, number: int) -> None:
        """Bring the kernel's count, which nobody can read or set, to a multiple of `number`.

        It fails each allocation at which the count is one: we allocate until it has.
        """
        if number < 2:
            return
        self._set({"probability": 0, "task-filter": "Y", "interval": number, "times": 1})
        self._ranges(EVERYWHERE, NOWHERE)
        self._set({"verbose": 0, "probability": 100})
        own = os.open("/proc/self/make-it-fail", os.O_WRONLY)
        try:
            while self._left():
                os.pwrite(own, b"1", 0)
                try:
                    allocate()
                finally:
                    os.pwrite(own, b"0", 0)
        finally:
            os.close(own)
        self._set({"probability": 0, "task-filter": "N", "verbose": 2})

    def arm(self, number: int) -> None:
        """Have the `number`-th allocation of the module from now on fail, and no other."""
        self._align(number)
        kernlog.mark(f"{self.name} {number}")
        self._tail.rows()
        self._ranges(self._ours, self._others)
        self._set({"interval": number, "times": 1, "probability": 100})

    def disarm(self) -> Failure | None:
        """Fail nothing from now on; says what has failed, if anything has."""
        hit = not self._left()
        self._set({"probability": 0, "times": 0})
        kernlog.mark(f"{self.name} over")
        self.rows = self._tail.rows()
        if not hit:
            return None
        return failure(self.rows, self.module) or Failure((), "")


def allocate() -> None:
    """Have the kernel allocate objects and pages for this process, or fail to."""
    try:
        ends = os.pipe2(os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.write(ends[1], bytes(PAGE * 4))
    except OSError:
        pass
    finally:
        for end in ends:
            os.close(end)
