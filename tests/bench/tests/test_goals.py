# SPDX-License-Identifier: GPL-2.0
"""Goals, limits, plots, and the changed module."""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import cli, goals, limits, plans, plots, tables, variant  # noqa: E402
from lab import config  # noqa: E402
from lab.report import LabError  # noqa: E402


def groups(driver: float, stack: float, whole: float) -> dict[str, Any]:
    """One round of one driver."""
    return {"groups": [{tables.DRIVER: driver, tables.STACK: stack, tables.WHOLE: whole}]}


COUNTED = {"profiles": {"main": {load: {"c": groups(700, 1650, 70000), "rust": groups(own, 1300, whole)}
                                 for load, own, whole in ((goals.READ, 430.4, 68000),
                                                          (goals.WRITE, 380.6, 69500))}}}
SCALE = {name: {"profiles": {setup: {load: {"c": groups(10, 20, 30), "rust": groups(cost, 20, 30)}
                                     for load in (goals.READ, goals.WRITE)}
                             for setup, cost in (("few", 100.0), ("many", 106.0))}}
         for name in ("sessions", "luns")}


class Goals(unittest.TestCase):
    """A goal is judged as it is printed."""

    def test_counted(self) -> None:
        found = {g.name: g for g in goals.of_counted(COUNTED)}
        self.assertTrue(found[f"instructions per I/O, driver, {goals.READ}"].reached)
        self.assertFalse(found[f"instructions per I/O, driver, {goals.WRITE}"].reached)
        self.assertTrue(found[f"instructions per I/O, whole guest, {goals.READ}, ratio to C"].reached)
        self.assertFalse(found[f"instructions per I/O, whole guest, {goals.WRITE}, ratio to C"].reached)

    def test_scale(self) -> None:
        found = list(goals.of_scale(SCALE))
        self.assertEqual([(round(g.value, 1), g.reached) for g in found[:2]], [(6.0, False), (0.0, True)])

    def test_least(self) -> None:
        self.assertFalse(goals.Goal("x", 1.0, 0.999, least=True, digits=3).reached)
        self.assertTrue(goals.Goal("x", 1.0, 0.9996, least=True, digits=3).reached)

    def test_text(self) -> None:
        text = goals.text(list(goals.of_counted(COUNTED)))
        self.assertIn("NOT reached", text)
        self.assertTrue(text.endswith("3 of 6 reached"))

    def test_nothing(self) -> None:
        self.assertEqual(goals.goals({"control": {}}), [])


class Limits(unittest.TestCase):
    """The stage of `make check`."""

    LIMITS = {"a": {"limit": 100, "reason": "why"}, "b": {"limit": 50, "reason": "why"}}

    def test_verdicts(self) -> None:
        rows = limits.verdicts(self.LIMITS, {"a": 100.0, "b": 50.5}, [])
        self.assertEqual(rows[1], "1..3")
        self.assertTrue(rows[2].startswith("ok 1 a"))
        self.assertTrue(rows[3].startswith("not ok 2 b"))
        self.assertTrue(rows[-1].startswith("ok 3 the kernel log"))

    def test_complaint(self) -> None:
        rows = limits.verdicts(self.LIMITS, {"a": 100.0, "b": 50.0}, ["WARNING: x"])
        self.assertEqual(rows[-2], "# the kernel complained: WARNING: x")
        self.assertTrue(rows[-1].startswith("not ok 3 the kernel log"))

    def test_missing(self) -> None:
        self.assertIn("not ok 2 b: was not measured", limits.verdicts(self.LIMITS, {"a": 1.0}, []))

    def test_file(self) -> None:
        kept = tomllib.loads(limits.FILE.read_text(encoding="utf-8"))
        measured = {f"{p['rw']} {p['size'] >> 10}k qd{p['depth']}"
                    for s in plans.limit()["setups"] for p in s["patterns"]}
        self.assertEqual(set(kept), measured)
        for entry in kept.values():
            self.assertTrue(entry["limit"] > 0 and entry["reason"])


class Plots(unittest.TestCase):
    """Data become scripts for gnuplot."""

    def test_script(self) -> None:
        text = plots.script(plots.Bars("x", 'a "title"', "y", ["4k", "16k"],
                                       {"one": [1.0, None], "two": [3.0, 4.0]}), "command")
        self.assertIn("4k\t1\t3\n16k\tNaN\t4\nEND", text)
        self.assertIn('\\"title\\"', text)

    def test_counted(self) -> None:
        names = {p.name for p in plots.counted(COUNTED)}
        self.assertEqual(names, {"whole-guest-randread", "whole-guest-randwrite", "driver-randread",
                                 "driver-randwrite"})

    def test_tidy(self) -> None:
        text = plots.tidy("<?xml?>\n<svg \n a\n</svg>\n\n")
        self.assertEqual(text.splitlines()[2:], ["<svg", " a", "</svg>"])
        self.assertIn("SPDX-License-Identifier", text.splitlines()[1])

    def test_sizes(self) -> None:
        self.assertEqual((plots.size_of("512"), plots.size_of("4k")), (512, 4096))


class Resume(unittest.TestCase):
    """What a run that failed has left."""

    def test_found(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            where = Path(name)
            (where / "bench.json").write_text(json.dumps({"command": "c", "timed": {}, "memory": {}}), encoding="utf-8")
            (where / "bench.txt").write_text(
                "# command: c\n\n== goals\n\nnone\n\n== timed\n\na == b\n\nc\n\n== memory\n\nd\n",
                encoding="utf-8")
            kept, texts = cli.found_in(where)
        self.assertEqual(kept["command"], "c")
        self.assertEqual(texts, {"timed": "a == b\n\nc", "memory": "d"})

    def test_nothing_there(self) -> None:
        with tempfile.TemporaryDirectory() as name, self.assertRaises(LabError):
            cli.found_in(Path(name))


class Variants(unittest.TestCase):
    """A change that does not fit the source any more is noticed."""

    def test_fit(self) -> None:
        for name, changed in variant.VARIANTS.items():
            with self.subTest(name):
                source = (config.checkout() / changed.path).read_text(encoding="utf-8")
                self.assertNotEqual(changed.changed(source), source)

    def test_have_files_of_their_own(self) -> None:
        files = {v.file for v in variant.VARIANTS.values()}
        self.assertEqual(len(files), len(variant.VARIANTS))

    def test_does_not_fit(self) -> None:
        for changed in variant.VARIANTS.values():
            with self.assertRaises(LabError):
                changed.changed("nothing")


if __name__ == "__main__":
    unittest.main()
