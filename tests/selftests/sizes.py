#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Data of every size from 512 bytes to 4 MiB, at every alignment of memory and disk."""

import os
import random
import sys
import tempfile
from pathlib import Path

from harness import program, sgio
from harness.case import BOTH, LIO, Skip, case, check, equal
from harness.data import SECTOR, Memory, Pattern, Window, compare
from harness.env import DISK_MIB, Env
from lab.guest.system import read, run

LARGEST = 4 << 20
PAGE = 4096
BLOCKS = DISK_MIB * 2048
# Multiples of four reach the driver as they are, the others by a copy of the block layer.
OFFSETS = (0, 4, 508, 512, 516, 1020, 2048, 3580, 3584, 4092, 1, 511, 513, 2047, 4095)
PATTERN = Pattern(seed=3, largest=LARGEST)


def fitting(size: int, offset: int, segments: int = 128) -> int:
    """The offset, or 0 if from there the size would take more pages than a command may have.

    A request of more than 256 pages (BIO_MAX_VECS) is made of several bios, and the block
    layer joins none to one that begins inside a page (bio_will_gap).
    """
    return offset if -(-(offset % PAGE + size) // PAGE) <= min(segments, 256) else 0


def round_trip(device: sgio.Device, memory: Memory, blocks: int, lba: int, offset: int,
               wide: bool = False, segments: int = 128) -> None:
    """Write from one offset, read to another, compare, look at the neighbours."""
    size = blocks * SECTOR
    what = f"{blocks} blocks at {lba}, memory offset {offset}"
    content = PATTERN.content(lba, size, generation=blocks + offset)
    window = Window(memory, offset, size)
    window.view[:] = content
    make_write, make_read = (sgio.write16, sgio.read16) if wide else (sgio.write10, sgio.read10)
    reply = device.execute(make_write(lba, blocks), sgio.TO_DEVICE, window.address, size)
    check(reply.good and reply.residual == 0, f"write of {what}: {reply}")
    compare(f"memory after the write of {what}", window.view, content)
    # The next offset, if from there the command is not too long.
    other = Window(memory, fitting(size, OFFSETS[(OFFSETS.index(offset) + 1) % len(OFFSETS)], segments),
                   size)
    other.fill(0)
    reply = device.execute(make_read(lba, blocks), sgio.FROM_DEVICE, other.address, size)
    check(reply.good and reply.residual == 0, f"read of {what}: {reply}")
    compare(f"read of {what}", other.view, content)
    other.check_guards(f"read of {what}")


@case(BOTH, limit=150)
def every_small_size(env: Env) -> None:
    """Each number of blocks from 1 to 256 in a command of its own, memory at changing offsets."""
    memory = Memory((1 << 17) + (1 << 15))
    dice = random.Random(1)
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        for blocks in range(1, 257):
            lba = dice.randrange(BLOCKS - blocks)
            round_trip(device, memory, blocks, lba, OFFSETS[blocks % len(OFFSETS)])


@case(BOTH, limit=120)
def every_offset(env: Env) -> None:
    """Sizes around page borders from every offset in memory."""
    memory = Memory((1 << 20) + (1 << 15))
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        for blocks in (1, 7, 8, 9, 16, 127, 128, 129):
            for index, offset in enumerate(OFFSETS):
                round_trip(device, memory, blocks, 2049 + 257 * index, offset, wide=bool(index % 2))


@case(BOTH, limit=90)
def up_to_the_limit(env: Env) -> None:
    """Sizes up to the longest command of the default max_sectors."""
    memory = Memory((1 << 20) + (1 << 15))
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        name = session.disks()[0].removeprefix("/dev/")
        limit = 2 * int(read(f"/sys/block/{name}/queue/max_hw_sectors_kb"))
        equal("longest command in blocks", limit, 1024)
        for index, blocks in enumerate((257, 383, 511, 512, 513, 767, 1000, 1015, 1016, 1017, 1023, limit)):
            round_trip(device, memory, blocks, 5000 * index + 3, fitting(blocks * SECTOR, OFFSETS[index]))
        try:
            device.read(sgio.read10(0, limit + 8), (limit + 8) * SECTOR)
        except OSError:
            return
        check(False, "a command longer than the limit was not refused")


@case(BOTH, limit=120)
def four_mebibytes_in_one_command(env: Env) -> None:
    """With max_sectors=8192 a command carries up to 4 MiB, or what the device's regions allow."""
    if env.kind == "tgt":
        raise Skip("tgt's own buffers end at 512 KiB, and it hangs up on more")
    env.reload({"max_sectors": 8192})
    memory = Memory(LARGEST + (1 << 15))
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        queue = Path(f"/sys/block/{session.disks()[0].removeprefix('/dev/')}/queue")
        limit, segments = 2 * int(read(queue / "max_hw_sectors_kb")), int(read(queue / "max_segments"))
        check(1024 < limit <= 8192, f"the longest command has {limit} blocks")
        sizes = (1024, 1025, 2047, 2048, 4000, 4087, 4088, 4096, 8000, 8184, 8192)
        for index, blocks in enumerate(b for b in sizes if b <= limit):
            round_trip(device, memory, blocks, 9000 * index + 1,
                       fitting(blocks * SECTOR, OFFSETS[index % 4], segments), True, segments)


@case(BOTH, limit=120)
def direct_io(env: Env) -> None:
    """O_DIRECT of 512 bytes to 4 MiB from any sector, which the block layer cuts into commands."""
    memory = Memory(LARGEST + (1 << 15))
    with env.session() as session:
        fd = os.open(session.disks()[0], os.O_RDWR | os.O_DIRECT)
        try:
            for exponent in range(9, 23):
                for extra, offset in ((0, 0), (-SECTOR, 512), (SECTOR, 1536)):
                    size = (1 << exponent) + extra
                    if not 0 < size <= LARGEST:
                        continue
                    position = SECTOR * (exponent * 7001 + 1)
                    content = PATTERN.content(position // SECTOR, size, generation=size)
                    window = Window(memory, offset, size)
                    window.view[:] = content
                    equal("bytes written", os.pwritev(fd, [window.view], position), size)
                    window.fill(0)
                    equal("bytes read", os.preadv(fd, [window.view], position), size)
                    compare(f"{size} bytes at {position}", window.view, content)
                    window.check_guards(f"{size} bytes")
        finally:
            os.close(fd)


@case(BOTH, limit=90)
def scattered_memory(env: Env) -> None:
    """One request from many pieces of memory with gaps between them, which no region may bridge."""
    dice = random.Random(5)
    memory = Memory(4 << 20)
    with env.session() as session:
        fd = os.open(session.disks()[0], os.O_RDWR | os.O_DIRECT)
        try:
            for turn in range(30):
                pieces, at = [], 0
                while at < (3 << 20) and len(pieces) < 40:
                    length = SECTOR * dice.choice((1, 2, 7, 8, 9, 15, 16, 24))
                    pieces.append(memory.view[at:at + length])
                    at += length + SECTOR * dice.choice((0, 1, 3, 8))
                total = sum(len(p) for p in pieces)
                position = SECTOR * dice.randrange(BLOCKS - total // SECTOR)
                content = PATTERN.content(position // SECTOR, total, generation=turn)
                rest = memoryview(content)
                for piece in pieces:
                    piece[:] = rest[:len(piece)]
                    rest = rest[len(piece):]
                equal("bytes written", os.pwritev(fd, pieces, position), total)
                memory.view[:] = bytes(len(memory))
                equal("bytes read", os.preadv(fd, pieces, position), total)
                compare(f"{len(pieces)} pieces", b"".join(pieces), content)
        finally:
            os.close(fd)


@case(LIO, limit=120)
def sg_dd(env: Env) -> None:
    """sg_dd with SG_IO copies a file to the disk and back, with odd numbers of blocks at once."""
    size = 3 << 20
    with env.session() as session, tempfile.TemporaryDirectory() as where:
        disk = session.disks()[0]
        for turn, at_once in enumerate((1, 3, 17, 128, 1000)):
            blocks = size // SECTOR if at_once > 8 else 400
            content = PATTERN.content(turn, blocks * SECTOR, generation=turn)
            source, copy = os.path.join(where, "source"), os.path.join(where, "copy")
            with open(source, "wb") as handle:
                handle.write(content)
            common = ("bs=512", f"bpt={at_once}", f"count={blocks}", "blk_sgio=1")
            run("sg_dd", f"if={source}", f"of={disk}", f"seek={33 + turn}", *common)
            run("sg_dd", f"if={disk}", f"of={copy}", f"skip={33 + turn}", *common)
            with open(copy, "rb") as handle:
                compare(f"sg_dd with bpt={at_once}", handle.read(), content)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
