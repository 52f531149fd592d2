#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The target's machine dies or hangs under verified load, or this one is stopped for a while.

The target is in a machine of its own, and the host does it: `scripts/iser-lab peers`. What must
hold: no error reaches the application before replacement_timeout is over, the data are whole
afterwards, and the session comes back by itself.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from harness import program
from harness.case import BOTH, case, check
from harness.outage import NOTICED_SECONDS
from harness.peers import Peers, freeze, suspend, tied
from lab.guest import kernlog
from lab.guest.load import Kept, Load, load

AWAY = 10                # seconds at least, and the start of the machine on top
SUSPENDED = 30
PATIENT = 300            # replacement_timeout, where it must not come into play
SHORT = 15               # and where it must
# Of the disk, what the load does not write to.
KEPT = (48 << 20, 16 << 20)


def until(moment: float) -> None:
    """Sleep until then."""
    time.sleep(max(0.0, moment - time.monotonic()))


@case(BOTH, limit=500)
def target_is_killed(env: Peers) -> None:
    """It comes back on another boot after 10 s and more: the load only waits."""
    with tied(env, PATIENT) as tie:
        with load(tie.path):
            killed = time.monotonic()
            tie.machine.down()
            tie.lost(killed)
            until(killed + AWAY)
            tie.machine.up()
            print(f"# it was away for {time.monotonic() - killed:.1f} s", flush=True)
            tie.back("the target's return")
        tie.works()


@case(BOTH, limit=500)
def target_is_killed_for_long(env: Peers) -> None:
    """Errors come when replacement_timeout is over, not before; the session comes back, and what was written is there."""
    with tied(env, SHORT) as tie:
        kept = Kept(tie.path, *KEPT)
        job = Load(tie.path)
        try:
            job.goes_on()
            killed = time.monotonic()
            tie.machine.down()
            took = job.fails(120) - killed
        finally:
            job.kill()
        print(f"# the error came {took:.1f} s after the target's death", flush=True)
        check(took >= SHORT, f"the error came after {took:.1f} s, and replacement_timeout is {SHORT} s")
        check(took < SHORT + 2 * NOTICED_SECONDS + 20, f"the error came only after {took:.1f} s")
        tie.machine.up()
        began = time.monotonic()
        print(f"# it was away for {began - killed:.1f} s", flush=True)
        tie.usable()
        print(f"# the session is back {time.monotonic() - began:.1f} s after the target's return", flush=True)
        kept.check(tie.path)
        tie.works()


@case(BOTH, limit=400)
def initiator_is_suspended(env: Peers) -> None:
    """This machine stands still for 30 s under load, its clock too: the load goes on, over this connection or another."""
    with tied(env, PATIENT) as tie:
        with load(tie.path):
            began = time.monotonic()
            suspend("initiator", SUSPENDED)
            saw = time.monotonic() - began
            print(f"# of {SUSPENDED} s this clock saw {saw:.1f} s", flush=True)
            check(saw < SUSPENDED, "the clock has not stood still")
            tie.back("the end of the pause")
        tie.works()
        print(f"# connections lost: {tie.losses()}", flush=True)


@case(BOTH, limit=400)
def initiator_is_frozen(env: Peers) -> None:
    """The same with a clock that goes on: all that waits has timed out at its end, and the load goes on."""
    with tied(env, PATIENT) as tie:
        with load(tie.path) as job:
            freeze(SUSPENDED)
            job.check_running()
            tie.back("the end of the pause")
        tie.works()
        print(f"# connections lost: {tie.losses()}", flush=True)


@case(BOTH, limit=400)
def target_is_suspended(env: Peers) -> None:
    """The target hangs for 30 s under load, which only waits."""
    with tied(env, PATIENT) as tie:
        with load(tie.path), ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            job = pool.submit(suspend, "target", SUSPENDED)
            tie.lost(began)
            job.result()
            tie.back("the end of the pause")
        tie.works()
        print(f"# connections lost: {tie.losses()}", flush=True)


@case(BOTH, limit=400)
def idle_target_is_suspended(env: Peers) -> None:
    """The target hangs for 30 s when there is no load: a ping times out, and what was written before is there."""
    with tied(env, PATIENT) as tie:
        kept = Kept(tie.path, *KEPT)
        with ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            job = pool.submit(suspend, "target", SUSPENDED)
            tie.lost(began)
            said = [row for row in kernlog.since(tie.mark) if "ping timeout" in row]
            check(said, "the connection was lost, and not by a ping")
            job.result()
            tie.back("the end of the pause")
        kept.check(tie.path)


if __name__ == "__main__":
    sys.exit(program.main(__doc__, env=Peers))
