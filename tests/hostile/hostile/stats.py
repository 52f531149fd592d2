# SPDX-License-Identifier: GPL-2.0
"""Counters of a connection, asked of the kernel directly: iscsid may be stopped meanwhile.

include/scsi/iscsi_if.h of the kernel defines the messages.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from harness.case import Failure
from lab.guest.system import output, read

NETLINK_ISCSI, GROUP_ISCSID = 8, 1
GET_STATS = 20
# More than struct iscsi_uevent takes; the rest is ignored.
EVENT_BYTES = 256
# struct iscsi_stats_custom
NAME_BYTES = 64


def counter(sid: int, name: str) -> int:
    """One of the extended counters of a session's connection."""
    handle = int(read("/sys/class/iscsi_transport/iser/handle"))
    event = struct.pack("=IIQII", GET_STATS, 0, handle, sid, 0).ljust(EVENT_BYTES, b"\0")
    header = struct.pack("=IHHII", 16 + len(event), GET_STATS, 1, 0, os.getpid())
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ISCSI) as link:
        link.bind((0, GROUP_ISCSID))
        link.sendto(header + event, (0, 0))
        while select.select([link], [], [], 5)[0]:
            answer = link.recv(65536)
            at = answer.find(name.encode().ljust(NAME_BYTES, b"\0"))
            if at >= 0:
                value: int = struct.unpack_from("=Q", answer, at + NAME_BYTES)[0]
                return value
    raise Failure(f"the kernel does not tell {name} of session {sid}")


@contextmanager
def iscsid_stopped() -> Iterator[None]:
    """Nobody recovers what is lost meanwhile."""
    pids = [int(word) for word in output("pidof", "iscsid").split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
