# SPDX-License-Identifier: GPL-2.0
"""The plan depends on its seed and on nothing else."""

from __future__ import annotations

import itertools
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import soak  # noqa: E402,F401 - finds what follows
from soak import plan  # noqa: E402

KINDS = [plan.Kind("link", {"seconds": (0.5, 2.5)}), plan.Kind("rescan", {"times": (1, 4)}),
         plan.Kind("killed", {}), plan.Kind("reset", {"times": (1, 2), "seconds": (1.0, 2.0)})]


def some(seed: int, count: int = 40, first: int = 1) -> list[plan.Step]:
    """The beginning of a plan."""
    return list(itertools.islice(plan.steps(seed, KINDS, first), count))


class PlanTest(unittest.TestCase):
    """The sequence."""

    def test_a_seed_is_a_plan(self) -> None:
        """The same seed gives the same steps, whatever the order of the table; another one others."""
        self.assertEqual(some(7), some(7))
        self.assertEqual(some(7), list(itertools.islice(plan.steps(7, KINDS[::-1]), 40)))
        self.assertNotEqual(some(7), some(8))

    def test_it_can_begin_anywhere(self) -> None:
        """The steps are those that would have come."""
        self.assertEqual(some(7, 10, first=18), some(7)[17:27])

    def test_all_faults_come_in_each_round(self) -> None:
        """Once each, and not always in the same order."""
        steps = some(3)
        rounds = [[s.fault for s in steps[n:n + 4]] for n in range(0, 40, 4)]
        for names in rounds:
            self.assertEqual(sorted(names), ["killed", "link", "rescan", "reset"])
        self.assertGreater(len({tuple(names) for names in rounds}), 1)
        self.assertEqual([s.number for s in steps], list(range(1, 41)))

    def test_values_are_within_their_ranges(self) -> None:
        """And whole numbers where the range has whole numbers."""
        seen = set()
        for step in some(5, 400):
            ranges = next(k.ranges for k in KINDS if k.name == step.fault)
            self.assertEqual(set(step.values), set(ranges))
            for name, value in step.values.items():
                low, high = ranges[name]
                self.assertTrue(low <= value <= high, step)
                if name == "times":
                    self.assertIsInstance(value, int)
                    seen.add((step.fault, value))
            self.assertTrue(plan.PAUSE_SECONDS[0] <= step.pause <= plan.PAUSE_SECONDS[1])
        self.assertEqual(len(seen), 6)

    def test_words(self) -> None:
        """A step says what it does."""
        self.assertEqual(str(plan.Step(3, "link", {"seconds": 1.5}, 2)), "link (seconds 1.5)")
        self.assertEqual(str(plan.Step(3, "killed", {}, 2)), "killed")

    def test_no_faults(self) -> None:
        """There is no plan without faults, and none that begins with step 0."""
        with self.assertRaises(ValueError):
            next(plan.steps(1, []))
        with self.assertRaises(ValueError):
            next(plan.steps(1, KINDS, 0))


if __name__ == "__main__":
    unittest.main()
