# SPDX-License-Identifier: GPL-2.0
"""What the faults are done to: a target and a session with it, over a wire, under load.

    LUN     LIO                  tgt       used by
    first   a ramdisk            a file    fio
    second  a ramdisk            a file    files on ext4
    third   dm over a ramdisk    -         fio; it can be stopped and resized
    last    a ramdisk            a file    faults that need a disk of their own

And what must hold after each fault: the session is there again within its time, the load goes on
and has seen no error.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from pathlib import Path

from harness import kernlog as judge
from harness import leftover, slow, stuck
from harness.case import Failure, check
from harness.env import PORT, RETAIN_SECONDS, Env, opens
from harness.outage import REPLACEMENT
from lab.guest import disk, initiator, kernlog, lio, tgt
from lab.guest.initiator import Session
from lab.guest.system import SLOWNESS, read, run, wait_for
from lab.guest.wire import CONNECTS, End, Wire, lacking
from lab.report import LabError
from soak.load import Files, Load, Raw

FIRST_MIB, FILES_MIB, OWN_MIB = 48, 64, 24
# Of the disk that can be resized: what there is, and what is always used.
SLOW_MIB, SLOW_USED_MIB = 48, 24
MOUNT = "/run/iser/soak"
HUNG = Path("/proc/sys/kernel/hung_task_timeout_secs")
HUNG_CHECKS = Path("/proc/sys/kernel/hung_task_check_interval_secs")

# Seconds; on an instrumented kernel times its slowness.
REPLACEMENT_SECONDS = 300        # errors reach the load after that, and no fault lasts so long
BACK_SECONDS = 90                # logins that a target has spoiled are tried again
STALLED_SECONDS = 20             # after that a look at rxe
ON_SECONDS = 60
LONGEST_SECONDS = 20             # of a fault
# A write may wait for as long as the longest fault, the session's return and the load's going on may take; one that
# waits longer hangs. By itself the kernel looks only once in such a time.
HUNG_SECONDS, CHECK_SECONDS = LONGEST_SECONDS + BACK_SECONDS + ON_SECONDS, 10


def scaled(seconds: float) -> int:
    """A time limit of open-iscsi on this machine."""
    return round(seconds * SLOWNESS)


def patient() -> None:
    """Have the kernel report a task that hangs after that time, if it would do so before."""
    if HUNG.exists() and 0 < int(read(HUNG)) < scaled(HUNG_SECONDS):
        HUNG.write_text(str(scaled(HUNG_SECONDS)), encoding="ascii")
        HUNG_CHECKS.write_text(str(CHECK_SECONDS), encoding="ascii")


def settings() -> dict[str, object]:
    """What the session is made with."""
    return {"node.conn[0].timeo.noop_out_interval": 3,
            "node.conn[0].timeo.noop_out_timeout": scaled(5),
            "node.conn[0].timeo.login_timeout": scaled(15),
            "node.session.err_timeo.abort_timeout": scaled(20),
            "node.session.err_timeo.lu_reset_timeout": scaled(20),
            "node.session.err_timeo.tgt_reset_timeout": scaled(20),
            "node.session.iscsi.DefaultTime2Retain": RETAIN_SECONDS,
            REPLACEMENT: scaled(REPLACEMENT_SECONDS)}


class Rig:
    """Target, wire, session and load."""

    def __init__(self, env: Env, seed: int) -> None:
        self.env, self.seed = env, seed
        self.wire = Wire()
        self.target: lio.Target | tgt.Target
        self.session: Session
        self.slow: slow.Slow | None = None
        self.loads: list[Load] = []
        self.notes: list[str] = []       # of the step that is under way
        self._crashes = 0                # of tgtd, that are noted
        self.injected = True             # its fault came about
        self._stack = ExitStack()

    # Setting up and taking down

    def up(self) -> None:
        """All of it; the load begins."""
        if why := lacking():
            raise LabError(f"no wire can be laid: {why}")
        patient()
        self._stack.callback(self.wire.down)
        self.wire.up()
        self.target = self._serve()
        self._stack.callback(self.env.drop_target)
        self._stack.callback(self._log_out)
        self.session = self.env.login(self.node(), settings())
        first, files, *rest, own = self.session.wait_disks(3 + (self.slow is not None))
        for path in (first, files, *rest, own):
            wait_for(f"{path} can be opened", lambda p=path: opens(p), 30)
        self.own = own
        formatted = Files("files", files, self.seed, MOUNT)
        self._stack.enter_context(formatted.mounted())
        self.loads = [Raw("first", first, self.seed, FIRST_MIB), formatted]
        self.loads += [Raw("slow", path, self.seed, SLOW_USED_MIB) for path in rest]
        for load in self.loads:
            load.start()

    def _serve(self) -> lio.Target | tgt.Target:
        """The target, at the wire and at the address of the second session."""
        if self.env.kind == "tgt":
            return self.env.tgt(mib=(FIRST_MIB, FILES_MIB, OWN_MIB))
        self.slow = self._stack.enter_context(slow.device(SLOW_MIB, used=SLOW_USED_MIB))
        luns = [lio.Ramdisk("first", FIRST_MIB), lio.Ramdisk("files", FILES_MIB), self.slow.lun(),
                lio.Ramdisk("own", OWN_MIB)]
        return self.env.lio(portals=[(self.wire.target.ipv4, PORT), (self.env.network.ipv4, PORT)],
                            luns=luns, parameters={"DefaultTime2Retain": RETAIN_SECONDS})

    def node(self, second: bool = False) -> initiator.Node:
        """The record of the session over the wire, or of one beside it."""
        address = self.env.network.ipv4 if second else self.wire.target.ipv4
        return self.env.node(portal=initiator.portal_text(address, PORT))

    def _log_out(self) -> None:
        with suppress(LabError):
            self.env.log_out_all()
        for second in (False, True):
            initiator.forget(initiator.Node(initiator.portal_text(
                self.env.network.ipv4 if second else self.wire.target.ipv4, PORT), -1, self.target.iqn))

    def stop_load(self) -> None:
        """End the load; it must have seen no error."""
        for load in self.loads:
            load.stop(600 * SLOWNESS)
        for load in self.loads:
            load.check()
            check(load.turns, f"load {load.name} has not ended a single turn")

    def down(self) -> None:
        """The session and all else."""
        check(self.session.state == "LOGGED_IN", f"the session is {self.session.state} at the end")
        self._stack.close()
        self.env.expect_gone(leftover.of_sessions)

    def drop(self) -> None:
        """The same after a failure: as far as it goes."""
        with suppress(Exception):
            self._stack.close()
        # Without a disk they end by an error; they hold it until then.
        for load in self.loads:
            load.stop(60 * SLOWNESS)
        run("umount", MOUNT, check=False)
        self.env.expect_gone(leftover.of_sessions)

    # After a fault

    def note(self, text: str) -> None:
        """What is worth a line in the summary."""
        self.notes.append(text)

    def missed(self, why: str) -> None:
        """The fault of this step did not come about."""
        self.injected = False
        self.note(why)

    def check_load(self) -> None:
        """Raise if a load has seen an error."""
        for load in self.loads:
            load.check()

    def survived(self) -> float:
        """Wait until the session is there and the load goes on; returns how long that took."""
        began = time.monotonic()

        def back() -> bool:
            self.check_load()
            self._mend(time.monotonic() - began)
            return self.session.state == "LOGGED_IN"
        wait_for("the session's return", back, BACK_SECONDS, pause=0.1)
        before = {load.path: load.ios() for load in self.loads}

        def on() -> bool:
            self.check_load()
            return all(disk.completed(path) > ios for path, ios in before.items())
        wait_for("requests of each load", on, ON_SECONDS, pause=0.1)
        took = time.monotonic() - began
        self._nobody_waits()
        return took

    def _nobody_waits(self) -> None:
        """A load that goes on does not show a worker of the driver that never will."""
        found: list[str] = []

        def free() -> bool:
            found[:] = stuck.tasks(self.env.driver.module)
            return not found
        try:
            wait_for("nobody to wait in the driver", free, ON_SECONDS, pause=0.2)
        except LabError as exc:
            raise Failure("\n".join([str(exc), *found])) from None

    def _mend(self, seconds: float) -> None:
        """What of others has broken beside what was to break: tgt, and rxe's queue pair 1."""
        if isinstance(self.target, tgt.Target) and self.target.crashes != self._crashes:
            self._crashes = self.target.crashes
            self.note("tgtd has crashed by itself")
        if seconds < STALLED_SECONDS * SLOWNESS or self.session.state == "LOGGED_IN":
            return
        if self.wire.initiator.queue_pair_1() != CONNECTS:
            self.note("rxe of the initiator could connect no more, see Documentation/testing.md")
            self.renew(self.wire.initiator)
        if self.wire.target.queue_pair_1() != CONNECTS:
            self.note("rxe of the target could connect no more, see Documentation/testing.md")
            if isinstance(self.target, lio.Target):
                self.target.remove_portal(self.wire.target.ipv4, PORT)
                self.renew(self.wire.target)
                self.target.add_portal(self.wire.target.ipv4, PORT)
            else:
                self.target.kill()
                self.renew(self.wire.target)
                self.target.up()

    @staticmethod
    def renew(end: End) -> None:
        """Make an rxe device anew."""
        if end.has_device():
            end.remove_device()
        end.add_device()

    def quiet(self, seconds: float) -> None:
        """The pause after a fault."""
        time.sleep(seconds)
        self.check_load()

    # What faults use

    def session_gone(self, path: str) -> None:
        """A disk is gone from sysfs."""
        wait_for(f"the end of {path}", lambda: not disk.scsi(path).exists(), 60)

    def tcm(self) -> lio.Target:
        """The target, where it is LIO."""
        if not isinstance(self.target, lio.Target):
            raise Failure("this fault is for LIO")
        return self.target

    def tgtd(self) -> tgt.Target:
        """The target, where it is tgt."""
        if not isinstance(self.target, tgt.Target):
            raise Failure("this fault is for tgt")
        return self.target

    def module_refused(self) -> bool:
        """Whether the kernel refuses to remove the driver."""
        return run("modprobe", "-r", self.env.driver.module, check=False).returncode != 0

    @staticmethod
    def lost_since(mark: str) -> int:
        """How many connections were lost since a mark in the kernel log."""
        return len(judge.connection_errors(kernlog.since(mark)))
