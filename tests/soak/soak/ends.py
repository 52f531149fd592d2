# SPDX-License-Identifier: GPL-2.0
"""Faults of target, daemon, machine, and of other sessions."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

from harness.case import LIO, TGT, check
from harness.env import opens
from harness.faults import ended_by_an_error, endless, hang_up, kill_iscsid, restart_iscsid
from lab.guest import disk, initiator
from lab.guest.system import SLOWNESS, read, wait_for, write
from soak.rig import Rig
from soak.table import fault

# Memory that is left to the kernel when there is little.
LEFT_MIB = 512
MADV_POPULATE_WRITE = 23         # of <asm/mman.h>; the module mmap does not name it


@fault(LIO, seconds=(0.5, 6.0))
def target_disabled(rig: Rig, seconds: float) -> None:
    """The portal group drops its connections and accepts none."""
    write(rig.tcm().tpg / "enable", 0)
    time.sleep(seconds)
    write(rig.tcm().tpg / "enable", 1)


@fault(TGT, seconds=(0.2, 6.0))
def target_killed(rig: Rig, seconds: float) -> None:
    """tgtd is killed; another comes, with the same disks."""
    rig.tgtd().kill()
    time.sleep(seconds)
    rig.tgtd().up()


@fault(TGT)
def target_hangs_up(rig: Rig) -> None:
    """tgt closes its connections."""
    if not hang_up(rig.target):
        rig.missed("tgt had no connection")


@fault(seconds=(0.0, 5.0))
def iscsid_killed(rig: Rig, seconds: float) -> None:
    """iscsid is killed; another one takes the session over."""
    del rig
    kill_iscsid()
    time.sleep(seconds)
    restart_iscsid()


@fault(under_load=(0, 1), turns=(1, 2))
def second_session(rig: Rig, under_load: int, turns: int) -> None:
    """Another session comes, verifies data, and is logged out of, at times under load."""
    for _ in range(turns):
        node = rig.node(second=True)
        session = rig.env.login(node)
        path = session.wait_disks(len(rig.session.disks()), timeout=60)[-1]
        wait_for(f"{path} can be opened", lambda p=path: opens(p), 30)
        disk.fio_verify(path, name="second", bs="16k", size="2m")
        job = endless(path) if under_load else None
        initiator.logout(node)
        if job:
            ended_by_an_error(job)
        initiator.forget(node)
        wait_for("the end of the second session", lambda: len(initiator.sessions()) == 1, 30)


@fault(times=(1, 4))
def unloading_refused(rig: Rig, times: int) -> None:
    """Someone tries to remove the module."""
    for _ in range(times):
        check(rig.module_refused(), "the module was removed under load")
        time.sleep(0.2)


@fault(times=(1, 4))
def rescan(rig: Rig, times: int) -> None:
    """The session is scanned for disks."""
    count = len(rig.session.disks())
    for _ in range(times):
        initiator.iscsiadm("-m", "session", "-r", str(rig.session.sid), "-R")
        check(len(rig.session.disks()) == count, f"there were {count} disks: {rig.session.disks()}")


@fault(LIO, seconds=(0.5, 3.0))
def lun_removed(rig: Rig, seconds: float) -> None:
    """A LUN under load goes, its I/O ends with an error, and it comes back."""
    target, path = rig.tcm(), rig.own
    lun = target.luns[-1]
    job = endless(path)
    target.remove_last_lun()
    ended_by_an_error(job)
    write(disk.scsi(path) / "delete", 1)
    rig.session_gone(path)
    time.sleep(seconds)
    target.add_lun(lun)
    initiator.iscsiadm("-m", "session", "-r", str(rig.session.sid), "-R")
    rig.own = rig.session.wait_disks(len(target.luns), timeout=60)[-1]
    wait_for(f"{rig.own} can be opened", lambda: opens(rig.own), 30)
    disk.fio_verify(rig.own, name="own", bs="16k", size="1m")


@fault(processes=(2, 6), seconds=(2.0, 8.0))
def busy_processors(rig: Rig, processes: int, seconds: float) -> None:
    """Processes that want all of the processors."""
    del rig
    jobs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(seconds)
    finally:
        for job in jobs:
            job.kill()
            job.wait()


@fault(seconds=(1.0, 5.0))
def little_memory(rig: Rig, seconds: float) -> None:
    """Caches are dropped, most of what is free is used, and what is left is compacted on the stock kernel."""
    write("/proc/sys/vm/drop_caches", 3)
    available = next(int(row.split()[1]) >> 10 for row in read("/proc/meminfo").splitlines()
                     if row.startswith("MemAvailable:"))
    if available > LEFT_MIB:
        with mmap.mmap(-1, (available - LEFT_MIB) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as used:
            # Page by page it takes the instrumented kernel a quarter of an hour.
            used.madvise(mmap.MADV_HUGEPAGE)
            used.madvise(MADV_POPULATE_WRITE)
            # The instrumented kernel takes ten minutes for it.
            if SLOWNESS == 1 and os.path.exists("/proc/sys/vm/compact_memory"):
                write("/proc/sys/vm/compact_memory", 1)
            write("/proc/sys/vm/drop_caches", 2)
            time.sleep(seconds)
    else:
        rig.missed("there was little memory already")
