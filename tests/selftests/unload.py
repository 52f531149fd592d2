#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The module is to be removed while a login, a discovery, a scan, an abort or a logout waits for the target.

A session holds it: it must be refused, what waits must end as it would have, and after the
session the module goes without a trace. Other stages are in module, lifecycle and connect.
"""

import errno
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

from harness import leftover, program, sgio, slow, tasks
from harness.case import BOTH, case, check, equal
from harness.data import SECTOR, Memory, Window
from harness.env import ONE_TRY, Env
from harness.faults import background, begun, stopped_tgtd
from harness.mishap import Watch
from harness.outage import answered
from harness.tasks import Count
from lab.guest import disk, initiator
from lab.guest.initiator import Node, Session
from lab.guest.system import read, run, wait_for

# One way. rxe waits half a second for an acknowledgement.
DELAY = 0.15
TIMES = 3
LOGIN = {**ONE_TRY, "node.conn[0].timeo.login_timeout": 30}
UNSCANNED = {"node.session.scan": "manual"}
# A command that times out is aborted at once; the target may take its time with that.
ABORT = {"node.conn[0].timeo.noop_out_interval": 0, "node.conn[0].timeo.noop_out_timeout": 0,
         "node.session.err_timeo.abort_timeout": 20}
COMMAND_SECONDS = 7      # the least for SG_IO
STOP_SECONDS = 13
SIZE = 8 * SECTOR


def refused(env: Env) -> None:
    """The module cannot be removed; what goes on may be over before modprobe has asked."""
    for _ in range(TIMES):
        equal("the kernel's answer", errno.errorcode.get(env.driver.try_unload()), "EAGAIN")


def goes(env: Env) -> None:
    """Without sessions it can, and leaves nothing."""
    env.expect_gone(leftover.of_sessions)
    run("modprobe", "-r", env.driver.module)
    env.expect_gone(leftover.of_module)
    env.driver.load()


def watch(env: Env) -> Watch:
    """Looks whether tgt hangs up, as it does on who is too quick."""
    return Watch(env.tgt() if env.kind == "tgt" else None)


def ended_well(job: subprocess.Popen[bytes], target: Watch) -> None:
    """iscsiadm has done what it was to do, unless the target has hung up on it."""
    status = job.wait(60)
    check(status == 0 or target.hung_up(), f"iscsiadm ended with {status}")


def new_session() -> Session:
    """The session that is being made."""
    wait_for("a session", initiator.sessions, 20, pause=0.005)
    session, = initiator.sessions()
    return session


def works(env: Env, node: Node) -> None:
    """The next login succeeds."""
    with env.session(portal=node.portal, may_drop=True) as session:
        disk.fio_verify(session.disks()[0], bs="64k", size="1m")


@case(BOTH, limit=150, long=True)
def in_a_login(env: Env) -> None:
    """While login PDUs are exchanged."""
    with answered(env) as (wire, node):
        target = watch(env)
        wire.delay(DELAY)
        with begun(node, LOGIN) as job:
            session = new_session()
            refused(env)
            check(session.state != "LOGGED_IN" and job.poll() is None, "the login was over before")
            ended_well(job, target)
        wire.delay(0)
        env.log_out_all()
        goes(env)
        works(env, node)


@case(BOTH, limit=150, long=True)
def in_a_discovery(env: Env) -> None:
    """While a discovery asks for targets."""
    with answered(env) as (wire, node):
        target = watch(env)
        wire.delay(DELAY)
        with background("iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", node.portal, "-I", "iser",
                        "-o", "nonpersistent") as job:
            new_session()
            refused(env)
            check(job.poll() is None, "the discovery was over before")
            ended_well(job, target)
        wire.delay(0)
        goes(env)
        works(env, node)


@case(BOTH, limit=150, long=True)
def in_a_scan(env: Env) -> None:
    """While a scan asks for disks, which are there in the end."""
    with answered(env) as (wire, node):
        session = initiator.login(node, UNSCANNED)
        equal("disks before the scan", session.disks(), [])
        wire.delay(DELAY)
        with background("iscsiadm", "-m", "session", "-r", str(session.sid), "-R") as job:
            time.sleep(DELAY)
            refused(env)
            check(job.poll() is None, "the scan was over before")
            equal("status of iscsiadm", job.wait(60), 0)
        wire.delay(0)
        disk.fio_verify(session.wait_disks()[0], bs="64k", size="1m")
        initiator.logout(node)
        goes(env)


Stop = Callable[[float], AbstractContextManager[None]]


@contextmanager
def stoppable(env: Env) -> Iterator[Stop]:
    """A target that can be had to keep what it is asked for: LIO's disk, or all of tgt."""
    if env.kind == "tgt":
        yield stopped_tgtd
        return
    with slow.device() as backing:
        env.lio(luns=[backing.lun()])
        try:
            yield backing.stopped
        finally:
            env.drop_target()


@case(BOTH, limit=150, long=True)
def while_an_abort_waits(env: Env) -> None:
    """While the abort of a command that has timed out has no answer."""
    with stoppable(env) as stopped:
        with env.session(ABORT, may_drop=env.kind == "tgt") as session, \
                sgio.Device(session.disks()[0]) as device, ThreadPoolExecutor(1) as pool:
            device.settle()
            before = tasks.count(session)

            def waits() -> bool:
                return tasks.count(session) - before == Count(sent=1, answered=0)
            window = Window(Memory(SIZE + 8192), 0, SIZE)
            with stopped(STOP_SECONDS):
                pool.submit(device.execute, sgio.read10(0, SIZE // SECTOR), sgio.FROM_DEVICE, window.address, SIZE,
                            COMMAND_SECONDS)
                wait_for("an abort", waits, COMMAND_SECONDS + 3, pause=0.2)
                refused(env)
                check(waits(), "the abort was over before")
            window.check_guards("aborted command")
            wait_for("the session", lambda: session.state == "LOGGED_IN", 60)
            device.settle()
            disk.fio_verify(session.disks()[0], bs="64k", size="1m")
        goes(env)


@case(BOTH, limit=150, long=True)
def while_a_logout_waits(env: Env) -> None:
    """While the request to log out has no answer."""
    with answered(env) as (wire, node):
        session = initiator.login(node, UNSCANNED)
        wire.lose(100)
        with background("iscsiadm", *initiator.of(node), "--logout") as job:
            wait_for("the logout", lambda: read(session.directory / "target_state", "gone") == "UNBOUND", 10)
            refused(env)
            check(job.poll() is None, "the logout was over before")
            equal("state", session.state, "LOGGED_IN")
            wire.lose(0)
            equal("status of iscsiadm", job.wait(60), 0)
        equal("sessions", initiator.sessions(), [])
        goes(env)
        works(env, node)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
