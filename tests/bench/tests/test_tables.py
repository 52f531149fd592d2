# SPDX-License-Identifier: GPL-2.0
"""Tables, medians and ratios; readings of memory."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import counts, plans, tables  # noqa: E402
from bench.guest import memory  # noqa: E402
from bench.guest.rig import Pattern  # noqa: E402


def row(driver: str, iops: float, p99: float = 1.0) -> dict[str, object]:
    """A row as bench.guest.paired leaves it."""
    return {"scheduler": "steady", "load": "randread 4k qd16", "driver": driver, "iops": iops,
            "p50": 10.0, "p99": p99}


class Paired(unittest.TestCase):
    """Rounds become medians and a ratio."""

    def test_median(self) -> None:
        rows = [row("c", 100), row("c", 104), row("c", 90), row("rust", 110, 2.0)]
        entry, = tables.paired(rows)
        self.assertEqual(entry["c"], {"iops": 100.0, "spread": "14.0%", "p50": 10.0, "p99": 1.0})
        last = tables.paired_text([entry]).splitlines()[-1].split()
        self.assertEqual(last[-3:], ["1.100", "1.000", "2.000"])

    def test_one_driver(self) -> None:
        self.assertEqual(tables.paired([row("c", 1)]), [])


class Counted(unittest.TestCase):
    """Modules are grouped as the goals are written."""

    def profile(self, driver: str, cost: float) -> counts.Profile:
        return counts.Profile({counts.Function("f", driver): counts.Cost(cost),
                               counts.Function("g", "libiscsi"): counts.Cost(700.0),
                               counts.Function("h", "vmlinux"): counts.Cost(9000.0, 3.0)})

    def test_groups(self) -> None:
        self.assertEqual(tables.groups(self.profile("ib_iser_rs", 300.0)), {
            "whole guest": 10000.0, "driver": 300.0, "driver + libiscsi + transport class": 1000.0,
            "vmlinux": 9000.0, "libiscsi": 700.0})

    def test_text(self) -> None:
        text = tables.counted_text("randread", {"c": [self.profile("ib_iser", 600.0)],
                                                "rust": [self.profile("ib_iser_rs", 300.0)]})
        self.assertRegex(text, r"(?m)^driver +600\.0 +0\.0% +300\.0 +0\.0% +0\.500$")

    def test_elsewhere(self) -> None:
        more = self.profile("ib_iser_rs", 300.0)
        more.functions[counts.Function("h", "vmlinux")] = counts.Cost(9500.0, 4.0)
        text = tables.elsewhere_text("randread", self.profile("ib_iser", 600.0), more, most=1)
        self.assertIn("+500.0", text)
        self.assertNotIn("ib_iser", text)


class Loads(unittest.TestCase):
    """Plans and fio's options."""

    def test_count_is_exact(self) -> None:
        options = Pattern("randread", 4096, 16, 100).options(200)
        self.assertEqual((options["number_ios"], options["io_size"]), (200, 200 * 4096))

    def test_names(self) -> None:
        self.assertEqual(Pattern("randwrite", 512, 1, 9).name, "randwrite 512 qd1")
        self.assertEqual(Pattern("randread", 262144, 8, 9).name, "randread 256k qd8")

    def test_plans(self) -> None:
        for plan in (plans.paired, plans.counted):
            for quick in (False, True):
                for load in plan(quick, plans.DRIVERS)["patterns"]:
                    self.assertTrue(Pattern(**load).name)


class Memory(unittest.TestCase):
    """The kernel's own accounts."""

    def test_meminfo(self) -> None:
        found = memory.parse_meminfo("MemTotal:  1000 kB\nHugePages_Total: 3\nMemFree:   400 kB\n")
        self.assertEqual(found, {"MemTotal": 1000, "MemFree": 400})

    def test_kernel(self) -> None:
        found = dict.fromkeys(memory.NOT_KERNEL, 10) | {"MemTotal": 1000}
        self.assertEqual(memory.kernel_kib(found, 100), 850)

    def test_zoneinfo(self) -> None:
        text = "Node 0, zone Normal\n  pagesets\n    cpu: 0\n              count:    3\n" \
               "              high: 9\n    cpu: 1\n              count:    4\n"
        self.assertEqual(memory.parse_zoneinfo(text), 28)

    def test_slabinfo(self) -> None:
        text = ("slabinfo - version: 2.1\n# name            <active_objs>\n"
                "kmalloc-4k 80 80 4096 8 8 : tunables 0 0 0 : slabdata 10 10 0\n")
        self.assertEqual(memory.parse_slabinfo(text), {"kmalloc-4k": 10 * 8 * 4096})

    def test_vmallocinfo(self) -> None:
        text = ("0x1-0x2   12288 rxe_queue_init+0x9/0x20 [rdma_rxe] pages=2 vmalloc N0=2\n"
                "0x3-0x4    8192 acpi_os_map+0x1/0x2 phys=0x3 ioremap\n"
                "0x5-0x6    8192 rxe_queue_init+0x9/0x20 [rdma_rxe] pages=1 vmalloc N0=1\n")
        self.assertEqual(memory.parse_vmallocinfo(text), {"rxe_queue_init": 3 * 4096})

    def test_difference(self) -> None:
        before = {"kernel": 100, **dict.fromkeys(memory.KEPT, 1), "slabs": {"a": 4096}, "vmalloc": {}}
        after = {"kernel": 300, **dict.fromkeys(memory.KEPT, 5), "slabs": {"a": 4096, "b": 8192},
                 "vmalloc": {"f": 16384}}
        got = memory.difference(before, after, 4)
        self.assertEqual((got["kernel"], got["slabs"], got["vmalloc"]), (50.0, {"b": 2.0}, {"f": 4.0}))


if __name__ == "__main__":
    unittest.main()
