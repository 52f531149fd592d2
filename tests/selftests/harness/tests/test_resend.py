# SPDX-License-Identifier: GPL-2.0
"""Losses that rxe is to blame for are told from others."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import resend  # noqa: E402
from lab.report import LabError  # noqa: E402

TRACE = """\
# tracer: nop
    kworker/u4:0-12      [000] .....   113.050833: sends_again: (req_retry+0x0/0xbb0 [rdma_rxe])
    kworker/u4:0-12      [000] .....   113.052001: registration: (rxe_sender+0x1a/0x20 <- rxe_reg_fast_mr) ret=-22
"""


class ResendTest(unittest.TestCase):
    """The order and the times of what was recorded."""

    def setUp(self) -> None:
        self.events = resend.parse(TRACE)

    def test_parsed(self) -> None:
        self.assertEqual(self.events, [(113.050833, "sends_again"), (113.052001, "registration")])

    def test_explained(self) -> None:
        self.assertTrue(resend.explained(self.events, ["[  113.060000]  connection5:0: detected conn error (1011)"]))

    def test_not_explained(self) -> None:
        rows = {"before it": "[  113.010000]  connection5:0: detected conn error (1011)",
                "long after it": "[  163.010000]  connection5:0: detected conn error (1011)",
                "no time": "connection5:0: detected conn error (1011)"}
        for what, row in rows.items():
            self.assertFalse(resend.explained(self.events, [row]), what)
        both = ["[  113.060000]  connection5:0: detected", "[  163.010000]  connection6:0: detected"]
        self.assertFalse(resend.explained(self.events, both))

    def test_other_order(self) -> None:
        row = ["[  113.060000]  connection5:0: detected conn error (1011)"]
        self.assertFalse(resend.explained(self.events[1:], row), "nothing was sent again")
        self.assertFalse(resend.explained(self.events[:1], row), "nothing was refused")


class ProbesTest(unittest.TestCase):
    """What is recorded where a function was inlined."""

    def test_inlined(self) -> None:
        made: list[str] = []

        def define(text: str) -> None:
            if "req_retry" in text:
                raise LabError("no such function")
            made.append(text)
        with mock.patch.object(resend, "define", define):
            resend.define_one("p:g/e", resend.SENDS_AGAIN)
            with self.assertRaises(LabError):
                resend.define_one("p:g/e", ("req_retry",))
        self.assertEqual(made, ["p:g/e rdma_rxe:retransmit_timer"])


if __name__ == "__main__":
    unittest.main()
