#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Answers to the wrong task, too many of them, and keys that are not the task's."""

import sys
import threading

from hostile.rows import LIVES, LOST, REFUSED, SILENT, Row, ended, judge_log, judge_refusal, run, scene, violation
from harness import kernlog as judge
from harness import program, sgio
from harness.case import case, check
from harness.env import Env
from lab.guest import kernlog
from lab.guest.system import SLOWNESS

UNKNOWN = violation("(unknown_command|response_unsent|duplicate_response)")
# The device may find out before the driver does.
BAD_KEY = f"{violation('(foreign_key|invalidation_without_key)')}|{LOST}"
NO_INVALIDATION = "none 4:c0000000"

TAGS = {
    "reserved": Row("read itt=reserved", violation("reserved_tag")),
    "random": Row("read itt=random", UNKNOWN),
    "freed": Row("read itt=freed inv=none", UNKNOWN),
    "never_used": Row("read itt=unused inv=none", UNKNOWN),
    "beyond_all_tasks": Row("read itt=beyond inv=none", UNKNOWN),
    "of_an_earlier_session": Row("read itt=age inv=none", UNKNOWN),
    "ffffffff_of_a_write": Row("write itt=reserved", violation("reserved_tag"), io="large"),
    "in_a_logout_response": Row("read bhs.0=26 itt=random inv=none", UNKNOWN),
    "in_a_nop_in": Row("read bhs.0=20 itt=random inv=none", UNKNOWN),
    "in_a_reject": Row("read bhs.0=3f itt=freed inv=none", UNKNOWN),
}


@case(limit=120, each=TAGS)
def tag(env: Env, row: Row) -> None:
    """An answer that names another task, or none."""
    run(env, row)


TWICE = {
    "read": Row("read twice", UNKNOWN),
    "write": Row("write twice", UNKNOWN, io="large"),
    "without_data": Row("command twice", UNKNOWN, io="command"),
    "without_invalidation": Row("read twice", UNKNOWN, mode=NO_INVALIDATION),
    "five_times": Row("read* twice", UNKNOWN),
}


@case(limit=120, each=TWICE)
def twice(env: Env, row: Row) -> None:
    """A command is answered twice."""
    run(env, row)


KEYS = {
    "random": Row("read inv=random", BAD_KEY),
    "of_an_earlier_command": Row("read inv=stale", BAD_KEY),
    "of_a_command_without_one": Row("command inv=random", BAD_KEY, io="command"),
    "not_negotiated": Row("read inv=own", violation("invalidation_not_negotiated"),
                          mode=NO_INVALIDATION),
    "in_a_ping": Row("read flood=nop:0:1 inv=own", SILENT, end=LIVES, good=True),
    "none": Row("read inv=none", SILENT, end=LIVES, good=True),
    "none_of_a_write": Row("write inv=none", SILENT, end=LIVES, good=True, io="large"),
    "none_negotiated": Row("read inv=none", SILENT, end=LIVES, good=True, mode=NO_INVALIDATION),
}


@case(limit=120, each=KEYS)
def invalidation(env: Env, row: Row) -> None:
    """Send with Invalidate of a key that is not the command's own, or without one."""
    run(env, row)


def reuse(env: Env, row: Row) -> None:
    """An answer comes once more when its task is another command's, which has no data yet."""
    with scene(env, row.mode) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order(f"rules {row.rule}")
        for _ in range(TAGS_IN_USE):
            reply = stage.provoke(row.io, settle=0)
            if stage.sim.since(told, "again"):
                break
            check(reply.good, f"a command: {reply}")
        stage.sim.wait("again", told)
        stage.sim.wait("late", told)
        stage.refused(told)
        if row.refuses:
            judge_refusal(env, stage.sim.since(told), row.refuses, kernlog.since(before))
        stage.sim.order("rules")
        stage.works()
        check(not stage.sim.since(told, "missing"), "the target had nothing to do wrong")
        judge_log(env, kernlog.since(before), row.log)


# More than there are in a session; they are used in turn.
TAGS_IN_USE = 300
REUSED = {
    # It says that the command is done, and nothing tells it from one that should. What then must hold is
    # that the key is dead before anybody learns of it.
    "read": Row("read again=500 inv=none", LOST, refuses="late"),
    "write": Row("write again=500 inv=none", LOST, io="large", refuses="late"),
    "read_without_invalidation": Row("read again=500", LOST, refuses="late", mode=NO_INVALIDATION),
}
REUSED_WITH_KEY = {
    "read": Row("read again=500", BAD_KEY),
    "write": Row("write again=500", BAD_KEY, io="large"),
    "random_key": Row("read again=500 inv=random", BAD_KEY),
    # Twice answered is all that is wrong then.
    "without_data": Row("command again=500", UNKNOWN, io="command"),
}


@case(limit=150, each=REUSED, differs={"c": "the C driver leaves a key valid until its region is used again"})
def reused_tag(env: Env, row: Row) -> None:
    """An answer comes late: another command has its tag by then, and is answered by it."""
    reuse(env, row)


