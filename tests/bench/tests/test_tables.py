# SPDX-License-Identifier: GPL-2.0
"""Tables, medians and ratios; readings of memory."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import counts, plans, tables, timings  # noqa: E402
from bench.guest import memory  # noqa: E402
from bench.guest.rig import Pattern  # noqa: E402


def row(driver: str, turn: int, iops: float, load: str = "randread 4k qd1") -> dict[str, Any]:
    """A row as bench.guest.timed leaves it."""
    return {"scheduler": "steady", "load": load, "driver": driver, "round": turn, "iops": iops,
            "bytes": iops * 4096, "p50": 1e9 / iops, "p99": 2e9 / iops, "p99.9": 3e9 / iops}


class Timed(unittest.TestCase):
    """Rounds become medians, and ratios of what ran in turn."""

    ROWS = [row("c", 0, 100), row("c", 1, 104), row("c", 2, 90),
            row("rust", 0, 110), row("rust", 1, 104), row("rust", 2, 108)]

    def test_median(self) -> None:
        entry, = timings.entries(self.ROWS)
        self.assertEqual(entry["values"]["iops"]["c"], {"median": 100.0, "spread": "14.0%"})
        self.assertAlmostEqual(entry["ratios"]["iops"], 1.1)
        self.assertAlmostEqual(entry["ratios"]["p99"], 1 / 1.1)
        self.assertRegex(timings.timed_text([entry]), r"(?m)^randread 4k qd1 .* 100 .* 108 .* 1\.100$")

    def test_one_driver(self) -> None:
        entry, = timings.entries([row("tcp", 0, 100)])
        self.assertIsNone(entry["ratios"]["iops"])
        self.assertIn("iscsi_tcp", timings.timed_text([entry]))

    def test_control(self) -> None:
        rows = [{"driver": k, "login": t, "disk": 2 * t, "logout": t} for k, t in (("c", .1), ("rust", .2))]
        rows += [{"driver": "rust", "loss": "target", "seconds": 3.25, "errors": 0.0}]
        text = timings.control_text(rows)
        self.assertRegex(text, r"(?m)^login +100\.0 +0\.0% +200\.0 +0\.0% +2\.000$")
        self.assertRegex(text, r"(?m)^from the return of the target to the first read +3\.25 +0\.0% +-$")

    def test_luns(self) -> None:
        rows = [{"driver": "c", "what": w, "kernel": v} for w, v in (("session", 100), ("many", 1090))]
        self.assertRegex(timings.luns_text(rows), r"ib_iser +1000")


class Counted(unittest.TestCase):
    """Modules are grouped as the goals are written."""

    def profile(self, driver: str, cost: float) -> counts.Profile:
        return counts.Profile({counts.Function("f", driver): counts.Cost(cost),
                               counts.Function("g", "libiscsi"): counts.Cost(700.0),
                               counts.Function("s", "sd_mod"): counts.Cost(50.0),
                               counts.Function("h", "vmlinux"): counts.Cost(8950.0, 3.0)})

    def test_groups(self) -> None:
        found = tables.groups(self.profile("ib_iser_rs", 300.0), "rust")
        self.assertEqual((found[tables.WHOLE], found[tables.DRIVER], found[tables.STACK],
                          found[tables.SCSI]), (10000.0, 300.0, 1000.0, 50.0))

    def test_text(self) -> None:
        text = tables.counted_text("randread", {"c": [self.profile("ib_iser", 600.0)],
                                                "rust": [self.profile("ib_iser_rs", 300.0)]})
        self.assertRegex(text, r"(?m)^driver +600\.0 +0\.0% +300\.0 +0\.0% +0\.500$")

    def test_shares(self) -> None:
        """Three of four completions are the initiator's; one of two mappings is."""
        core = [("__ib_process_cq", 100.0, 1.0), ("ib_poll_handler", 30.0, 1.0), ("rdma_rw_ctx_post", 7.0, 1.0),
                ("rdma_rw_ctx_init", 9.0, 1.0), ("ib_dma_virt_map_sg", 60.0, 2.0), ("rdma_get_gid_attr", 5.0, 6.0)]
        found = counts.Profile({counts.Function(n, "ib_core"): counts.Cost(v, calls) for n, v, calls in core})
        found.functions.update({counts.Function("isert_send_done", "ib_isert"): counts.Cost(1.0, 1.0),
                                counts.Function("iser_task_rsp", "ib_iser"): counts.Cost(1.0, 1.0),
                                counts.Function("iser_cmd_comp", "ib_iser"): counts.Cost(1.0, 2.0),
                                counts.Function("scsi_done", "scsi_mod"): counts.Cost(1.0, 9.0)})
        self.assertEqual(tables.initiators_ib_core(found), 75.0 + 30.0 + 30.0)

    def test_setups(self) -> None:
        found = {"one": {"randread": {"rust": [self.profile("ib_iser_rs", 300.0)]}}}
        self.assertRegex(tables.setups_text("x", found), r"(?m)^ib_iser_rs, one +300\.0 +1000\.0 +10000\.0$")

    def test_elsewhere(self) -> None:
        more = self.profile("ib_iser_rs", 300.0)
        more.functions[counts.Function("h", "vmlinux")] = counts.Cost(9450.0, 4.0)
        text = tables.elsewhere_text("randread", self.profile("ib_iser", 600.0), more, most=1)
        self.assertIn("+500.0", text)
        self.assertNotIn("ib_iser", text)


class Loads(unittest.TestCase):
    """Plans and fio's options."""

    def test_count_is_exact(self) -> None:
        options = Pattern("randread", 4096, 16, 100).options(200)
        self.assertEqual((options["number_ios"], options["io_size"]), (200, 200 * 4096))
        options = Pattern("randread", 4096, 16, 100, 4).options(200)
        self.assertEqual((options["numjobs"], options["number_ios"]), (4, 50))

    def test_names(self) -> None:
        self.assertEqual(Pattern("randwrite", 512, 1, 9).name, "randwrite 512 qd1")
        self.assertEqual(Pattern("randread", 262144, 8, 9, 4).name, "randread 256k qd8 x4")

    def test_plans(self) -> None:
        """Every load is one that the guest can run, and divides among its jobs."""
        for quick in (False, True):
            machines = [plans.counted(quick, plans.DRIVERS), *plans.scale(quick, plans.ISER).values(),
                        *plans.choices(quick, plans.ISER).values(), plans.limit()]
            loads = [p for m in machines for s in m["setups"] for p in s["patterns"]]
            loads += [p for ps in plans.timed(quick, plans.DRIVERS)["loads"].values() for p in ps]
            for load in loads:
                self.assertEqual(Pattern(**load).count % Pattern(**load).jobs, 0)

    def test_only(self) -> None:
        self.assertEqual({s["driver"] for s in plans.scale(True, ["c"])["luns"]["setups"]}, {"c"})


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
