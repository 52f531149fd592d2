# SPDX-License-Identifier: GPL-2.0
"""Tests that are a row of a table: what the target does wrong, and what must hold then.

Always: the kernel goes on, the session works afterwards or has ended, data are
whole, bytes beside the buffer of the command are as they were, nothing is left.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import kernlog as judge
from harness import sgio, stuck
from harness.case import Failure, check, equal
from harness.data import ALL, SECTOR, Memory, Pattern, Window, compare
from harness.env import Env
from hostile.simulator import Simulator
from lab.guest import kernlog
from lab.guest.initiator import Session
from lab.guest.system import SLOWNESS, output, read, wait_for, write
from lab.report import LabError

# Of all that is made by chance.
SEED = int(os.environ.get("ISER_SEED", "1"))
# In the place of a pattern: the driver logs nothing.
SILENT = ""
RECOVERS, LIVES = "recovers", "lives"
LENGTH = 8192
BLOCKS = LENGTH // SECTOR
SETTLE_SECONDS = 0.4
# How long a command waits for its answer; less where the C driver may wait for one that never comes.
ANSWER_SECONDS, NO_ANSWER_SECONDS = 20, 8
# The largest data segment of a PDU that each driver takes, as it says at login; {most} in a rule.
MOST = {"rust": 512, "c": 128}
PATTERN = Pattern(largest=1 << 20)
OURS = re.compile(r"\bib_iser_rs: (.*)")
GOOD = "own 4:80000000"
FREE_SECONDS = 120
HUNG, HUNG_SECONDS = Path("/proc/sys/kernel/hung_task_timeout_secs"), 120


def violation(name: str) -> str:
    """The message of a protocol violation, as a pattern."""
    return rf"protocol violation by the target \({name}\): "


REFUSED = r"PDU of the target refused: "
# What becomes known when a device has refused something, or the target hangs up.
LOST = r"connection lost: |(receive|send) failed: |local invalidation failed: |queue pair has failed"
# What the device itself says of an access that it refuses comes before the driver's message.
OF_THE_DEVICE = re.compile(r"\w+: queue pair \d+: QP access error")

# Connections that libiscsi gives up itself, and says why: error handling has failed, a ping has timed out.
OF_LIBISCSI = re.compile(r"detected conn error \(102[12]\)")


@dataclass(frozen=True)
class Row:
    """One way to misbehave."""

    rule: str                  # what the target does, see src/rules.rs
    log: str                   # the one message that the driver must log, or SILENT
    end: str = RECOVERS
    io: str = "read"           # the command that provokes it
    mode: str = GOOD           # how the target behaves otherwise
    good: bool | None = None   # whether the command must succeed, must fail, or either
    refuses: str = ""          # what of the target's doings the initiator's device must refuse
    settle: float = SETTLE_SECONDS    # how long memory is watched after the command


@contextmanager
def many_losses(seconds: float = HUNG_SECONDS) -> Iterator[None]:
    """In the block one connection is lost after the other, for so long.

    After each login iscsid has a process look at the disks again, and these wait for each other, while
    the next connection is lost: so a task hangs for the kernel only when it has waited for longer.
    """
    before = read(HUNG)
    write(HUNG, round(max(seconds, HUNG_SECONDS) * SLOWNESS))
    try:
        yield
    finally:
        write(HUNG, before)


def ours(rows: list[str]) -> list[str]:
    """What the driver has logged."""
    return [match[1] for row in rows if (match := OURS.search(row))]


def pause(seconds: float) -> None:
    """Sleep; longer where all is slow."""
    time.sleep(seconds * SLOWNESS)


class Scene:
    """A session with the hostile target, and a disk with known content."""

    def __init__(self, env: Env, sim: Simulator, session: Session, device: sgio.Device) -> None:
        self.env, self.sim, self.session, self.device = env, sim, session, device

    def fill(self) -> None:
        """Write what is read later."""
        reply = self.device.write(sgio.write10(0, BLOCKS), PATTERN.content(0, LENGTH))
        check(reply.good, f"a write to a good target: {reply}")

    def works(self) -> None:
        """Data are whole, and can be written and read."""
        self.device.settle()
        window = Window(Memory(4 * 4096 + LENGTH), 512, LENGTH, guard=ALL)
        reply = self.device.execute(sgio.read10(0, BLOCKS), sgio.FROM_DEVICE, window.address, LENGTH)
        check(reply.good, f"a read afterwards: {reply}")
        compare("what is read afterwards", window.view, PATTERN.content(0, LENGTH))
        window.check_guards("a read afterwards")
        other = PATTERN.content(7, 4096, 3)
        reply = self.device.write(sgio.write10(100, 8), other)
        check(reply.good, f"a write afterwards: {reply}")
        reply, found = self.device.read(sgio.read10(100, 8), 4096)
        check(reply.good, f"reading it back: {reply}")
        compare("what was written afterwards", found, other)

    def provoke(self, io: str, timeout: float = ANSWER_SECONDS, settle: float = SETTLE_SECONDS) -> sgio.Reply:
        """Run the command that the target waits for."""
        timeout *= SLOWNESS
        window = Window(Memory(4 * 4096 + LENGTH), 512, LENGTH, guard=ALL)
        if io == "read":
            window.fill(0x11)
            cdb, direction = sgio.read10(0, BLOCKS), sgio.FROM_DEVICE
        elif io == "write":
            window.view[:] = PATTERN.content(0, LENGTH)
            cdb, direction = sgio.write10(0, BLOCKS), sgio.TO_DEVICE
        elif io == "large":
            # More than goes with the command.
            return self._large(timeout, settle)
        elif io == "command":
            return self.device.execute(sgio.test_unit_ready(), timeout=timeout)
        else:
            raise ValueError(io)
        reply = self.device.execute(cdb, direction, window.address, LENGTH, timeout)
        kept = bytes(window.view)
        pause(settle)
        window.check_guards(f"the {io}")
        compare(f"the buffer of the {io}, some time after its end", window.view, kept)
        if io == "write":
            compare("the buffer of a write", kept, PATTERN.content(0, LENGTH))
        return reply

    def _large(self, timeout: float, settle: float) -> sgio.Reply:
        length = 64 * 1024
        window = Window(Memory(4 * 4096 + length), 512, length, guard=ALL)
        window.view[:] = PATTERN.content(1000, length)
        reply = self.device.execute(sgio.write10(1000, length // SECTOR), sgio.TO_DEVICE,
                                    window.address, length, timeout)
        pause(settle)
        window.check_guards("the write")
        compare("the buffer of a write", window.view, PATTERN.content(1000, length))
        return reply

    def usable(self, timeout: float = 90) -> None:
        """Wait until commands succeed, on whichever connection."""
        wait_for("a command that succeeds", lambda: self.session.state == "LOGGED_IN"
                 and self.device.execute(sgio.test_unit_ready(), timeout=10 * SLOWNESS).good, timeout, pause=0.5)

    def recovered(self, mark: int, timeout: float = 60) -> None:
        """Wait until the session is there again, on a new connection."""
        self.sim.wait("login", mark, timeout)
        wait_for("the session's return", lambda: self.session.state == "LOGGED_IN", timeout)

    def nobody_waits(self) -> None:
        """What has waited for the session, iscsid's looks at its disks above all, goes on when it works."""
        found: list[str] = []

        def free() -> bool:
            found[:] = stuck.tasks(self.env.driver.module, function="scsi_rescan_device")
            return not found
        try:
            wait_for("an end of all waiting", free, FREE_SECONDS, pause=0.5)
        except LabError as exc:
            raise Failure("\n".join([str(exc), *found])) from None

    def violations(self) -> int:
        """How many the driver has counted in this session, as an administrator sees it."""
        text = output("iscsiadm", "-m", "session", "-r", str(self.session.sid), "-s")
        match = re.search(r"protocol_violations:\s*(\d+)", text)
        if not match:
            raise Failure(f"iscsiadm does not show the counter:\n{text}")
        return int(match[1])

    def refused(self, mark: int) -> None:
        """Wait for what comes of a PDU that is wrong: our driver gives up the connection.

        The C driver may also go on with it; what has to hold then is the same.
        """
        if self.env.driver.kind == "rust":
            self.recovered(mark)
            return
        pause(SETTLE_SECONDS)
        self.usable()
        print(f"# {'on a new' if self.sim.since(mark, 'login') else 'on the same'} connection", flush=True)


