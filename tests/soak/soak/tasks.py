# SPDX-License-Identifier: GPL-2.0
"""Faults of commands: resets, time limits, disks that change; and memory that is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.case import LIO, TGT
from harness.faults import hang_up, stopped_tgtd
from harness.inject import DEBUGFS, UNTOLD, Injector
from lab.guest import disk
from lab.guest.system import SLOWNESS, read, run, wait_for, write
from lab.report import LabError
from soak.rig import SLOW_MIB, SLOW_USED_MIB, Rig
from soak.table import fault

# A command that takes so long is aborted, as long as the fault lasts.
COMMAND_SECONDS = 2
NO_LIMIT = -1            # of retries


def reset(rig: Rig, what: str, times: int) -> None:
    """Ask for a reset by a disk of the load; that it is refused is no failure, what follows may be."""
    done = 0
    for turn in range(times):
        path = rig.loads[turn % len(rig.loads)].path
        done += not run("sg_reset", "--no-esc", f"--{what}", path, check=False, timeout=180).returncode
    if not done:
        rig.missed(f"sg_reset --{what} was refused")


@fault(times=(1, 4))
def device_reset(rig: Rig, times: int) -> None:
    """LUN resets."""
    reset(rig, "device", times)


@fault(times=(1, 2))
def target_reset(rig: Rig, times: int) -> None:
    """Target resets; where the target has none, the session is made anew."""
    reset(rig, "target", times)


@fault(times=(1, 2))
def host_reset(rig: Rig, times: int) -> None:
    """Host resets."""
    reset(rig, "host", times)


@contextmanager
def hasty(rig: Rig, paths: list[str]) -> Iterator[None]:
    """Commands of the disks time out soon; says how many did.

    They are tried again without a limit: with the usual five retries the SCSI layer gives a command up after
    six times its timeout, and resets that tgt answers late take longer.
    """
    hurried = [(attribute, value) for path in paths for attribute, value in (
        (disk.scsi(path) / "timeout", round(COMMAND_SECONDS * SLOWNESS)),
        (next(disk.scsi(path).glob("scsi_disk/*/max_retries")), NO_LIMIT))]
    before = [(attribute, read(attribute)) for attribute, _ in hurried]
    late = sum(int(read(disk.scsi(path) / "iotmo_cnt", "0"), 16) for path in paths)
    for attribute, value in hurried:
        write(attribute, value)
    # It is for those that begin from now on.
    time.sleep(SLOWNESS)
    try:
        yield
    finally:
        for attribute, usual in before:
            write(attribute, usual)
    late = sum(int(read(disk.scsi(path) / "iotmo_cnt", "0"), 16) for path in paths) - late
    if late:
        rig.note("commands timed out")
    else:
        rig.missed("no command timed out")


@fault(LIO, seconds=(4.0, 9.0))
def disk_stops(rig: Rig, seconds: float) -> None:
    """The target's disk stops for so long: commands time out there and are aborted."""
    assert rig.slow is not None
    with hasty(rig, [load.path for load in rig.loads if load.name == "slow"]):
        with rig.slow.stopped(seconds * SLOWNESS):
            pass
        time.sleep(COMMAND_SECONDS)


@fault(TGT, seconds=(4.0, 9.0))
def target_stops(rig: Rig, seconds: float) -> None:
    """tgtd stops: commands time out, and response and abort meet."""
    with hasty(rig, [load.path for load in rig.loads]), stopped_tgtd(seconds * SLOWNESS):
        pass


@fault(LIO)
def resize(rig: Rig) -> None:
    """A disk grows and shrinks again; the load is on the part that stays."""
    assert rig.slow is not None
    path = next(load.path for load in rig.loads if load.name == "slow")
    for mib in (SLOW_MIB, SLOW_USED_MIB):
        rig.slow.resize(mib)

        def seen(size: int = mib << 20) -> bool:
            write(disk.scsi(path) / "rescan", 1)
            return disk.size(path) == size
        wait_for(f"{mib} MiB", seen, 60, pause=0.5)


def injectable(driver: str) -> bool:
    """Whether this kernel can fail allocations; ib_iser_rs is made for it."""
    return driver == "rust" and (DEBUGFS / "failslab/require-start").exists()


# A recovery with 16 tasks takes 138 of slab caches and 24 of pages (Documentation/testing.md).
SLAB, PAGES = 138, 24


@fault(possible=injectable, allocation=(1, SLAB + PAGES))
def no_memory(rig: Rig, allocation: int) -> None:
    """The connection is lost, and one allocation of the recovery fails, of a slab cache or of pages."""
    kind, number = ("failslab", allocation) if allocation <= SLAB else ("fail_page_alloc", allocation - SLAB)
    with Injector(kind, rig.env.driver.module, UNTOLD) as faults:
        faults.arm(number)
        try:
            hang_up(rig.target)
            # It may take a login that fails first; the rig waits for the rest.
            with suppress(LabError):
                wait_for("the loss of the connection", lambda: rig.session.state != "LOGGED_IN", 20, pause=0.02)
                wait_for("the session", lambda: rig.session.state == "LOGGED_IN", 20)
        finally:
            hit = faults.disarm()
    if hit:
        rig.note("an allocation of the recovery failed")
    else:
        rig.missed("the recovery took fewer allocations")
