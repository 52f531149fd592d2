# SPDX-License-Identifier: GPL-2.0
"""What fails a test, and what the list of known reports excuses."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import kernlog  # noqa: E402
from lab.report import LabError  # noqa: E402

GOOD = "[   12.345678] scsi host0: iSCSI Initiator over iSER"
REPORT = """\
[  357.678858] ------------[ cut here ]------------
[  357.679020] WARNING: drivers/infiniband/sw/rxe/rxe_x.c:7 at f+0xd7/0xe0 [rdma_rxe], CPU#0: kworker/0:0H/10
[  357.690320] Call Trace:
[  357.690890]  <TASK>
[  357.691050]  __ib_process_cq+0x85/0x170 [ib_core]
[  357.691482]  ? guess+0x2a/0x80 [ib_core]
[  357.691645]  process_one_work+0x1cd/0x3c0
[  357.690890]  </TASK>
[  357.702504] ---[ end trace 0000000000000000 ]---""".splitlines()
ENTRY = """\
# Seen without us.
title: WARNING: drivers/infiniband/sw/rxe/rxe_x.c:N at f+N/N [rdma_rxe]
__ib_process_cq
process_one_work
"""


class ComplaintsTest(unittest.TestCase):
    """Exactly this report, and no other."""

    def table(self, text: str) -> kernlog.Table:
        """A list with this text."""
        with tempfile.TemporaryDirectory() as where:
            path = Path(where, "list")
            path.write_text(text, encoding="utf-8")
            return kernlog.known(path)

    def test_bad(self) -> None:
        self.assertEqual(kernlog.complaints([GOOD], {}), [])
        self.assertEqual(len(kernlog.complaints([GOOD, *REPORT], {})), 1)

    def test_excused(self) -> None:
        self.assertEqual(kernlog.complaints(REPORT, self.table(ENTRY)), [])
        self.assertEqual(len(kernlog.excused([GOOD, *REPORT], self.table(ENTRY))), 1)
        self.assertEqual(kernlog.excused(REPORT, {}), [])
        other = [r.replace("process_one_work", "another") for r in REPORT]
        self.assertEqual(len(kernlog.complaints(other, self.table(ENTRY))), 1)
        later = [*REPORT, "[  358.100000] BUG: something else"]
        self.assertEqual(len(kernlog.complaints(later, self.table(ENTRY))), 1)

    def test_leaks_are_judged_elsewhere(self) -> None:
        found = "[  137.921174] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"
        self.assertEqual(kernlog.complaints([found], {}), [])
        self.assertEqual(len(kernlog.complaints([found, *REPORT], {})), 1)
        self.assertEqual(len(kernlog.complaints(["[  1.0] kmemleak: Kernel memory leak detector disabled"], {})), 1)

    def test_without_evidence(self) -> None:
        with self.assertRaises(LabError):
            self.table(ENTRY.partition("\n")[2])

    def test_entry_is_shown(self) -> None:
        bad = kernlog.complaints(REPORT, {})
        shown = kernlog.excerpt(REPORT, bad)
        self.assertEqual("\n".join(shown[:3]) + "\n", ENTRY.partition("\n")[2])

    def test_every_kind(self) -> None:
        for text in ("BUG: unable to handle page fault for address: 0",
                     "WARNING: possible circular locking dependency detected",
                     "INFO: task iscsid:123 blocked for more than 120 seconds.",
                     "refcount_t: underflow; use-after-free.", "Oops: 0002 [#1] SMP", "Call Trace:",
                     "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
                     "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                     "rust_kernel: panicked at drivers/x.rs:1:1:", "kernel BUG at mm/slub.c:1!",
                     "BUG iser_cmds (Not tainted): Objects remaining on __kmem_cache_shutdown()"):
            self.assertEqual(len(kernlog.complaints([f"[    1.000000] {text}"], {})), 1, text)

    def test_excerpt(self) -> None:
        rows = [f"row {n}" for n in range(200)]
        self.assertEqual(kernlog.excerpt(rows, []), rows[-40:])
        many = kernlog.complaints([r for _ in range(30) for r in REPORT], {})
        self.assertEqual(len(many), 30)
        self.assertLess(len(kernlog.excerpt([], many)), 130)
        self.assertIn("27 reports more", kernlog.excerpt([], many)[-1])

    def test_connection_errors(self) -> None:
        rows = [GOOD, "[    1.0]  connection6:0: detected conn error (1011)"]
        self.assertEqual(kernlog.connection_errors(rows), rows[1:])


if __name__ == "__main__":
    unittest.main()
