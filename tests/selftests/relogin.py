#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A hundred logins and logouts, and what they leave behind: nothing."""

import sys
import time

from harness import leftover, memory, program
from harness.case import BOTH, LIO, case, check, equal
from harness.env import Env, opens
from lab.guest import disk, initiator
from lab.guest.system import wait_for

IN_A_ROW = 100
AT_ONCE, ROUNDS = 10, 6
GROWTH_KIB = 4096


def one(node: initiator.Node) -> None:
    """One login and logout; the target's disks are not looked at."""
    initiator.iscsiadm(*initiator.of(node), "--login")
    initiator.iscsiadm(*initiator.of(node), "--logout")


@case(BOTH, limit=400)
def one_after_another(env: Env) -> None:
    """Many sessions in a row; no kernel memory is lost on the way."""
    node = env.node()
    initiator.settings(node, {"node.session.scan": "manual"})
    for _ in range(5):
        one(node)
    env.expect_gone(leftover.of_sessions)
    before = memory.now()
    began = time.monotonic()
    for _ in range(IN_A_ROW):
        one(node)
    print(f"# {IN_A_ROW} logins and logouts: {time.monotonic() - began:.1f} s", flush=True)
    env.expect_gone(leftover.of_sessions)
    lost = memory.lost(before, IN_A_ROW * 9 // 10, GROWTH_KIB)
    check(not lost, f"{IN_A_ROW} logins and logouts leave behind (objects, or KiB): {lost}")


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
