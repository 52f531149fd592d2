# SPDX-License-Identifier: GPL-2.0
"""tgt, made to use the key of a command that is done.

tgt itself never would. A library that is preloaded into tgtd repeats an RDMA Write or
Read of tgt's by the same key, when it is asked to: see ../oldkeys.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from harness.case import Failure
from lab.guest.system import SLOWNESS
from lab.report import LabError

CRATE = Path(__file__).resolve().parent.parent
LIBRARY = Path(os.environ.get("ISER_OLD_KEYS_LIBRARY") or CRATE / "target/release/libiser_oldkeys.so")
SOCKET = "/run/iser/old-keys"
ANSWER_SECONDS = 40
# What the library says, in the words of the simulator.
WORDS = {"refused": "refused", "accepted": "accepted", "status 5": "gone"}


def environment() -> dict[str, str]:
    """What has tgtd take the library."""
    if not LIBRARY.exists():
        raise LabError(f"{LIBRARY} does not exist; `make hostile` builds it")
    return {"LD_PRELOAD": str(LIBRARY), "ISER_OLD_KEYS": SOCKET}


def use(what: str, length: int) -> str:
    """Have it repeat its last "read" or "write" of so many bytes; what became of it."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(ANSWER_SECONDS * SLOWNESS)
        asked.connect(SOCKET)
        asked.sendall(f"{what} {length}\n".encode())
        said = asked.makefile(encoding="utf-8").readline().strip()
    if said not in WORDS:
        raise Failure(f"tgt was to repeat its last {what} of {length} bytes, and said: {said or 'nothing'}")
    return WORDS[said]
