#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Discovery: SendTargets over an iSER connection, IPv4 and IPv6."""

import sys

from harness import leftover, program
from harness.case import BOTH, LIO, case, check, equal
from harness.env import PORT, Env
from harness.probe import Probes
from lab.guest import initiator, lio, tgt
from lab.guest.lio import Chap
from lab.report import LabError

ROUNDS = 10
REQUEST, REQUEST_SENT = "iscsi_if_rx", "iscsi_conn_send_pdu"
MANY = 60


def found(env: Env, v6: bool = False) -> list[initiator.Node]:
    """What a discovery returns. tgt hangs up at times: see lab.guest.tgt."""
    return initiator.discover(env.portal(v6), record=False, attempts=5 if env.kind == "tgt" else 1)


@case(BOTH)
def finds_the_target(env: Env) -> None:
    """The target is found at the portal asked."""
    iqn = env.target().iqn
    nodes = found(env)
    check((env.portal(), iqn) in [(n.portal, n.iqn) for n in nodes], f"found: {nodes}")


@case(LIO)
def finds_every_portal(env: Env) -> None:
    """Portals of both families are found, whichever was asked."""
    iqn = env.lio().iqn
    expected = sorted([(env.portal(), iqn), (env.portal(v6=True), iqn)])
    for v6 in (False, True):
        equal("found", sorted((n.portal, n.iqn) for n in found(env, v6)), expected)


@case(("tgt",))
def finds_the_target_over_ipv6(env: Env) -> None:
    """The same over IPv6."""
    check(env.target().iqn in {n.iqn for n in found(env, v6=True)}, "not found")


@case(BOTH)
def leaves_no_session(env: Env) -> None:
    """Discoveries in a row each end their session and release all they used."""
    env.target()
    for _ in range(ROUNDS):
        check(found(env), "found nothing")
    env.expect_gone(leftover.of_sessions)


@case(BOTH, differs={"c": "iscsiadm loses a response that comes before the reply to its request"})
def requests_follow_the_reply(env: Env) -> None:
    """A request goes to the target when iscsiadm has the reply to it, and waits for the response."""
    env.target()
    with Probes(f"scsi_transport_iscsi:{REQUEST}", f"scsi_transport_iscsi:{REQUEST}%return",
                f"libiscsi:{REQUEST_SENT}") as probes:
        probes.forget()
        check(found(env), "found nothing")
        order = probes.order()
    before = [before for before, this in zip(order, order[1:]) if this == REQUEST_SENT]
    check(len(before) >= 2, f"no Login and no Text Request: {order}")
    check(REQUEST not in before, f"sent while iscsiadm is in the kernel: {order}")


@case(LIO, limit=90)
def long_answer(env: Env) -> None:
    """An answer of several text PDUs arrives whole."""
    portal = (env.network.ipv4, PORT)
    env.drop_target()
    targets = [lio.Target([portal], [], iqn=f"{lio.IQN}-{n:03}-{'x' * 120}") for n in range(MANY)]
    try:
        for target in targets:
            target.up()
        equal("targets found", sorted(n.iqn for n in found(env)), sorted(t.iqn for t in targets))
    finally:
        for target in targets:
            target.down()


@case(BOTH)
def chap(env: Env) -> None:
    """Discovery with CHAP; without it, it is refused."""
    credentials = Chap("user", "secret-of-user", "target", "secret-of-target")
    if env.kind == "tgt":
        # tgt has CHAP for sessions only; its discovery needs none.
        credentials = Chap("user", "secret-of-user")
        env.tgt(chap=credentials)
        check(tgt.IQN in {n.iqn for n in found(env)}, "not found")
        return
    env.lio(discovery_chap=credentials)
    check(initiator.discover(env.portal(), credentials), "found nothing with the right secret")
    try:
        nodes = found(env)
    except LabError:
        return
    finally:
        initiator.iscsiadm("-m", "discoverydb", "-t", "sendtargets", "-p", env.portal(), "-o", "delete",
                           check=False)
    equal("found without credentials", nodes, [])


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
