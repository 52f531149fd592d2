# SPDX-License-Identifier: GPL-2.0
"""Counting results of other programs, and going on after a machine that died."""

from __future__ import annotations

import io
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from harness import every, ktap
from lab import config, resume, vm

from suite import guest, stages
from suite.process import Processes
from suite.results import CargoReader, KtapReader, Outcome
from suite.stages import with_build
from suite.tally import Tally

CARGO = """\
running 3 tests
test wire::tests::header ... ok
test slow ... ignored, takes long
test state::order ... FAILED

failures:

---- state::order stdout ----
thread 'state::order' panicked at src/x.rs:1:
left: 1

failures:
    state::order

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out
"""
ONE_OK = "KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: a\n  1..1\n  ok 1 x\nok 1 a\n"
IN_B = ONE_OK + "  KTAP version 1\n  # Subtest: b\n  1..2\n  ok 1 y\n"


class PatternTest(unittest.TestCase):
    """Patterns of --only."""

    def test_fitting_nothing(self) -> None:
        self.assertEqual(guest.unfit(["keys/", "recovery[slab]", "peers/", "chap/*nobody*"]), ["chap/*nobody*"])


class CargoTest(unittest.TestCase):
    """cargo test."""

    def test_results(self) -> None:
        reader = CargoReader()
        found = [o for line in CARGO.splitlines() for o in reader.feed(line)] + list(reader.finish())
        self.assertEqual([(o.name, o.result, o.note) for o in found], [
            ("wire::tests::header", "pass", ""), ("slow", "skip", "takes long"),
            ("state::order", "fail", "")])
        self.assertIn("left: 1", found[-1].details)

    def test_ktap_counts_leaves(self) -> None:
        reader = KtapReader()
        found = [o.name for line in ONE_OK.splitlines() for o in reader.feed(line)]
        self.assertEqual(found + [o.name for o in reader.finish()], ["a/x", "ended early"])

    def test_ktap_of_two_machines(self) -> None:
        """The second has what the first one has left."""
        for bail, rest in ((f"Bail out! {ktap.CONTINUED}x\n", []), ("Bail out! x\n", ["ended early"])):
            reader = KtapReader()
            found = [o.name for line in (ONE_OK + bail + ONE_OK.replace("1..2", "1..1")).splitlines()
                     for o in reader.feed(line)]
            self.assertEqual(found, ["a/x", *rest, "a/x"])


class TallyTest(unittest.TestCase):
    """The closing line, and the exit status."""

    def closing(self, *results: str) -> tuple[str, int]:
        """Last line and status of a run with these results."""
        stream = io.StringIO()
        tally = Tally(stream)
        for number, result in enumerate(results):
            tally.add("s", Outcome(str(number), result))
        status = tally.end("logs")
        return stream.getvalue().splitlines()[-1], status

    def test_closing(self) -> None:
        self.assertEqual(self.closing("pass", "pass"), ("2 passed, 0 failed", 0))
        self.assertEqual(self.closing("pass", "fail"), ("1 passed, 1 failed", 1))
        self.assertEqual(self.closing("pass", "skip", "xfail"), ("1 passed, 0 failed, 2 skipped", 0))

    def test_nothing_ran(self) -> None:
        self.assertEqual(self.closing(), ("0 passed, 1 failed", 1))
        self.assertEqual(self.closing("skip"), ("0 passed, 1 failed, 1 skipped", 1))


