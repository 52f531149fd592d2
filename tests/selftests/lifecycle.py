#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Sessions, disks and the module that come, change and go while there is load on them."""

import concurrent.futures
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness import leftover, program, sgio, slow
from harness.case import BOTH, case, check, equal
from harness.env import PATIENT, SESSIONS_AT_ONCE, Env, opens
from harness.faults import ended_by_an_error, endless, paused_load
from harness.outage import wired
from lab.guest import disk, initiator, lio, tgt
from lab.guest.load import Kept, load
from lab.guest.system import SLOWNESS, run, wait_for, write

SESSIONS = 32
COMMAND_SECONDS = 30
LUNS = 500
# Of a disk, what no load here writes to.
KEPT = (24 << 20, 8 << 20)


@case(BOTH, limit=150)
def logout_under_load(env: Env) -> None:
    """A logout does not wait for the load: I/O ends with an error, and the next session works.

    What was written elsewhere before is as it was.
    """
    node = env.node()
    session = initiator.login(node)
    path = session.wait_disks()[0]
    wait_for(f"{path} can be opened", lambda: opens(path), 30)
    kept = Kept(path, *KEPT)
    job = endless(path)
    time.sleep(3)
    began = time.monotonic()
    initiator.logout(node)
    print(f"# the logout took {time.monotonic() - began:.1f} s", flush=True)
    ended_by_an_error(job)
    equal("sessions after the logout", initiator.sessions(), [])
    with env.session() as again:
        kept.check(again.disks()[0])
        disk.fio_verify(again.disks()[0], bs="16k", size="4m")


@case(BOTH, limit=150)
def reset_after_the_logout(env: Env) -> None:
    """A file that was opened before the logout still takes resets: they fail, and find no command.

    It keeps the session, but not the commands that were the session's.
    """
    node = env.node()
    session = initiator.login(node)
    path = session.wait_disks()[0]
    wait_for(f"{path} can be opened", lambda: opens(path), 30)
    with sgio.Device(path) as device:
        device.settle()
        initiator.logout(node)
        equal("sessions after the logout", initiator.sessions(), [])
        for what in sgio.Reset:
            check(device.reset(what) != 0, f"a reset of the {what.name.lower()} succeeded without a session")
    with env.session() as again:
        disk.fio_verify(again.disks()[0], bs="16k", size="4m")


@case(BOTH, limit=120)
def rescan_under_load(env: Env) -> None:
    """Rescans leave load and connection alone."""
    with env.session() as session, load(session.disks()[0]):
        for _ in range(4):
            initiator.iscsiadm("-m", "session", "-R")
            time.sleep(0.5)
        equal("disks", len(session.disks()), 1)


@contextmanager
def growing(env: Env) -> Iterator[Callable[[str, int], None]]:
    """What gives the disk of the target, which has 16 MiB and is up, another size of up to 32 MiB."""
    if env.kind == "tgt":
        target = env.tgt(mib=(16,))
        assert isinstance(target, tgt.Target)

        def resize(path: str, mib: int) -> None:
            with paused_load(path):
                target.resize_lun(mib)
        try:
            yield resize
        finally:
            env.drop_target()
        return
    with slow.device(32, used=16) as backing:
        env.lio(luns=[backing.lun()])
        try:
            yield lambda _, mib: backing.resize(mib)
        finally:
            env.drop_target()


@case(BOTH, limit=150)
def resize_under_load(env: Env) -> None:
    """A disk that has grown is seen to have grown, while there is load on its first half."""
    with growing(env) as resize, env.session() as session:
        path = session.disks()[0]
        equal("size", disk.size(path), 16 << 20)
        with load(path, size="8m") as job:
            resize(path, 32)
            job.goes_on(32)
            write(disk.scsi(path) / "rescan", 1)
            wait_for("the new size", lambda: disk.size(path) == 32 << 20, 30)
        disk.fio_verify(path, bs="64k", size="16m", offset="16m")


@case(BOTH, limit=150)
def lun_removed_under_load(env: Env) -> None:
    """I/O to a LUN that goes ends with an error; load on the other one, and the connection, stay."""
    if env.kind == "lio":
        target = env.lio(luns=[lio.Ramdisk("stays", 32), lio.Ramdisk("goes", 32)])
    else:
        target = env.tgt(mib=(32, 32))
    assert isinstance(target, (lio.Target, tgt.Target))
    with env.session(disks=2) as session:
        stays, goes = session.disks()
        kept = Kept(stays, *KEPT)
        with load(stays):
            job = endless(goes, 16 if env.kind == "lio" else 1)
            time.sleep(2)
            target.remove_last_lun()
            ended_by_an_error(job)
        # What is left of the disk has no LUN to ask.
        write(disk.scsi(goes) / "delete", 1)
        equal("disks", session.disks(), [stays])
        # The load was not there: what was meant for the other disk would be.
        kept.check(stays)
    env.drop_target()


