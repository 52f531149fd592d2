# SPDX-License-Identifier: GPL-2.0
"""Load on a disk that reads back what it has written, for as long as a test takes.

One fio writes some blocks, reads them and compares, then the next ones, until it is told to end. It
ends only when it has read what it had written before that, so what was under way when something
failed has been compared, however long the failure took. Each block says which write it is, so one that was lost
is found, though the block before it is whole: fio looks at that in loops, and not in a job that has a time (3.39).
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.guest import disk
from lab.guest.system import SLOWNESS, wait_for
from lab.report import LabError

# Blocks that are written before they are read; no fewer than are under way at once.
BACKLOG = 32
LOOPS = 1_000_000        # for ever
BEGUN = 8                # requests, and the load is there
MORE = 100               # requests, which are not those that were under way
GOES_ON_SECONDS = 20
READ_BACK_SECONDS = 120
# Bytes of what fio has said that hold the last account at least.
TAIL = 64 << 10
ENDS_SECONDS = 30
# How fio ends that was interrupted, and has seen no error.
INTERRUPTED = 128
# Of a disk whose session is gone; other bytes than were written are EILSEQ.
GONE = (errno.EIO, errno.ENOLINK)


class Load:
    """A fio that runs; a block of `load` has one."""

    def __init__(self, path: str, kib: int = 16, **options: object) -> None:
        """Begin, with blocks of so many KiB and other options of fio."""
        self.path, self._block = path, kib << 10
        self._said, self._errors = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        # With threads it is one process, and so all of it ends if that is killed.
        argv = disk.fio_argv(path, **{"rw": "randwrite", "size": "24m", **options}, bs=f"{kib}k", verify="crc32c",
                             verify_backlog=BACKLOG, verify_fatal=1, loops=LOOPS, allow_file_create=0, thread=1)
        self._job = subprocess.Popen([*argv, "--status-interval=1"], stdout=self._said, stderr=self._errors)

    def over(self) -> bool:
        """Whether it has ended by itself, which it does by an error only."""
        return self._job.poll() is not None

    def check_running(self) -> None:
        """Raise with what it has seen if it has ended."""
        if self.over():
            self._judge()
            raise LabError("fio has ended by itself")

    def goes_on(self, more: int = MORE, seconds: float = GOES_ON_SECONDS) -> None:
        """Wait for so many requests more; an error of the load is raised."""
        self.check_running()
        before = disk.completed(self.path)
        wait_for(f"load on {self.path}", lambda: self.over() or disk.completed(self.path) > before + more, seconds)
        self.check_running()

    def fails(self, seconds: float) -> float:
        """Wait for its end by an error of the disk, and no other; returns when that was."""
        wait_for(f"an error of the load on {self.path}", self.over, seconds)
        moment = time.monotonic()
        found = disk.fio_json(self._tail()).get("error")
        # The error is the first one; what was read behind it has to be right, too.
        if found not in GONE or "verify" in self._complaints():
            self._judge()
            raise LabError("fio has ended by itself, and without an error")
        print(f"# the load's error: {errno.errorcode[found]}", flush=True)
        return moment

    def end(self, seconds: float = READ_BACK_SECONDS) -> dict[str, object]:
        """Wait until all is read back that was written so far, and end it; returns fio's words about it."""
        self.check_running()
        asked, wrote, back = self._told(), 0, 0

        def all_read() -> bool:
            nonlocal wrote, back
            # An account that is given since then, though fio may have begun it before.
            if not (job := disk.fio_json(self._tail(asked))):
                return self.over()
            back = disk.moved(job, "read")
            # fio reads each block once and in the order of the writes. Those under way are behind those that are counted.
            if not wrote:
                wrote = disk.moved(job, "write") + BACKLOG * self._block
            return self.over() or 0 < wrote <= back
        wait_for(f"what was written to {self.path} is read back", all_read, seconds, pause=0.2)
        self.check_running()
        self._job.send_signal(signal.SIGINT)
        try:
            self._job.wait(ENDS_SECONDS * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise LabError(f"fio on {self.path} does not end") from None
        return self._judge()

    def kill(self) -> None:
        """End it by force, whatever it has seen."""
        self._job.kill()
        try:
            self._job.wait(ENDS_SECONDS * SLOWNESS)
        except subprocess.TimeoutExpired:
            # It waits for its disk; what is wrong with that is told by whoever called.
            print(f"# fio on {self.path} does not end, though it was killed", flush=True)
        self._said.close()
        self._errors.close()

    def _told(self) -> int:
        """How much fio has said; it counts what it has done every second."""
        return os.fstat(self._said.fileno()).st_size

    def _tail(self, start: int = 0) -> str:
        """The end of that, of what it has said from there on."""
        with open(f"/proc/self/fd/{self._said.fileno()}", encoding="utf-8", errors="replace") as handle:
            handle.seek(max(start, self._told() - TAIL))
            return handle.read()

    def _judge(self) -> dict[str, object]:
        """What fio, which has ended, says; an error is raised."""
        status = self._job.returncode
        return disk.fio_job(self._tail(), 0 if status == INTERRUPTED else status, self._complaints())

    def _complaints(self) -> str:
        """What fio has written to its standard error."""
        self._errors.seek(0)
        return self._errors.read()


@contextmanager
def load(path: str, seconds: float = READ_BACK_SECONDS, **options: object) -> Iterator[Load]:
    """Verified load beside the block, which must see no error; within so many seconds after it all is read back."""
    job = Load(path, **options)
    try:
        job.goes_on(BEGUN)
        yield job
        done = job.end(seconds)
        wrote, back = disk.moved(done, "write") >> 10, disk.moved(done, "read") >> 10
        print(f"# load: {wrote} KiB written, {back} KiB read back", flush=True)
    finally:
        job.kill()


class Kept:
    """A part of a disk, behind what `load` writes to, that must be as it was written whatever happens meanwhile."""

    def __init__(self, path: str, start: int, length: int) -> None:
        """Write it; both are whole MiB, in bytes."""
        self.start, self.length = start, length
        disk.fio_verify(path, rw="write", bs="64k", offset=str(start), size=str(length))
        self.sum = disk.checksum(path, start, length)

    def check(self, path: str) -> None:
        """Raise if it is not the same, on the disk that has this name now."""
        if disk.checksum(path, self.start, self.length) != self.sum:
            raise LabError(f"what was written to {path} from byte {self.start} on is not there any more")
