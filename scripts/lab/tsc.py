# SPDX-License-Identifier: GPL-2.0
"""The frequency of the host's time stamp counter, which an emulated machine sees.

A kernel that boots measures it against a timer. QEMU emulates the timer, the
counter is the host's own, and on a busy host the two do not keep pace: the
kernel finds 190 MHz where there are 2600, and then each of its seconds, and so
each of its time limits, is a fourteenth of one. Or it gives up, and counts timer
interrupts, of which it loses some. So it is told.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import time
from collections.abc import Callable
from pathlib import Path

# rdtsc; shl rdx, 32; or rax, rdx; ret
RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
SAMPLES = 50
SECONDS = 0.05


def khz(counter: Callable[[], int], clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep) -> int:
    """The frequency of `counter`, in kHz, by a clock that counts nanoseconds."""
    def sample() -> tuple[int, int]:
        best = (1 << 62, 0, 0)
        for _ in range(SAMPLES):
            before = clock()
            ticks = counter()
            after = clock()
            best = min(best, (after - before, (before + after) // 2, ticks))
        return best[1:]

    first, ticks_first = sample()
    sleep(SECONDS)
    second, ticks_second = sample()
    return round((ticks_second - ticks_first) * 1_000_000 / (second - first))


@functools.cache
def host_khz() -> int | None:
    """The same for the host, or None if it has no such counter, or nobody may read it."""
    if platform.machine() != "x86_64":
        return None
    if " constant_tsc " not in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"):
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    code.write(RDTSC)
    held = ctypes.c_char.from_buffer(code)
    return khz(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(held)))
