# SPDX-License-Identifier: GPL-2.0
"""What of a machine's kernel log fails its run, and how that is told."""

import io
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from lab import core, judge, kmsg, kreport, pair, vm
from lab.guest import detectors
from lab.report import Reporter

BOOT = "[    1.000000] WARNING: of the firmware\n[    2.000000] iser-lab: booted\n"
MARK = "[    9.000000] iser-lab: mark 12.3 login/lio.login\n"
REPORT = """\
[   10.000000] ------------[ cut here ]------------
[   10.000100] WARNING: kernel/x.c:7 at f+0x1/0x2, CPU#0: fio/7
[   10.000200]  g+0x1/0x2
[   10.000300] ---[ end trace 0000000000000000 ]---
"""
IDENTITY = ("WARNING: kernel/x.c:N at f+N/N", ("g",))
LEAK = ('unreferenced object 0xffff888011112222 (size 64):\n  comm "iscsid", pid 77\n'
        "  backtrace (crc 1234):\n    iscsi_thing+0x10/0x20 [libiscsi]\n")
DUMP = """\
[   20.000000] sysrq: Show Blocked State
[   20.000100] task:fio             state:D stack:0     pid:99
[   20.000200] Call Trace:
[   20.000300]  schedule+0x1/0x2
[   20.000400] task:dd              state:D stack:0     pid:98
[   20.000500] Call Trace:
"""


