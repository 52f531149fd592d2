# SPDX-License-Identifier: GPL-2.0
"""A target in a machine of its own, with the host's hand and the target's answers made up."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import kernlog, peers  # noqa: E402

CRASH = ("[   88.507114] traps: tgtd[171] general protection fault ip:7feeeb26b396 sp:7fff4a5a3b90 error:0 in "
         "librdmacm.so.1.3.56.1[6396,7feeeb269000+15000]")


class MachineTest(unittest.TestCase):
    """What the host is asked for."""

    def setUp(self) -> None:
        self.asked: list[tuple[object, ...]] = []

        def ask(*words: object, **options: object) -> list[object]:
            self.asked.append(words)
            return [] if words == ("target log",) else words[1:]

        for patch in (mock.patch.object(peers.hand, "ask", ask), mock.patch.object(peers.peer, "wait"),
                      mock.patch("builtins.print")):
            patch.start()
            self.addCleanup(patch.stop)

    def test_life(self) -> None:
        machine = peers.Machine("lio")
        machine.up()
        machine.down()
        self.assertEqual(self.asked, [("start target", "lio"), ("kill target",)])

    def test_one_serves_while_it_is_the_same(self) -> None:
        env = peers.Peers()
        env.begin("lio")
        env.machine()
        env.machine()
        self.assertEqual(self.asked, [("start target", "lio")])
        env.begin("tgt")
        self.assertEqual(env.machine().iqn, "iqn.2026-01.lab.iser:tgt")
        self.assertEqual(self.asked[1:], [("kill target",), ("start target", "tgt")])
        self.assertEqual(env.other_rows(), [])


class ReportTest(unittest.TestCase):
    """What the target's kernel says."""

    def test_crash_of_tgtd_is_known(self) -> None:
        table = kernlog.known()
        self.assertEqual(kernlog.complaints([CRASH], table), [])
        self.assertEqual(len(kernlog.excused([CRASH], table)), 1)
        other = CRASH.replace("tgtd", "iscsid")
        self.assertEqual(len(kernlog.complaints([other], table)), 1)


if __name__ == "__main__":
    unittest.main()
