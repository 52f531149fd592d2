# SPDX-License-Identifier: GPL-2.0
"""What iscsiadm prints about task management."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import tasks  # noqa: E402
from harness.tasks import Count  # noqa: E402

PRINTED = """Stats for session [sid: 1, target: iqn.2026-01.lab.iser:lio, portal: 192.168.77.1,3260]
iSCSI SNMP:
\ttxdata_octets: 432
\trxdata_octets: 23380
\tscsicmd_pdus: 63
\ttmfcmd_pdus: 4
\tscsirsp_pdus: 63
\ttmfrsp_pdus: 3
iSCSI Extended:
\teh_abort_cnt: 0
"""


class TasksTest(unittest.TestCase):
    """Counters and what they have grown by."""

    def test_parse(self) -> None:
        self.assertEqual(tasks.parse(PRINTED), Count(sent=4, answered=3))

    def test_difference(self) -> None:
        self.assertEqual(tasks.parse(PRINTED) - Count(1, 1), Count(3, 2))

    def test_nothing_printed(self) -> None:
        with self.assertRaises(KeyError):
            tasks.parse("")


if __name__ == "__main__":
    unittest.main()
