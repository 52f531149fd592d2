# SPDX-License-Identifier: GPL-2.0
"""The table of faults fits to what they take."""

from __future__ import annotations

import inspect
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import soak  # noqa: E402,F401 - finds what follows
from soak import ends, line, tasks  # noqa: E402,F401 - the faults
from soak import rig, table  # noqa: E402
from lab.guest import tgt  # noqa: E402
from soak.rig import Rig  # noqa: E402


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


class ComesAboutTest(unittest.TestCase):
    """Whether what a fault was to break has been broken."""

    def setUp(self) -> None:
        self.rig = Rig(SimpleNamespace(driver=SimpleNamespace(module="m")), 1)  # type: ignore[arg-type]
        self.rig.loads = [SimpleNamespace(path="/dev/sda")]  # type: ignore[list-item]

    def test_resets(self) -> None:
        """One that is done is enough."""
        for statuses, came in (((1, 0, 1), True), ((1, 1), False)):
            self.rig.injected, self.rig.notes = True, []
            done = iter(statuses)
            with mock.patch.object(tasks, "run", lambda *a, **k: SimpleNamespace(returncode=next(done))):
                tasks.reset(self.rig, "target", len(statuses))
            self.assertEqual((self.rig.injected, bool(self.rig.notes)), (came, not came))

    def test_commands_in_time(self) -> None:
        """iotmo_cnt is hexadecimal."""
        for after, came in (("0x1f", True), ("0xf", False)):
            with tempfile.TemporaryDirectory() as name:
                scsi = Path(name)
                (scsi / "scsi_disk/0").mkdir(parents=True)
                for attribute, value in (("timeout", "30"), ("scsi_disk/0/max_retries", "5"), ("iotmo_cnt", "0xf")):
                    (scsi / attribute).write_text(value, encoding="ascii")
                self.rig.injected = True
                with mock.patch.object(tasks.disk, "scsi", return_value=scsi), mock.patch.object(tasks.time, "sleep"), \
                        tasks.hasty(self.rig, ["/dev/sda"]):
                    self.assertEqual((scsi / "timeout").read_text(encoding="ascii")[0], str(tasks.COMMAND_SECONDS))
                    (scsi / "iotmo_cnt").write_text(after, encoding="ascii")
                self.assertEqual(self.rig.injected, came)

    def test_nothing_to_hang_up(self) -> None:
        """tgt with connections, and without."""
        for connections, came in ([(1, 0)], True), ([], False):
            self.rig.injected = True
            cut: list[tuple[int, int]] = []
            target = tgt.Target(mib=(1,))
            with mock.patch.object(tgt.Target, "connections", return_value=connections), \
                    mock.patch.object(tgt.Target, "disconnect", lambda _, *which: cut.append(which)), \
                    mock.patch.object(self.rig, "target", target, create=True):
                ends.target_hangs_up(self.rig)
            self.assertEqual((self.rig.injected, cut), (came, connections))

    def test_little_memory_already(self) -> None:
        """Then there is nothing to take."""
        with mock.patch.object(ends, "write"), mock.patch.object(ends, "read", return_value="MemAvailable: 1024 kB"):
            ends.little_memory(self.rig, 0)
        self.assertFalse(self.rig.injected)

    def test_hung_tasks(self) -> None:
        """Reported after what the rig waits for by itself, and never later than that."""
        with tempfile.TemporaryDirectory() as name:
            limit, checks = Path(name, "limit"), Path(name, "checks")
            with mock.patch.object(rig, "HUNG", limit), mock.patch.object(rig, "HUNG_CHECKS", checks):
                for before, after in ((120, 170), (0, 0), (600, 600)):
                    limit.write_text(str(before), encoding="ascii")
                    rig.patient()
                    self.assertEqual(int(limit.read_text(encoding="ascii")), after)
        longest = max(high for item in table.everything().values()
                      for name, (_, high) in item.kind.ranges.items() if name == "seconds")
        self.assertLessEqual(longest, rig.LONGEST_SECONDS)


if __name__ == "__main__":
    unittest.main()
