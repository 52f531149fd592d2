# SPDX-License-Identifier: GPL-2.0
"""The command line: what to measure, and where the results go."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from bench import counting, counts, goals, limits, plans, plots, timings, variant
from bench.machine import Bench
from lab import config, verbs, vm
from lab.core import Lab
from lab.report import LabError, Reporter

TIMEOUT = 3600.0
LICENCE = "SPDX-License-Identifier: GPL-2.0"
KEPT = config.checkout() / "Documentation/benchmarks"
YES = ("1", "y", "Y", "yes")
Result = tuple[dict[str, Any], str]


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="tests/bench/run", description=(
        "Measure ib_iser_rs against ib_iser, iscsi_tcp and nvme_rdma in the lab's machine. Parts: "
        + "; ".join(f"{name}: {part.__doc__}" for name, part in PARTS.items())
        + f" limit: {limits.__doc__}"))
    top.add_argument("parts", nargs="*", metavar="PART",
                     help=f"{', '.join(PARTS)}; default: all of these; or `limit` alone")
    top.add_argument("--quick", action="store_true", default=os.environ.get("QUICK") in YES,
                     help="(QUICK=1) the loads of 4 KiB and few more, fewer rounds")
    top.add_argument("--goals", action="store_true", default=os.environ.get("GOALS") in YES,
                     help="(GOALS=1) only what the goals are about, by the two iSER drivers")
    top.add_argument("--driver", action="append", choices=plans.DRIVERS, help="only this driver")
    top.add_argument("--module", type=Path, help="this ib_iser_rs.ko instead of one built here")
    top.add_argument("--machines", type=int, default=2, help="so many machines at a time (2)")
    top.add_argument("--keep", action="store_true", help="keep the plugin's snapshots, some 1000 MB")
    top.add_argument("--resume", type=Path, metavar="DIR",
                     help="the results of a run of which a part failed: run only what they lack, with their module")
    top.add_argument("--record", action="store_true",
                     help="put what a full run finds into Documentation/benchmarks, too")
    top.add_argument("--out", type=Path, help="copy what a run finds into this directory, too")
    return top


class Run:
    """One invocation: its options and the bench."""

    def __init__(self, bench: Bench, args: argparse.Namespace) -> None:
        self.bench, self.args = bench, args
        rivals = plans.ISER if args.goals else plans.DRIVERS
        self.drivers: list[str] = [d for d in rivals if not args.driver or d in args.driver]
        self.quick: bool = args.quick

    def counted(self) -> Result:
        """instructions per I/O by size, module, function and line;"""
        return counting.by_size(self.bench, plans.counted(self.quick, self.drivers), self.args.keep)

    def timed(self) -> Result:
        """IOPS, latencies and bandwidth, one instruction being one nanosecond;"""
        got = self.bench.run("timed", "timed", plans.timed(self.quick, self.drivers), TIMEOUT,
                             accel="icount")
        found = timings.entries(got["rows"])
        return {**got, "entries": found}, timings.timed_text(found)

    def scale(self) -> Result:
        """instructions per I/O with many sessions and with many LUNs;"""
        return counting.several(self.bench, "scale", plans.scale(self.quick, self.drivers),
                                "instructions per I/O", self.args.keep)

    def choices(self) -> Result:
        """instructions per I/O with choices of the design switched the other way;"""
        machines = plans.choices(self.quick, self.drivers)
        setups = machines["lio"]["setups"]
        if self.args.module:
            # What was built elsewhere has no source here to change.
            setups[:] = [s for s in setups if "module" not in s]
        elif any("module" in s for s in setups):
            for name, changed in variant.VARIANTS.items():
                with self.bench.lab.report.step(f"module with {name}: make"):
                    variant.build(self.bench.lab, changed, self.bench.out / "choices-lio")
        data, text = counting.several(self.bench, "choices", machines, "instructions per I/O",
                                      self.args.keep)
        what = "\n".join(f"{name}: {text}" for name, text in plans.CHOICES.items())
        return data, f"{what}\n\n{text}"

    def control(self) -> Result:
        """how long a login, a logout, and the return of a lost target take;"""
        got = self.bench.run("control", "control", plans.control(self.quick, self.drivers), TIMEOUT,
                             accel="icount")
        return got, timings.control_text(got["rows"])

    def link(self) -> Result:
        """how long the return of a lost link takes;"""
        got = self.bench.run_two("link", plans.link(self.quick, self.drivers), TIMEOUT, cpus=1)
        return got, timings.loss_text(got["rows"])

    def memory(self) -> Result:
        """what sessions and LUNs hold in the initiator's kernel;"""
        # One CPU each: together they take what one machine of the lab takes.
        got = self.bench.run_two("memory", plans.memory(self.quick, self.drivers), TIMEOUT, cpus=1)
        return got, timings.memory_text(got["rows"])