def simulator(env: Env, mode: str = GOOD) -> Simulator:
    """The target, behaving well, so far."""
    served = env.serve(Simulator())
    assert isinstance(served, Simulator)
    served.order("rules")
    served.order(f"mode {mode}")
    return served


def good_login(env: Env, sim: Simulator) -> None:
    """The driver can still log in, and everything works, without a word."""
    before = kernlog.mark("good login")
    sim.order("rules")
    with env.session(may_drop=True) as session, sgio.Device(session.disks()[0]) as device:
        stage = Scene(env, sim, session, device)
        device.settle()
        stage.fill()
        stage.works()
    judge_log(env, kernlog.since(before), SILENT)


@contextmanager
def scene(env: Env, mode: str = GOOD) -> Iterator[Scene]:
    """Log in to a target that behaves, so far."""
    served = simulator(env, mode)
    with env.session(may_drop=True) as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        made = Scene(env, served, session, device)
        made.fill()
        yield made
        served.order("rules")
    equal("references to the module after the logout", env.driver.users(), 0)


def run(env: Env, row: Row) -> None:
    """Do what a row says, and judge."""
    with scene(env, row.mode) as stage:
        attempt(stage, row)


def attempt(stage: Scene, row: Row) -> None:
    """Do what a row says in a session that there is, and judge."""
    env = stage.env
    told = stage.sim.mark()
    before = kernlog.mark("provoke")
    most = MOST[env.driver.kind]
    stage.sim.order(f"rules {row.rule.format(most=most, sense=most - 2)}")
    patient = row.end == LIVES or env.driver.kind == "rust"
    reply = stage.provoke(row.io, ANSWER_SECONDS if patient else NO_ANSWER_SECONDS, row.settle)
    stage.sim.wait("fired", told)
    if row.end == RECOVERS and row.log == LOST:
        # The device has ended the connection, or the target: no driver can keep it.
        stage.recovered(told)
    elif row.end == RECOVERS:
        stage.refused(told)
    elif row.end == LIVES:
        pause(SETTLE_SECONDS)
        lost = judge.connection_errors(kernlog.since(before))
        check(not lost, "the connection was lost:\n" + "\n".join(lost))
    if row.refuses:
        judge_refusal(env, stage.sim.since(told), row.refuses, kernlog.since(before))
    if row.good is not None:
        check(reply.good == row.good, f"the command ended with {reply}")
    stage.sim.order("rules")
    stage.works()
    check(not stage.sim.since(told, "missing"), "the target had nothing to do wrong")
    judge_log(env, kernlog.since(before), row.log)


