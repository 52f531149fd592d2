# SPDX-License-Identifier: GPL-2.0
"""How much of the kernel's memory is in use, by slab cache and by kind.

Two looks with many repetitions between them show what each repetition leaves.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from lab.guest import detectors
from lab.guest.system import read

KINDS = ("SUnreclaim", "VmallocUsed", "Percpu", "KernelStack", "PageTables")
# General caches, and those of what takes part in a session. Others grow and shrink
# with processes, files and names.
WATCHED = re.compile(r"^kmalloc-(?!rcl)|iser|iscsi|scsi|rxe|^ib_|rdma|^lio_|se_")


def slabs() -> dict[str, int]:
    """Objects in use in each cache that can tell of a leak."""
    found = {}
    for path in Path("/sys/kernel/slab").iterdir():
        if path.is_symlink() or not WATCHED.search(path.name):
            continue
        try:
            # What the CPUs keep for themselves counts as used until it is given back.
            (path / "shrink").write_text("1", encoding="ascii")
            found[path.name] = int(read(path / "objects", "0").split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return found


def kinds() -> dict[str, int]:
    """KiB in use by kind.

    On the instrumented kernel slabs are not looked at: KASAN keeps what was freed for a while, and
    kmemleak a record of everything; it looks for leaks itself.
    """
    found = {}
    for row in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = row.partition(":")
        if name in KINDS and not (name == "SUnreclaim" and detectors.has_kmemleak()):
            found[name] = int(rest.split()[0])
    return found


def now() -> tuple[dict[str, int], dict[str, int]]:
    """Both, without what is only cached."""
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    return slabs(), kinds()


def grown(before: dict[str, int], after: dict[str, int], least: int) -> dict[str, int]:
    """What has grown by that much or more."""
    return {n: after[n] - before.get(n, 0) for n in sorted(after) if after[n] - before.get(n, 0) >= least}


def lost(before: tuple[dict[str, int], dict[str, int]], objects: int, kib: int,
         seconds: float = 15) -> dict[str, int]:
    """What has grown and stays so: objects of a cache, KiB of a kind.

    Much is freed late, the last session's devices for instance.
    """
    end = time.monotonic() + seconds
    while True:
        after = now()
        found = {**grown(before[0], after[0], objects), **grown(before[1], after[1], kib)}
        if not found or time.monotonic() > end:
            return found
        time.sleep(1)