@case(limit=150, each=REUSED_WITH_KEY)
def reused_tag_with_key(env: Env, row: Row) -> None:
    """The same with the key of the command that it had answered, or of none."""
    reuse(env, row)


def with_another(env: Env, rule: str, pattern: str) -> None:
    """While a command waits for its answer, another one is answered in its name."""
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order(f"rules read#1 hold; read#2 {rule}")

        def wait_in_vain() -> None:
            with sgio.Device(stage.device.path) as device:
                device.read(sgio.read10(64, 8), 4096, 20 * SLOWNESS)
        waiting = threading.Thread(target=wait_in_vain)
        waiting.start()
        try:
            stage.sim.wait("held", told)
            stage.provoke("read")
            stage.refused(told)
        finally:
            waiting.join(60 * SLOWNESS)
        check(not waiting.is_alive(), "a command did not end")
        check(not stage.sim.since(told, "missing"), "the target had nothing to do wrong")
        stage.sim.order("rules")
        stage.works()
        judge_log(env, kernlog.since(before), pattern)


@case(limit=120)
def key_of_another_command(env: Env) -> None:
    """The answer to one command invalidates the key of another, which is under way."""
    with_another(env, "inv=other", violation("foreign_key"))


@case(limit=120)
def task_of_another_command(env: Env) -> None:
    """The answer names another command that is under way, and invalidates its own key."""
    with_another(env, "itt=other inv=own", violation("foreign_key"))


@case(limit=150)
def task_of_another_command_without_a_key(env: Env) -> None:
    """The answer names another command that is under way, and nothing else is wrong with it: that one is done.

    Nobody can tell, so the command that was to be answered is aborted in the end, and the connection stays.
    """
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order("rules read#1 hold; read#2 itt=other inv=none")
        replies: list[sgio.Reply] = []

        def be_answered_for_another() -> None:
            with sgio.Device(stage.device.path) as device:
                replies.append(device.read(sgio.read10(64, 8), 4096, 20 * SLOWNESS)[0])
        waiting = threading.Thread(target=be_answered_for_another)
        waiting.start()
        try:
            stage.sim.wait("held", told)
            # Less than the other may take: it must not be an abort that ends that one.
            reply = stage.provoke("read", timeout=5)
        finally:
            waiting.join(60 * SLOWNESS)
        check(not waiting.is_alive(), "a command did not end")
        check(bool(replies) and replies[0].good, f"the command that was answered: {replies}")
        check(not reply.good, f"the command without an answer: {reply}")
        check(not stage.sim.since(told, "missing"), "the target had nothing to do wrong")
        stage.sim.order("rules")
        stage.works()
        rows = kernlog.since(before)
        lost = judge.connection_errors(rows)
        check(not lost, "the connection was lost:\n" + "\n".join(lost))
        judge_log(env, rows, SILENT)


# The slot of a read is free when its key is dead; that of a command without data knows of no abort, and
# accepts the answer, to which the task is not the one that was sent.
AFTER_AN_ABORT = {"of_a_read": ("read", UNKNOWN), "without_data": ("command", violation("late_response"))}


@case(limit=150, each=AFTER_AN_ABORT)
def after_an_abort(env: Env, how: tuple[str, str]) -> None:
    """A command is aborted, and answered after that."""
    kind, pattern = how
    with scene(env) as stage:
        told, before = stage.sim.mark(), kernlog.mark("provoke")
        stage.sim.order(f"rules {kind}#1 hold; tmf#1 late-answer=1000")
        reply = stage.provoke(kind, timeout=3)
        check(not reply.good, f"a command without an answer: {reply}")
        stage.refused(told)
        stage.sim.order("rules")
        stage.works()
        judge_log(env, kernlog.since(before), pattern)


# What a response says is libiscsi's to judge.
ABORTS = {f"response_{code}": (f"bhs.2={code:02x}", SILENT) for code in (1, 2, 3, 4, 5, 6, 255)} | {
    "no_response": ("ignore", SILENT), "wrong_task": ("itt=random", UNKNOWN), "twice": ("twice", UNKNOWN),
    "hangs_up": ("hangup", LOST), "hangs_up_after": ("hangup=after", LOST), "a_nop_in": ("bhs.0=20", REFUSED)}


@case(limit=180, each=ABORTS)
def abort_answered_by(env: Env, how: tuple[str, str]) -> None:
    """A command gets no answer, and its abort an odd one: error handling gets to its end."""
    action, pattern = how
    with scene(env) as stage:
        before = kernlog.mark("provoke")
        stage.sim.order(f"rules read#1 hold; tmf* {action}")
        reply = stage.provoke("read", timeout=3)
        check(not reply.good, f"a command without an answer: {reply}")
        stage.sim.order("rules")
        stage.usable()
        stage.works()
        rows = kernlog.since(before)
        # Each function in turn, until error handling gives up: a connection each.
        judge_log(env, rows, pattern, max(1, ended(rows)))


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
