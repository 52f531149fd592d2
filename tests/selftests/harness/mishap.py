# SPDX-License-Identifier: GPL-2.0
"""Logins that a target has spoiled, with either driver: they are tried once more.

Each is told from everything else by what the target, or iscsid about it, has
written since the login began.
"""

from __future__ import annotations

import os

from lab.guest import tgt
from lab.guest.initiator import ISCSID_LOG
from lab.guest.system import wait_for
from lab.report import LabError

TGT_TOO_EARLY = "non-login pdu during login phase"
# LIO sets the length of an answer's text to 0 after it has posted the answer, and not before
# the next request may have come on another processor: then the answer to that has no text.
LIO_LOST_TEXT = "CHAP algorithm key expected"


class Tail:
    """What is appended to a log from now on; nothing if there is no such log."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.start = os.path.getsize(path) if os.path.exists(path) else 0

    def read(self) -> str:
        """All of it."""
        if not os.path.exists(self.path):
            return ""
        with open(self.path, encoding="utf-8", errors="replace") as log:
            log.seek(self.start)
            return log.read()

    def has(self, text: str) -> bool:
        """Whether it contains a text."""
        return text in self.read()


class Watch:
    """Looks at a target from before a login."""

    def __init__(self, target: object) -> None:
        self.target = target
        self._crashes = target.crashes if isinstance(target, tgt.Target) else 0
        self._tgtd = Tail(tgt.LOG)
        self._iscsid = Tail(ISCSID_LOG)

    def hung_up(self) -> bool:
        """Whether tgt has taken a request for one that came too early; see lab.guest.tgt."""
        return isinstance(self.target, tgt.Target) and self._tgtd.has(TGT_TOO_EARLY)

    def crashed(self, within: float = 1) -> bool:
        """Whether tgtd has crashed, which iscsiadm may know first; if so, another one serves."""
        target = self.target
        if not isinstance(target, tgt.Target):
            return False
        try:
            wait_for("the end of tgtd", lambda: target.crashes != self._crashes, within)
        except LabError:
            return False
        target.serves()
        return True

    def spoiled(self, chap: bool) -> bool:
        """Whether the target has spoiled the login; says how."""
        if isinstance(self.target, tgt.Target):
            return chap and self.crashed() or self.hung_up()
        if chap and self._iscsid.has(LIO_LOST_TEXT):
            print("# LIO has answered without its text: once more", flush=True)
            return True
        return False
