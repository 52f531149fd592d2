# SPDX-License-Identifier: GPL-2.0
"""Ending sessions that no process looks after any more.

iscsiadm keeps the session of a discovery itself. If it dies, or iscsid before it has told the kernel
what a login is for, the kernel keeps the session, with any transport: only messages to the transport
class end it, and no program of open-iscsi sends them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

from lab.guest import initiator
from lab.guest.initiator import Session
from lab.guest.system import SLOWNESS, read
from lab.report import LabError

NETLINK_ISCSI = 8
# enum iscsi_uevent_e of include/scsi/iscsi_if.h
DESTROY_SESSION, DESTROY_CONN, STOP_CONN, EP_DISCONNECT = 12, 14, 18, 24
STOP_CONN_TERM = 1
# struct nlmsghdr; of struct iscsi_uevent what is before its unions, and its length.
HEADER, FIXED, EVENT_LENGTH = struct.Struct("=IHHII"), struct.Struct("=IiQ"), 56
ANSWER_SECONDS = 60


def answered(message: bytes, what: int) -> int | None:
    """The error in a message of the kernel, if it is the answer to this one.

    The type is in the header; where there is an error, that of the event is ISCSI_KEVENT_IF_ERROR (iscsi_if_rx()).
    """
    _, kind, *_ = HEADER.unpack_from(message)
    _, error, _ = FIXED.unpack_from(message, HEADER.size)
    return error if kind == what else None


def tell(what: int, body: bytes) -> int:
    """Send one message; return its error, 0 for none."""
    transport = int(read(Path("/sys/class/iscsi_transport/iser/handle")))
    event = (FIXED.pack(what, 0, transport) + body).ljust(EVENT_LENGTH, b"\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ISCSI) as link:
        link.settimeout(ANSWER_SECONDS * SLOWNESS)
        link.bind((0, 0))
        link.sendto(HEADER.pack(HEADER.size + len(event), what, 0, 1, os.getpid()) + event, (0, 0))
        while True:
            error = answered(link.recv(65536), what)
            if error is not None:
                return error


def adoptable(session: Session) -> bool:
    """Whether another iscsid can take a session over: the last that it reads of one is who has logged in.

    Without the name of the target it leaves a session alone, without the portal's port it tries port 0 for ever.
    """
    return read(session.directory / "initiatorname", "") == initiator.initiator_name()


def end_all() -> None:
    """End every session and every endpoint of transport iser."""
    for session in initiator.sessions():
        # Connection 0 may be there or not; with it goes its endpoint.
        tell(STOP_CONN, struct.pack("=IIQI", session.sid, 0, 0, STOP_CONN_TERM))
        tell(DESTROY_CONN, struct.pack("=II", session.sid, 0))
        error = tell(DESTROY_SESSION, struct.pack("=I", session.sid))
        if error:
            raise LabError(f"session {session.sid} cannot be ended: {errno.errorcode.get(-error, error)}")
    disconnect_all()


def disconnect_all() -> None:
    """End every endpoint; where a session has one, it is lost."""
    for path in Path("/sys/class/iscsi_endpoint").glob("*"):
        tell(EP_DISCONNECT, struct.pack("=Q", int(read(path / "handle"))))
