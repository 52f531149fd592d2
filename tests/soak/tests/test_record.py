# SPDX-License-Identifier: GPL-2.0
"""What is kept of the steps, and the table of them."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import soak  # noqa: E402,F401 - finds what follows
from soak import record  # noqa: E402
from soak.record import Record  # noqa: E402

STEPS = [Record(1, "link", "link (seconds 1)", 0, True, 2.0, 1, 100, 3 << 20, ["late"], True),
         Record(2, "reset", "reset", 9, True, 0.5, 0, 50, 1 << 20, [], True),
         Record(3, "link", "link (seconds 2)", 20, True, 5.0, 2, 10, 0, ["late"], True),
         Record(4, "link", "link (seconds 2.5)", 40)]
# Nothing was broken, so nothing was survived.
MISSED = Record(5, "reset", "reset", 50, True, 9.0, 1, 30, 0, ["refused"], True, injected=False)


class RecordTest(unittest.TestCase):
    """Lines and table."""

    def test_lines(self) -> None:
        """The last line of a step counts; one that was cut off does not."""
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "steps")
            self.assertEqual(record.read(path), [])
            record.write(path, Record(1, "link", "link (seconds 1)", 0))
            for step in [*STEPS, MISSED]:
                record.write(path, step)
            with open(path, "a", encoding="utf-8") as handle:
                handle.write('{"number": 6, "fau')
            self.assertEqual(record.read(path), [*STEPS, MISSED])

    def test_table(self) -> None:
        """A line for each fault; times are of those that were survived."""
        rows = [row.split() for row in record.table(STEPS)]
        self.assertEqual(rows[1], "link 3 2 0 3 3.5 s 5.0 s 110 3".split())
        self.assertEqual(rows[2], "reset 1 1 0 0 0.5 s 0.5 s 50 1".split())
        self.assertEqual(rows[3][:5], "all 4 3 0 3".split())
        self.assertEqual(len({len(row) for row in record.table(STEPS)}), 1)

    def test_did_not_come_about(self) -> None:
        """Listed apart; what was done meanwhile is counted all the same."""
        rows = [row.split() for row in record.table([*STEPS, MISSED])]
        self.assertEqual(rows[2], "reset 1 1 1 1 0.5 s 0.5 s 80 1".split())
        self.assertEqual(rows[3][:5], "all 4 3 1 4".split())
        self.assertEqual(record.row("reset", [MISSED])[1:4], ("0", "0", "1"))

    def test_nothing_survived(self) -> None:
        """There is no time to tell."""
        self.assertEqual(record.row("link", STEPS[3:]), ("link", "1", "0", "0", "0", "0.0 s", "0.0 s", "0", "0"))

    def test_notes(self) -> None:
        """Each once, with its number."""
        self.assertEqual(record.notes(STEPS), ["2 times: late"])


if __name__ == "__main__":
    unittest.main()
