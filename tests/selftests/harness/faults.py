# SPDX-License-Identifier: GPL-2.0
"""What is broken on purpose in more than one program: processes, and disks under load."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from harness.case import check
from harness.env import ONE_TRY
from lab.guest import disk, initiator, lio, tgt
from lab.guest.initiator import Node
from lab.guest.system import SLOWNESS, output, wait_for, write
from lab.report import LabError


def kill_iscsid(pids: Sequence[int] = ()) -> None:
    """End iscsid as a crash would: at once, where its processes are known."""
    for pid in pids or initiator.iscsid_pids():
        # One that it has forked to look for disks ends by itself.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for("the end of iscsid", lambda: not initiator.iscsid_running(), 10)


def restart_iscsid() -> None:
    """Start it again, and wait until it knows the sessions that are there."""
    initiator.start()
    wait_for("the new iscsid", lambda: "iser" in initiator.iscsiadm("-m", "session", check=False), 20)


def hang_up(target: object) -> bool:
    """Have a target close its connections, and accept new ones; whether it may have had any."""
    if isinstance(target, lio.Target):
        write(target.tpg / "enable", 0)
        write(target.tpg / "enable", 1)
        return True
    assert isinstance(target, tgt.Target)
    connections = list(target.connections())
    for session, connection in connections:
        # It may have ended by itself meanwhile: tgt hangs up on who is too quick.
        with suppress(LabError):
            target.disconnect(session, connection)
    return bool(connections)


@contextmanager
def stopped_tgtd(seconds: float) -> Iterator[None]:
    """Stop the process of tgt for so long."""
    pid = int(output("pidof", "tgtd").split()[0])
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(seconds, os.kill, (pid, signal.SIGCONT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def paused_load(path: str) -> Iterator[None]:
    """Stop fio, all of it; within the block no command of the disk is under way."""
    pids = [int(word) for word in output("pidof", "fio").split()]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_for("the end of all commands", lambda: disk.in_flight(path) == 0, 30)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def background(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command beside the block, which is ended with it."""
    job = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield job
    finally:
        job.kill()
        job.wait()


@contextmanager
def begun(node: Node, values: Mapping[str, object] = ONE_TRY) -> Iterator[subprocess.Popen[bytes]]:
    """A login that has just begun."""
    initiator.settings(node, values)
    with background("iscsiadm", *initiator.of(node), "--login") as job:
        yield job


def endless(path: str, depth: int = 16) -> subprocess.Popen[bytes]:
    """Load that lasts until its disk is gone; it has begun.

    Where the disk is gone before, fio would make a file of its name, and go on for ever.
    """
    before = disk.completed(path)
    job = subprocess.Popen(
        ["fio", "--name=endless", f"--filename={path}", "--allow_file_create=0", "--ioengine=libaio", "--direct=1",
         "--rw=randrw", "--bs=16k", f"--iodepth={depth}", "--size=16m", "--time_based", "--runtime=3600",
         "--output=/dev/null"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"load on {path}", lambda: disk.completed(path) > before + 32 or job.poll() is not None, 60)
        check(job.poll() is None, f"the load on {path} has ended by itself")
    except BaseException:
        job.kill()
        raise
    return job


def ended_by_an_error(job: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """The load has ended by itself, since its disk is gone."""
    try:
        status = job.wait(seconds * SLOWNESS)
    except subprocess.TimeoutExpired:
        job.kill()
        raise LabError(f"I/O to a disk that is gone hangs for {seconds * SLOWNESS:.0f} s") from None
    check(status != 0, "I/O to a disk that is gone succeeds")
