# SPDX-License-Identifier: GPL-2.0
"""What every measurement stands on: one rxe device, one LIO ramdisk, the drivers in turn."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.guest import ways
from lab.guest import disk, initiator, lio, net, tgt
from lab.guest.system import output, read, write
from lab.report import LabError

RAMDISK_MIB = 128

# Settings of a disk's queue to put on record.
QUEUE = ("scheduler", "nr_requests", "max_sectors_kb", "nomerges", "rq_affinity")

# The scheduler's switch that makes a run repeat itself, see steady().
FEATURES = Path("/sys/kernel/debug/sched/features")
DAMON = Path("/sys/module/damon_stat/parameters/enabled")

# For fio's buffers; the largest load has 16 MiB, and each job its own.
HUGE_PAGES = 16
NR_HUGE = Path("/proc/sys/vm/nr_hugepages")


@dataclass(frozen=True)
class Pattern:
    """One load: what fio does, and how often."""

    rw: str              # fio's word: randread, randwrite, read, write
    size: int            # bytes of one I/O
    depth: int           # of each job
    count: int           # number of I/Os, of all jobs together
    jobs: int = 1

    @property
    def name(self) -> str:
        """How tables and files call it."""
        kib = f"{self.size >> 10}k" if self.size >= 1024 else str(self.size)
        return f"{self.rw} {kib} qd{self.depth}{f' x{self.jobs}' if self.jobs > 1 else ''}"

    def options(self, count: int) -> dict[str, object]:
        """fio's options for this load with that number of I/Os.

        `io_size` is what makes the number exact: `number_ios` stops at the
        size of the disk. Buffers are huge pages: whether ordinary memory gets any,
        and how scattered it is otherwise, changes from run to run, and at 1 MiB
        that is more than drivers differ by.
        """
        n = count // self.jobs
        return {"rw": self.rw, "bs": self.size, "iodepth": self.depth, "numjobs": self.jobs,
                "number_ios": n, "io_size": n * self.size, "norandommap": True, "thread": True,
                "iomem": "shmhuge",
                "disk_util": 0}      # walks all of /sys/block for each disk


def quiet() -> None:
    """Stop what the kernel does now and then by itself: DAMON's statistics scan memory."""
    if DAMON.exists():
        write(DAMON, "N")


def reserve() -> None:
    """Set huge pages aside while there are some."""
    write(NR_HUGE, str(HUGE_PAGES))
    if int(read(NR_HUGE)) != HUGE_PAGES:
        raise LabError(f"{NR_HUGE}: only {read(NR_HUGE)} of {HUGE_PAGES} huge pages; give the machine more memory")


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


def drive(disks: Sequence[str], pattern: Pattern, count: int | None = None) -> dict[str, object]:
    """Run one load and return what fio said; the number of I/Os must be the one asked for."""
    wanted = pattern.count if count is None else count
    options = pattern.options(wanted)
    if len(disks) > 1:
        options["file_service_type"] = "roundrobin"
    # The same requests for each driver and in each run.
    job = disk.fio(":".join(disks), timeout=1200, **{"randseed": 7, **options})
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
    """Network and targets; `connected` is one of the drivers with its disks."""

    def __init__(self, luns: int = 1, mib: int = RAMDISK_MIB, target: str = "lio") -> None:
        quiet()
        reserve()
        self.network = net.up("both")
        self.luns, self.mib = luns, mib
        self.disk = ""       # what the block layer does with the first disk seen
        self.iqn = tgt.IQN if target == "tgt" else lio.IQN
        initiator.start()
        if target == "tgt":
            tgt.Target(mib=[mib] * luns, initiators=[initiator.initiator_name()]).up()
            return
        self.lio = lio.Target(portals=[(self.address, 3260)],
                              luns=[lio.Ramdisk(f"disk{i}", mib) for i in range(luns)])
        self.lio.up()
        self.lio.add_portal(self.address, ways.TCP_PORT, iser=False)

    @property
    def address(self) -> str:
        """Where the targets listen."""
        return self.network.target_ipv4

    @contextlib.contextmanager
    def way(self, kind: str, parameters: Mapping[str, object] | None = None) -> Iterator[ways.Way]:
        """A driver, loaded, with a target to connect to."""
        nvmet = ways.Nvmet(self.address, self.mib) if kind == "nvme" else None
        if nvmet:
            nvmet.up()
        try:
            found = ways.of(kind, self.iqn, self.address)
            found.load(parameters)
            try:
                yield found
            finally:
                found.unload()
        finally:
            if nvmet:
                nvmet.down()

    @contextlib.contextmanager
    def connected(self, kind: str, parameters: Mapping[str, object] | None = None,
                  settings: Mapping[str, object] | None = None,
                  sessions: int = 1) -> Iterator[list[str]]:
        """A driver with its disks; gone again at the end."""
        with self.way(kind, parameters) as way:
            disks = way.attach(self.luns, sessions, settings)
            try:
                queues = [Path("/sys/block", os.path.basename(name), "queue") for name in disks]
                for queue in queues:
                    write(queue / "nomerges", "2")   # one I/O is one command
                self.disk = self.disk or ", ".join(f"{n} {read(queues[0] / n)}" for n in QUEUE)
                yield disks
            finally:
                way.detach()


def conditions(rig: Rig | None = None) -> dict[str, str]:
    """What of this machine belongs beside the numbers."""
    words = [w for w in read("/proc/cmdline").split() if not w.startswith("iser.")]
    found = {"kernel": os.uname().release, "command line": " ".join(words)}
    if rig is not None:
        found.update({"fio": output("fio", "--version").strip(), "disk": rig.disk,
                      "settings": ", ".join(f"{k} {v}" for k, v in ways.DEFAULTS.items())})
    return found


def leave(out: Path, result: Mapping[str, object]) -> None:
    """Leave the result for the host, which judges the kernel log."""
    (out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
