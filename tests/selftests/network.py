#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The network fails under verified load: packets, links, addresses and devices go and come back.

Initiator and target have an RDMA device each, with a switch between them. What must hold:
no error reaches the application before replacement_timeout is over, the data are whole
afterwards, and the session is back within the time of a login.

rxe cannot send again what was lost if a memory registration is before it in the queue and not
retired: req_retry() goes back to it, rxe_reg_fast_mr() finds the region registered, and
the queue pair fails. So with either driver a lost packet ends the connection, unless no memory is registered.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from harness import kernlog as judge
from harness import leftover, program
from harness.case import BOTH, case, check
from harness.env import Env
from harness.outage import BACK_SECONDS, NOTICED_SECONDS, Line, check_patience, failed_after, wired
from lab.guest import disk, kernlog
from lab.guest.load import load
from lab.guest.system import read, wait_for, write
from lab.guest.wire import CONNECTS
from lab.report import LabError

MOMENT = 1.5             # below the time limit of a ping, and of the device's own retries
LONG = 12                # above both

# Pings that outlast a loss, and what TCP waits before it sends again.
PATIENT = {"node.conn[0].timeo.noop_out_interval": 5, "node.conn[0].timeo.noop_out_timeout": 15}


def recovered(path: str, carried: bool) -> None:
    """What was lost has been sent again, so that the next silence is another; pings come too seldom to tell."""
    if carried:
        before = disk.completed(path)
        wait_for("a request after the silence", lambda: disk.completed(path) > before, LONG)
    else:
        time.sleep(1)


@contextmanager
def writes(path: str) -> Iterator[None]:
    """Small writes and nothing else beside the block; what they wrote is read after it, when all is written."""
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(disk.fio_verify, path, rw="write", bs="4k", size="10m", rate_iops=",100", timeout=150)
        time.sleep(1)
        yield
        job.result()


@case(BOTH, limit=120)
def silence_for_a_moment(env: Env) -> None:
    """Packets are lost for a moment, three times: the same connection goes on.

    Under writes that carry their data, where the target takes such: rxe fails any other, see
    above, so none are merged to what does not fit a PDU. Else there are pings only. The writes
    go on for longer than that takes on a busy machine, since fio reads afterwards.
    """
    with wired(env, strict=True, values=PATIENT) as line:
        carried = read(line.session.directory / "immediate_data") == "1"
        print(f"# under {'writes' if carried else 'pings'}", flush=True)
        write(Path("/sys/block", Path(line.path).name, "queue/nomerges"), 2)
        line.quiet()
        with writes(line.path) if carried else nullcontext():
            began, lost = time.monotonic(), 0
            for _ in range(3):
                line.wire.lose(100)
                time.sleep(MOMENT)
                lost += line.wire.dropped()
                line.wire.lose(0)
                recovered(line.path, carried)
            print(f"# three silences in {time.monotonic() - began:.1f} s, {lost} packets lost", flush=True)
            check(lost, "no packet was lost")
        line.works()


@case(BOTH, limit=200, long=True)
def silence_for_long(env: Env) -> None:
    """Packets are lost until pings time out: the load only waits, and the session comes back."""
    with wired(env) as line:
        with load(line.path):
            with line.wire.losing(100):
                line.lost()
                time.sleep(LONG)
            line.back()
        line.works()


@case(BOTH, limit=200, long=True)
def silence_past_replacement_timeout(env: Env) -> None:
    """Errors come when replacement_timeout is over, not before; then the session comes back all the same."""
    seconds = 10
    with wired(env, replacement=seconds) as line:
        line.works()
        with line.wire.losing(100), ThreadPoolExecutor(1) as pool:
            # The read finds out, if no ping did before.
            job = pool.submit(failed_after, line.path, 90)
            lost = line.lost()
            check_patience(lost, job.result(), seconds)
            time.sleep(3)
        line.back()
        line.works()


def lossy(line: Line, percent: int, seconds: float) -> None:
    """Lose packets for so long, and some at least."""
    with line.wire.losing(percent):
        time.sleep(seconds)
        wait_for("a packet that is lost", line.wire.dropped, LONG)


@case(BOTH, limit=150)
def loss_of_1_percent(env: Env) -> None:
    """One packet in a hundred is lost in each direction. rxe fails at times, see above; the data do not."""
    with wired(env, values=PATIENT) as line:
        with load(line.path, kib=8, iodepth=8):
            lossy(line, 1, 6)
            line.back()


@case(BOTH, limit=300, long=True)
def loss_of_10_percent(env: Env) -> None:
    """One packet in ten is lost in each direction."""
    with wired(env, values=PATIENT) as line:
        with load(line.path, kib=4, iodepth=4):
            lossy(line, 10, 20)
            line.back()
        line.works()


def mended(line: Line) -> None:
    """The session is back, if need be on a new rxe device.

    What rxe cannot route is an error of its queue pair (rxe_requester()): without an address or a link the CM's
    DREQ puts queue pair 1 into the error state, and mostly for good. No connection can be made then, with either driver.
    """
    end = line.wire.initiator
    alive = end.queue_pair_1() == CONNECTS
    try:
        line.back(BACK_SECONDS if alive else 1)
    except LabError:
        state = end.queue_pair_1()
        if state == CONNECTS:
            raise
        print(f"# rxe cannot connect any more, queue pair 1: {state}; its device is made anew", flush=True)
        end.remove_device()
        end.add_device()
        line.back()


@case(BOTH, limit=200, long=True)
def address_is_removed(env: Env) -> None:
    """The address of our side goes and is put back."""
    with wired(env) as line:
        with load(line.path):
            line.wire.initiator.remove_address()
            line.lost()
            time.sleep(MOMENT)
            line.wire.initiator.add_address()
            mended(line)
        line.works()


@case(BOTH, limit=200, long=True)
def device_is_removed(env: Env) -> None:
    """The RDMA device goes, with nothing of the session left on it, and another comes."""
    with wired(env) as line:
        with load(line.path):
            line.wire.initiator.remove_device()
            check(line.session.state != "LOGGED_IN", "the session works without a device")
            held = leftover.rdma(env.driver.module)
            check(not held, f"held without a device: {held}")
            time.sleep(LONG)
            line.wire.initiator.add_device()
            line.back()
        line.works()


def switched(line: Line, how: str, up: bool) -> None:
    """Take link or carrier away, or bring it back."""
    end = line.wire.initiator
    (end.set_link if how == "link" else end.set_cable)(up)
    if up:
        end.wait_ready()


WAYS = {"switched_off": "link", "without_carrier": "cable"}


@case(BOTH, limit=200, long=True, each=WAYS)
def link_goes(env: Env, how: str) -> None:
    """The link goes for longer than pings wait; the session comes back, if need be on a new rxe device."""
    with wired(env) as line:
        with load(line.path):
            switched(line, how, False)
            line.lost()
            time.sleep(LONG)
            switched(line, how, True)
            mended(line)
        line.works()


@case(BOTH, limit=200, long=True, each=WAYS)
def link_goes_for_a_moment(env: Env, how: str) -> None:
    """The link is back before a ping would time out; whether or not that costs the connection, the load only waits."""
    with wired(env) as line:
        mark = kernlog.mark("a moment without a link")
        with load(line.path) as job:
            switched(line, how, False)
            time.sleep(MOMENT)
            job.check_running()
            switched(line, how, True)
            # What the moment has done to the connection is known by then.
            time.sleep(2 * NOTICED_SECONDS)
            print(f"# connections lost: {len(judge.connection_errors(kernlog.since(mark)))}", flush=True)
            mended(line)
        line.works()


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
