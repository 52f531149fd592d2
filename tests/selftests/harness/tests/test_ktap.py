# SPDX-License-Identifier: GPL-2.0
"""KTAP as it is written and as it is read, broken input included."""

from __future__ import annotations

import io
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import ktap  # noqa: E402
from harness.ktap import FAIL, PASS, SKIP, XFAIL, Reader, Result, Writer  # noqa: E402

NESTED = """\
KTAP version 1
1..3
  KTAP version 1
  # Subtest: login
  1..2
  # a word before
  ok 1 lio.plain
  # why it failed
  # second line
  not ok 2 tgt.plain # it hurts
  # Totals: pass:1
not ok 1 login
  KTAP version 1
  # Subtest: chap
  1..1
  ok 1 lio.mutual # SKIP no target
ok 2 chap # SKIP
ok 3 flat
"""


def read(text: str) -> tuple[list[Result], Reader]:
    """All results of a text, the shortfalls included."""
    reader = Reader()
    found = [r for line in text.splitlines() for r in reader.feed(line)]
    return found + list(reader.finish()), reader


class ReaderTest(unittest.TestCase):
    """What comes from a machine may end anywhere."""

    def test_nested(self) -> None:
        found, _ = read(NESTED)
        self.assertEqual([(r.name, r.outcome, r.group) for r in found], [
            ("login/lio.plain", PASS, False), ("login/tgt.plain", FAIL, False),
            ("login", FAIL, True), ("chap/lio.mutual", SKIP, False), ("chap", SKIP, True),
            ("flat", PASS, False)])
        self.assertEqual(found[0].diagnostics, ["a word before"])
        self.assertEqual(found[1].diagnostics, ["why it failed", "second line"])
        self.assertEqual((found[1].note, found[3].note), ("it hurts", "no target"))

    def test_truncated_anywhere(self) -> None:
        rows = NESTED.splitlines()
        for length in range(2, len(rows)):
            found, _ = read("\n".join(rows[:length]))
            ends = [r for r in found if r.path[-1] == "ended early"]
            self.assertEqual(len(ends), 1, f"after {length} lines")
            self.assertEqual(ends[0].outcome, FAIL)

    def test_subtest_ends_early(self) -> None:
        found, _ = read("KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: a\n  1..2\n"
                        "  ok 1 x\n  last words\nnot ok 1 a # TIMEOUT 5 s\n")
        self.assertEqual([(r.name, r.group) for r in found],
                         [("a/x", False), ("a/ended early", False), ("a", True)])
        self.assertEqual(found[1].diagnostics, ["last words"])
        self.assertEqual(found[2].note, "TIMEOUT: 5 s")

    def test_group_fails_alone(self) -> None:
        found, _ = read("KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: a\n  1..1\n"
                        "  ok 1 x\n  # unloading failed\nnot ok 1 a\n")
        self.assertFalse(found[-1].group)
        self.assertEqual((found[-1].outcome, found[-1].diagnostics), (FAIL, ["unloading failed"]))

    def test_empty_plan(self) -> None:
        found, _ = read("KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: a\n"
                        "  1..0 # SKIP no device\nok 1 a # SKIP\n")
        self.assertEqual([(r.name, r.outcome, r.group) for r in found], [("a", SKIP, False)])
        self.assertEqual(found[0].diagnostics, ["SKIP no device"])

    def test_bail_out(self) -> None:
        found, reader = read("KTAP version 1\n1..2\nok 1 a\nBail out! module stays loaded\n")
        self.assertEqual(reader.bailed, "module stays loaded")
        self.assertEqual([r.outcome for r in found], [PASS, FAIL])

    def test_noise(self) -> None:
        found, _ = read("before\nKTAP version 1\n1..2\nnoise\n   ok 1 indented noise\nok 1 - a\n"
                        "\nok 2\n")
        self.assertEqual([(r.name, r.outcome) for r in found], [("a", PASS), ("test 2", PASS)])
        self.assertEqual(found[0].diagnostics, ["noise", "ok 1 indented noise"])

    def test_directives(self) -> None:
        for word, behind, wanted in (
                ("ok", "", (PASS, "")), ("not ok", "", (FAIL, "")), ("ok", "took 3 s", (PASS, "took 3 s")),
                ("ok", "SKIP no tgt", (SKIP, "no tgt")), ("not ok", "SKIP", (SKIP, "")),
                ("ok", "XFAIL known", (XFAIL, "known")), ("not ok", "XFAIL later", (XFAIL, "later")),
                ("not ok", "ERROR gone", (FAIL, "ERROR: gone")), ("ok", "SKIPPED", (PASS, "SKIPPED"))):
            self.assertEqual(ktap.outcome_of(word, behind), wanted)

    def test_nothing(self) -> None:
        self.assertEqual(read("")[0], [])
        self.assertEqual(read("no KTAP here\nok 1 looks like it\n")[0], [])


class WriterTest(unittest.TestCase):
    """What is written can be read."""

    def test_round_trip(self) -> None:
        stream = io.StringIO()
        writer = Writer(stream)
        writer.plan(4)
        writer.result("a", PASS)
        writer.diagnostic("first\nsecond\n")
        writer.result("b # c", FAIL, "it\nbroke # twice")
        writer.result("c", SKIP, "no device")
        writer.result("d", XFAIL, "C driver")
        writer.totals()
        found, _ = read(stream.getvalue())
        self.assertEqual([(r.name, r.outcome, r.note) for r in found], [
            ("a", PASS, ""), ("b c", FAIL, "it broke twice"), ("c", SKIP, "no device"),
            ("d", XFAIL, "C driver")])
        self.assertEqual(found[1].diagnostics, ["first", "second"])
        self.assertIn("pass:1 fail:1 xfail:1 xpass:0 skip:1", stream.getvalue())

    def test_skip_all(self) -> None:
        stream = io.StringIO()
        Writer(stream).skip_all("not here")
        self.assertEqual(stream.getvalue(), "KTAP version 1\n1..0 # SKIP not here\n")


if __name__ == "__main__":
    unittest.main()
