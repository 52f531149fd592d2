# SPDX-License-Identifier: GPL-2.0
"""How long a login, a logout and the return of a lost target take, by the guest's clock.

Under icount that clock counts instructions, and jumps where the guest is idle,
so that waiting costs nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.guest.rig import Rig, conditions, leave, steady
from lab.guest.system import wait_for, write
from lab.report import LabError

BLOCK = 4096
AWAY = 10.0              # seconds without the target,
LONGER = 0.4             # and so much longer from round to round: retries have a period
PATIENCE = 180.0


class Reader:
    """Reads one block of a disk after the other, and remembers when the last one came."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self._buffer = mmap.mmap(-1, BLOCK)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.reads = self.errors = 0
        self.began = 0.0     # of the last read that succeeded
        self.done = 0.0

    def _work(self) -> None:
        while not self._end.wait(0.01):
            began = time.monotonic()
            try:
                os.preadv(self._fd, [self._buffer], self.reads % 1024 * BLOCK)
            except OSError:
                self.errors += 1
                continue
            self.began, self.done = began, time.monotonic()
            self.reads += 1

    def __enter__(self) -> Reader:
        self._thread.start()
        wait_for("the first reads", lambda: self.reads > 10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise LabError("a read does not end")
        os.close(self._fd)


def recovery(path: str, away: float, lose: Callable[[], None],
             restore: Callable[[], None]) -> dict[str, float]:
    """Take something away under I/O; seconds from its return to the first read that succeeds."""
    with Reader(path) as reader:
        lose()
        time.sleep(away)
        stuck = time.monotonic() - reader.done
        restored = time.monotonic()
        restore()
        wait_for("a read after the loss", lambda: reader.done > restored, PATIENCE, 0.01)
        return {"away": away, "seconds": reader.done - restored, "stuck": stuck,
                "errors": float(reader.errors)}


def turn(rig: Rig, kind: str, number: int, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One round of one driver."""
    rows: list[dict[str, Any]] = []
    with rig.way(kind) as way:
        for login in range(int(plan["logins"])):
            way.prepare()
            times = [time.monotonic()]
            for step in (way.login, way.disks, way.detach):
                step()
                times.append(time.monotonic())
            if login:        # the first one loads modules and fills caches
                rows.append({"driver": kind, "login": times[1] - times[0],
                             "disk": times[2] - times[0], "logout": times[3] - times[2]})
        if kind != "nvme":
            path, = way.attach()
            enable = rig.lio.tpg / "enable"
            rows.append({"driver": kind, "loss": "target",
                         **recovery(path, AWAY + LONGER * number, lambda: write(enable, 0),
                                    lambda: write(enable, 1))})
            print(f"control {kind:<4} target lost: {rows[-1]['seconds']:.2f} s", flush=True)
            way.disks()
            way.detach()
    return rows


def main() -> int:
    """Run the plan in the results directory and leave the rows beside it."""
    out = Path(os.environ["ISER_OUT"])
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    rig = Rig()
    steady()
    rows: list[dict[str, Any]] = []
    for number in range(int(plan["rounds"])):
        kinds = plan["drivers"] if number % 2 == 0 else plan["drivers"][::-1]
        for kind in kinds:
            rows += [{"round": number, **row} for row in turn(rig, kind, number, plan)]
    leave(out, {"conditions": conditions(rig), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
