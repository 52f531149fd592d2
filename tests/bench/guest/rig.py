# SPDX-License-Identifier: GPL-2.0
"""What every measurement stands on: one rxe device, one LIO ramdisk, two drivers in turn."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.guest import disk, initiator, lio, net
from lab.guest.driver import Driver
from lab.guest.system import output, read, write
from lab.report import LabError

RAMDISK_MIB = 128

# Settings of a disk's queue to put on record.
QUEUE = ("scheduler", "nr_requests", "max_sectors_kb", "nomerges", "rq_affinity")

# The scheduler's switch that makes a run repeat itself, see steady().
FEATURES = Path("/sys/kernel/debug/sched/features")

# Settings of the node's record that change what is measured; open-iscsi's own
# defaults, written down so that a file of the guest's root cannot change them.
DEFAULTS = {"node.session.cmds_max": 128, "node.session.queue_depth": 32}


@dataclass(frozen=True)
class Pattern:
    """One load: what fio does, and how often."""

    rw: str              # fio's word: randread, randwrite, read, write
    size: int            # bytes of one I/O
    depth: int
    count: int           # number of I/Os

    @property
    def name(self) -> str:
        """How tables and files call it."""
        kib = f"{self.size >> 10}k" if self.size >= 1024 else str(self.size)
        return f"{self.rw} {kib} qd{self.depth}"

    def options(self, count: int | None = None) -> dict[str, object]:
        """fio's options for this load, or for the same with another number of I/Os.

        `io_size` is what makes the number exact: `number_ios` stops at the
        size of the disk.
        """
        n = self.count if count is None else count
        return {"rw": self.rw, "bs": self.size, "iodepth": self.depth, "number_ios": n,
                "io_size": n * self.size, "norandommap": True, "thread": True}


def steady() -> None:
    """Let no task that wakes up preempt the running one.

    On one CPU fio, rxe's and the target's work queues otherwise fall into one
    of several rhythms, with more or fewer task switches per I/O, and stay in it
    for as long as a run lasts: the whole guest's cost then jumps by a quarter
    between two runs of the same kernel. What the drivers themselves execute is
    the same either way.
    """
    write(FEATURES, "NO_WAKEUP_PREEMPTION")


def stock() -> None:
    """The scheduler as it boots."""
    write(FEATURES, "WAKEUP_PREEMPTION")


def drive(path: str, pattern: Pattern, count: int | None = None) -> dict[str, object]:
    """Run one load and return what fio said; the number of I/Os must be the one asked for."""
    job = disk.fio(path, timeout=1200, **pattern.options(count))
    wanted = pattern.count if count is None else count
    part = side(job, pattern)
    if part["total_ios"] != wanted:
        raise LabError(f"{pattern.name}: fio did {part['total_ios']} I/Os, not {wanted}")
    return job


def side(job: Mapping[str, object], pattern: Pattern) -> dict[str, object]:
    """The part of fio's report that this load is about."""
    part = job["write" if "write" in pattern.rw else "read"]
    assert isinstance(part, dict)
    return part


class Rig:
    """Network and target; `session` is one login with one of the drivers."""

    def __init__(self, luns: int = 1, mib: int = RAMDISK_MIB) -> None:
        self.network = net.up("both")
        self.target = lio.Target(portals=[(self.network.target_ipv4, 3260)],
                                 luns=[lio.Ramdisk(f"disk{i}", mib) for i in range(luns)])
        self.target.up()
        self.disk = ""       # what the block layer does with the first disk seen
        initiator.start()
        self.node = initiator.new_node(self.target.iqn,
                                       initiator.portal_text(self.network.target_ipv4))

    @contextlib.contextmanager
    def driver(self, kind: str, parameters: Mapping[str, object] | None = None) -> Iterator[Driver]:
        """One of the drivers, loaded; unloaded at the end."""
        named = os.environ.get("ISER_MODULE")
        found = Driver(kind, Path(named) if kind == "rust" and named else None)
        found.install()
        found.load(parameters)
        try:
            yield found
        finally:
            found.unload()

    @contextlib.contextmanager
    def session(self, settings: Mapping[str, object] | None = None) -> Iterator[list[str]]:
        """A session of the loaded driver: its disks."""
        logged_in = initiator.login(self.node, {**DEFAULTS, **(settings or {})})
        try:
            disks = logged_in.wait_disks(len(self.target.luns))
            queue = Path("/sys/block", os.path.basename(disks[0]), "queue")
            self.disk = ", ".join(f"{n} {read(queue / n)}" for n in QUEUE)
            yield disks
        finally:
            initiator.logout(self.node)


def conditions(rig: Rig | None = None) -> dict[str, str]:
    """What of this machine belongs beside the numbers."""
    words = [w for w in read("/proc/cmdline").split() if not w.startswith("iser.")]
    found = {"kernel": os.uname().release, "command line": " ".join(words)}
    if rig is not None:
        found.update({"fio": output("fio", "--version").strip(), "disk": rig.disk})
    return found