PARTS: dict[str, Callable[[Run], Result]] = {
    name: getattr(Run, name) for name in ("counted", "timed", "scale", "choices", "control", "link", "memory")}


def command(args: argparse.Namespace) -> str:
    """How to have the same measured again; where the results went is nobody's business."""
    words = ["tests/bench/run", *args.parts]
    words += [f"--{name}" for name in ("quick", "goals") if getattr(args, name)]
    words += [word for kind in args.driver or () for word in ("--driver", kind)]
    return shlex.join([*words, *(["--module", args.module.name] if args.module else [])])


class Record:
    """What is known so far, kept as it comes."""

    def __init__(self, bench: Bench, args: argparse.Namespace, began: float) -> None:
        self.bench, self.began = bench, began
        self.command = command(args)
        self.kept: dict[str, Any] = {"licence": LICENCE, "command": self.command, "date": time.strftime("%Y-%m-%d"),
                                     "quick": args.quick, "conditions": bench.conditions()}
        self.texts: dict[str, str] = {}
        self.lock = Lock()

    def resume(self, where: Path) -> None:
        """Begin with what an earlier run has found in `where`; it must have been one of the same kind."""
        kept, texts = found_in(where)
        here = {**self.kept["conditions"], "source": kept["conditions"]["source"]}
        for what, old, new in (("command", kept["command"], self.command),
                               ("conditions", kept["conditions"], here)):
            if old != new:
                raise LabError(f"{where} cannot be gone on with: its {what}: {old}, here: {new}")
        if kept["conditions"]["source"] != self.kept["conditions"]["source"]:
            here["gone on with by"] = self.kept["conditions"]["source"]
        self.kept, self.texts = {**kept, "conditions": here}, texts
        self.began -= kept["seconds"]

    def add(self, name: str, result: Result) -> None:
        """Keep a part's result and write both files again."""
        with self.lock:
            self.kept[name], self.texts[name] = result
            if complaints := result[0].get("complaints"):
                self.texts[name] += "\n\nthe kernel complained meanwhile:\n" + "\n".join(complaints)
            self.kept["goals"] = []
            if (found := self.goals()):
                self.kept["goals"] = goals.as_json(found)
            print(f"\n== {name}\n\n{self.texts[name]}\n", flush=True)
            self.write()

    def goals(self) -> list[goals.Goal]:
        """The goals, as far as both drivers were measured."""
        try:
            return goals.goals(self.kept)
        except (KeyError, TypeError):
            return []

    def write(self) -> None:
        """Write bench.json and bench.txt."""
        self.kept["seconds"] = round(time.monotonic() - self.began)
        head = [LICENCE, f"command: {self.command}",
                f"date: {self.kept['date']}", f"seconds: {self.kept['seconds']}",
                *(f"{k}: {v}" for k, v in self.kept["conditions"].items())]
        parts = ["\n".join(f"# {row}" for row in head)]
        if (found := self.goals()):
            parts.append(f"== goals\n\n{goals.text(found)}")
        parts += [f"== {name}\n\n{self.texts[name]}" for name in PARTS if name in self.texts]
        out = self.bench.out
        (out / "bench.json").write_text(json.dumps(self.kept, separators=(",", ":")) + "\n",
                                        encoding="utf-8")
        text = "\n".join(row.rstrip() for row in "\n\n".join(parts).splitlines())
        (out / "bench.txt").write_text(text + "\n", encoding="utf-8")


