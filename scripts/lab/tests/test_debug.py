# SPDX-License-Identifier: GPL-2.0
"""The instrumented kernel's configuration, and what its detectors print."""

import tempfile
import unittest
from pathlib import Path

from lab import config, debugkernel, kreport
from lab.report import LabError

LOG = """\
[   10.100000][  T12] iser-lab: mark 1.1 login
[   10.200000][  T12] BUG: KASAN: slab-use-after-free in isert_put+0x12/0x80 [ib_isert]
[   10.200100][  T12] Read of size 8 at addr ffff888012345678 by task kworker/0:1/34
[   10.200200][  T12]  ? guess+0x1/0x2
[   10.200300][  T12]  isert_put+0x12/0x80 [ib_isert]
[   10.200400][  T12]  process_one_work+0x123/0x456
[   12.000000][  T12] something else
[   13.000000] WARNING: kernel/foo.c:12 at foo+0x1/0x2, CPU#1: iscsid/7
[   13.000100] iser-lab: mark 1.2 logout
[   13.000200]  late+0x1/0x2
"""

LEAK = """\
unreferenced object 0xffff888011112222 (size 64):
  comm "iscsid", pid 77, jiffies 4294900000
  backtrace (crc 1234):
    kmalloc_noprof+0x1/0x2
    iscsi_thing+0x10/0x20 [libiscsi]
unreferenced object 0xffff888011113333 (size 64):
  comm "iscsid", pid 78, jiffies 4294900001
  backtrace (crc 5678):
    kmalloc_noprof+0x1/0x2
    iscsi_thing+0x10/0x20 [libiscsi]
"""


class ConfigTest(unittest.TestCase):
    """A line that Kconfig did not take is found."""

    def test_refused(self) -> None:
        made = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n"
        self.assertEqual(debugkernel.refused("CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"x\"\n", made), [])
        self.assertEqual(debugkernel.refused("CONFIG_D=n\n# CONFIG_E is not set\n", made), [])
        self.assertEqual(debugkernel.refused("CONFIG_B=y\nCONFIG_D=m\n", made),
                         ["CONFIG_B=y (is n)", "CONFIG_D=m (is n)"])

    def test_fragment(self) -> None:
        text = (config.checkout() / debugkernel.FRAGMENT).read_text(encoding="utf-8")
        names = [row for row in text.splitlines() if row.startswith("CONFIG_")]
        self.assertEqual(len(names), len(set(names)))
        for name in ("KASAN", "PROVE_LOCKING", "DEBUG_KMEMLEAK", "FAILSLAB", "KUNIT", "RUST"):
            self.assertEqual(debugkernel.settings(text)[f"CONFIG_{name}"], "y")


class ReportTest(unittest.TestCase):
    """Reports are cut out of the log and compared without their numbers."""

    def test_cut(self) -> None:
        first, second = kreport.reports(LOG.splitlines())
        self.assertEqual(first.functions, ["isert_put", "process_one_work"])
        self.assertIn("KASAN: slab-use-after-free", first.title)
        self.assertEqual(len(first.rows), 5)
        self.assertEqual(len(second.rows), 1)

    def test_one_right_after_another(self) -> None:
        rule = "[   10.200350] " + "=" * 66
        rows = LOG.splitlines()[:6]
        found = kreport.reports([*rows, rule, rule, *rows[1:], rule])
        self.assertEqual([r.functions for r in found], [["isert_put", "process_one_work"]] * 2)

    def test_numbers_do_not_count(self) -> None:
        other = LOG.replace("0x12/0x80", "0x22/0x90").replace("CPU#1", "CPU#0")
        self.assertEqual([r.identity for r in kreport.reports(LOG.splitlines())],
                         [r.identity for r in kreport.reports(other.splitlines())])

    def test_leaks_by_place(self) -> None:
        found = kreport.leaks(LEAK)
        self.assertEqual(len(found), 1)
        self.assertEqual(found[0].functions, ["kmalloc_noprof", "iscsi_thing"])

    def test_known(self) -> None:
        found = kreport.reports(LOG.splitlines())
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "known")
            path.write_text(f"# header\n\n# why\n{found[0].entry()}\n", encoding="utf-8")
            counting, listed = kreport.judge(found, kreport.known(path))
            self.assertEqual((counting, listed), ([found[1]], [found[0]]))
            path.write_text(f"# why\n{found[0].entry()}\nextra\n", encoding="utf-8")
            self.assertEqual(kreport.judge(found, kreport.known(path))[1], [])
            path.write_text(f"{found[0].entry()}\n", encoding="utf-8")
            with self.assertRaises(LabError):
                kreport.known(path)

    def test_several_of_one_cause(self) -> None:
        found = kreport.reports(LOG.splitlines())
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "known")
            both = "\n".join(report.entry() for report in found)
            path.write_text(f"# why\n{both}\n", encoding="utf-8")
            table = kreport.known(path)
            self.assertEqual(list(table.values()), ["why", "why"])
            self.assertEqual(kreport.judge(found, table)[0], [])
            path.write_text(f"# why\n{both}\n\n# again\n{found[1].entry()}\n", encoding="utf-8")
            with self.assertRaisesRegex(LabError, "twice"):
                kreport.known(path)

    def test_list_of_this_project(self) -> None:
        for (title, _), evidence in kreport.known().items():
            self.assertGreater(len(evidence), 80, title)
