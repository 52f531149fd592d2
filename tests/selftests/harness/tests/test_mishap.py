# SPDX-License-Identifier: GPL-2.0
"""What a target has spoiled is told from what it has refused."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import mishap  # noqa: E402
from lab.guest import lio, tgt  # noqa: E402


class WatchTest(unittest.TestCase):
    """Only what was written since the login began counts, and only for its target."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.tgtd = Path(directory.name) / "tgtd"
        self.iscsid = Path(directory.name) / "iscsid"
        for name, path in (("TGT_LOG", self.tgtd), ("ISCSID_LOG", self.iscsid)):
            patch = mock.patch.object(mishap, name, str(path))
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
        with (mock.patch.object(tgt.Target, "alive", return_value=False),
              mock.patch.object(tgt.Target, "down") as down,
              mock.patch.object(tgt.Target, "up") as up):
            self.assertTrue(mishap.Watch(self.tgt).spoiled(chap=True))
        down.assert_called_once_with()
        up.assert_called_once_with()


if __name__ == "__main__":
    unittest.main()
