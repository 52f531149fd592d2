# SPDX-License-Identifier: GPL-2.0
"""The surroundings of a test: driver, network, target, sessions.

They are made when a test asks for them, kept as long as tests ask for the
same, and put back into their first state after each test, however it ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol

from harness import kernlog as judge
from harness import leftover, resend
from harness.case import BOTH, Failure, check, equal
from harness.mishap import Watch
from lab import kreport
from lab.guest import detectors, disk, initiator, kernlog, lio, net, tgt
from lab.guest.driver import Driver
from lab.guest.initiator import Node, Session
from lab.guest.lio import Chap
from lab.guest.system import SLOWNESS, loaded, run, wait_for
from lab.report import LabError

PORT = 3260
DISK_MIB = 96
SETTLE_SECONDS = 15

# A login that cannot succeed shall say so soon: no retries.
ONE_TRY: Mapping[str, object] = {"node.session.initial_login_retry_max": 1,
                                 "node.conn[0].timeo.login_timeout": 5}
# LIO's timer for lost sessions takes a lock in softirq that it takes elsewhere with softirqs on: lockdep
# reports that once and is off from then on. A session that is kept for so long is reinstated before.
RETAIN_SECONDS = 3600
# On the instrumented kernel, where answers to pings are slow, too: KASAN checks each byte of the megabytes
# before them.
SLOW: Mapping[str, object] = {} if SLOWNESS == 1 else {
    "node.session.iscsi.DefaultTime2Retain": RETAIN_SECONDS,
    "node.conn[0].timeo.noop_out_timeout": round(5 * SLOWNESS)}
# A login that takes a target long, with many others or many LUNs: iscsid must not give up before.
PATIENT: Mapping[str, object] = {"node.conn[0].timeo.login_timeout": round(15 * SLOWNESS)}
# Sessions that log in at once, or are under load: all, but on the instrumented kernel. LIO gives a connection up on which no
# request comes for 15 s, and iscsid makes them all before it sends the first; rxe loses connections under the load of more.
SESSIONS_AT_ONCE = 1000 if SLOWNESS == 1 else 8
# LIO notices only after 15 s that a login was given up, and does nothing else meanwhile.
AFTER_A_REFUSAL: Mapping[str, object] = {"node.conn[0].timeo.login_timeout": 40}


def chosen_targets() -> tuple[str, ...]:
    """The targets to test with: ISER_TARGET, by default both."""
    named = tuple(filter(None, os.environ.get("ISER_TARGET", "").replace(",", " ").split()))
    for name in named:
        if name not in BOTH:
            raise LabError(f"ISER_TARGET={name}: a target is lio or tgt")
    return named or BOTH


def opens(path: str) -> bool:
    """Whether a disk is ready: its node may be there before its driver is."""
    try:
        return disk.size(path) > 0
    except OSError:
        return False


class Target(Protocol):
    """Something to log in to; equal ones are served by the same."""

    iqn: str

    def up(self) -> None:
        """Start it."""

    def down(self) -> None:
        """End it."""


class Env:
    """What a test gets as its first argument."""

    role = "both"                          # of this machine, see lab.guest.net

    def __init__(self, keep_loaded: bool = True) -> None:
        self.driver = Driver.from_env()
        self.keep_loaded = keep_loaded     # the state between tests
        self.kind = ""                     # target of the running test
        self._network: net.Network | None = None
        self._target: Target | None = None
        self._watch = Watch(None)          # since the last login
        self._reloaded = False             # the module has other parameters than usual
        self._chosen = False               # the running test has asked for a target

    # Setting up and taking down, done by the program

    def start(self) -> None:
        """Before the first test."""
        self.driver.install()
        for module in ("ib_iser", "ib_iser_rs"):
            if loaded(module):
                run("rmmod", module)
        self._network = net.up(self.role)
        if self.keep_loaded:
            self.driver.load()
        initiator.start()

    def stop(self) -> None:
        """After the last test; what is left behind is an error."""
        self.drop_target()
        if self.driver.is_loaded():
            self.driver.unload()
        initiator.stop()
        self.expect_gone(leftover.of_module)
        self.expect_no_leak()
        if self._network is not None:
            net.down(self._network)
            self._network = None

    def begin(self, kind: str) -> None:
        """Before each test."""
        self.kind, self._chosen = kind, False

    def restore(self, failed: bool) -> None:
        """After each test: no session, no record, the module as between tests.

        Raises if the test left something behind. After a failure the target is
        made anew, because nobody knows what state it is in.
        """
        left = [f"session {s.sid} ({s.state})" for s in initiator.sessions()]
        if left:
            self.log_out_all()
        self._forget_records()
        if failed or left:
            with suppress(LabError):
                self.drop_target()
        if self.driver.is_loaded():
            self.expect_gone(leftover.of_sessions)
            if not self.keep_loaded:
                self.driver.unload()
        if self.keep_loaded and (self._reloaded or not self.driver.is_loaded()):
            self.reload({})
            self._reloaded = False
        if left and not failed:
            raise Failure("the test left behind: " + ", ".join(left))

    @staticmethod
    def log_out_all() -> None:
        """Log out of whatever is there; iscsid refuses while it reconnects."""
        def gone() -> bool:
            for session in initiator.sessions():
                run("iscsiadm", "-m", "session", "-r", str(session.sid), "--logout", check=False,
                    timeout=60)
            return not initiator.sessions()
        wait_for("the end of all sessions", gone, 60, pause=1)

    @staticmethod
    def _forget_records() -> None:
        """Remove the records of our targets; those of others are none of our business."""
        listed = run("iscsiadm", "-m", "node", check=False).stdout
        for iqn in sorted({n.iqn for n in initiator.parse_discovery(listed)}):
            if iqn.startswith("iqn.2026-01.lab.iser:"):
                run("iscsiadm", "-m", "node", "-T", iqn, "-o", "delete", check=False)

    def other_rows(self) -> list[str]:
        """What other kernels that take part have said since the last call."""
        return []

    def expect_gone(self, what: object) -> None:
        """Wait until a function of `leftover` finds nothing."""
        assert callable(what)
        found: list[str] = []

        def none() -> bool:
            found[:] = what(self.driver.module)
            return not found
        try:
            wait_for("nothing left", none, SETTLE_SECONDS, pause=0.1)
        except LabError as exc:
            raise Failure("left behind:\n" + "\n".join(found[:20])) from exc

    @staticmethod
    def expect_no_leak() -> None:
        """Have an instrumented kernel look for memory that nobody points at any more."""
        if not detectors.has_kmemleak():
            return
        found = kreport.leaks(detectors.leaks())
        detectors.forget()
        bad = kreport.judge(found, judge.known())[0]
        if bad:
            raise Failure("\n".join(["memory is lost:", *judge.excerpt([], bad)]))

    # For tests

    @property
    def network(self) -> net.Network:
        """The network."""
        assert self._network is not None
        return self._network

    def portal(self, v6: bool = False, port: int = PORT) -> str:
        """The target's portal as open-iscsi writes it."""
        network = self.network
        return initiator.portal_text(network.target_ipv6 if v6 else network.target_ipv4, port)

    def reload(self, parameters: Mapping[str, object]) -> None:
        """Have the module loaded with these parameters, for the running test."""
        if self.driver.is_loaded():
            self.driver.unload()
        self.driver.load(parameters)
        self._reloaded = True

    def lio(self, **changes: object) -> lio.Target:
        """A LIO target, by default with one ramdisk and a portal of each family."""
        network = self.network
        target = lio.Target([(network.ipv4, PORT), (network.ipv6, PORT)], [lio.Ramdisk("disk0", DISK_MIB)],
                            parameters={} if SLOWNESS == 1 else {"DefaultTime2Retain": RETAIN_SECONDS})
        return self.serve(replace(target, **changes))  # type: ignore[type-var]

    def tgt(self, **changes: object) -> tgt.Target:
        """A tgt target with one disk."""
        target = tgt.Target(mib=(DISK_MIB,), initiators=(initiator.NAME,))
        return self.serve(replace(target, **changes))  # type: ignore[type-var]

    def target(self) -> lio.Target | tgt.Target:
        """The default target of the kind the test is for."""
        return self.lio() if self.kind == "lio" else self.tgt()

    def serve(self, wanted: Target) -> Target:
        """Have this target up, and no other; returns the one that is."""
        self._chosen = True
        if self._target is not None and self._target != wanted:
            self.drop_target()
        if self._target is None:
            wanted.up()
            self._target = wanted
        return self._target

    def drop_target(self) -> None:
        """Take the target down, if there is one."""
        target, self._target = self._target, None
        if target is not None:
            target.down()

    def node(self, v6: bool = False, iqn: str = "", portal: str = "") -> Node:
        """A record of the target the test has chosen, or the default one; without discovery."""
        if not self._chosen:
            self.target()
        assert self._target is not None
        return initiator.new_node(iqn or self._target.iqn, portal or self.portal(v6))

    @contextmanager
    def session(self, values: Mapping[str, object] | None = None, *, v6: bool = False,
                chap: Chap | None = None, disks: int = 1, iqn: str = "", portal: str = "",
                may_drop: bool = False) -> Iterator[Session]:
        """A session with the target, logged out of at the end.

        Unless the test says that the connection may drop, it must be the same
        one from login to logout.
        """
        node = self.node(v6, iqn, portal)
        session = self.login(node, values, chap)
        mark = kernlog.mark(f"session {session.sid}")
        resend.record()
        if disks:
            for path in session.wait_disks(disks):
                wait_for(f"{path} can be opened", lambda p=path: opens(p), SETTLE_SECONDS)
        yield session
        equal(f"state of session {session.sid} at the end", session.state, "LOGGED_IN")
        if not may_drop:
            lost = judge.connection_errors(kernlog.since(mark))
            check(not lost or self._watch.hung_up() or resend.excuses(lost),
                  "the connection was lost and recovered:\n" + "\n".join(lost))
        initiator.logout(node)
        initiator.forget(node)

    def login(self, node: Node, values: Mapping[str, object] | None = None, chap: Chap | None = None) -> Session:
        """Log in; again if the target has spoiled it, as they do at times, the more often the slower all is."""
        values = {**SLOW, **(values or {})}
        for _ in range(round(2 * SLOWNESS)):
            self._watch = Watch(self._target)
            try:
                return initiator.login(node, values, chap)
            except LabError:
                if not self._watch.spoiled(bool(chap)):
                    raise
                run("iscsiadm", *initiator.of(node), "--logout", check=False)
                values = {**values, **AFTER_A_REFUSAL}
        self._watch = Watch(self._target)
        return initiator.login(node, values, chap)

    def login_at_once(self, node: Node, count: int, timeout: float) -> list[Session]:
        """Make so many sessions by one login, by one for each few where all is slow; once more what is spoiled."""
        # Targets take logins one after the other; if all of them give up and come again, none gets through. And so
        # many users of a disk leave the one processor of the instrumented kernel no time to answer pings.
        initiator.settings(node, {**SLOW, **PATIENT, "node.conn[0].timeo.noop_out_timeout": round(5 * SLOWNESS ** 2)})
        for so_many in sorted({*range(SESSIONS_AT_ONCE, count, SESSIONS_AT_ONCE), count}):
            initiator.settings(node, {"node.session.nr_sessions": so_many})
            for _ in range(round(2 * SLOWNESS)):
                watch = Watch(self._target)
                try:
                    initiator.iscsiadm(*initiator.of(node), "--login", timeout=timeout)
                    break
                except LabError:
                    if not watch.spoiled(chap=False):
                        raise
        sessions = initiator.sessions()
        equal("sessions", len(sessions), count)
        return sessions

    def refused(self, node: Node, values: Mapping[str, object] | None = None,
                chap: Chap | None = None) -> str:
        """Log in where that must fail; return what iscsiadm said."""
        try:
            session = self.login(node, {**ONE_TRY, **(values or {})}, chap)
        except LabError as exc:
            equal("sessions after the refused login", initiator.sessions(), [])
            return str(exc)
        raise Failure(f"the login succeeded: session {session.sid}")
