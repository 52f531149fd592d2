#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Connections that are lost and come back, with the data whole."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from harness import leftover, program
from harness.case import BOTH, LIO, TGT, case, check
from harness.env import AFTER_A_REFUSAL, Env, opens
from harness.faults import begun, kill_iscsid, restart_iscsid
from harness.outage import PINGS, REPLACEMENT, check_patience, failed_after, until_lost
from lab.guest import disk, initiator, lio, orphans, tgt
from lab.guest.initiator import Session
from lab.guest.load import load
from lab.guest.system import run, wait_for, write

SETTINGS = {**PINGS, REPLACEMENT: 60}
AWAY_SECONDS = 5
# iscsid is started, reads the sessions of the kernel, and drops their connections for new ones.
TAKEN_OVER_SECONDS = 30
LOGIN_MOMENTS = 6


def back(session: Session) -> None:
    """The session is there again."""
    wait_for("the session's return", lambda: session.state == "LOGGED_IN", 60)


@case(LIO, limit=200)
def target_is_disabled_and_enabled(env: Env) -> None:
    """The target drops the connection twice under load; no error reaches the application."""
    target = env.lio()
    assert isinstance(target, lio.Target)
    with env.session(SETTINGS, may_drop=True) as session:
        path = session.disks()[0]
        with load(path) as job:
            for _ in range(2):
                job.goes_on()
                write(target.tpg / "enable", 0)
                time.sleep(3)
                write(target.tpg / "enable", 1)
                back(session)
        disk.fio_verify(path, bs="64k", size="2m")


@case(TGT, limit=150)
def target_is_killed(env: Env) -> None:
    """tgtd is killed under load, and another serves the same disk later: the load only waits, the data are whole."""
    target = env.tgt()
    assert isinstance(target, tgt.Target)
    with env.session(SETTINGS, may_drop=True) as session:
        path = session.disks()[0]
        with load(path) as job:
            killed = time.monotonic()
            target.kill()
            print(f"# lost {until_lost(session) - killed:.1f} s after that", flush=True)
            time.sleep(max(0.0, killed + AWAY_SECONDS - time.monotonic()))
            target.up()
            back(session)
            print(f"# back {time.monotonic() - killed:.1f} s after that", flush=True)
            job.goes_on()
        disk.fio_verify(path, bs="64k", size="2m")


@case(BOTH, limit=120)
def logout_while_the_target_is_away(env: Env) -> None:
    """A session that waits for its target can be given up, and leaves nothing."""
    env.target()
    node = env.node()
    session = initiator.login(node, SETTINGS)
    path = session.wait_disks()[0]
    wait_for(f"{path} can be opened", lambda: opens(path), 30)
    env.drop_target()
    until_lost(session, 30)
    run("iscsiadm", *initiator.of(node), "--logout", check=False, timeout=60)
    wait_for("the end of the session", lambda: not initiator.sessions(), 60)


@case(LIO, limit=150)
def errors_come_after_replacement_timeout(env: Env) -> None:
    """A target that stays away: I/O waits for replacement_timeout, then it is an error."""
    seconds = 5
    env.lio()
    with env.session({**SETTINGS, REPLACEMENT: seconds}, may_drop=True) as session:
        path = session.disks()[0]
        target = env.lio()
        assert isinstance(target, lio.Target)
        write(target.tpg / "enable", 0)
        try:
            lost = until_lost(session)
            check_patience(lost, failed_after(path, 60), seconds)
        finally:
            write(target.tpg / "enable", 1)
        back(session)
        disk.fio_verify(path, bs="64k", size="2m")


@case(BOTH, limit=150)
def iscsid_dies(env: Env) -> None:
    """The load goes on while there is no iscsid, and while and after a new one takes the session over by a login."""
    with env.session(SETTINGS, may_drop=True) as session:
        path = session.disks()[0]
        with load(path) as job:
            kill_iscsid()
            time.sleep(1)
            job.goes_on()
            with ThreadPoolExecutor(1) as pool:
                lost = pool.submit(until_lost, session, TAKEN_OVER_SECONDS)
                restart_iscsid()
                lost.result()
            back(session)
            job.goes_on()
        disk.fio_verify(path, bs="16k", size="4m")


@case(BOTH, limit=300)
def iscsid_dies_in_a_login(env: Env) -> None:
    """iscsid is killed at one moment of a login after another: a new one can log out of what it finds, and in again.

    A connection that was not a session's yet nobody knows; the last one goes with the module.
    """
    env.target()
    node = env.node()
    began = time.monotonic()
    env.login(node, SETTINGS)
    whole = time.monotonic() - began
    env.log_out_all()
    taken_over = 0
    for number in range(LOGIN_MOMENTS):
        # LIO waits 15 s for a login on each connection that is left, and meanwhile does nothing else.
        orphans.disconnect_all()
        # More of them early: the end of a login is a wait for disks.
        moment = whole * (1 - number / (LOGIN_MOMENTS - 1)) ** 3
        with begun(node, {**SETTINGS, **AFTER_A_REFUSAL}):
            time.sleep(moment)
            kill_iscsid()
        sessions = initiator.sessions()
        states = [session.state for session in sessions]
        print(f"# killed after {moment:.2f} s of {whole:.2f}: {', '.join(states) or 'no session'}", flush=True)
        if all(map(orphans.adoptable, sessions)):
            taken_over += len(sessions)
        else:
            print("# it had not described the session, and so no program of open-iscsi can end it", flush=True)
            orphans.end_all()
        initiator.start()
        env.log_out_all()
    check(taken_over, "iscsid was never killed with a session that another can take over")
    env.driver.unload()
    env.expect_gone(leftover.of_module)
    env.driver.load()
    with env.session({**SETTINGS, **AFTER_A_REFUSAL}) as session:
        disk.fio_verify(session.disks()[0], bs="16k", size="2m")


@case(BOTH, limit=200, differs={"c": "iscsi_host_remove(), which ib_iser calls, forgets the kill"})
def iscsid_dies_in_a_logout(env: Env) -> None:
    """iscsid is killed while the kernel takes a session down for it: it is gone, and a new one can log in.

    It must not live on: the kernel believes that it is dying, and will not kill it a second time.
    """
    env.target()
    node = env.node()
    for _ in range(5):
        session = initiator.login(node, SETTINGS)
        session.wait_disks()
        pids = initiator.iscsid_pids()
        job = subprocess.Popen(["iscsiadm", *initiator.of(node), "--logout"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while session.state not in ("FREE", "gone"):
                check(job.poll() is None, "the session is still there after the logout")
            kill_iscsid(pids)
        finally:
            job.kill()
            job.wait()
        wait_for("the end of the session", lambda: not initiator.sessions(), 20)
        initiator.start()
    with env.session(SETTINGS) as session:
        disk.fio_verify(session.disks()[0], bs="16k", size="2m")


@case(LIO, limit=120)
def portal_is_removed(env: Env) -> None:
    """A portal that vanishes under a session, and comes back: the session does too."""
    target = env.lio()
    assert isinstance(target, lio.Target)
    with env.session(SETTINGS, may_drop=True) as session:
        path = session.disks()[0]
        target.remove_portal(env.network.ipv4, 3260)
        try:
            disk.fio_verify(path, bs="16k", size="1m", timeout=20)
        finally:
            target.add_portal(env.network.ipv4, 3260)
        back(session)
        disk.fio_verify(path, bs="16k", size="2m")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
