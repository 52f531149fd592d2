#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Resets asked for by sg_reset: of the device and of the target, idle and under load."""

import subprocess
import sys
import time

from harness import kernlog as judge
from harness import program, sgio
from harness.case import BOTH, case, check
from harness.data import SECTOR
from harness.env import Env
from lab.guest import disk, kernlog
from lab.guest.system import run, wait_for

ROUNDS = 4
NO_TASK = "conn error (1010)"        # ISCSI_ERR_BAD_ITT


def start_load(path: str) -> subprocess.Popen[str]:
    """Verified load for about ten seconds in the background."""
    argv = ["fio", "--name=load", f"--filename={path}", "--ioengine=libaio", "--direct=1",
            "--rw=randwrite", "--bs=16k", "--size=16m", "--iodepth=16", "--verify=crc32c",
            "--verify_fatal=1", "--time_based", "--runtime=8", "--randseed=3", "--eta=never"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def expect_good(load: subprocess.Popen[str]) -> None:
    """The load has ended without an error."""
    text, _ = load.communicate(timeout=90)
    check(load.returncode == 0, f"fio failed:\n{text[-800:]}")


def works(path: str) -> None:
    """Commands and data as before."""
    with sgio.Device(path) as device:
        device.settle()
        check(device.read(sgio.read10(0, 8), 8 * SECTOR)[0].good, "a read after the reset failed")
    disk.fio_verify(path, bs="64k", size="2m")


@case(BOTH)
def device_idle(env: Env) -> None:
    """LUN resets one after another."""
    with env.session() as session:
        path = session.disks()[0]
        for _ in range(ROUNDS):
            run("sg_reset", "--no-esc", "--device", path)
        works(path)


@case(BOTH, limit=150)
def device_under_load(env: Env) -> None:
    """LUN resets while commands are under way: those are sent again, and no error is seen.

    tgt answers commands after it has answered the reset that ended them, and LIO,
    once in many runs, one that it had done when the reset came: core_tmr_drain_state_list()
    neither ends such a command nor waits for its response. A response that names no task any
    more costs the connection, with either driver, and nothing else may.
    """
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        mark = kernlog.mark("resets under load")
        load = start_load(path)
        try:
            for _ in range(ROUNDS):
                time.sleep(1.5)
                done = run("sg_reset", "--no-esc", "--device", path, check=False, timeout=60)
                lost = judge.connection_errors(kernlog.since(mark))
                check(env.kind == "tgt" or lost or not done.returncode,
                      f"sg_reset ended with {done.returncode}: {done.stderr}")
            expect_good(load)
        finally:
            load.kill()
        if env.kind == "lio":
            lost = judge.connection_errors(kernlog.since(mark))
            check(all(NO_TASK in row for row in lost), "the connection was lost:\n" + "\n".join(lost))
        wait_for("the session", lambda: session.state == "LOGGED_IN", 60)
        works(path)


@case(BOTH, limit=120)
def target_idle(env: Env) -> None:
    """A target reset; where the target has none, the session is made anew."""
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        run("sg_reset", "--no-esc", "--target", path, timeout=90)
        wait_for("the session", lambda: session.state == "LOGGED_IN", 60)
        works(path)


@case(BOTH, limit=200)
def target_under_load(env: Env) -> None:
    """The same while commands are under way."""
    with env.session(may_drop=True) as session:
        path = session.disks()[0]
        load = start_load(path)
        try:
            for _ in range(2):
                time.sleep(2)
                run("sg_reset", "--no-esc", "--target", path, timeout=90)
            expect_good(load)
        finally:
            load.kill()
        wait_for("the session", lambda: session.state == "LOGGED_IN", 60)
        works(path)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
