# SPDX-License-Identifier: GPL-2.0
"""What the others say where the driver has nothing to say.

If a PDU is sound, and what it says is libiscsi's or iscsid's to judge, the driver is silent. When
a login or a session then ends of it, one of these has to have said why: libiscsi in the kernel
log, iscsid in its own, or iscsiadm, which shows the user iscsid's answer.
"""

from __future__ import annotations

import os
import re

from harness.case import Failure
from harness.env import Env
from harness.mishap import Tail
from lab.guest import kernlog
from lab.guest.initiator import ISCSID_LOG


class Witness:
    """Listens from now on."""

    def __init__(self, name: str) -> None:
        self._iscsid = Tail(ISCSID_LOG)
        self._mark = kernlog.mark(name)

    def kernel(self) -> list[str]:
        """The kernel log."""
        return kernlog.since(self._mark)

    def judge(self, env: Env, pattern: str, iscsiadm: str = "") -> None:
        """Somebody must have said what fits the pattern; with the C driver nothing is asked of messages."""
        if env.driver.kind != "rust":
            return
        if not os.path.exists(ISCSID_LOG):
            print("# iscsid has another log here: what it says is not judged", flush=True)
            return
        judge(pattern, [*self.kernel(), *self._iscsid.read().splitlines(), *iscsiadm.splitlines()])


def judge(pattern: str, rows: list[str]) -> None:
    """One of the lines must fit the pattern."""
    if not any(re.search(pattern, row) for row in rows):
        raise Failure(f"nobody says `{pattern}`, but:\n" + ("\n".join(rows[-40:]) or "nothing"))
