#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""One disk over two portals, joined by dm-multipath: either path may fail under verified load.

The kernel's dm-multipath moves the load by itself. What multipathd does beside that, to put a
path back that works again, the test does.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness import program
from harness.case import BOTH, case, check, equal
from harness.env import PORT, Env, opens
from harness.outage import BACK_SECONDS, PINGS, REPLACEMENT, new_wire
from lab.guest import disk, initiator
from lab.guest.initiator import Session
from lab.guest.load import load
from lab.guest.system import modprobe, output, read, run, wait_for
from lab.guest.wire import Wire
from lab.report import LabError

NAME = "iser-multipath"
PATH = f"/dev/mapper/{NAME}"
GIVE_UP = 3              # replacement_timeout: what fails over shall do so soon
# A ping that is not answered, the time above, and an emulated machine.
FAILOVER_SECONDS = 30


def number(path: str) -> str:
    """A disk's major and minor number, as dm has them."""
    return read(f"/sys/block/{path.removeprefix('/dev/')}/dev")


def failed(device: str) -> bool:
    """Whether dm takes the path for a bad one."""
    words = output("dmsetup", "status", NAME).split()
    return words[words.index(device) + 1] == "F"


@contextmanager
def joined(paths: list[str]) -> Iterator[None]:
    """The disks as one: the first is used while it works."""
    modprobe("dm_multipath", "dm_service_time")
    groups = " ".join(f"service-time 0 1 0 {number(p)}" for p in paths)
    run("dmsetup", "create", NAME, "--table",
        f"0 {disk.size(paths[0]) // 512} multipath 0 0 {len(paths)} 1 {groups}")
    try:
        # Without udev nobody else makes the node.
        run("dmsetup", "mknodes", NAME)
        yield
    finally:
        run("dmsetup", "remove", "--retry", NAME, check=False)


@contextmanager
def two_paths(env: Env) -> Iterator[tuple[list[Wire], list[Session]]]:
    """Two wires, and a session over each."""
    wires = [new_wire(0), new_wire(1)]
    env.drop_target()
    nodes = []
    try:
        for wire in wires:
            wire.up()
        if env.kind == "lio":
            env.lio(portals=[(w.target.ipv4, PORT) for w in wires])
        else:
            env.tgt()
        sessions = []
        for wire in wires:
            node = env.node(portal=initiator.portal_text(wire.target.ipv4, PORT))
            nodes.append(node)
            sessions.append(env.login(node, {**PINGS, REPLACEMENT: GIVE_UP}))
        for session in sessions:
            path = session.wait_disks()[0]
            wait_for(f"{path} can be opened", lambda p=path: opens(p), 30)
        yield wires, sessions
        equal("states", [s.state for s in sessions], ["LOGGED_IN"] * 2)
    finally:
        with suppress(LabError):
            env.log_out_all()
        for node in nodes:
            initiator.forget(node)
        env.drop_target()
        for wire in wires:
            wire.down()


def fail_over(wire: Wire, session: Session, path: str, other: str) -> None:
    """Break the path: the other one takes over; repair it, and have it used again."""
    began = time.monotonic()
    with wire.losing(100):
        wait_for(f"dm gives {path} up", lambda: failed(number(path)), FAILOVER_SECONDS)
        before = disk.completed(other)
        wait_for(f"load on {other}", lambda: disk.completed(other) > before + 20, FAILOVER_SECONDS)
        print(f"# load on the other path {time.monotonic() - began:.1f} s after the failure", flush=True)
    wait_for("the session's return", lambda: session.state == "LOGGED_IN", BACK_SECONDS)
    wait_for(f"{path} is running", lambda: read(disk.scsi(path) / "state") == "running", 30)
    run("dmsetup", "message", NAME, "0", "reinstate_path", number(path))
    check(not failed(number(path)), f"dm does not take {path} back")


@case(BOTH, limit=300, long=True)
def either_path_fails(env: Env) -> None:
    """Each of two paths is silent in turn: no error reaches the application, the data are whole."""
    with two_paths(env) as (wires, sessions):
        paths = [s.disks()[0] for s in sessions]
        check(paths[0] != paths[1], "both sessions have the same disk")
        with joined(paths):
            with load(PATH):
                fail_over(wires[0], sessions[0], paths[0], paths[1])
                fail_over(wires[1], sessions[1], paths[1], paths[0])
            disk.fio_verify(PATH, bs="64k", size="2m")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
