#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Connections that are given up before they are made.

Packets to the target are lost, so that connecting lasts. What must hold: who asked for
the login is told within its time limits, nothing is left, and the next login succeeds.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from harness import leftover, program
from harness.case import BOTH, LIO, case, check, equal
from harness.env import AFTER_A_REFUSAL, ONE_TRY, Env
from harness.faults import begun, kill_iscsid
from harness.outage import answered
from lab.guest import disk, initiator
from lab.guest.initiator import Node
from lab.guest.system import run, wait_for
from lab.guest.wire import Wire

# login_timeout of ONE_TRY, what the address and the route may take, and an emulated machine.
GIVEN_UP_SECONDS = 30
PAUSE_SECONDS = 5
MOMENTS = 12             # of a login
AWAY_SECONDS = 1

# The connection manager repeats its request after 4.6 s.
PATIENT = {**ONE_TRY, "node.conn[0].timeo.login_timeout": 30}


def forget_neighbours(wire: Wire) -> None:
    """Have the next connection begin with the question for the target's address."""
    run("ip", "neigh", "flush", "dev", wire.initiator.netdev)


def nothing(wire: Wire) -> None:
    """Leave all as it is."""


# Where a connection waits for an answer that is lost.
STAGES: dict[str, Callable[[Wire], None]] = {"address": forget_neighbours, "connection_request": nothing}


@contextmanager
def silent(env: Env) -> Iterator[tuple[Wire, Node]]:
    """A target that has answered once and does not any more; the end takes all away."""
    with answered(env) as (wire, node):
        wire.lose(100)
        yield wire, node


def works(env: Env, node: Node) -> None:
    """The next login succeeds; LIO may still wait for that of a connection that nobody knows.

    iscsid must not give up first: the session of a login whose connection has timed out takes no other.
    """
    with env.session(AFTER_A_REFUSAL, portal=node.portal, may_drop=True) as session:
        disk.fio_verify(session.disks()[0], bs="64k", size="2m")


def given_up(env: Env) -> None:
    """Wait until iscsid does not try any more: nothing is there for longer than its pause between two tries."""
    seen = time.monotonic()

    def quiet() -> bool:
        nonlocal seen
        if leftover.of_sessions(env.driver.module):
            seen = time.monotonic()
        return time.monotonic() - seen > PAUSE_SECONDS
    wait_for("the end of the login", quiet, GIVEN_UP_SECONDS, pause=0.2)


@contextmanager
def logging_in(node: Node, values: Mapping[str, object] = ONE_TRY) -> Iterator[subprocess.Popen[bytes]]:
    """A login under way, in the middle of connecting."""
    with begun(node, values) as job:
        wait_for("a connection", leftover.endpoints, 10)
        # The first question is on its way; the address is given up after 1 s.
        time.sleep(0.3)
        equal("sessions of a connection that is not made", initiator.sessions(), [])
        yield job


@case(BOTH, limit=150, each=STAGES, long=True)
def no_answer(env: Env, prepare: Callable[[Wire], None]) -> None:
    """A host that does not answer: iscsid gives the connection up in time."""
    with silent(env) as (wire, node):
        prepare(wire)
        began = time.monotonic()
        env.refused(node)
        took = time.monotonic() - began
        print(f"# the login failed after {took:.1f} s", flush=True)
        check(took < GIVEN_UP_SECONDS, f"the login failed only after {took:.1f} s")
        env.expect_gone(leftover.of_sessions)
        wire.lose(0)
        works(env, node)


@case(BOTH, limit=150, long=True)
def answers_late(env: Env) -> None:
    """A host that answers in the middle of the login is logged in to."""
    with silent(env) as (wire, node):
        with logging_in(node, PATIENT) as job:
            wire.lose(0)
            equal("status of iscsiadm", job.wait(60), 0)
        equal("sessions", len(initiator.sessions()), 1)
        initiator.logout(node)
        works(env, node)


