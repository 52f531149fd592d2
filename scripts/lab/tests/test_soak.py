# SPDX-License-Identifier: GPL-2.0
"""How a soak is said to have ended."""

import argparse
import io
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

from lab import soakverb, vm
from lab.report import Reporter
from lab.soakverb import record


class SoakTest(unittest.TestCase):
    """Records, and what comes of them."""

    def ended(self, *records: record.Record, status: int = 0) -> tuple[int, str]:
        """Exit status, and what is printed."""
        stream = io.StringIO()
        args = argparse.Namespace(seed=1, minutes=1.0, kernel="stock", driver="rust", target="lio", only=[])
        with tempfile.TemporaryDirectory() as name:
            for each in records:
                record.write(Path(name, record.FILE), each)
            verdict = vm.Verdict(status, "", Path(name), 1)
            return soakverb.report(SimpleNamespace(report=Reporter(stream)), args, verdict), stream.getvalue()

    def test_ends(self) -> None:
        good = record.Record(1, "link", "link", 0, survived=True, ended=True)
        missed = record.Record(2, "reset", "reset", 1, survived=True, ended=True, injected=False)
        cut = record.Record(3, "link", "link", 2)
        status, said = self.ended(good, missed)
        self.assertEqual(status, 0)
        self.assertIn("soak: OK: 1 faults, 1 survived, 1 did not come about", said)
        self.assertEqual(self.ended(good, cut)[0], 1)
        self.assertEqual(self.ended(good, status=vm.COMPLAINED)[0], vm.COMPLAINED)

    def test_nothing_came_about(self) -> None:
        for records in ((), (record.Record(2, "reset", "reset", 1, survived=True, ended=True, injected=False),)):
            status, said = self.ended(*records)
            self.assertEqual(status, 1)
            self.assertIn("no fault was injected", said)


if __name__ == "__main__":
    unittest.main()
