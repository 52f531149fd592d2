#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""PDUs that nobody asked for, too many of them, and numbers that jump."""

import sys
import threading
import time

from hostile.rows import (LIVES, LOST, REFUSED, SILENT, Row, Scene, good_login, judge_log, pause, run, scene, simulator,
                          violation)
from hostile.said import Witness
from harness import kernlog as judge
from harness import leftover, program, sgio
from harness.case import Failure, case, check
from harness.env import Env
from lab.guest import initiator, kernlog, system
from lab.guest.system import SLOWNESS, wait_for

MANY = 500
# After which libiscsi gives a connection up, noop_out_timeout of iscsid.conf.
PING_SECONDS = 5
FLOODS = {
    # More than the buffers set aside for them, and than all buffers.
    "17_nops": Row("read flood=nop:0:17", SILENT, end=LIVES, good=True),
    "1000_nops": Row("read flood=nop:0:1000", SILENT, end=LIVES, good=True),
    "10_pings": Row("read flood=ping:0:10", SILENT, end=LIVES, good=True),
    "a_reject_of_no_ping": Row("read flood=reject:6:1",
                               violation("(unknown_command|response_unsent|duplicate_response)")),
    "1000_rejects": Row("read flood=reject:1:1000", SILENT, end=LIVES, good=True),
    "300_async_of_scsi": Row("read flood=async:0:300", SILENT, end=LIVES, good=True),
    "300_async_of_a_vendor": Row("read flood=async:255:300", SILENT, end=LIVES, good=True),
    "300_async_of_no_meaning": Row("read flood=async:77:300", SILENT, end=LIVES, good=True),
}


@case(limit=180, each=FLOODS)
def flood(env: Env, row: Row) -> None:
    """Unsolicited PDUs beyond the reserve of buffers."""
    run(env, row)


STORMS: dict[str, tuple[str, ...]] = {
    # What iscsid is asked to do it does, without an error of the connection.
    "1000_pings": ("flood=ping:0:1000", SILENT),
    "async_negotiation": ("flood=async:4:100", SILENT),
    "async_logout": ("flood=async:1:1", SILENT, r"Target requests logout within "),
    "async_drop": ("flood=async:2:1", SILENT, r"Target dropping \d+, "),
    "async_drop_all": ("flood=async:3:1", SILENT, r"Target dropping all connections"),
    "rejects_of_every_reason": ("flood=reject:12:1 flood=reject:4:1 flood=reject:9:1 flood=reject:255:1", SILENT),
}


@case(limit=180, each=STORMS)
def storm(env: Env, how: tuple[str, ...]) -> None:
    """Unsolicited PDUs that ask for something: the session lives or is recovered."""
    action, pattern, *said = how
    with scene(env) as stage:
        told, witness = stage.sim.mark(), Witness("provoke")
        stage.sim.order(f"rules read {action}")
        stage.provoke("read")
        stage.sim.wait("fired", told)
        stage.sim.order("rules")
        stage.usable()
        stage.works()
        judge_log(env, witness.kernel(), pattern)
        for words in said:
            witness.judge(env, words)


@case(limit=180)
def storm_of_async_logouts(env: Env) -> None:
    """More requests to log out than iscsid takes: it gives the session up, and a logout ends it."""
    sim = simulator(env)
    node = env.node()
    session = initiator.login(node)
    path = session.wait_disks()[0]
    sim.order("rules read flood=async:1:300")
    told, before = sim.mark(), kernlog.mark("provoke")
    system.run("dd", f"if={path}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct", check=False)
    sim.wait("fired", told)
    sim.order("rules")
    wait_for("the end of the session", lambda: system.run(
        "iscsiadm", *initiator.of(node), "--logout", check=False, timeout=60) and not initiator.sessions(),
        90, pause=1)
    env.expect_gone(leftover.of_sessions)
    judge_log(env, kernlog.since(before), SILENT)
    good_login(env, sim)


STAT = {f"by_{label}": Row(f"read stat={by}", SILENT, end=LIVES, good=True)
        for label, by in (("1", 1), ("1000", 1000), ("2_to_the_31", 0x7fffffff), ("minus_1", -1),
                          ("minus_1000", -1000))}


@case(limit=120, each=STAT)
def stat_sn_jumps(env: Env, row: Row) -> None:
    """StatSN goes on elsewhere; with ErrorRecoveryLevel 0 the initiator may ignore it."""
    run(env, row)


WINDOWS = {
    "jumps_by_1000": "window=1000",
    "jumps_by_2_to_the_30": "window=0x3fffffff",
    "jumps_to_the_sign": "window=0x7fffffff",
    "goes_back": "window=-5",
    "far_back": "window=-0x40000000",
    "exp_cmd_sn_ahead": "exp=100",
    "exp_cmd_sn_behind": "exp=-100",
    "exp_cmd_sn_far_ahead": "exp=0x40000000",
}


