# SPDX-License-Identifier: GPL-2.0
"""What lockdep's going off does to results, to the program, and to those after it."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import unittest
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import every, ktap, program  # noqa: E402
from harness.case import Case  # noqa: E402
from lab import kreport  # noqa: E402
from lab.guest import detectors, kernlog  # noqa: E402

KASAN = ["[    5.000000] BUG: KASAN: slab-use-after-free in f+0x1/0x2"]
WARNING = ["[    5.000000] WARNING: at f+0x1/0x2"]


class LockdepTest(unittest.TestCase):
    """A kernel that has lockdep, which goes off in one of the tests."""

    def setUp(self) -> None:
        self.on = True
        self.rows: list[str] = []
        excused = {report.identity: "why" for rows in (KASAN, WARNING) for report in kreport.reports(rows)}
        for where, name, value in (
                (detectors, "lockdep_works", lambda: self.on), (detectors, "has_lockdep", lambda: True),
                (kernlog, "mark", str), (kernlog, "since", lambda mark: self.rows)):
            patch = mock.patch.object(where, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        patch = mock.patch.object(program.judge, "known", lambda: excused)
        patch.start()
        self.addCleanup(patch.stop)

    def results(self, said: Sequence[str]) -> dict[str, ktap.Result]:
        """Of a program in whose first test lockdep goes off and the kernel says this."""
        def off(env: object) -> None:
            del env
            self.on, self.rows = False, list(said)

        def quiet(env: object) -> None:
            del env
            self.rows = []
        env = SimpleNamespace(driver=SimpleNamespace(module="m", kind="rust"), start=lambda: None, stop=lambda: None,
                              begin=lambda kind: None, restore=lambda failed: None, other_rows=lambda: [])
        stream = io.StringIO()
        program.Program("p", env, [Case("off", off), Case("after", quiet)],  # type: ignore[arg-type]
                        ktap.Writer(stream)).run()
        reader = ktap.Reader()
        return {r.name: r for line in stream.getvalue().splitlines() for r in reader.feed(line)}

    def test_with_a_known_report(self) -> None:
        found = self.results(KASAN)
        self.assertEqual([r.outcome for r in found.values()], [ktap.PASS] * 4)
        self.assertTrue(found["off"].note.endswith("; lockdep went off"), found["off"].note)
        self.assertEqual([found[n].note for n in ("setup", "after", "end")], ["", "without lockdep", "without lockdep"])

    def test_by_itself(self) -> None:
        for said in ([], WARNING):
            self.on = True
            found = self.results(said)
            self.assertEqual((found["off"].outcome, found["after"].outcome), (ktap.FAIL, ktap.PASS))

    def test_off_before(self) -> None:
        self.on = False
        found = self.results([])
        self.assertEqual({n: r.outcome for n, r in found.items()}, {"setup": ktap.FAIL})

    def run_programs(self, *texts: str) -> tuple[int, str]:
        """The runner, with such programs, lockdep going off in the first."""
        with tempfile.TemporaryDirectory() as where:
            names = [f"p{number}.py" for number in range(len(texts))]
            for name, text in zip(names, texts):
                Path(where, name).write_text(text, encoding="utf-8")
            runner = every.Runner(60, Path(where))
            stream = io.StringIO()
            one = runner.one

            def then_off(name: str) -> None:
                one(name)
                self.on = False
            with redirect_stdout(stream), mock.patch.object(runner, "one", then_off):
                runner.out = ktap.Writer()
                status = runner.run(names)
            return status, stream.getvalue()

    def test_programs_after_it(self) -> None:
        good = "print('KTAP version 1\\n1..1\\nok 1 x')"
        status, text = self.run_programs(good, good)
        self.assertEqual(status, os.EX_OK)
        self.assertIn("Bail out! to be continued: lockdep went off in p0", text)
        self.assertNotIn("p1", text)
        reader = ktap.Reader()
        found = [r for line in text.splitlines() for r in reader.feed(line)] + list(reader.finish())
        self.assertEqual([(r.name, r.outcome) for r in found], [("p0/x", ktap.PASS), ("p0", ktap.PASS)])
        # After the last one there is nothing to go on with.
        self.on = True
        self.assertNotIn("Bail out!", self.run_programs(good)[1])
        self.on = True
        self.assertEqual(self.run_programs(good + "; raise SystemExit(1)", good)[0], 1)


if __name__ == "__main__":
    unittest.main()
