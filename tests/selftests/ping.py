#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""NOP-Out and NOP-In: pings of either side, and a target that stops answering."""

import os
import signal
import sys
import time

from harness import kernlog as judge
from harness import program
from harness.case import BOTH, LIO, TGT, case, check
from harness.env import Env
from harness.probe import Probes
from lab.guest import disk, initiator, kernlog
from lab.guest.system import output, wait_for, write

OFTEN = {"node.conn[0].timeo.noop_out_interval": 1, "node.conn[0].timeo.noop_out_timeout": 5}
NOP_OUT = "iscsit_process_nop_out"


@case(BOTH)
def from_us_when_idle(env: Env) -> None:
    """A ping each second is answered, and the connection stays."""
    if env.kind == "tgt":
        with env.session(OFTEN):
            time.sleep(5)
        return
    with env.session(OFTEN), Probes(f"iscsi_target_mod:{NOP_OUT}") as probes:
        time.sleep(6)
        check(probes.count(NOP_OUT) >= 4, f"{probes.count(NOP_OUT)} pings arrived in 6 s")


@case(BOTH)
def from_us_under_load(env: Env) -> None:
    """Pings and data share the queues."""
    with env.session(OFTEN) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="8m", iodepth=32)


@case(LIO)
def from_the_target(env: Env) -> None:
    """The target's pings are answered; it would drop the connection if they were not."""
    target = env.lio(initiators=[initiator.NAME])
    attributes = target.tpg / "acls" / initiator.NAME / "attrib"
    write(attributes / "nopin_timeout", 3)
    write(attributes / "nopin_response_timeout", 3)
    with env.session({"node.conn[0].timeo.noop_out_interval": 0}) as session, \
            Probes("ib_isert:isert_put_nopin", f"iscsi_target_mod:{NOP_OUT}") as probes:
        time.sleep(11)
        asked, answered = probes.count("isert_put_nopin"), probes.count(NOP_OUT)
        check(asked >= 2, f"the target sent {asked} pings in 11 s")
        check(answered >= asked - 1, f"{answered} answers to {asked} pings")
        disk.fio_verify(session.disks()[0], bs="4k", size="1m")
    env.drop_target()


@case(TGT, limit=90)
def silence_is_noticed(env: Env) -> None:
    """A target that does not answer is given up, and found again when it answers."""
    tgtd = int(output("pidof", "tgtd").split()[0]) if env.target() else 0
    quick = {"node.conn[0].timeo.noop_out_interval": 1, "node.conn[0].timeo.noop_out_timeout": 2}
    with env.session(quick, may_drop=True) as session:
        mark = kernlog.mark("tgtd stops")
        os.kill(tgtd, signal.SIGSTOP)
        try:
            wait_for("the end of the connection",
                     lambda: judge.connection_errors(kernlog.since(mark)), 15)
        finally:
            os.kill(tgtd, signal.SIGCONT)
        wait_for("the session's return", lambda: session.state == "LOGGED_IN", 45)
        disk.fio_verify(session.disks()[0], bs="4k", size="1m")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