def found_in(where: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What bench.json and bench.txt of a run say: its record, and the text of each of its parts."""
    try:
        kept = json.loads((where / "bench.json").read_text(encoding="utf-8"))
        text = (where / "bench.txt").read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise LabError(f"{where} does not hold the results of a run: {exc}") from exc
    sections = re.split(r"^== (\w+)\n\n", text, flags=re.MULTILINE)
    texts = dict(zip(sections[1::2], (body.rstrip("\n") for body in sections[2::2]), strict=True))
    return kept, {name: body for name, body in texts.items() if name in kept and name in PARTS}


def keep(out: Path, drawn: list[Path], where: Path) -> None:
    """Copy what a run found; its plots replace those that were there."""
    where.mkdir(parents=True, exist_ok=True)
    for old in where.glob("*.svg"):
        old.unlink()
    for path in (out / "bench.txt", out / "bench.json", *drawn):
        shutil.copy(path, where / path.name)


def wanted(args: argparse.Namespace) -> list[str]:
    """The parts to run, in the order of the tables."""
    for part in args.parts:
        if part not in PARTS:
            raise LabError(f"no part is called {part}; there are {', '.join(PARTS)}, and limit alone")
    if args.parts:
        return [p for p in PARTS if p in args.parts]
    return list(goals.PARTS) if args.goals else list(PARTS)


def measure(args: argparse.Namespace) -> int:
    """Run the parts, show and keep what they say."""
    began = time.monotonic()
    report = Reporter()
    lab = Lab(report)
    alone = args.parts == ["limit"]
    if args.record and (args.quick or args.goals or args.parts or args.driver):
        raise LabError("only a full run is put on record: --record goes with no part and no other choice")
    parts = [] if alone else wanted(args)
    if args.resume and args.module:
        raise LabError("--resume takes the module of the run that it goes on with, not --module")
    module = args.module or (args.resume / "ib_iser_rs.ko" if args.resume else verbs.build_module(lab))
    if not module.is_file():
        raise LabError(f"{module} does not exist")
    out = vm.results_dir(lab.cache, "bench")
    bench = Bench(lab, out, module)
    if alone:
        return limits.check(bench)
    run, record = Run(bench, args), Record(bench, args, began)
    if args.resume:
        record.resume(args.resume)
        parts = [part for part in parts if part not in record.texts]
    # What all parts share is made before any of them starts.
    bench.plugin()
    lab.kernel()
    lab.roots.guest_image()
    report.line(f"results: {out}")

    def one(name: str) -> None:
        with report.step(name):
            record.add(name, PARTS[name](run))
    pool = ThreadPoolExecutor(max(1, args.machines))
    # A part that fails leaves the others' results to be had.
    failed = [e for e in [f.exception() for f in [pool.submit(one, p) for p in parts]] if e]
    with report.step("plots"):
        drawn = plots.draw(lab, record.kept, out)
    record.write()
    for where in (args.out, KEPT if args.record and not failed and not bench.complaints else None):
        if where:
            keep(out, drawn, where)
    if (found := record.goals()):
        print(f"\n== goals\n\n{goals.text(found)}\n", flush=True)
    report.line(f"results: {out}/bench.txt, bench.json and {len(drawn)} plots")
    for exc in failed:
        if not isinstance(exc, (LabError, counts.Bad)):
            raise exc
    for title in bench.complaints:
        report.line(f"FAILED: the kernel complained: {title}")
    return 2 if failed or bench.complaints else 0


def main(argv: list[str]) -> int:
    """A LabError becomes one line and exit status 2."""
    args = parser().parse_args(argv)

    def terminated(number: int, frame: object) -> None:
        del number, frame
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, terminated)
    try:
        return measure(args)
    except (LabError, counts.Bad) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr, flush=True)
        # Other parts wait for their machines in threads; those end with this process.
        os._exit(130)