def judge_refusal(env: Env, said: list[str], what: str, rows: list[str]) -> None:
    """The target must have tried, and the device refused.

    The initiator may hang up before the target has seen its device's answer; that the
    device has refused is in the initiator's log then.
    """
    words = [row.split()[1] for row in said if row.startswith(f"{what} ")]
    check(words in (["refused"], ["gone"]), f"the target's {what} access: {words or 'none'}")
    if env.driver.kind == "rust":
        check(any(OF_THE_DEVICE.fullmatch(row) for row in ours(rows)), "no device reports a refused access")
    else:
        equal(f"the target's {what} access", words, ["refused"])


def ended(rows: list[str]) -> int:
    """How many connections the driver has ended, or seen ending."""
    return sum(not OF_LIBISCSI.search(row) for row in judge.connection_errors(rows))


def judge_log(env: Env, rows: list[str], pattern: str, times: int = 1) -> None:
    """One clear message for each of so many connections that have ended, or none."""
    if env.driver.kind != "rust":
        return
    found = ours(rows)
    if not pattern:
        equal("messages of the driver", found, [])
        return
    found = [row for row in found if not OF_THE_DEVICE.fullmatch(row)]
    named = [row for row in found if re.search(pattern, row)]
    if not len(named) == len(found) == times:
        raise Failure(f"the driver should log {times} like `{pattern}`, and logs:\n"
                      + ("\n".join(found) or "nothing"))


__all__ = ["GOOD", "LIVES", "LOST", "RECOVERS", "REFUSED", "Row", "SEED", "SILENT", "Scene", "attempt", "ended", "good_login",
           "judge_log", "judge_refusal", "many_losses", "ours", "pause", "run", "scene", "simulator", "violation"]
