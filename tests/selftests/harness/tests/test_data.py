# SPDX-License-Identifier: GPL-2.0
"""Patterns, windows into memory, sense data, and what is read of the kernel's tables."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import case, leftover, probe, program, sgio  # noqa: E402
from harness.case import Case, Failure  # noqa: E402
from harness.data import ALL, GUARD, Memory, Pattern, Window, compare  # noqa: E402

SHOWN = """\
link rxe0/1 cm-idn 1 state LISTEN ps TCP comm [ib_isert] src-addr fd77::1:3260
link rxe0/1 cm-idn 8 lqpn 23 qp-type RC state CONNECT ps TCP comm [ib_iser] src-addr 192.168.77.1:43212
link rxe0/1 cm-idn 9 lqpn 23 qp-type RC state CONNECT ps TCP comm [ib_iser_rs] src-addr 192.168.77.1:432
dev rxe0 pdn 3 users 1 pid 77 comm ib_iser
"""
TRACE = """\
# tracer: nop
          python3-151     [000] .....    12.345678: rxe_reg_fast_mr: (rxe_reg_fast_mr+0x0/0x90)
     ksoftirqd/0-15      [000] ..s..    12.345699: other_probe: (x+0x0/0x90)
          <idle>-0       [001] ..s..    12.345701: rxe_invalidate_mr: (rxe_invalidate_mr+0x0/0x90)
"""


class DataTest(unittest.TestCase):
    """Wrong data is told from right data."""

    def test_pattern(self) -> None:
        pattern = Pattern(seed=1, largest=1 << 16)
        seen = set()
        for lba in range(64):
            for generation in range(4):
                content = pattern.content(lba, 512, generation)
                self.assertEqual(content, pattern.content(lba, 512, generation))
                seen.add(content)
        self.assertEqual(len(seen), 256)
        with self.assertRaises(ValueError):
            pattern.content(0, (1 << 16) + 1)

    def test_window(self) -> None:
        memory = Memory(4 * 4096)
        window = Window(memory, 5, 100)
        self.assertEqual((window.address - memory.address) % 4096, 5)
        window.fill(7)
        window.check_guards("x")
        for position in (4096 + 5 - 1, 4096 + 5 - GUARD, 4096 + 105, 4096 + 105 + GUARD - 1):
            Window(memory, 5, 100)
            memory.view[position] ^= 1
            with self.assertRaises(Failure):
                window.check_guards("x")
        with self.assertRaises(ValueError):
            Window(memory, 0, 3 * 4096)

    def test_all_around(self) -> None:
        """The first and the last byte of the memory are of a guard, if that is asked for, and else not."""
        memory = Memory(4 * 4096)
        for position in (0, 4 * 4096 - 1):
            for guard, guarded in ((ALL, True), (GUARD, False)):
                window = Window(memory, 512, 100, guard)
                window.check_guards("x")
                memory.view[position] ^= 1
                if guarded:
                    self.assertRaises(Failure, window.check_guards, "x")
                else:
                    window.check_guards("x")

    def test_compare(self) -> None:
        compare("x", memoryview(b"abc"), b"abc")
        with self.assertRaisesRegex(Failure, "1 of 3 bytes differ, first at 2, last at 2"):
            compare("x", b"abd", b"abc")
        with self.assertRaisesRegex(Failure, "2 bytes"):
            compare("x", b"ab", b"abc")


class ScsiTest(unittest.TestCase):
    """CDBs have their lengths, sense data its two formats."""

    def test_sense(self) -> None:
        fixed = bytes([0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 1, 0, 0, 0, 0])
        self.assertEqual(sgio.decode(fixed), (5, 0x20, 1))
        self.assertEqual(sgio.decode(bytes([0x72, 5, 0x20, 1, 0, 0, 0, 0])), (5, 0x20, 1))
        for short in (b"", fixed[:13], b"\x72\x05", bytes(18)):
            self.assertEqual(sgio.decode(short), (0, 0, 0))

    def test_lengths(self) -> None:
        for cdb, length in ((sgio.read10(1, 2), 10), (sgio.write16(1, 2), 16), (sgio.inquiry(36), 6),
                            (sgio.report_luns(8), 12), (sgio.compare_and_write(1, 1), 16),
                            (sgio.reserve_out(0, 0, 24), 10), (sgio.reserve_in(0, 255), 10),
                            (sgio.synchronize_cache(), 10), (sgio.mode_sense(63, 255), 6)):
            self.assertEqual(len(cdb), length)
        self.assertEqual(sgio.read10(0x01020304, 0x0506).hex(), "28000102030400050600")
        self.assertEqual(sgio.reserve_out(1, 3, 24).hex(), "5f010300000000001800")


class TablesTest(unittest.TestCase):
    """What the kernel shows."""

    def test_owned(self) -> None:
        self.assertEqual(len(leftover.owned("cm_id", SHOWN, "ib_iser")), 2)
        self.assertEqual(len(leftover.owned("cm_id", SHOWN, "ib_iser_rs")), 1)

    def test_profile(self) -> None:
        text = "  iser_selftest/a       12       3\n  b   0  0\nnonsense\n"
        self.assertEqual(probe.parse_profile(text), {"a": 15, "b": 0})

    def test_trace(self) -> None:
        names = ["rxe_reg_fast_mr", "rxe_invalidate_mr"]
        self.assertEqual(probe.parse_trace(TRACE, names), names)


class CaseTest(unittest.TestCase):
    """Which tests are chosen, and what an expected difference does."""

    def test_select(self) -> None:
        cases = [Case("a", print), Case("b[4k]", print, "lio"), Case("b[4k]", print, "tgt")]

        def names(targets: tuple[str, ...], *patterns: str) -> list[str]:
            return [c.full_name for c in case.select(cases, targets, "prog", patterns)]
        self.assertEqual(names(("lio", "tgt")), ["a", "lio.b[4k]", "tgt.b[4k]"])
        self.assertEqual(names(("tgt",)), ["tgt.b[4k]"])
        self.assertEqual(names(("lio", "tgt"), "lio."), ["lio.b[4k]"])
        self.assertEqual(names(("lio", "tgt"), "prog/a", "tgt"), ["a", "tgt.b[4k]"])
        self.assertEqual(names(("lio", "tgt"), "*/a"), ["a"])
        self.assertEqual(names(("lio", "tgt"), "nothing"), [])

    def test_sets(self) -> None:
        cases = [Case("a", print), Case("b", print, long=True)]

        def names(which: str, *patterns: str) -> list[str]:
            return [c.name for c in case.select(cases, ("lio",), "prog", patterns, (), which)]
        self.assertEqual([names(""), names("short"), names("long"), names("all")],
                         [["a"], ["a"], ["b"], ["a", "b"]])
        self.assertEqual([names("", "prog"), names("long", "prog"), names("short", "prog/b")],
                         [["a", "b"], ["b"], []])

    def test_judged(self) -> None:
        self.assertEqual(program.judged("pass", "", ""), ("pass", ""))
        self.assertEqual(program.judged("fail", "", ""), ("fail", ""))
        self.assertEqual(program.judged("fail", "", "C does so"), ("xfail", "C does so"))
        self.assertEqual(program.judged("pass", "", "C does so")[0], "fail")
        self.assertEqual(program.judged("skip", "no tgt", "C does so"), ("skip", "no tgt"))

    def test_checks(self) -> None:
        case.check(True, "x")
        case.equal("x", 1, 1)
        with self.assertRaisesRegex(Failure, "x: 1, and it should be 2"):
            case.equal("x", 1, 2)


if __name__ == "__main__":
    unittest.main()