class StagesTest(unittest.TestCase):
    """Which stages are run."""

    def test_build_comes_first(self) -> None:
        """What loads the module gets one of this source; the C driver needs none."""
        self.assertEqual(with_build(["lint", "long"], "rust"), ["lint", "build", "long"])
        self.assertEqual(with_build(["build", "long"], "rust"), ["build", "long"])
        self.assertEqual(with_build(["long"], "c"), ["long"])
        self.assertEqual(with_build(["lint"], "rust"), ["lint"])

    def test_all(self) -> None:
        """Every stage that there is, and none in brief as well as in full."""
        found = stages.in_full([*stages.STAGES, "peers"])
        self.assertEqual(sorted(found), sorted(set(found)))
        left = {*stages.STAGES, *stages.MORE} - set(found)
        self.assertEqual(left, {"fuzz-brief", "hostile-brief"})
        for name in (*stages.STAGES, *stages.MORE):
            function = getattr(stages.Suite, name.replace("-", "_"))
            self.assertTrue(function.__doc__, name)

    def test_names(self) -> None:
        self.assertEqual(stages.named("soak", "stock", "lio"), "soak-lio")
        self.assertEqual(stages.named("selftests", "debug", "lio", "siw"), "selftests-debug-lio-siw")

    def test_in_brief(self) -> None:
        """Each name is that of one test of the hostile target, and each kind has one."""
        tests = [f"{name}" for names in resume.listed(config.checkout() / "tests/hostile", (), ()).values()
                 for name in names]
        for name in stages.HOSTILE_BRIEF:
            self.assertEqual([test for test in tests if name in test], [name])
        programs = {name.partition("/")[0] for name in tests}
        self.assertEqual(programs - {name.partition("/")[0] for name in stages.HOSTILE_BRIEF}, {"chance"})

    def commands(self, stage: str, **arguments: str) -> dict[str, list[str]]:
        """What a stage runs, by the name of its log."""
        found: dict[str, list[str]] = {}
        suite = stages.Suite.__new__(stages.Suite)
        suite.args = SimpleNamespace(**{"driver": "rust", "target": "", "only": [], "kernel": "stock",
                                        "rdma": "rxe", "walk_from": 1, **arguments})
        suite.logs, suite.tally = Path("logs"), Tally(io.StringIO())

        def program(name: str, argv: list[str], *rest: object) -> list[str]:
            del rest
            found[name] = argv
            return []

        def run(job: guest.Job, programs: object, start: object, out: Path) -> Iterator[Outcome]:
            del programs, start
            found[out.name] = [job.kernel, job.which, job.rdma]
            return iter(())
        with mock.patch.object(suite, "program", program), mock.patch.object(guest, "run", run), \
                mock.patch.object(guest, "chosen", return_value=["a.py"]):
            getattr(suite, stage.replace("-", "_"))()
        found.pop("debug-kernel", None)
        return found

    def test_on_the_instrumented_kernel(self) -> None:
        every_test = {f"selftests-debug-{target}": ["debug", "all", "rxe"] for target in ("lio", "tgt")}
        self.assertEqual(self.commands("selftests-debug"), every_test)
        self.assertEqual(self.commands("selftests-siw"), {"selftests-debug-lio-siw": ["debug", "all", "siw"],
                                                          "selftests-debug-tgt-siw": ["debug", "all", "siw"]})
        self.assertEqual(list(self.commands("selftests-siw", target="tgt")), ["selftests-debug-tgt-siw"])
        for stage in ("hostile-debug", "soak-debug", "peers-debug"):
            for name, argv in self.commands(stage).items():
                self.assertTrue(name.startswith(stage), name)
                self.assertEqual(argv[argv.index("--kernel") + 1], "debug")
        for target in ("lio", "tgt"):
            argv = self.commands("peers-siw")[f"peers-debug-{target}-siw"]
            self.assertEqual([argv[argv.index(word) + 1] for word in ("--kernel", "--rdma", "--target")],
                             ["debug", "siw", target])


class ProcessTest(unittest.TestCase):
    """Programs that end well, badly, late, or when all is ended."""

    def run_shell(self, script: str, seconds: float = 60) -> tuple[list[str], str, str]:
        """Lines, error and log of a shell script."""
        with tempfile.TemporaryDirectory() as where:
            log = Path(where) / "log"
            running = Processes(Path(where)).start(["sh", "-c", script], log, seconds)
            return list(running), running.error, log.read_text(encoding="utf-8")

    def test_ends(self) -> None:
        self.assertEqual(self.run_shell("echo a; echo b >&2"), (["a\n", "b\n"], "", "a\nb\n"))
        self.assertEqual(self.run_shell("echo a; exit 3"), (["a\n"], "exit status 3", "a\n"))
        self.assertEqual(self.run_shell("echo a; exec sleep 60", 0.5), (["a\n"], "took more than 0 s", "a\n"))

    def test_end_all(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            processes = Processes(Path(where))
            running = processes.start(["sleep", "60"], Path(where) / "log", 60)
            processes.end_all()
            self.assertEqual((list(running), running.error), ([], "exit status -15"))
            with self.assertRaises(OSError):
                processes.start(["true"], Path(where) / "log", 60)


class Lines:
    """What a machine printed, and how it ended."""

    def __init__(self, text: str) -> None:
        self._rows = text.splitlines(keepends=True)
        self.error = "exit status 125" if "guest: " in text else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)


