# SPDX-License-Identifier: GPL-2.0
"""The detectors of an instrumented kernel that do not speak up by themselves."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from lab.guest.system import read
from lab.report import LabError

LOCKDEP = Path("/proc/lockdep_stats")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
# In the results: what it has found, to be judged on the host.
FOUND = "kmemleak"
# kmemleak waits until an object has some age, so it takes two looks.
PAUSES = (1, 6)


def has_kmemleak() -> bool:
    """Whether this kernel looks for memory that nobody points at."""
    return KMEMLEAK.exists()


def leaks() -> str:
    """Have kmemleak look; returns its reports since the last `forget`."""
    for pause in PAUSES:
        time.sleep(pause)
        KMEMLEAK.write_text("scan\n", encoding="ascii")
    return KMEMLEAK.read_text(encoding="utf-8", errors="replace")


def forget() -> None:
    """Have kmemleak not report again what it has found so far."""
    KMEMLEAK.write_text("clear\n", encoding="ascii")


def has_lockdep() -> bool:
    """Whether this kernel has lockdep, be it on or off."""
    return LOCKDEP.exists()


def lockdep_works() -> bool:
    """Whether lockdep is there and on; it is off after a report, of KASAN too."""
    return bool(re.search(r"debug_locks:\s*1\b", read(LOCKDEP, "")))


def last_look() -> None:
    """At the end of a run: no detector has given up; what kmemleak finds is left in the results."""
    if not lockdep_works():
        raise LabError("lockdep has switched itself off")
    Path(os.environ["ISER_OUT"], FOUND).write_text(leaks(), encoding="utf-8")
