# SPDX-License-Identifier: GPL-2.0
"""The table of faults fits to what they take."""

from __future__ import annotations

import inspect
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import soak  # noqa: E402,F401 - finds what follows
from soak import ends, line, tasks  # noqa: E402,F401 - the faults
from soak import table  # noqa: E402


class TableTest(unittest.TestCase):
    """Names, ranges, targets."""

    def test_ranges_are_the_arguments(self) -> None:
        """Each argument but the rig has a range, in order from low to high."""
        for name, item in table.everything().items():
            arguments = list(inspect.signature(item.run).parameters)[1:]
            self.assertEqual(sorted(item.kind.ranges), sorted(arguments), name)
            for low, high in item.kind.ranges.values():
                self.assertLess(low, high, name)
            self.assertTrue(item.run.__doc__, name)

    def test_documented(self) -> None:
        """The page about the soak names each."""
        page = Path(__file__).resolve().parents[3] / "Documentation/testing/soak.md"
        text = page.read_text(encoding="utf-8")
        for name in table.everything():
            self.assertIn(f"`{name}`", text)

    def test_chosen(self) -> None:
        """By target, by name; a name that there is not is an error."""
        both = {item.name for item in table.chosen("lio", "rust")} & {i.name for i in table.chosen("tgt", "rust")}
        self.assertIn("iscsid_killed", both)
        self.assertNotIn("target_killed", {item.name for item in table.chosen("lio", "rust")})
        self.assertEqual([i.name for i in table.chosen("tgt", "c", ["target_killed"])], ["target_killed"])
        with self.assertRaises(ValueError):
            table.chosen("lio", "rust", ["nonsense"])


if __name__ == "__main__":
    unittest.main()