class GuestTest(unittest.TestCase):
    """Machines that end as they should, and others."""

    def run_machines(self, chosen: list[str], *outputs: str) -> tuple[list[Outcome], list[list[str]]]:
        """Run with machines that print this; the results, and what each was asked to run."""
        asked: list[list[str]] = []
        texts = iter(outputs)

        def start(argv: list[str], log: Path) -> Lines:
            self.assertEqual(log.name, f"s-{len(asked) + 1}.log")
            asked.append([word for word in argv if word.endswith(".py")])
            return Lines(next(texts))
        job = guest.Job("rust", "lio")
        return list(guest.run(job, chosen, start, Path("logs/s"))), asked

    def test_good(self) -> None:
        text = IN_B + "  ok 2 z\nok 2 b\n"
        found, asked = self.run_machines(["a.py", "b.py"], text)
        self.assertEqual([o.name for o in found], ["a/x", "b/y", "b/z"])
        self.assertEqual(asked, [["a.py", "b.py"]])

    def test_panic(self) -> None:
        panic = IN_B + "[ 1.0s] guest: the guest kernel panicked: oops\n"
        rest = ONE_OK.replace("Subtest: a", "Subtest: c").replace(" a\n", " c\n").replace("1..2", "1..1")
        found, asked = self.run_machines(["a.py", "b.py", "c.py"], panic, rest)
        self.assertEqual([(o.name, o.result) for o in found],
                         [("a/x", "pass"), ("b/y", "pass"), ("b/ended early", "fail"), ("c/x", "pass")])
        self.assertIn("panicked", found[2].note)
        self.assertEqual(asked, [["a.py", "b.py", "c.py"], ["c.py"]])

    def test_death_after_the_last_result(self) -> None:
        found, _ = self.run_machines(["a.py", "b.py"], IN_B + "  ok 2 z\nok 2 b\n[ 9.0s] guest: it panicked\n")
        self.assertEqual([(o.name, o.result) for o in found][-2:], [("b/z", "pass"), ("machine", "fail")])
        self.assertEqual(found[-1].note, "it panicked")

    def test_report_that_no_test_has_failed_for(self) -> None:
        said = (f"[ 9.0s] {vm.UNTOLD}BUG: x (in b/z)\n           | BUG: x\n"
                "[ 9.0s] guest: the kernel complained: BUG: x\n")
        for last, failed in (("ok 2 z\nok 2 b\n", []), ("not ok 2 z\nnot ok 2 b\n", ["b/z"])):
            found, asked = self.run_machines(["a.py", "b.py"], f"{IN_B}  {last}{said}")
            self.assertEqual([o.name for o in found if o.result == "fail"], [*failed, "kernel log"])
            self.assertEqual(found[-1].note, "BUG: x (in b/z)")
            self.assertEqual(len(asked), 1)

    def test_lockdep_goes_off(self) -> None:
        """The rest runs in another machine, and nothing has failed by that."""
        rest = ONE_OK.replace("Subtest: a", "Subtest: b").replace(" a\n", " b\n").replace("1..2", "1..1")
        first = f"{ONE_OK}Bail out! {ktap.CONTINUED}lockdep went off\n"
        found, asked = self.run_machines(["a.py", "b.py"], first, rest)
        self.assertEqual([(o.name, o.result) for o in found], [("a/x", "pass"), ("b/x", "pass")])
        self.assertEqual(asked, [["a.py", "b.py"], ["b.py"]])

    def test_no_boot(self) -> None:
        found, asked = self.run_machines(["a.py"], "iser-lab: no such kernel\n")
        self.assertEqual([(o.name, o.result) for o in found], [("machine", "fail")])
        self.assertEqual(found[0].details, ["iser-lab: no such kernel"])
        self.assertEqual(len(asked), 1)

    def test_bail_out(self) -> None:
        text = ONE_OK.replace("ok 1 a", "not ok 1 a") + "Bail out! dirty\n"
        rest = ONE_OK.replace("Subtest: a", "Subtest: b").replace(" a\n", " b\n").replace("1..2", "1..1")
        found, asked = self.run_machines(["a.py", "b.py"], text, rest)
        self.assertEqual([(o.name, o.result) for o in found],
                         [("a/x", "pass"), ("a", "fail"), ("b/x", "pass")])
        self.assertEqual(asked[1], ["b.py"])

    def test_instrumented_kernel(self) -> None:
        stock, slow = guest.Job("rust", "lio"), guest.Job("rust", "lio", kernel="debug")
        words = guest.command(slow, Path("logs/s"), ["a.py"])
        self.assertEqual(words[words.index("--kernel") + 1], "debug")
        self.assertGreater(float(words[words.index("--timeout") + 1]), stock.seconds())
        self.assertIn("ISER_SLOWNESS", slow.environment())
        self.assertNotIn("ISER_SLOWNESS", stock.environment())

    def test_other_device(self) -> None:
        plain = guest.Job("rust", "lio", kernel="debug").environment()
        other = guest.Job("rust", "lio", kernel="debug", rdma="siw", walk_from=57).environment()
        self.assertEqual({k: v for k, v in other.items() if k not in plain},
                         {"ISER_RDMA": "siw", "ISER_WALK_FROM": "57"})

    def test_peers_by_name(self) -> None:
        self.assertFalse(guest.fits_peers([]))
        self.assertFalse(guest.fits_peers(["login/"]))
        self.assertTrue(guest.fits_peers(["login/", "peers/tgt.*"]))

    def test_programs_exist(self) -> None:
        here = Path(guest.__file__).resolve().parents[2] / guest.SELFTESTS
        listed = every.programs() + every.programs(variable=guest.EXTENDED)
        self.assertEqual(sorted(listed), sorted(p.name for p in here.glob("*.py")))
        for name in listed:
            self.assertTrue((here / name).stat().st_mode & 0o111, name)


if __name__ == "__main__":
    unittest.main()
