# SPDX-License-Identifier: GPL-2.0
"""Task management of a session, as libiscsi counts it: what was really sent and answered."""

from __future__ import annotations

from dataclasses import dataclass

from lab.guest import initiator
from lab.guest.initiator import Session


@dataclass(frozen=True)
class Count:
    """Requests, and responses to them."""

    sent: int
    answered: int

    def __sub__(self, other: Count) -> Count:
        return Count(self.sent - other.sent, self.answered - other.answered)


def parse(text: str) -> Count:
    """Read the statistics of `iscsiadm -m session -s`."""
    found = dict(row.strip().split(": ") for row in text.splitlines() if "tmf" in row)
    return Count(int(found["tmfcmd_pdus"]), int(found["tmfrsp_pdus"]))


def count(session: Session) -> Count:
    """How many there were since the session began."""
    return parse(initiator.iscsiadm("-m", "session", "-r", str(session.sid), "-s"))
