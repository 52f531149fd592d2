#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Logins and logouts, losses of the connection, refused logins, and what many of them leave behind: nothing."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness import leftover, memory, program
from harness.case import BOTH, LIO, Skip, case, check, equal
from harness.env import ONE_TRY, Env, opens
from harness.faults import hang_up
from harness.outage import BACK_SECONDS, PINGS, until_lost, wired
from lab.guest import disk, initiator, net
from lab.guest.system import run, wait_for

IN_A_ROW = 100
LOSSES, REFUSALS = 20, 20     # iscsid takes 5 s to give up
DEVICES = 10
CLOSED = 3999
NOBODY = "iqn.2026-01.lab.iser:nobody"
AT_ONCE, ROUNDS = 10, 6
GROWTH_KIB = 4096


def one(node: initiator.Node) -> None:
    """One login and logout; the target's disks are not looked at."""
    initiator.iscsiadm(*initiator.of(node), "--login")
    initiator.iscsiadm(*initiator.of(node), "--logout")


def target_keeps_all(env: Env) -> bool:
    """Whether the target, in this machine, lets go of no connection, so that memory shows nothing."""
    return env.kind == "tgt" and net.chosen() == "siw"


def not_judged(env: Env) -> None:
    """Say at the end of a test, which has done all else, that what is left behind was not judged."""
    if target_keeps_all(env):
        raise Skip("all was done, but over iWARP tgtd keeps each connection with its memory")


def nothing_lost(env: Env, count: int, repeat: Callable[[int], None]) -> None:
    """So many repetitions leave no kernel memory behind.

    What they do is done again before it is blamed: processors keep some tens of objects of a cache for
    later, and those come to be there once.
    """
    lost: dict[str, int] = {}
    for turn in range(2):
        before = memory.now()
        began = time.monotonic()
        repeat(count)
        print(f"# {count} times: {time.monotonic() - began:.1f} s", flush=True)
        if target_keeps_all(env):
            return
        found = memory.lost(before, count * 9 // 10, GROWTH_KIB)
        lost = {name: grown for name, grown in found.items() if not turn or name in lost}
        if not lost:
            return
        print(f"# objects, or KiB, more than before: {lost}", flush=True)
    check(False, f"{count} times leave behind (objects, or KiB), and again: {lost}")


@case(BOTH, limit=400)
def one_after_another(env: Env) -> None:
    """Many sessions in a row; no kernel memory is lost on the way."""
    node = env.node()
    initiator.settings(node, {"node.session.scan": "manual"})
    for _ in range(5):
        one(node)
    env.expect_gone(leftover.of_sessions)

    def in_a_row(times: int) -> None:
        for _ in range(times):
            one(node)
        env.expect_gone(leftover.of_sessions)
    nothing_lost(env, IN_A_ROW, in_a_row)
    not_judged(env)


def end_connection(env: Env, path: str) -> None:
    """End it: tgt hangs up. LIO has no target reset, so that one has libiscsi do it.

    LIO hangs up only by disabling its portal group, which hung while iscsid came again and again.
    """
    if env.kind == "tgt":
        hang_up(env.target())
    else:
        run("sg_reset", "--no-esc", "--target", path, timeout=90)


@case(BOTH, limit=400, long=True)
def connection_losses(env: Env) -> None:
    """The connection ends many times, and the session comes back each time; no kernel memory is lost on the way."""
    env.target()
    with env.session({**PINGS, "node.session.iscsi.DefaultTime2Wait": 0}, may_drop=True) as session, \
            ThreadPoolExecutor(1) as pool:
        path = session.disks()[0]

        def lose(times: int) -> None:
            for _ in range(times):
                lost = pool.submit(until_lost, session)
                end_connection(env, path)
                lost.result()
                wait_for("the session's return", lambda: session.state == "LOGGED_IN", BACK_SECONDS)
        lose(3)
        nothing_lost(env, LOSSES, lose)
        disk.fio_verify(path, bs="64k", size="2m")
    not_judged(env)


@case(BOTH, limit=900, long=True)
def devices(env: Env) -> None:
    """The RDMA device goes and another comes, many times under one session; no kernel memory is lost on the way."""
    with wired(env, values={"node.session.iscsi.DefaultTime2Wait": 0}) as line:
        def exchange(times: int) -> None:
            for _ in range(times):
                line.wire.initiator.remove_device()
                line.lost()
                line.wire.initiator.add_device()
                line.back()
        exchange(2)
        nothing_lost(env, DEVICES, exchange)
        line.works()
    not_judged(env)


@case(BOTH, limit=400, long=True, each={"by_the_host": True, "by_the_target": False})
def refusals(env: Env, closed: bool) -> None:
    """Many logins are refused, by a port that is closed or by a target of another name; nothing is lost on the way."""
    env.target()
    node = env.node(portal=env.portal(port=CLOSED)) if closed else env.node(iqn=NOBODY)
    initiator.settings(node, ONE_TRY)

    def fail(times: int) -> None:
        for _ in range(times):
            done = run("iscsiadm", *initiator.of(node), "--login", check=False)
            check(done.returncode, "the login succeeded")
        env.expect_gone(leftover.of_sessions)
    fail(3)
    nothing_lost(env, REFUSALS, fail)
    not_judged(env)


@case(LIO, limit=240)
def ten_at_once(env: Env) -> None:
    """Ten sessions at once, over and over, with their disks."""
    node = env.node()
    for turn in range(ROUNDS):
        sessions = env.login_at_once(node, AT_ONCE, timeout=120)
        if turn == 0:
            path = sessions[-1].wait_disks()[0]
            wait_for(f"{path} can be opened", lambda p=path: opens(p), 30)
            disk.fio_verify(path, bs="64k", size="1m")
        initiator.iscsiadm(*initiator.of(node), "--logout", timeout=120)
        equal(f"sessions after round {turn}", initiator.sessions(), [])


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
