#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Resets asked for by sg_reset: of the device, the target and the host, idle and under load.

libiscsi counts what it sends, so that a reset which only says that it was successful is found out.
"""

import subprocess
import sys

from harness import kernlog as judge
from harness import program, resend, sgio, tasks
from harness.case import BOTH, case, check, equal
from harness.data import SECTOR
from harness.env import Env
from harness.tasks import Count
from lab.guest import disk, kernlog
from lab.guest.initiator import Session
from lab.guest.load import load
from lab.guest.system import run, wait_for

ROUNDS = 4
NO_TASK = "conn error (1010)"        # ISCSI_ERR_BAD_ITT
SESSION_RESET = "conn error (1021)"  # ISCSI_ERR_SCSI_EH_SESSION_RST
BACK_SECONDS = 60
NO_HOST_RESET = {"c": "ib_iser has no host reset: sg_reset ends with an I/O error"}

Done = subprocess.CompletedProcess[str]


def works(path: str) -> None:
    """Commands and data as before."""
    with sgio.Device(path) as device:
        device.settle()
        check(device.read(sgio.read10(0, 8), 8 * SECTOR)[0].good, "a read after the reset failed")
    disk.fio_verify(path, bs="64k", size="2m")


def ready(session: Session) -> None:
    """The session is there, and can send a reset."""
    wait_for("the session", lambda: session.state == "LOGGED_IN", BACK_SECONDS)


def reset(session: Session, what: str, path: str) -> tuple[Done, Count, list[str]]:
    """Have one reset done; returns how sg_reset ended, task management meanwhile, and losses of the connection.

    What the reset has cost is known when the session is there again.
    """
    ready(session)
    before, mark = tasks.count(session), kernlog.mark(f"reset of the {what}")
    done = run("sg_reset", "--no-esc", f"--{what}", path, check=False, timeout=90)
    ready(session)
    found, lost = tasks.count(session) - before, judge.connection_errors(kernlog.since(mark))
    print(f"# {what}: ended with {done.returncode}, {found}, {len(lost)} connections lost", flush=True)
    return done, found, lost


@case(BOTH)
def device_idle(env: Env) -> None:
    """LUN resets one after another: each is sent, and answered."""
    with env.session() as session:
        path = session.disks()[0]
        for _ in range(ROUNDS):
            done, found, _ = reset(session, "device", path)
            equal("status of sg_reset", done.returncode, 0)
            equal("task management", found, Count(sent=1, answered=1))
        works(path)


@case(BOTH, limit=150)
def device_under_load(env: Env) -> None:
    """LUN resets while commands are under way: those are sent again, and no error is seen.

    tgt answers commands after it has answered the reset that ended them, and LIO,
    once in many runs, one that it had done when the reset came: core_tmr_drain_state_list()
    neither ends such a command nor waits for its response. A response that names no task any
    more costs the connection, with either driver, and nothing else may. A reset that has its answer before
    is a success all the same; one that has not, fails with the connection.
    """
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        with load(path) as job:
            for _ in range(ROUNDS):
                job.goes_on()
                done, found, lost = reset(session, "device", path)
                others = [row for row in lost if NO_TASK not in row]
                check(not others or resend.excuses(others), "the connection was lost:\n" + "\n".join(others))
                check(lost or not done.returncode, f"sg_reset ended with {done.returncode}: {done.stderr}")
                equal("resets sent", found.sent, 1)
                check(done.returncode or found.answered, "sg_reset succeeded without an answer")
        works(path)


def reset_or_made_anew(session: Session, path: str) -> None:
    """A target reset is sent; it has a good answer, or the session is made anew."""
    done, found, lost = reset(session, "target", path)
    equal("status of sg_reset", done.returncode, 0)
    equal("resets sent", found.sent, 1)
    check(lost, "neither target has such a reset, and the session was not made anew")


@case(BOTH, limit=120)
def target_idle(env: Env) -> None:
    """A target reset: it is sent, and as neither target has one, the session is made anew."""
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        reset_or_made_anew(session, path)
        works(path)


@case(BOTH, limit=200)
def target_under_load(env: Env) -> None:
    """The same while commands are under way."""
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        with load(path) as job:
            for _ in range(2):
                job.goes_on()
                reset_or_made_anew(session, path)
        works(path)


def session_made_anew(session: Session, path: str) -> None:
    """A reset of the host asks the target nothing: the session is ended, and made anew."""
    done, found, lost = reset(session, "host", path)
    equal("status of sg_reset", done.returncode, 0)
    equal("task management", found, Count(sent=0, answered=0))
    check(len(lost) == 1 and SESSION_RESET in lost[0], f"the session was not reset: {lost}")


@case(BOTH, limit=120, differs=NO_HOST_RESET)
def host_idle(env: Env) -> None:
    """A host reset: the session is made anew."""
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        session_made_anew(session, path)
        works(path)


@case(BOTH, limit=200, differs=NO_HOST_RESET)
def host_under_load(env: Env) -> None:
    """The same while commands are under way: they are sent again, and no error is seen."""
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        with load(path) as job:
            for _ in range(2):
                job.goes_on()
                session_made_anew(session, path)
        works(path)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
