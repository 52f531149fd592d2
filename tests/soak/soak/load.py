# SPDX-License-Identifier: GPL-2.0
"""The load: disks are written, read back and compared, over and over, until told to stop.

Each turn of a load is drawn from the seed: size of the requests, their number, how many at once,
in which order. It sees no fault: whatever error reaches it is a failure.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.guest import disk
from lab.guest.system import SLOWNESS
from lab.report import LabError

# Requests of a turn at most, and bytes: a turn shall take seconds.
REQUESTS, BYTES = round(1500 / SLOWNESS), round((16 << 20) / SLOWNESS)
# The instrumented kernel moves some 100 KiB in a second: between two responses to longer requests a ping would time out.
SIZES = (512, 4096, 12288, 16384, 65536, 262144) + ((1 << 20,) if SLOWNESS == 1 else ())
DEPTHS = (1, 4, 16, 32, 64)
WAYS = ("randwrite", "write", "randrw")
FILES_BYTES = 6 << 20
TURN_SECONDS = 600           # times the slowness of the machine


class Load(ABC):
    """One load, in a thread of its own."""

    def __init__(self, name: str, path: str, seed: int) -> None:
        self.name, self.path = name, path
        # Not a secret: the same seed shall make the same load.
        self.dice = random.Random(f"{seed}/{name}")
        self.turns = self.verified = 0
        self.error = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def turn(self) -> int:
        """Write, read back, compare; returns how many bytes were compared."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the turn that is under way."""
        self._end.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise LabError(f"load {self.name} has not ended within {seconds:.0f} s")

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self.verified += self.turn()
            except Exception as exc:  # the thread has nobody to tell but this
                self.error = f"load {self.name}, turn {self.turns + 1}: {exc}"
                return
            self.turns += 1

    def check(self) -> None:
        """Raise if it has seen an error."""
        if self.error:
            raise LabError(self.error)

    def ios(self) -> int:
        """Requests that its disk has finished, whoever asked."""
        return disk.completed(self.path)


class Raw(Load):
    """fio on the disk itself."""

    def __init__(self, name: str, path: str, seed: int, mib: int) -> None:
        super().__init__(name, path, seed)
        self.mib = mib

    def turn(self) -> int:
        """One fio with checksums."""
        size = self.dice.choice(SIZES)
        amount = min(REQUESTS * size, BYTES) // size * size
        start = self.dice.randrange(((self.mib << 20) - amount) // size) * size
        way = self.dice.choice(WAYS)
        job = disk.fio_verify(self.path, name=self.name, rw=way, bs=str(size), size=str(amount), offset=str(start),
                              iodepth=self.dice.choice(DEPTHS), randseed=self.dice.randrange(1 << 30),
                              timeout=TURN_SECONDS)
        wrote = job["write"]
        assert isinstance(wrote, dict)
        return int(wrote["io_bytes"])


class Files(Load):
    """Files of all sizes on ext4."""

    def __init__(self, name: str, path: str, seed: int, where: str) -> None:
        super().__init__(name, path, seed)
        self.where = Path(where)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """The file system, made anew, while the load runs."""
        disk.mkfs(self.path)
        disk.mount(self.path, str(self.where))
        try:
            yield
        finally:
            disk.unmount(str(self.where))

    def turn(self) -> int:
        """Write files, forget them, read them back from the disk."""
        where = self.where / "files"
        where.mkdir(exist_ok=True)
        began = time.monotonic()
        sums = disk.write_files(str(where), FILES_BYTES, seed=self.dice.randrange(1 << 30))
        disk.drop_caches()
        disk.check_files(str(where), sums)
        shutil.rmtree(where)
        if time.monotonic() - began < 1:
            time.sleep(1)
        return FILES_BYTES
