# SPDX-License-Identifier: GPL-2.0
"""A load that sees an error says so, and one that sees none counts what it has verified."""

from __future__ import annotations

import sys
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import soak  # noqa: E402,F401 - finds what follows
from lab.guest import disk  # noqa: E402
from lab.report import LabError  # noqa: E402
from soak import load  # noqa: E402


class Counted(load.Load):
    """A load of numbers, which fails in a turn."""

    bad = 0

    def turn(self) -> int:
        time.sleep(0.001)
        if self.turns + 1 == self.bad:
            raise LabError("other bytes than were written")
        return 512


class LoadTest(unittest.TestCase):
    """Threads, and what fio is asked for."""

    def test_error(self) -> None:
        """It is kept, with the turn it came in, and ends the load."""
        one = Counted("one", "/dev/sdx", 1)
        one.bad = 3
        one.start()
        while not one.error:
            time.sleep(0.001)
        one.stop(10)
        with self.assertRaisesRegex(LabError, "load one, turn 3: other"):
            one.check()

    def test_good(self) -> None:
        """It goes on until it is stopped."""
        one = Counted("one", "/dev/sdx", 1)
        one.start()
        while one.turns < 3:
            time.sleep(0.001)
        one.stop(10)
        one.check()
        self.assertEqual(one.verified, 512 * one.turns)

    def test_fio(self) -> None:
        """Every turn stays on its part of the disk, and is the same for the same seed."""
        asked: list[dict[str, object]] = []

        def fio(path: str, **options: object) -> dict[str, object]:
            asked.append({"path": path, **options})
            return {"write": {"io_bytes": int(str(options["size"]))}}
        with mock.patch.object(disk, "fio_verify", fio):
            for _ in range(2):
                one = load.Raw("first", "/dev/sdx", 7, 24)
                for _ in range(100):
                    self.assertGreater(one.turn(), 0)
        self.assertEqual(asked[:100], asked[100:])
        for options in asked:
            start, size, block = (int(str(options[name])) for name in ("offset", "size", "bs"))
            self.assertLessEqual(start + size, 24 << 20)
            self.assertEqual((start % block, size % block), (0, 0))


if __name__ == "__main__":
    unittest.main()
