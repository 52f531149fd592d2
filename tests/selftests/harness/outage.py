# SPDX-License-Identifier: GPL-2.0
"""A session over a wire that can be cut, and what must hold when it was."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.case import Skip, check
from harness.env import PORT, Env
from lab.guest import disk, initiator
from lab.guest.initiator import Node, Session
from lab.guest.system import SLOWNESS, read, run, wait_for
from lab.guest.wire import Wire, lacking
from lab.report import LabError

# A silent connection is given up after 5 s at the latest.
PINGS: Mapping[str, object] = {"node.conn[0].timeo.noop_out_interval": 2,
                               "node.conn[0].timeo.noop_out_timeout": 3}
NOTICED_SECONDS = 5
REPLACEMENT = "node.session.timeo.replacement_timeout"
# iscsid waits so long for a login before it tries once more.
BACK_SECONDS = 45
QUIET_SECONDS = 1
# From the end of replacement_timeout to an error of a program that waits.
LATE_SECONDS = 10


def until_lost(session: Session, limit: float = 2 * NOTICED_SECONDS) -> float:
    """Wait until the loss of the connection is noticed; returns the last moment at which it was not yet.

    From then on, at the earliest, replacement_timeout is counted.
    """
    seen = time.monotonic()

    def gone() -> bool:
        nonlocal seen
        now = time.monotonic()
        if session.state != "LOGGED_IN":
            return True
        seen = now
        return False
    wait_for("the loss of the connection", gone, limit, pause=0.02)
    return seen


@dataclass
class Line:
    """A wire, and the session over it."""

    wire: Wire
    session: Session
    path: str

    def quiet(self) -> None:
        """Nobody sends commands any more: who looks at a new disk has seen what he wanted."""
        sent = Path("/sys/block", Path(self.path).name, "device/iorequest_cnt")

        def same() -> bool:
            before = read(sent)
            time.sleep(QUIET_SECONDS)
            return read(sent) == before
        wait_for("a second without a command", same, BACK_SECONDS)

    def lost(self, limit: float = 2 * NOTICED_SECONDS) -> float:
        """Wait until the loss of the connection is noticed; see `until_lost`."""
        return until_lost(self.session, limit)

    def back(self, limit: float = BACK_SECONDS) -> None:
        """The session is there again within its time."""
        began = time.monotonic()
        wait_for("the session's return", lambda: self.session.state == "LOGGED_IN", limit)
        print(f"# back {time.monotonic() - began:.1f} s after the repair", flush=True)

    def works(self) -> None:
        """Verified data go over it."""
        disk.fio_verify(self.path, bs="64k", size="2m")


def new_wire(number: int = 0) -> Wire:
    """A wire, to be laid; where that cannot be, the test is skipped."""
    if why := lacking():
        raise Skip(why)
    return Wire(number)


@contextmanager
def laid(env: Env) -> Iterator[tuple[Wire, str]]:
    """A wire with a target at its other end, and the target's portal; all is gone at the end."""
    wire = new_wire()
    env.drop_target()
    wire.up()
    try:
        if env.kind == "lio":
            env.lio(portals=[(wire.target.ipv4, PORT)])
        else:
            env.tgt()
        yield wire, initiator.portal_text(wire.target.ipv4, PORT)
    finally:
        with suppress(LabError):
            env.log_out_all()
        env.drop_target()
        wire.down()


@contextmanager
def wired(env: Env, replacement: int = 120, strict: bool = False,
          values: Mapping[str, object] | None = None) -> Iterator[Line]:
    """A session with the target over a wire; both are gone at the end."""
    settings = {**PINGS, REPLACEMENT: replacement, **(values or {})}
    with laid(env) as (wire, portal), env.session(settings, portal=portal, may_drop=not strict) as session:
        yield Line(wire, session, session.disks()[0])


@contextmanager
def answered(env: Env) -> Iterator[tuple[Wire, Node]]:
    """A target over a wire which has answered once, and is not logged in to."""
    with laid(env) as (wire, portal):
        with env.session(portal=portal, may_drop=True):
            pass
        node = env.node(portal=portal)
        try:
            yield wire, node
        finally:
            with suppress(LabError):
                env.log_out_all()
            initiator.forget(node)


def failed_after(path: str, limit: float) -> float:
    """Read, which must fail; return when it did."""
    done = run("dd", f"if={path}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct", check=False,
               timeout=limit)
    check(done.returncode != 0, "a read without a connection succeeded")
    return time.monotonic()


def check_patience(lost: float, failed: float, seconds: float) -> None:
    """An error came when replacement_timeout was over after the loss, not before, and not much later."""
    took = failed - lost
    print(f"# the error came {took:.2f} s after the loss", flush=True)
    check(took >= seconds, f"the error came after {took:.2f} s, and replacement_timeout is {seconds} s")
    check(took < seconds + LATE_SECONDS * SLOWNESS, f"the error came only after {took:.2f} s")
