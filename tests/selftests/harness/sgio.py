# SPDX-License-Identifier: GPL-2.0
"""SCSI commands through SG_IO: any CDB, memory at any offset, all that comes back; resets.

include/uapi/scsi/sg.h of the kernel defines the structure.
"""

from __future__ import annotations

import ctypes
import enum
import fcntl
import os
import struct
from dataclasses import dataclass

from harness.case import Failure
from harness.data import Memory

SG_IO, SG_SCSI_RESET = 0x2285, 0x2284
NONE, TO_DEVICE, FROM_DEVICE = -1, -2, -3
SENSE_BYTES = 252

GOOD, CHECK_CONDITION = 0x00, 0x02
ILLEGAL_REQUEST, UNIT_ATTENTION, MISCOMPARE = 0x05, 0x06, 0x0E
DID_OK, DID_TIME_OUT, DID_ABORT = 0x00, 0x03, 0x05


class _Header(ctypes.Structure):
    """struct sg_io_hdr."""

    _fields_ = [
        ("interface_id", ctypes.c_int), ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte), ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort), ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p), ("cmdp", ctypes.c_void_p), ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint), ("flags", ctypes.c_uint), ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p), ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte), ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte), ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort), ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint), ("info", ctypes.c_uint)]


class Reset(enum.IntEnum):
    """What is reset: include/uapi/scsi/scsi_ioctl.h. A reset that fails goes on to what is larger."""

    DEVICE, HOST, TARGET = 1, 3, 4


@dataclass(frozen=True)
class Reply:
    """How a command ended."""

    status: int
    host_status: int
    residual: int
    sense: bytes

    @property
    def good(self) -> bool:
        """Whether it did what it was asked to."""
        return self.status == GOOD and self.host_status == DID_OK

    def code(self) -> tuple[int, int, int]:
        """Sense key, additional sense code and its qualifier; zeros without sense."""
        return decode(self.sense)

    def __str__(self) -> str:
        text = f"status 0x{self.status:02x}, host 0x{self.host_status:02x}, residual {self.residual}"
        return text + (", sense %x/%02x/%02x" % self.code() if self.sense else "")


def decode(sense: bytes) -> tuple[int, int, int]:
    """Read sense data of either format."""
    if len(sense) >= 4 and sense[0] & 0x7F in (0x72, 0x73):
        return sense[1] & 0x0F, sense[2], sense[3]
    if len(sense) >= 14 and sense[0] & 0x7F in (0x70, 0x71):
        return sense[2] & 0x0F, sense[12], sense[13]
    return 0, 0, 0


class Device:
    """An open disk that takes SCSI commands."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *ignored: object) -> None:
        os.close(self._fd)

    def execute(self, cdb: bytes, direction: int = NONE, address: int = 0, length: int = 0,
                timeout: float = 30) -> Reply:
        """Run one command; OSError if the kernel did not even send it."""
        command = ctypes.create_string_buffer(cdb, len(cdb))
        sense = ctypes.create_string_buffer(SENSE_BYTES)
        header = _Header(interface_id=ord("S"), dxfer_direction=direction, cmd_len=len(cdb),
                         mx_sb_len=SENSE_BYTES, dxfer_len=length, dxferp=address or None,
                         cmdp=ctypes.addressof(command), sbp=ctypes.addressof(sense),
                         timeout=int(timeout * 1000))
        try:
            fcntl.ioctl(self._fd, SG_IO, header)
        except OSError as exc:
            exc.strerror = f"{exc.strerror}: command {cdb.hex()}, {length} bytes"
            raise
        return Reply(header.status, header.host_status, header.resid,
                     sense.raw[:header.sb_len_wr])

    def read(self, cdb: bytes, length: int, timeout: float = 30) -> tuple[Reply, bytes]:
        """Run a command that returns data; the bytes that were transferred."""
        memory = Memory(max(length, 1))
        reply = self.execute(cdb, FROM_DEVICE, memory.address, length, timeout)
        return reply, bytes(memory.view[:max(0, length - reply.residual)])

    def write(self, cdb: bytes, content: bytes, timeout: float = 30) -> Reply:
        """Run a command that takes data."""
        memory = Memory(max(len(content), 1))
        memory.view[:len(content)] = content
        return self.execute(cdb, TO_DEVICE, memory.address, len(content), timeout)

    def reset(self, what: Reset) -> int:
        """Reset it; returns 0, or the errno."""
        try:
            fcntl.ioctl(self._fd, SG_SCSI_RESET, struct.pack("i", what))
        except OSError as exc:
            return exc.errno
        return 0

    def settle(self) -> None:
        """Take away unit attentions that wait to be told."""
        for _ in range(10):
            if self.execute(test_unit_ready()).good:
                return
        raise Failure(f"{self.path} does not become ready")


def test_unit_ready() -> bytes:
    """A command without data."""
    return bytes(6)


def inquiry(length: int, page: int | None = None) -> bytes:
    """INQUIRY, standard or of a page."""
    return struct.pack(">BBBHB", 0x12, int(page is not None), page or 0, length, 0)


def read10(lba: int, blocks: int) -> bytes:
    """READ(10)."""
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write10(lba: int, blocks: int) -> bytes:
    """WRITE(10)."""
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


def read16(lba: int, blocks: int) -> bytes:
    """READ(16)."""
    return struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0)


def write16(lba: int, blocks: int) -> bytes:
    """WRITE(16)."""
    return struct.pack(">BBQIBB", 0x8A, 0, lba, blocks, 0, 0)


def compare_and_write(lba: int, blocks: int) -> bytes:
    """COMPARE AND WRITE: the blocks expected, then those to write."""
    return struct.pack(">BBQ3xBBB", 0x89, 0, lba, blocks, 0, 0)


def synchronize_cache() -> bytes:
    """SYNCHRONIZE CACHE(10) of the whole disk."""
    return struct.pack(">B9x", 0x35)


def report_luns(length: int) -> bytes:
    """REPORT LUNS."""
    return struct.pack(">B5xIBB", 0xA0, length, 0, 0)


def mode_sense(page: int, length: int) -> bytes:
    """MODE SENSE(6)."""
    return struct.pack(">BBBBBB", 0x1A, 0, page, 0, length, 0)


def reserve_out(action: int, kind: int, length: int) -> bytes:
    """PERSISTENT RESERVE OUT."""
    return struct.pack(">BBB2xIB", 0x5F, action, kind, length, 0)


def reserve_in(action: int, length: int) -> bytes:
    """PERSISTENT RESERVE IN."""
    return struct.pack(">BB5xHB", 0x5E, action, length, 0)
