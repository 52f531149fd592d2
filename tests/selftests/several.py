#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Several sessions, several targets, and LUNs that come while a session is up."""

import concurrent.futures
import sys

from harness import program
from harness.case import BOTH, LIO, case, check, equal
from harness.env import PORT, Env, opens
from lab.guest import disk, initiator, lio
from lab.guest.system import wait_for

SESSIONS = 4


def ready(session: initiator.Session) -> str:
    """The first disk of a session, when it can be used."""
    path = session.wait_disks()[0]
    wait_for(f"{path} can be opened", lambda: opens(path), 30)
    return path


def verify_all(paths: list[str], **options: object) -> None:
    """Verified load on all disks at once."""
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        for future in [pool.submit(disk.fio_verify, p, **options) for p in paths]:
            future.result()


@case(BOTH, limit=150)
def to_one_target(env: Env) -> None:
    """Four sessions to the same target, each under load in its own part of the disk."""
    node = env.node()
    sessions = env.login_at_once(node, SESSIONS, timeout=90)
    equal("hosts", len({s.host for s in sessions}), SESSIONS)
    paths = [ready(s) for s in sessions]
    with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
        jobs = [pool.submit(disk.fio_verify, path, bs="16k", size="4m", offset=f"{16 * n}m")
                for n, path in enumerate(paths)]
        for job in jobs:
            job.result()
    initiator.logout(node)
    equal("sessions after the logout", initiator.sessions(), [])


@case(LIO, limit=150)
def to_several_targets(env: Env) -> None:
    """Four targets, logged in to and out of together."""
    env.drop_target()
    portal = (env.network.ipv4, PORT)
    targets = [lio.Target([portal], [lio.Ramdisk(f"t{n}", 16)], iqn=f"{lio.IQN}-{n}") for n in range(4)]
    try:
        for target in targets:
            target.up()
        nodes = initiator.discover(env.portal())
        equal("targets found", len(nodes), len(targets))
        initiator.iscsiadm("-m", "node", "--login")
        sessions = initiator.sessions()
        equal("sessions", {s.iqn for s in sessions}, {t.iqn for t in targets})
        verify_all([ready(s) for s in sessions], bs="16k", size="4m")
        initiator.iscsiadm("-m", "node", "--logout")
        equal("sessions after the logout", initiator.sessions(), [])
    finally:
        if not initiator.sessions():
            for target in targets:
                target.down()


@case(LIO)
def rescan_finds_a_lun(env: Env) -> None:
    """`iscsiadm -m session -R` brings a LUN that was added meanwhile."""
    target = env.lio(luns=[lio.Ramdisk("lun0", 16)])
    extra = lio.Ramdisk("lun1", 16)
    with env.session() as session:
        equal("disks", len(session.disks()), 1)
        target._add_lun(1, extra)
        target.luns = [*target.luns, extra]
        initiator.iscsiadm("-m", "session", "-R")
        paths = session.wait_disks(2)
        wait_for("the new disk", lambda: opens(paths[1]), 15)
        equal("size of the new disk", disk.size(paths[1]), 16 << 20)
        verify_all(paths, bs="16k", size="2m")
    env.drop_target()


@case(LIO, limit=90)
def logout_of_one_leaves_the_other(env: Env) -> None:
    """One of two sessions ends while the other is under load."""
    node = env.node()
    other = initiator.new_node(node.iqn, env.portal(v6=True))
    staying, going = initiator.login(node), initiator.login(other)
    path = ready(staying)
    ready(going)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        load = pool.submit(disk.fio_verify, path, bs="16k", size="16m", iodepth=16)
        for _ in range(3):
            initiator.logout(other)
            initiator.login(other)
        load.result()
    initiator.logout(other)
    equal("state of the other session", staying.state, "LOGGED_IN")
    check(disk.size(path) > 0, "the other disk is gone")
    initiator.logout(node)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
