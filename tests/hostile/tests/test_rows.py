# SPDX-License-Identifier: GPL-2.0
"""What is judged by the rows of the tables, and that these say what they should."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hostile  # noqa: E402,F401 - finds what follows
import chance  # noqa: E402
import pdus  # noqa: E402
import logins  # noqa: E402
from hostile import rows, said, simulator  # noqa: E402
from harness.case import Failure  # noqa: E402

OURS, RUST, C = "[    1.0] ib_iser_rs: 192.168.77.1:3260: ", "rust", "c"
SHORT = f"{OURS}protocol violation by the target (too_short): received 75 bytes, the headers alone take 76"
LOST = f"{OURS}connection lost: disconnected"
ACCESS = "[    1.0] ib_iser_rs: rxe0: queue pair 23: QP access error"
FAILED = "[    1.1]  connection3:0: detected conn error (1008)"
SESSION_FAILED = "[    1.1]  connection3:0: detected conn error (1021)"
PING_TIMED_OUT = "[    1.1]  connection3:0: detected conn error (1022)"
OTHER = "[    1.2] sd 0:0:0:0: [sda] Attached SCSI disk"


def passes(kernel_log: list[str], pattern: str, times: int = 1, driver: str = RUST) -> bool:
    """Whether such a log is as it should be."""
    env = SimpleNamespace(driver=SimpleNamespace(kind=driver))
    try:
        rows.judge_log(env, kernel_log, pattern, times)  # type: ignore[arg-type]
    except Failure:
        return False
    return True


class LogTest(unittest.TestCase):
    """One clear message, or none."""

    def test_messages(self) -> None:
        """Each log with what was expected, and whether that is so."""
        short = rows.violation("too_short")
        for kernel_log, pattern, times, good in (
                ([SHORT, FAILED], short, 1, True),
                ([OTHER, SHORT], short, 1, True),
                ([], short, 1, False),
                ([LOST], short, 1, False),
                ([SHORT, LOST], short, 1, False),
                ([SHORT, SHORT], short, 1, False),
                ([SHORT, SHORT], short, 2, True),
                ([SHORT], short, 2, False),
                ([ACCESS, LOST], rows.LOST, 1, True),
                ([ACCESS], rows.LOST, 1, False),
                ([OTHER, FAILED], rows.SILENT, 1, True),
                ([OTHER, LOST], rows.SILENT, 1, False),
                ([ACCESS], rows.SILENT, 1, False)):
            self.assertEqual(passes(kernel_log, pattern, times), good, (kernel_log, pattern, times))

    def test_the_other_driver(self) -> None:
        """Nothing is asked of the messages of the C driver."""
        self.assertTrue(passes([], rows.LOST, driver=C))

    def test_ends_of_connections(self) -> None:
        """What libiscsi ends itself is none that the driver tells of."""
        self.assertEqual(rows.ended([OTHER, SESSION_FAILED, FAILED, PING_TIMED_OUT, SHORT]), 1)


class SaidTest(unittest.TestCase):
    """Somebody says what was wrong."""

    def test_judge(self) -> None:
        """One line has to fit, whose ever it is."""
        said.judge(r"target error \(03/00\)", [OTHER, "iscsid: connection34:0 login rejected: target error (03/00)"])
        for found in ([], [OTHER], ["iscsid: connection34:0 login rejected: target error (03/01)"]):
            self.assertRaises(Failure, said.judge, r"target error \(03/00\)", found)

    def test_logins(self) -> None:
        """Nobody is asked in place of the driver where it speaks; and patterns fit no good login."""
        good = ["iscsid: login response status 0000", "iscsid: Connection1:0 to [target: x] is operational now"]
        for name, (_, pattern, *more) in {**logins.CONNECTIONS, **logins.LOGINS, **logins.ODD}.items():
            for words in more:
                self.assertEqual(pattern, rows.SILENT, name)
                self.assertRaises(Failure, said.judge, words, good)


class TablesTest(unittest.TestCase):
    """Every wrong header is sent."""

    def test_wrong_headers(self) -> None:
        """Fifteen opcodes, twelve combinations of flags, and none that is right."""
        sent = [int(row.rule.rpartition("=")[2], 16) for row in pdus.wrong_headers()]
        self.assertEqual(len(sent), len(set(sent)))
        self.assertEqual({first >> 4 for first in sent}, set(range(16)))
        self.assertEqual({first & 0xf for first in sent if first >> 4 == 1},
                         {flags for flags in range(16) if flags & 0xc})


class ChanceTest(unittest.TestCase):
    """Chance has to bring enough that is wrong."""

    def judged(self, counted: int, bursts: int, kinds: int) -> bool:
        """Whether so much is enough."""
        env = SimpleNamespace(driver=SimpleNamespace(kind=RUST))
        stage = SimpleNamespace(violations=lambda: counted)
        messages = SimpleNamespace(kinds=dict.fromkeys(range(kinds), 1))
        try:
            chance.judge(env, stage, bursts, messages)  # type: ignore[arg-type]
        except Failure:
            return False
        return True

    def test_floors(self) -> None:
        """A violation in one of two bursts, and of many kinds; a short run need not have all."""
        self.assertTrue(self.judged(400, 800, 8))
        self.assertFalse(self.judged(399, 800, 8))
        self.assertFalse(self.judged(400, 800, 7))
        self.assertTrue(self.judged(40, 13, 2))
        self.assertFalse(self.judged(40, 13, 1))


class SettingsTest(unittest.TestCase):
    """open-iscsi has as much time as everybody else."""

    def test_scaled(self) -> None:
        """Times grow, and what is no time does not."""
        fast, slow = simulator.settings(1), simulator.settings(6)
        self.assertEqual(sorted(fast), sorted(slow))
        for name, value in fast.items():
            self.assertEqual(slow[name], value * 6 if "timeo." in name else value, name)
        self.assertEqual(slow["node.session.initial_login_retry_max"], 1)


if __name__ == "__main__":
    unittest.main()