@case(BOTH, limit=120)
def unload_under_load(env: Env) -> None:
    """The module is not unloaded under load, and the load does not notice the attempt."""
    with env.session() as session, load(session.disks()[0]):
        for _ in range(3):
            check(run("modprobe", "-r", env.driver.module, check=False).returncode != 0,
                  "the module was removed under load")
            time.sleep(0.3)


@case(BOTH, limit=200, long=True)
def unload_during_recovery(env: Env) -> None:
    """Nor while a session waits for its connection, which it finds all the same."""
    with wired(env) as line:
        with load(line.path):
            with line.wire.losing(100):
                line.lost()
                for _ in range(5):
                    check(run("modprobe", "-r", env.driver.module, check=False).returncode != 0,
                          "the module was removed in a recovery")
                    time.sleep(1)
            line.back()
        line.works()


@case(BOTH, limit=400, long=True)
def sessions_at_once(env: Env) -> None:
    """Sessions to one target, under load at once, each in a part of the disk that is its own."""
    node = env.node()
    began = time.monotonic()
    sessions = env.login_at_once(node, SESSIONS, timeout=240)
    print(f"# {len(sessions)} logins: {time.monotonic() - began:.0f} s", flush=True)
    paths = [s.wait_disks(timeout=90)[0] for s in sessions]
    for path in paths:
        wait_for(f"{path} can be opened", lambda p=path: opens(p), 60)
        # Of so many commands at once the last ones take long on the instrumented kernel.
        write(disk.scsi(path) / "timeout", round(COMMAND_SECONDS * SLOWNESS))
    with concurrent.futures.ThreadPoolExecutor(min(SESSIONS, SESSIONS_AT_ONCE)) as pool:
        for job in [pool.submit(disk.fio_verify, path, bs="16k", size="1m", offset=f"{2 * n}m")
                    for n, path in enumerate(paths)]:
            job.result()
    equal("states", {s.state for s in sessions}, {"LOGGED_IN"})
    initiator.logout(node, timeout=240)
    equal("sessions after the logout", initiator.sessions(), [])


# fio looks at all disks of the machine for each file that it is given.
OWN = 64 * 1024


def own(number: int) -> bytes:
    """What belongs on a disk, and on no other."""
    return number.to_bytes(8, "little") * (OWN // 8)


def write_own(number: int, path: str) -> bool:
    """Write it, past the page cache."""
    with mmap.mmap(-1, OWN) as memory:
        memory[:] = own(number)
        fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        try:
            return os.pwrite(fd, memory, OWN) == OWN
        finally:
            os.close(fd)


def read_own(number: int, path: str) -> bool:
    """Whether it is there."""
    with mmap.mmap(-1, OWN) as memory:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            return os.preadv(fd, [memory], OWN) == OWN and memory[:] == own(number)
        finally:
            os.close(fd)


# tgt numbers LUNs from 256 on in the flat space of SAM-5, 4.7.3, and Linux counts its 4000h as a part of the number.
FLAT = 0x4000


def serve_many_luns(env: Env) -> None:
    """A target of the kind with so many LUNs, and the driver to take all of their numbers."""
    if env.kind == "lio":
        env.lio(luns=[lio.Ramdisk(f"m{n}", 1) for n in range(LUNS)])
        return
    env.driver.unload()
    env.driver.load({"max_lun": FLAT + LUNS})
    env.tgt(mib=(1,) * LUNS, threads=1)


@case(BOTH, limit=400, long=True)
def many_luns(env: Env) -> None:
    """As many disks of one session as most arrays have; each can be used, and all go together."""
    serve_many_luns(env)
    node = env.node()
    began = time.monotonic()
    session = initiator.login(node, PATIENT, timeout=300)
    paths = session.wait_disks(LUNS, timeout=300)
    equal("disks", len(paths), LUNS)
    for path in paths:
        wait_for(f"{path} can be opened", lambda p=path: opens(p), 60)
    print(f"# login and {LUNS} disks: {time.monotonic() - began:.0f} s", flush=True)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for path, good in zip(paths, pool.map(write_own, range(LUNS), paths)):
            check(good, f"{path} was not written")
        for path, good in zip(paths, pool.map(read_own, range(LUNS), paths)):
            check(good, f"{path} holds other data than were written to it")
    began = time.monotonic()
    initiator.logout(node, timeout=180)
    equal("sessions after the logout", initiator.sessions(), [])
    print(f"# logout: {time.monotonic() - began:.0f} s", flush=True)
    env.expect_gone(leftover.of_sessions)
    env.drop_target()
    if env.kind == "tgt":
        env.driver.unload()
        env.driver.load()


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
