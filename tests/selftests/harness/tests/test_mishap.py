# SPDX-License-Identifier: GPL-2.0
"""What a target has spoiled is told from what it has refused."""

from __future__ import annotations

import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import mishap  # noqa: E402
from lab.guest import lio, tgt  # noqa: E402
from lab.report import LabError  # noqa: E402


class WatchTest(unittest.TestCase):
    """Only what was written since the login began counts, and only for its target."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.tgtd = Path(directory.name) / "tgtd"
        self.iscsid = Path(directory.name) / "iscsid"
        for where, name, path in ((tgt, "LOG", self.tgtd), (mishap, "ISCSID_LOG", self.iscsid)):
            patch = mock.patch.object(where, name, str(path))
            patch.start()
            self.addCleanup(patch.stop)
        self.lio = lio.Target([("192.0.2.1", 3260)], [])
        self.tgt = tgt.Target()

    def test_lost_text(self) -> None:
        self.iscsid.write_text("CHAP algorithm key expected\n", encoding="utf-8")
        watch = mishap.Watch(self.lio)
        self.assertFalse(watch.spoiled(chap=True))
        with self.iscsid.open("a", encoding="utf-8") as log:
            log.write("Login failed to authenticate with target\n")
        self.assertFalse(watch.spoiled(chap=True))
        with self.iscsid.open("a", encoding="utf-8") as log:
            log.write("Login authentication failed with target x, CHAP algorithm key expected\n")
        self.assertTrue(watch.spoiled(chap=True))
        self.assertFalse(watch.spoiled(chap=False))

    def test_hung_up(self) -> None:
        watch, other = mishap.Watch(self.tgt), mishap.Watch(self.lio)
        self.assertFalse(watch.spoiled(chap=False))
        self.tgtd.write_text(f"{mishap.TGT_TOO_EARLY}\n", encoding="utf-8")
        self.assertTrue(watch.spoiled(chap=False))
        self.assertTrue(watch.hung_up())
        self.assertFalse(other.spoiled(chap=True))

    def test_crashed(self) -> None:
        self.tgt.crashes = 1
        with mock.patch.object(mishap, "wait_for", self.at_once):
            for chap, crashed in (True, False), (False, True), (True, True):
                watch = mishap.Watch(self.tgt)
                self.tgt.crashes += crashed
                self.assertEqual(watch.spoiled(chap), chap and crashed)
            self.assertFalse(mishap.Watch(self.lio).crashed())

    @staticmethod
    def at_once(what: str, condition: Callable[[], bool], _timeout: float) -> None:
        """What is not true already will never be."""
        if not condition():
            raise LabError(what)


if __name__ == "__main__":
    unittest.main()