@case(limit=180, each=WINDOWS)
def window(env: Env, action: str) -> None:
    """MaxCmdSN and ExpCmdSN jump in one answer; the session works or is recovered."""
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order(f"rules read {action}")
        stage.provoke("read")
        stage.sim.wait("fired", told)
        stage.sim.order("rules command* window=64; read* window=64; write* window=64; nop* window=64")
        stage.usable()
        stage.works()
        # libiscsi leaves out numbers that cannot be, and waits where the window is closed.
        judge_log(env, kernlog.since(before), SILENT)


def use_up(stage: Scene, done: threading.Event) -> int:
    """Send commands until one has to wait for the window, and let it; how many did not wait."""
    count = 0
    while count < MANY:
        began = time.monotonic()
        reply = stage.device.execute(sgio.test_unit_ready(), timeout=60 * SLOWNESS)
        if not reply.good or time.monotonic() - began > 1.5 * SLOWNESS:
            done.set()
            return count
        count += 1
    raise Failure(f"{MANY} commands went through a window of 64")


@case(limit=150)
def window_closes_and_opens(env: Env) -> None:
    """MaxCmdSN does not grow: the window closes, until a ping is answered with a larger one."""
    with scene(env) as stage:
        before = kernlog.mark("provoke")
        stage.sim.order("rules read freeze; nop* window=64")
        check(stage.provoke("read").good, "the read that stops MaxCmdSN")
        count = use_up(stage, threading.Event())
        print(f"# {count} commands, then the window was closed", flush=True)
        stage.works()
        lost = judge.connection_errors(kernlog.since(before))
        check(not lost, "the connection was lost:\n" + "\n".join(lost))
        judge_log(env, kernlog.since(before), SILENT)


@case(limit=180)
def window_never_opens(env: Env) -> None:
    """With the window closed for good, a command waits until a logout ends it and the session."""
    done = threading.Event()
    with scene(env) as stage:
        before = kernlog.mark("provoke")
        stage.sim.order("rules read freeze")
        check(stage.provoke("read").good, "the read that stops MaxCmdSN")
        waiting = threading.Thread(target=use_up, args=(stage, done), daemon=True)
        waiting.start()
        pause(8)
        check(not done.is_set(), "a command went through a closed window")
    # The scene has logged out meanwhile.
    check(done.wait(60 * SLOWNESS), "a command that waits for a window outlives its session")
    judge_log(env, kernlog.since(before), SILENT)


PINGS = {
    "twice": ("twice", violation("duplicate_response")),
    "wrong_task": ("itt=random", violation("unknown_command")),
    "short": ("len=75", violation("too_short")),
    "a_scsi_response": ("bhs.0=21", REFUSED),
    "a_reject": ("bhs.0=3f itt=reserved", REFUSED),
    "a_reject_with_its_tag": ("bhs.0=3f", REFUSED),
    # libiscsi takes a Reject that names it for the answer, of which the second one is too many.
    "two_rejects_of_it": ("rejected twice", violation("duplicate_response")),
    "a_reject_of_no_task": ("rejected itt=random", violation("unknown_command")),
    "hangs_up": ("hangup", LOST),
    "echo_of_512_bytes": ("data=512:5a", REFUSED),
}


@case(limit=180, each=PINGS)
def ping_answered_by(env: Env, how: tuple[str, str]) -> None:
    """The initiator's ping gets an odd answer: the session lives or is recovered."""
    action, pattern = how
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order(f"rules nop {action}")
        stage.sim.wait("fired nop", told, 30)
        stage.sim.order("rules")
        pause(1)
        stage.usable()
        stage.works()
        judge_log(env, kernlog.since(before), pattern)


@case(limit=180)
def ping_rejected(env: Env) -> None:
    """A Reject for too many immediate requests is an answer to the initiator's ping: the connection lives."""
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order("rules nop rejected")
        stage.sim.wait("fired nop", told, 30)
        # Longer than a ping may take.
        pause(2 * PING_SECONDS)
        rows = kernlog.since(before)
        lost = judge.connection_errors(rows)
        check(not lost, "the connection was lost:\n" + "\n".join(lost))
        told_by_libiscsi = any("Too many immediate commands" in row for row in rows)
        check(told_by_libiscsi, "libiscsi does not say that a ping was rejected")
        stage.sim.order("rules")
        stage.works()
        judge_log(env, kernlog.since(before), SILENT)


@case(limit=180)
def ping_not_answered(env: Env) -> None:
    """The initiator's ping gets no answer: the session is recovered, as libiscsi says itself."""
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order("rules nop ignore")
        stage.sim.wait("fired nop", told, 30)
        stage.sim.order("rules")
        stage.recovered(told)
        stage.works()
        rows = kernlog.since(before)
        check(any("ping timeout" in row for row in rows), "libiscsi does not say that a ping has timed out")
        judge_log(env, rows, SILENT)


@case(limit=120)
def ping_without_a_buffer(env: Env) -> None:
    """An unsolicited ping that is one byte too large ends the connection, with its name."""
    run(env, Row("read flood=ping:0:1 iser=f0", violation("iser_opcode")))


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
