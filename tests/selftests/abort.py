#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Commands that time out: abort, and what follows when the abort does not help."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from harness import kernlog as judge
from harness import program, sgio, slow, tasks
from harness.case import BOTH, LIO, TGT, case, check, equal
from harness.data import SECTOR, Memory, Pattern, Window, compare
from harness.env import Env
from harness.faults import stopped_tgtd
from lab.guest import disk, kernlog
from lab.guest.load import load
from lab.guest.system import SLOWNESS, read, wait_for, write

PATTERN = Pattern(seed=23, largest=1 << 20)
SIZE = 64 * 1024
# With pings open-iscsi asks for more time once, to see whether the target is there.
NO_PING = {"node.conn[0].timeo.noop_out_interval": 0, "node.conn[0].timeo.noop_out_timeout": 0}
PATIENT = {**NO_PING, "node.session.err_timeo.abort_timeout": 20,
           "node.session.err_timeo.lu_reset_timeout": 20}
HASTY = {**NO_PING, "node.session.err_timeo.abort_timeout": 2, "node.session.err_timeo.lu_reset_timeout": 2,
         "node.session.err_timeo.tgt_reset_timeout": 2, "node.session.timeo.replacement_timeout": 60}


# The least that the block layer takes for SG_IO (BLK_MIN_SG_TIMEOUT).
COMMAND_SECONDS = 7
STOP_SECONDS = 9


def works(device: sgio.Device, turn: int) -> None:
    """Data goes out and comes back."""
    content = PATTERN.content(turn, SIZE)
    check(device.write(sgio.write10(4096, SIZE // SECTOR), content).good, "a write afterwards failed")
    reply, got = device.read(sgio.read10(4096, SIZE // SECTOR), SIZE)
    check(reply.good, f"a read afterwards: {reply}")
    compare("data afterwards", got, content)


def timed_out(device: sgio.Device, reading: bool, window: Window) -> None:
    """A command that takes longer than it may ends as timed out, not later than it should."""
    began = time.monotonic()
    make, way = (sgio.read10, sgio.FROM_DEVICE) if reading else (sgio.write10, sgio.TO_DEVICE)
    reply = device.execute(make(0, SIZE // SECTOR), way, window.address, SIZE, timeout=COMMAND_SECONDS)
    check(not reply.good, f"the command succeeded: {reply}")
    check(COMMAND_SECONDS - 1 < time.monotonic() - began < 30, f"it took {time.monotonic() - began:.1f} s")


@case(LIO, limit=120, each={"read": True, "write": False})
def aborts(env: Env, reading: bool) -> None:
    """The target has the command when it is aborted; the memory is the caller's again after."""
    with slow.device() as backing:
        env.lio(luns=[backing.lun()])
        try:
            with env.session(PATIENT) as session, sgio.Device(session.disks()[0]) as device:
                device.settle()
                works(device, 0)
                before = tasks.count(session)
                window = Window(Memory(SIZE + 8192), 0, SIZE)
                window.fill(0x77)
                with backing.stopped(STOP_SECONDS):
                    timed_out(device, reading, window)
                    left = bytes(window.view)
                time.sleep(2)
                compare("memory of the aborted command, later", window.view, left)
                window.check_guards("aborted command")
                equal("task management", tasks.count(session) - before, tasks.Count(sent=1, answered=1))
                device.settle()
                for turn in range(3):
                    works(device, turn)
        finally:
            env.drop_target()


@case(LIO, limit=120)
def aborts_several(env: Env) -> None:
    """Commands of a disk that time out together are all ended, and none stays."""
    with slow.device() as backing:
        env.lio(luns=[backing.lun()])
        try:
            with env.session(PATIENT) as session, sgio.Device(session.disks()[0]) as device:
                device.settle()
                before = tasks.count(session)
                windows = [Window(Memory(SIZE + 8192), 0, SIZE) for _ in range(6)]
                ended: list[bool] = []

                def one(window: Window) -> None:
                    reply = device.execute(sgio.read10(0, SIZE // SECTOR), sgio.FROM_DEVICE,
                                           window.address, SIZE, timeout=COMMAND_SECONDS)
                    ended.append(reply.good)
                with backing.stopped(STOP_SECONDS):
                    threads = [threading.Thread(target=one, args=(w,)) for w in windows]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()
                equal("commands that ended, and how", ended, [False] * len(windows))
                # The SCSI layer aborts one after the other; those that have ended meanwhile need none.
                managed = tasks.count(session) - before
                check(1 <= managed.sent == managed.answered <= len(windows), f"task management: {managed}")
                device.settle()
                works(device, 1)
        finally:
            env.drop_target()


@case(TGT, limit=120)
def session_is_replaced(env: Env) -> None:
    """Abort and reset get no answer in time: the session is made anew, and all goes on.

    LIO cannot be had for this: a connection that ends during an abort leaves it
    waiting for ever for the aborted command (target_wait_for_cmds, with the C
    driver too).
    """
    with env.session(HASTY, may_drop=True) as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        mark = kernlog.mark("stopped")
        window = Window(Memory(SIZE + 8192), 0, SIZE)
        with stopped_tgtd(COMMAND_SECONDS + 9):
            device.execute(sgio.read10(0, SIZE // SECTOR), sgio.FROM_DEVICE, window.address, SIZE,
                           timeout=COMMAND_SECONDS)
        wait_for("the session's return", lambda: session.state == "LOGGED_IN", 60)
        check(judge.connection_errors(kernlog.since(mark)), "the connection was not given up")
        device.settle()
        works(device, 1)


@case(TGT, limit=120)
def response_arrives_with_the_abort(env: Env) -> None:
    """A stopped target answers command and abort at once when it goes on."""
    with env.session(PATIENT, may_drop=True) as session, \
            sgio.Device(session.disks()[0]) as device:
        device.settle()
        works(device, 0)
        for turn in range(2):
            window = Window(Memory(SIZE + 8192), 0, SIZE)
            before = tasks.count(session)
            with stopped_tgtd(COMMAND_SECONDS + 2):
                device.execute(sgio.read10(0, SIZE // SECTOR), sgio.FROM_DEVICE, window.address,
                               SIZE, timeout=COMMAND_SECONDS)
            left = bytes(window.view)
            check((tasks.count(session) - before).sent, "the command was not aborted")
            time.sleep(1)
            compare("memory of the command, later", window.view, left)
            device.settle()
            works(device, turn)


@contextmanager
def stopping(env: Env) -> Iterator[Callable[[float], AbstractContextManager[None]]]:
    """What stops the disk of the target, which is up, for so many seconds: dm below LIO's, or tgt as a whole."""
    if env.kind == "tgt":
        env.tgt()
        yield stopped_tgtd
        return
    with slow.device() as backing:
        env.lio(luns=[backing.lun()])
        try:
            yield backing.stopped
        finally:
            env.drop_target()


@case(BOTH, limit=150)
def load_goes_on_after_aborts(env: Env) -> None:
    """Under load with checksums a pause longer than the time limit leads to aborts, and to no error."""
    with stopping(env) as stopped, env.session(PATIENT) as session:
        path = session.disks()[0]
        before = tasks.count(session)
        write(disk.scsi(path) / "timeout", 2)
        with load(path, iodepth=8) as job:
            job.goes_on(64)
            with stopped(4):
                pass
        late, sent = int(read(disk.scsi(path) / "iotmo_cnt"), 16), (tasks.count(session) - before).sent
        print(f"# {late} commands were late, {sent} task management requests", flush=True)
        check(late and sent, f"{late} commands were late, {sent} aborted")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
