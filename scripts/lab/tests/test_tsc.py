# SPDX-License-Identifier: GPL-2.0
"""The frequency of the time stamp counter."""

import unittest

from lab import tsc


class FakeClock:
    """A clock that goes on by itself, and is late at times, as on a busy host."""

    def __init__(self) -> None:
        self.now = 5_000_000
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        self.now += 90_000_000 if self.calls % 7 == 0 else 300
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time passes."""
        self.now += int(seconds * 1e9)


class TscTest(unittest.TestCase):
    """Counters of known frequency."""

    def test_known(self) -> None:
        for khz in (1_000_000, 2_596_121, 190_000):
            clock = FakeClock()

            def counter(khz: int = khz, clock: FakeClock = clock) -> int:
                clock.now += 100
                return clock.now * khz // 1_000_000
            self.assertLess(abs(tsc.khz(counter, clock, clock.sleep) - khz), khz / 1000)

    def test_host(self) -> None:
        """What the host says, if it says anything, is a frequency that a counter can have."""
        found = tsc.host_khz()
        if found is None:
            self.skipTest("no counter here")
        self.assertTrue(500_000 < found < 10_000_000, found)


if __name__ == "__main__":
    unittest.main()
