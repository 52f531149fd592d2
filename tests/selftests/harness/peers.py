# SPDX-License-Identifier: GPL-2.0
"""A target in a machine of its own, which dies, hangs and comes back; the host does that to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from harness import kernlog as judge
from harness.case import check
from harness.env import Env
from harness.outage import NOTICED_SECONDS, PINGS, REPLACEMENT
from lab.guest import disk, hand, kernlog, lio, net, peer, tgt
from lab.guest.initiator import Session
from lab.guest.system import read, run, wait_for, write

# From the start of its machine to a target that serves, with others busy beside it.
BOOT_SECONDS = 150
# Of a connection that the target has half forgotten: it gives each up after a time of its own.
BACK_SECONDS = 120
# For soft lockups, workqueues that hang, and stalls of RCU: the most that each of them takes.
WATCHDOGS = {"/proc/sys/kernel/watchdog_thresh": "60", "/sys/module/workqueue/parameters/watchdog_thresh": "300",
             "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout": "300"}


@dataclass(frozen=True)
class Machine:
    """A target that has a machine to itself, on a disk that outlives it."""

    kind: str

    @property
    def iqn(self) -> str:
        """Its name."""
        return lio.IQN if self.kind == "lio" else tgt.IQN

    def up(self) -> None:
        """Start the machine, and wait until it serves."""
        began = time.monotonic()
        hand.ask("start target", self.kind)
        peer.wait(net.address("target")[0], BOOT_SECONDS)
        print(f"# the target serves {time.monotonic() - began:.1f} s after its machine's start", flush=True)

    def down(self) -> None:
        """Kill the machine: no FIN, no DREQ."""
        hand.ask("kill target")


class Peers(Env):
    """The surroundings on the initiator's machine."""

    role = "initiator"

    def machine(self) -> Machine:
        """A machine with the target of the kind that the test is for."""
        machine = Machine(self.kind)
        self.serve(machine)
        return machine

    def other_rows(self) -> list[str]:
        """The kernel logs of the targets' machines."""
        return [str(row) for row in hand.ask("target log")]


def suspend(role: str, seconds: float) -> None:
    """Stop a machine's processors for so long, this one's or the target's."""
    hand.ask("suspend", role, seconds, timeout=seconds + 60)


@contextmanager
def unwatched() -> Iterator[None]:
    """Nothing reports this machine's processors for what the host has done to them.

    The watchdogs see a clock that has jumped: that of a virtual machine which was not told, too.
    """
    # Not every kernel has each of them.
    before = {path: read(path) for path in WATCHDOGS if os.path.exists(path)}
    for path in before:
        write(path, WATCHDOGS[path])
    try:
        yield
    finally:
        for path, value in before.items():
            write(path, value)


def freeze(seconds: float) -> None:
    """Stop this machine for so long, but not its clock: it finds out that the time has passed."""
    began = time.monotonic()
    with unwatched():
        hand.ask("freeze", "initiator", seconds, timeout=seconds + 60)
    saw = time.monotonic() - began
    print(f"# of {seconds} s this clock saw {saw:.1f} s", flush=True)
    check(saw >= seconds, "the clock has stood still, too")


@dataclass
class Tie:
    """A session with such a target."""

    machine: Machine
    session: Session
    path: str
    mark: str

    def losses(self) -> int:
        """How often the connection was lost."""
        return len(judge.connection_errors(kernlog.since(self.mark)))

    def lost(self, since: float) -> None:
        """The loss of the connection is noticed, by pings at the latest."""
        wait_for("the loss of the connection", lambda: self.session.state != "LOGGED_IN", 2 * NOTICED_SECONDS)
        print(f"# lost {time.monotonic() - since:.1f} s after that", flush=True)

    def back(self, what: str) -> None:
        """I/O and the session are there again; says how long after the repair."""
        began = time.monotonic()
        run("dd", f"if={self.path}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct", timeout=BACK_SECONDS)
        print(f"# the first read was done {time.monotonic() - began:.1f} s after {what}", flush=True)
        self.usable()

    def usable(self) -> None:
        """The session and its disk are there again."""
        wait_for("the session's return", lambda: self.session.state == "LOGGED_IN", BACK_SECONDS)
        state = f"/sys/block/{self.path.removeprefix('/dev/')}/device/state"
        wait_for("the disk's return", lambda: read(state, "gone") == "running", NOTICED_SECONDS)

    def works(self) -> None:
        """Verified data go over it."""
        disk.fio_verify(self.path, bs="64k", size="2m")


@contextmanager
def tied(env: Peers, replacement: int) -> Iterator[Tie]:
    """A session with a target in a machine of its own."""
    machine = env.machine()
    settings: Mapping[str, object] = {**PINGS, REPLACEMENT: replacement}
    mark = kernlog.mark("tie")
    with env.session(settings, may_drop=True) as session:
        yield Tie(machine, session, session.disks()[0], mark)
