# SPDX-License-Identifier: GPL-2.0
"""Bytes that are found again only where they belong, and memory at any offset.

Every sector of every write has its own content, so that data which came back
late, shifted, or from another place is told from the right data.
"""

from __future__ import annotations

import ctypes
import mmap
import random

from harness.case import Failure

SECTOR = 512
# Beside a window: a page before it, and behind it a page where there is one.
GUARD, LEAST_GUARD = mmap.PAGESIZE, 64
# As a guard: all memory beside the window, where it has no other.
ALL = 1 << 40
GUARD_BYTE = 0xA5


class Pattern:
    """A source of content for a disk."""

    def __init__(self, seed: int = 1, largest: int = 8 << 20) -> None:
        # Not a secret: the same seed must give the same bytes.
        self._bytes = random.Random(seed).randbytes(2 * largest)
        self._largest = largest

    def content(self, lba: int, length: int, generation: int = 0) -> bytes:
        """The bytes to write at an address; each generation has others."""
        if length > self._largest:
            raise ValueError(f"{length} bytes are more than this pattern has")
        # Odd steps, so that no two near addresses or generations share a sector.
        start = (lba * 1027 + generation * 7919 + 1) % (2 * self._largest - length)
        return self._bytes[start:start + length]


class Memory:
    """Anonymous memory that starts on a page, with an address that C understands."""

    def __init__(self, length: int) -> None:
        self._map = mmap.mmap(-1, length)
        self.view = memoryview(self._map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def __len__(self) -> int:
        return len(self.view)


class Window:
    """A buffer at an offset into a page, with guard bytes around it that nobody may change."""

    def __init__(self, memory: Memory, offset: int, length: int, guard: int = GUARD) -> None:
        # One page is left for the guard before the window.
        start = mmap.PAGESIZE + offset
        end = start + length
        if end + LEAST_GUARD > len(memory):
            raise ValueError(f"{length} bytes at offset {offset} do not fit into the memory")
        self.length = length
        self.view = memory.view[start:end]
        self.address = memory.address + start
        self._guards = (memory.view[max(start - guard, 0):start], memory.view[end:end + guard])
        for beside in self._guards:
            beside[:] = bytes([GUARD_BYTE]) * len(beside)

    def fill(self, value: int) -> None:
        """Set every byte of the window."""
        self.view[:] = bytes([value]) * self.length

    def check_guards(self, what: str) -> None:
        """Fail if a byte beside the window has changed."""
        for where, guard in zip(("before", "after"), self._guards):
            found = bytes(guard)
            bad = [i for i in range(len(found)) if found[i] != GUARD_BYTE] if found.strip(bytes([GUARD_BYTE])) else []
            if bad:
                raise Failure(f"{what}: {len(bad)} bytes of the {len(found)} {where} the buffer were overwritten, first "
                              f"the one at {bad[0]}: {found[bad[0]:bad[0] + 16].hex()}")


def compare(what: str, got: memoryview | bytes, expected: bytes) -> None:
    """Fail at the first byte that differs, and say how far the damage goes."""
    if got == expected:
        return
    found = bytes(got)
    if len(found) != len(expected):
        raise Failure(f"{what}: {len(found)} bytes, and it should be {len(expected)}")
    bad = [i for i in range(len(found)) if found[i] != expected[i]]
    first = bad[0]
    raise Failure(f"{what}: {len(bad)} of {len(found)} bytes differ, first at {first}, last at {bad[-1]}; "
                  f"there is {found[first:first + 16].hex()}, and it should be "
                  f"{expected[first:first + 16].hex()}")
