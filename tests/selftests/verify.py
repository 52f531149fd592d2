#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Load with checksums: fio with verification, and a file system with files."""

import sys
import time

from harness import program
from harness.case import BOTH, LIO, case, equal
from harness.env import Env
from lab.guest import disk, lio

MOUNT = "/run/iser/selftest"
SIZES = {"512": ("512", "1m"), "4k": ("4k", "8m"), "12k": ("12k", "6m"), "64k": ("64k", "16m"),
         "1m": ("1m", "32m"), "4m": ("4m", "48m")}


@case(BOTH, limit=120, each=SIZES)
def random_writes(env: Env, what: tuple[str, str]) -> None:
    """Random writes of one size, all read back."""
    size, amount = what
    with env.session() as session:
        disk.fio_verify(session.disks()[0], bs=size, size=amount, iodepth=16)


@case(BOTH, limit=150)
def random_sizes(env: Env) -> None:
    """Writes of any number of sectors up to 4 MiB at any sector."""
    with env.session() as session:
        disk.fio_verify(session.disks()[0], bsrange="512-4m", blockalign="512", size="48m",
                        iodepth=8, number_ios=150)


@case(BOTH, limit=150)
def reads_and_writes_mixed(env: Env) -> None:
    """Reads and verified writes at once, from four jobs, each in a part of its own."""
    with env.session() as session:
        disk.fio(session.disks()[0], rw="randrw", rwmixread=50, bs="8k", size="4m", numjobs=4,
                 offset_increment="16m", iodepth=16, verify="crc32c", do_verify=1, verify_fatal=1)


@case(LIO, limit=120)
def full_queue(env: Env) -> None:
    """More requests than the session takes: cmds_max of 32, queue depth of 128."""
    with env.session({"node.session.cmds_max": 32, "node.session.queue_depth": 128}) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="4m", iodepth=128)


@case(LIO, limit=120)
def deep_queue(env: Env) -> None:
    """Hundreds of requests under way at once."""
    with env.session({"node.session.cmds_max": 512, "node.session.queue_depth": 256}) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="8m", iodepth=256)


@case(LIO, limit=120)
def short_of_commands(env: Env) -> None:
    """A target that grants few commands: the window closes and opens all the time."""
    env.lio(attributes={"default_cmdsn_depth": 4})
    with env.session() as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="4m", iodepth=64)


@case(LIO, limit=120)
def buffered(env: Env) -> None:
    """Writes through the page cache, which come as long requests of scattered pages."""
    with env.session() as session:
        disk.fio_verify(session.disks()[0], bs="16k", size="32m", direct=0, ioengine="psync",
                        iodepth=None, end_fsync=1)


@case(BOTH, limit=150)
def file_system(env: Env) -> None:
    """Files on ext4 have their checksums after a new mount in a new session."""
    with env.session() as session:
        path = session.disks()[0]
        disk.mkfs(path)
        disk.mount(path, MOUNT)
        try:
            sums = disk.write_files(MOUNT, 24 << 20, seed=time.time_ns())
        finally:
            disk.unmount(MOUNT)
    with env.session() as session:
        disk.drop_caches()
        disk.mount(session.disks()[0], MOUNT)
        try:
            disk.check_files(MOUNT, sums)
        finally:
            disk.unmount(MOUNT)


@case(LIO, limit=120)
def several_luns(env: Env) -> None:
    """Four LUNs of one session under load together."""
    env.lio(luns=[lio.Ramdisk(f"lun{n}", 16) for n in range(4)])
    with env.session(disks=4) as session:
        paths = session.disks()
        job = disk.fio(":".join(paths), rw="randwrite", bs="16k", size="16m", iodepth=32,
                       verify="crc32c", do_verify=1, verify_fatal=1)
        equal("errors", job["error"], 0)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
