# SPDX-License-Identifier: GPL-2.0
"""When a connection was lost, and whether an error came in time."""

from __future__ import annotations

import sys
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import outage  # noqa: E402
from lab.report import LabError  # noqa: E402


class Session:
    """One whose connection is lost at the third look."""

    def __init__(self) -> None:
        self.looks: list[float] = []

    @property
    def state(self) -> str:
        self.looks.append(time.monotonic())
        return "LOGGED_IN" if len(self.looks) < 3 else "FAILED"


class LossTest(unittest.TestCase):
    """The moment of a loss, and the time to an error."""

    def test_the_last_moment_before(self) -> None:
        session = Session()
        moment = outage.until_lost(session)  # type: ignore[arg-type]
        self.assertLess(session.looks[0], moment)
        self.assertLessEqual(moment, session.looks[1])

    def test_not_lost(self) -> None:
        with self.assertRaisesRegex(LabError, "the loss of the connection: not within"):
            outage.until_lost(mock.Mock(state="LOGGED_IN"), limit=0.01)

    def test_patience(self) -> None:
        with mock.patch("builtins.print"):
            outage.check_patience(100, 105, 5)
            with self.assertRaisesRegex(LabError, "the error came after 4.90 s"):
                outage.check_patience(100, 104.9, 5)
            with self.assertRaisesRegex(LabError, "only after"):
                outage.check_patience(100, 105 + outage.LATE_SECONDS * outage.SLOWNESS, 5)


if __name__ == "__main__":
    unittest.main()
