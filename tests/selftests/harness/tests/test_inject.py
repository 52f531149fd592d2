# SPDX-License-Identifier: GPL-2.0
"""Reading where an allocation was made to fail, and what the kernel log says of it."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import inject, kernlog  # noqa: E402
from lab import kreport  # noqa: E402

KALLSYMS = """\
ffffffff81000000 T one
ffffffff81000100 t __alloc_object
ffffffff810004a0 t next
ffffffffc0100010 t our_first\t[ib_iser_rs]
ffffffffc0107890 t our_last\t[ib_iser_rs]
ffffffffc0109000 d data\t[ib_iser_rs]
ffffffffc0200000 t other\t[rdma_rxe]""".splitlines()
LOG = """\
[    9.000000] iser-lab: mark 7.1 failslab 5
[   10.000001] FAULT_INJECTION: forcing a failure.
               name failslab, interval 5, probability 100, space 0, times 1
[   10.000100] CPU: 1 UID: 0 PID: 99 Comm: iscsid Not tainted
[   10.000200] Call Trace:
[   10.000300]  <TASK>
[   10.000400]  dump_stack_lvl+0x70/0xa0
[   10.000500]  should_fail_ex+0x1f0/0x230
[   10.000600]  __kmalloc_noprof+0x50/0x300
[   10.000700]  rxe_alloc_mr+0x3e/0x100 [rdma_rxe]
[   10.000800]  ? guess+0x3e/0x100
[   10.000900]  _RNvMs0_NtCseac4YQXnqUv_4rdma2mrNtB5_6Region3new+0x3e/0x90 [ib_iser_rs]
[   10.001000]  iscsi_if_rx+0x3e/0x90 [scsi_transport_iscsi]
[   10.001100]  </TASK>
[   10.001200] iscsid: vmalloc error: size 8192, failed to allocate pages
[   10.001300] Call Trace:
[   10.001400]  </TASK>
[   10.001500] ib_iser_rs: 192.168.77.1:3260: cannot allocate for 16 tasks: error -12
[   10.001600] iser-lab: mark 7.2 failslab over""".splitlines()
REPORT = ["[   10.002000] BUG: KASAN: use-after-free in f+0x1/0x2"]


class SymbolsTest(unittest.TestCase):
    """Addresses and names."""

    def test_ranges(self) -> None:
        self.assertEqual(inject.text_of("ib_iser_rs", KALLSYMS), (0xffffffffc0100010, 0xffffffffc0108000))
        self.assertEqual(inject.function("__alloc_object", KALLSYMS), (0xffffffff81000100, 0xffffffff810004a0))
        self.assertEqual(inject.function("our_first", KALLSYMS), (0xffffffffc0100010, 0xffffffffc0107890))
        self.assertEqual(inject.function("absent", KALLSYMS), inject.NOWHERE)

    def test_names(self) -> None:
        for symbol, name in (
                ("iscsi_if_rx", "iscsi_if_rx"),
                ("_RNvMs0_NtCseac4YQXnqUv_4rdma2mrNtB5_6Region3new", "rdma::mr::Region::new"),
                ("_RNvMNtCslI3jIh4SWT4_7ib_iser8endpointNtB2_8Endpoint9terminate",
                 "ib_iser::endpoint::Endpoint::terminate")):
            self.assertEqual(kreport.plain(symbol), name)


class LogTest(unittest.TestCase):
    """What is said of a failure that was asked for."""

    def test_failure(self) -> None:
        found = inject.failure(LOG, "ib_iser_rs")
        self.assertEqual(str(found), "rdma::mr::Region::new, in rxe_alloc_mr")
        self.assertIsNone(inject.failure(LOG[-2:], "ib_iser_rs"))

    def test_it_is_no_complaint(self) -> None:
        self.assertEqual(kernlog.complaints(LOG, {}), [])

    def test_others_still_are(self) -> None:
        for rows in (LOG + REPORT, REPORT + LOG, LOG[14:], LOG[:12] + REPORT + LOG[12:]):
            self.assertEqual(len(kernlog.complaints(rows, {})), 1, rows)


if __name__ == "__main__":
    unittest.main()