@case(BOTH, limit=150, each=STAGES, long=True)
def iscsiadm_is_killed(env: Env, prepare: Callable[[Wire], None]) -> None:
    """Nobody waits for the login any more: iscsid gives the connection up by itself."""
    with silent(env) as (wire, node):
        prepare(wire)
        with logging_in(node) as job:
            job.kill()
        given_up(env)
        wire.lose(0)
        works(env, node)


@case(BOTH, limit=200, each=STAGES, long=True)
def iscsid_is_killed(env: Env, prepare: Callable[[Wire], None]) -> None:
    """A new iscsid does not know of the connection, and works; the connection goes with the module.

    The transport class has nobody else who could give up an endpoint without a session.
    """
    with silent(env) as (wire, node):
        prepare(wire)
        with logging_in(node):
            kill_iscsid()
        initiator.start()
        # The address has been given up by then. A connection request is repeated, and reaches the target.
        time.sleep(2)
        wire.lose(0)
        works(env, node)
        equal("endpoints that nobody knows", len(leftover.endpoints()), 1)
        env.driver.unload()
        env.expect_gone(leftover.of_module)
        env.driver.load()
        works(env, node)


@case(BOTH, limit=150, each=STAGES, long=True)
def module_is_removed(env: Env, prepare: Callable[[Wire], None]) -> None:
    """Unloading in the middle of connecting is refused, or done and nothing left; iscsid copes."""
    with silent(env) as (wire, node):
        prepare(wire)
        with logging_in(node) as job:
            done = run("rmmod", env.driver.module, check=False)
            print(f"# rmmod: {done.stderr.strip() or 'done'}", flush=True)
            check(done.returncode == 0 or "in use" in done.stderr, f"rmmod says {done.stderr.strip()!r}")
            check(job.wait(60) != 0, "a login without the driver succeeded")
        given_up(env)
        if not env.driver.is_loaded():
            env.expect_gone(leftover.of_module)
            env.driver.load()
        wire.lose(0)
        works(env, node)


@case(BOTH, limit=150, each=STAGES, long=True)
def device_is_removed(env: Env, prepare: Callable[[Wire], None]) -> None:
    """The RDMA device goes in the middle of connecting: the login fails, and nothing holds the device."""
    with silent(env) as (wire, node):
        prepare(wire)
        with logging_in(node) as job:
            wire.initiator.remove_device()
            equal("held without a device", leftover.rdma(env.driver.module), [])
            check(job.wait(GIVEN_UP_SECONDS) != 0, "a login without a device succeeded")
        given_up(env)
        wire.initiator.add_device()
        wire.lose(0)
        works(env, node)


# tgtd crashes in this.
@case(LIO, limit=400, long=True)
def device_is_removed_in_a_login(env: Env) -> None:
    """The RDMA device goes at one moment of a login after another, and comes back.

    A login that says it succeeded has a session that works; one that fails leaves nothing.
    """
    with silent(env) as (wire, node):
        wire.lose(0)
        with begun(node) as job:
            began = time.monotonic()
            equal("status of iscsiadm", job.wait(GIVEN_UP_SECONDS), 0)
            whole = time.monotonic() - began
        env.log_out_all()
        used = 0
        for number in range(MOMENTS):
            moment = whole * number / (MOMENTS - 1)
            with begun(node, AFTER_A_REFUSAL) as job:
                time.sleep(moment)
                used += bool(leftover.rdma(env.driver.module))
                wire.initiator.remove_device()
                equal("held without a device", leftover.rdma(env.driver.module), [])
                time.sleep(AWAY_SECONDS)
                wire.initiator.add_device()
                status = job.wait(GIVEN_UP_SECONDS)
            print(f"# removed after {moment:.2f} s of {whole:.2f}: iscsiadm ended with {status}", flush=True)
            if status == 0:
                session, = initiator.sessions()
                wait_for("the session", lambda s=session: s.state == "LOGGED_IN", GIVEN_UP_SECONDS)
                wait_for("a disk", session.disks, GIVEN_UP_SECONDS)
                disk.fio_verify(session.disks()[0], bs="64k", size="256k")
            env.log_out_all()
            given_up(env)
        check(used, "the device was never in use")
        works(env, node)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