class Results(unittest.TestCase):
    """A directory of results, without a machine."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.out = Path(directory.name)


class JudgeTest(Results):
    """What is said of a run."""

    def verdict(self, console: str, status: int = 0, output: str = "", reason: str = "") -> vm.Verdict:
        """A machine that has said this."""
        (self.out / "console.log").write_text(BOOT + console, encoding="utf-8")
        (self.out / "output.log").write_text(output, encoding="utf-8")
        return judge.judge(vm.Verdict(status, reason, self.out, 1))

    def said(self, verdict: vm.Verdict) -> str:
        """What a person reads of it."""
        stream = io.StringIO()
        judge.tell(Reporter(stream), verdict)
        vm.explain(Reporter(stream), verdict)
        return stream.getvalue()

    def test_clean(self) -> None:
        self.assertEqual(self.verdict(MARK).status, 0)

    def test_a_report_fails_a_good_run(self) -> None:
        verdict = self.verdict(MARK + REPORT)
        self.assertEqual(verdict.status, vm.COMPLAINED)
        said = self.said(verdict)
        self.assertIn("guest: the kernel complained: WARNING: kernel/x.c:7", said)
        self.assertIn(f"{vm.UNTOLD}WARNING: kernel/x.c:7", said)
        self.assertIn("(in login/lio.login)", said)
        self.assertIn("| title: WARNING: kernel/x.c:N at f+N/N\n           | g\n", said)
        self.assertNotIn("last kernel messages", said)

    def test_other_ends_keep_their_reason(self) -> None:
        verdict = self.verdict(REPORT, vm.TIMED_OUT, reason="it took too long")
        self.assertEqual((verdict.status, verdict.reason), (vm.TIMED_OUT, "it took too long"))
        self.assertIn("guest: it took too long", self.said(verdict))
        self.assertIn(vm.UNTOLD, self.said(verdict))

    def test_told_once(self) -> None:
        """A test has failed for it, and has shown it."""
        output = "# title: WARNING: kernel/x.c:N at f+N/N\n# g\nnot ok 1 login\n"
        told = output
        said = self.said(self.verdict(MARK + REPORT, 1, output))
        self.assertIn("a test has failed for it, see above", said)
        self.assertNotIn(vm.UNTOLD, said)
        self.assertNotIn("title:", said)
        # It did not show all that it has failed for.
        output = ("KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: login\n  1..1\n  not ok 1 lio.login\n"
                  "not ok 1 login\n  KTAP version 1\n  # Subtest: chap\n  1..1\n  ok 1 lio.login\nok 2 chap\n")
        inner = "[    9.500000] iser-lab: mark 12.4 session 3\n"
        self.assertNotIn(vm.UNTOLD, self.said(self.verdict(MARK + inner + REPORT, 1, output)))
        other = MARK.replace("login/", "chap/") + REPORT
        self.assertIn(vm.UNTOLD, self.said(self.verdict(other, 1, output)))
        # What nobody has failed for is told, whatever was printed.
        self.assertIn(vm.UNTOLD, self.said(self.verdict(MARK + REPORT, 0, told)))
        self.assertIn(vm.UNTOLD, self.said(self.verdict(MARK + REPORT, 1, "not ok 1 login\n")))

    def test_known(self) -> None:
        with mock.patch.object(kreport, "known", return_value={IDENTITY: "why"}):
            verdict = self.verdict(REPORT + REPORT)
            self.assertEqual((verdict.status, len(verdict.known)), (0, 2))
            self.assertIn("known report, 2 times", self.said(verdict))
            other = self.verdict(REPORT.replace("g+0x1", "h+0x1"))
            self.assertEqual(other.status, vm.COMPLAINED)

    def test_leaks(self) -> None:
        (self.out / detectors.FOUND).write_text(LEAK, encoding="utf-8")
        found = "[    9.0] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n"
        verdict = self.verdict(found)
        self.assertEqual([r.title for r in verdict.reports], ["kmemleak: unreferenced object (size 64)"])
        self.assertEqual(verdict.status, vm.COMPLAINED)

    def test_what_was_asked_for(self) -> None:
        """Backtraces by sysrq are no report, and hide none."""
        self.assertEqual(self.verdict(DUMP).status, 0)
        for rest in (REPORT.replace("[   10.", "[   20.1"), "[   20.100000] BUG: KASAN: double-free in f\n",
                     "[   30.000000] Oops: 0000\n", MARK + "[   20.1] Call Trace:\n"):
            self.assertEqual(len(self.verdict(DUMP + rest).reports), 1, rest)
            self.assertEqual(kmsg.without_dumps((MARK + DUMP + rest).splitlines()), (MARK + rest).splitlines())

    def test_most(self) -> None:
        """Many reports are short; each is named."""
        many = "".join(REPORT.replace("x.c", f"x{n}x.c") for n in range(9))
        said = self.said(self.verdict(many + REPORT * 5))
        self.assertEqual(said.count(vm.UNTOLD), 10)
        self.assertIn("CPU#0: fio/7, 5 times\n", said)
        self.assertEqual(said.count("| title:"), judge.SHOWN_REPORTS)


class LabTest(Results):
    """Every run is judged, whoever has started it."""

    def lab(self) -> SimpleNamespace:
        """What of the lab a judgement takes."""
        found = SimpleNamespace(report=Reporter(io.StringIO()))
        found.judged = lambda *a: core.Lab.judged(found, *a)  # type: ignore[arg-type]
        return found

    def test_run_one(self) -> None:
        lab = self.lab()
        (self.out / "console.log").write_text(BOOT + REPORT, encoding="utf-8")
        lab._run_one = lambda *a, **k: vm.Verdict(0, "", self.out, 1)
        self.assertEqual(core.Lab.run_one(lab, self.out, [], {}, None).status, vm.COMPLAINED)

    def test_target_of_a_pair(self) -> None:
        """A target's machine that was killed has said something before."""
        lab = self.lab()
        lab.start = lambda out, *a, **k: SimpleNamespace(
            machine=SimpleNamespace(out=out), process=SimpleNamespace(poll=lambda: 0), kill=lambda: None,
            age=lambda: 0.0, wait=lambda seconds: vm.Verdict(0, "", out, 1))
        for text, status in ((MARK, 0), (REPORT, vm.COMPLAINED)):
            machines = pair.Pair(lab, self.out, {}, {})  # type: ignore[arg-type]
            machines.start_target("lio")
            where = self.out / "target-1"
            where.mkdir(exist_ok=True)
            (where / "console.log").write_text(BOOT + text, encoding="utf-8")
            self.assertEqual(machines.run([], 1, lambda chunk: None).status, status)


if __name__ == "__main__":
    unittest.main()
