# SPDX-License-Identifier: GPL-2.0
"""Ask the QEMU plugin for its counters, from inside the guest (plugin/blocks.c)."""

from __future__ import annotations

import ctypes
import mmap
import struct

RETURN = b"\xc3"
# For 8192 markers: a full run takes 720.
CODE_SIZE = 16 * mmap.PAGESIZE


class Marker:
    """Executes the marker; on a machine without the plugin that is a NOP."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, CODE_SIZE,
                               prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._size = 0
        self._next = 1

    def snapshot(self) -> int:
        """Have the counters written now; returns the label of their file."""
        label = self._next
        self._next += 1
        # Each label is code of its own: QEMU translates it when it first runs.
        at = self._size
        code = b"\x0f\x1f\x80" + struct.pack("<I", 0x49420000 | label) + RETURN
        if at + len(code) > CODE_SIZE:
            raise RuntimeError("too many snapshots")
        self._page[at:at + len(code)] = code
        self._size = at + len(code)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        ctypes.CFUNCTYPE(None)(base + at)()
        return label
