#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Memory that is not there: each allocation of a login and of a recovery fails once.

The first one fails, then the second one, and so on, until a login, or a recovery, passes
untouched. It takes a kernel with fault injection, the instrumented one.
"""

import os
import sys
import time
from collections.abc import Callable

from harness import leftover, program
from harness.case import BOTH, TGT, case, check, equal
from harness.env import Env
from harness.faults import hang_up
from harness.inject import UNLISTED, UNTOLD, Failure, Injector, require
from harness.mishap import Watch
from lab.guest import disk, initiator
from lab.guest.load import load
from lab.guest.system import run, wait_for
from lab.report import LabError

KINDS = {"slab": "failslab", "pages": "fail_page_alloc"}
# A small session: what is allocated for each task is asked for 16 times, not 128.
SMALL = {"node.session.cmds_max": 16, "node.session.queue_depth": 8,
         "node.conn[0].timeo.login_timeout": 60, "node.session.initial_login_retry_max": 0,
         "node.conn[0].timeo.noop_out_interval": 0, "node.conn[0].timeo.noop_out_timeout": 0}
RECOVERY = {**SMALL, "node.session.timeo.replacement_timeout": 600,
            "node.session.iscsi.DefaultTime2Wait": 0}
# To see one again: the number of the allocation to begin with.
FIRST = int(os.environ.get("ISER_WALK_FROM", "1"))
WALK_SECONDS = 600
SPOILED = 5            # logins that tgt may spoil on the way
# LIO gives a login that was broken off up after 15 s, and takes no other meanwhile. So of the many that
# tgt sees each of, every twelfth fails with LIO.
STEPS = {("lio", "slab"): 12}
# How many a walk must find: well below what there were, 414 and 23 in a login with 16 tasks.
LOGIN_LEAST = {"slab": 200, "pages": 10}
RECOVERY_LEAST = {"slab": 100, "pages": 3}


def said(env: Env, rows: list[str]) -> list[str]:
    """What the driver has to say in the kernel log."""
    return [row.partition(f"{env.driver.module}: ")[2] for row in rows if f"{env.driver.module}: " in row]


def walk(env: Env, name: str, attempt: Callable[[], str], spared: str) -> int:
    """Try with one allocation after another failing, but those of `spared`; returns how many.

    `attempt` says how a try ended: nothing if well, else why not.
    """
    step = STEPS.get((env.kind, name), 1)
    silent, number, spoiled = [], FIRST - step, 0
    with Injector(KINDS[name], env.driver.module, spared) as faults:
        while True:
            number += step
            watch = Watch(env.target())
            began = time.monotonic()
            faults.arm(number)
            try:
                ended = attempt()
            except LabError as exc:
                if not watch.crashed():
                    raise
                ended = str(exc)
            finally:
                hit = faults.disarm()
            words = said(env, faults.rows)
            print(f"# {name} {number}: {hit or 'none'}: {ended or 'good'} ({'; '.join(words) or 'silent'}), "
                  f"{time.monotonic() - began:.1f} s", flush=True)
            crashed = watch.crashed(1 if ended else 0)
            if crashed or (ended and hit is None):
                spoiled += 1
                check((crashed or watch.hung_up()) and spoiled <= SPOILED,
                      f"nothing has failed, but: {ended or 'tgtd has crashed'}")
                number -= step
                continue
            if hit is None:
                check(number > FIRST or FIRST == 1, f"there are fewer than {FIRST} allocations")
                break
            if ended and not words:
                silent.append(f"{number}: {hit}")
    check(not silent, f"the driver says nothing when one of these fails, up to {number - step}:\n" + "\n".join(silent))
    return number - step


@case(BOTH, limit=WALK_SECONDS, each={name: name for name in KINDS})
def login(env: Env, name: str) -> None:
    """A login without memory fails, says why, and leaves nothing; the next one works."""
    require(KINDS[name])
    node = env.node()
    initiator.settings(node, {**SMALL, "node.session.scan": "manual"})

    def attempt() -> str:
        done = run("iscsiadm", *initiator.of(node), "--login", check=False, timeout=180)
        if initiator.sessions():
            env.log_out_all()
        env.expect_gone(leftover.of_sessions)
        rows = [row for row in done.stderr.splitlines() if "error" in row] or ["no message"]
        return "" if done.returncode == 0 else rows[0]
    total = walk(env, name, attempt, UNLISTED)
    check(total >= LOGIN_LEAST[name], f"a login has more allocations than {total}: they are not met")
    print(f"# {total} allocations in a login", flush=True)
    with env.session() as session:
        disk.fio_verify(session.disks()[0], bs="16k", size="1m")


@case(TGT, limit=WALK_SECONDS, each={name: name for name in KINDS})
def recovery(env: Env, name: str) -> None:
    """A recovery without memory is tried again, until it works; I/O sees nothing of it.

    LIO would have to close connections under load a hundred times over, and hangs before that: its thread waits
    for a command of a lost connection, for good.
    """
    require(KINDS[name])
    with env.session(RECOVERY, may_drop=True) as session, \
            load(session.disks()[0], kib=4, iodepth=2, rate_iops=",20") as job:
        def attempt() -> str:
            hang_up(env.target())
            wait_for("the loss of the connection", lambda: session.state != "LOGGED_IN", 60, pause=0.02)
            wait_for("the session's return", lambda: session.state == "LOGGED_IN", 120)
            job.check_running()
            return ""
        total = walk(env, name, attempt, UNTOLD)
        check(total >= RECOVERY_LEAST[name], f"a recovery has more allocations than {total}: they are not met")
        print(f"# {total} allocations in a recovery", flush=True)


@case(BOTH, limit=300, each={name: name for name in KINDS})
def commands(env: Env, name: str) -> None:
    """Commands need no memory: nothing can fail, and so no write waits for memory that it is to free."""
    require(KINDS[name])
    with env.session() as session:
        path = session.disks()[0]
        disk.fio_verify(path, bs="64k", size="1m")
        with Injector(KINDS[name], env.driver.module) as faults:
            faults.arm(1)
            try:
                for size in ("4k", "64k", "512k"):
                    disk.fio_verify(path, bs=size, size="1m", iodepth=8)
            finally:
                hit: Failure | None = faults.disarm()
        check(hit is None, f"a command allocates: {hit}")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
