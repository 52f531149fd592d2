# SPDX-License-Identifier: GPL-2.0
"""The command line: what to measure, and where the results go."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import counts, inlines, plans, tables
from bench.machine import Bench
from lab import verbs, vm
from lab.core import Lab
from lab.report import LabError, Reporter

PARTS = ("paired", "counted", "memory")
TIMEOUT = 3600.0
MOST_LINES = 40


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="tests/bench/run", description=(
        "Measure ib_iser_rs against ib_iser in the lab's machine: `paired` is fio's IOPS with one "
        "instruction as one nanosecond, `counted` instructions per I/O of every function, `memory` "
        "what a session holds."))
    top.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    top.add_argument("--quick", action="store_true", default=os.environ.get("QUICK") in ("1", "y"),
                     help="the loads of 4 KiB and few more, fewer rounds")
    top.add_argument("--driver", action="append", choices=plans.DRIVERS, help="only this driver")
    top.add_argument("--module", type=Path, help="this ib_iser_rs.ko instead of one built here")
    top.add_argument("--rounds", type=int, help="other than the plan's number of rounds")
    top.add_argument("--keep", action="store_true", help="keep the plugin's snapshots, some 100 MB")
    top.add_argument("--out", type=Path, help="directory for the results")
    return top


def plan(args: argparse.Namespace, part: str) -> dict[str, Any]:
    """The plan of a part, as the options change it."""
    found = dict({"paired": plans.paired, "counted": plans.counted, "memory": plans.memory}[part](
        args.quick, args.driver or plans.DRIVERS))
    if args.rounds:
        found["rounds"] = args.rounds
    return found


def run_paired(bench: Bench, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """IOPS of both drivers in turn."""
    got = bench.run("paired", plan(args, "paired"), TIMEOUT, accel="icount")
    entries = tables.paired(got["rows"])
    return {**got, "table": entries}, tables.paired_text(entries)


def demangled(bench: Bench, profiles: list[counts.Profile]) -> list[counts.Profile]:
    """The same with Rust names a person can read."""
    names = sorted({f.name for p in profiles for f in p.functions if f.name.startswith("_R")})
    text = bench.lab.roots.run(["c++filt"], input="".join(f"{n}\n" for n in names))
    readable = [inlines.CRATE_HASH.sub("", row) for row in text.splitlines()]
    table = dict(zip(names, readable, strict=True))
    return [counts.rename(p, table) for p in profiles]


def run_counted(bench: Bench, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Instructions per I/O by module, function, and place in our source."""
    got = bench.run("counted", plan(args, "counted"), TIMEOUT, accel="icount", append=("nokaslr",),
                    extra=("-plugin", str(bench.plugin())))
    where = bench.out / "counted"
    rows = {k: (where / f"kallsyms.{k}").read_text(encoding="utf-8").splitlines()
            for k in {w["driver"] for w in got["windows"]}}
    symbols = {k: counts.Symbols(r) for k, r in rows.items()}

    def tool(argv: list[str], text: str) -> str:
        return bench.lab.roots.run(argv, input=text)
    source = inlines.Module(str(bench.module), tool) if "rust" in rows else None
    profiles: dict[str, dict[str, list[counts.Profile]]] = {}
    sources: dict[str, inlines.Sources] = {}
    for window in got["windows"]:
        kind, load = window["driver"], window["load"]
        difference = counts.second_difference(
            *(counts.read(where / f"blocks.{label}") for label in window["labels"]))
        profiles.setdefault(load, {}).setdefault(kind, []).append(
            counts.resolve(difference, symbols[kind], window["count"]))
        if kind == "rust" and source:
            sources[load] = source.sources(
                difference, inlines.addresses(rows[kind], "ib_iser_rs"), window["count"])
    if not args.keep:
        for path in (*where.glob("blocks.*"), *where.glob("kallsyms.*")):
            path.unlink()
    for kinds in profiles.values():
        for kind in kinds:
            kinds[kind] = demangled(bench, kinds[kind])
    text = [tables.counted_text(load, kinds) for load, kinds in profiles.items()]
    for load, kinds in profiles.items():
        if len(kinds) == 2:
            text.append(tables.elsewhere_text(load, *(counts.mean(kinds[k]) for k in plans.DRIVERS)))
    for kind in rows:
        text.append(tables.functions_text(plans.MODULES[kind], {
            load: counts.mean(kinds[kind]) for load, kinds in profiles.items()}))
    text += [inlines.text(load, found, MOST_LINES) for load, found in sources.items()]
    return {**got, "profiles": as_json(profiles),
            "sources": {load: s.as_json() for load, s in sources.items()}}, "\n\n".join(text)


def as_json(profiles: Mapping[str, Mapping[str, list[counts.Profile]]]) -> dict[str, Any]:
    """Every function that costs anything, for programs."""
    return {load: {kind: {
        "groups": [tables.groups(p) for p in runs],
        "functions": [[f.module, f.name, round(c.instructions, 2), round(c.calls, 3)]
                      for f, c in sorted(counts.mean(runs).functions.items(),
                                         key=lambda i: -i[1].instructions)
                      if abs(c.instructions) >= 0.5]}
        for kind, runs in kinds.items()} for load, kinds in profiles.items()}


def run_memory(bench: Bench, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Memory per session."""
    # One CPU each: together they take what one machine of the lab takes.
    got = bench.run_two("memory", plan(args, "memory"), TIMEOUT, cpus=1)
    names = ("kernel", "VmallocUsed", "SUnreclaim")
    rows = []
    for name in names:
        values = {k: [float(r[name]) for r in got["rows"] if r["driver"] == k]
                  for k in plans.DRIVERS}
        middle = {k: statistics.median(v) for k, v in values.items() if v}
        rows.append([name, *(f"{middle[k]:.1f}" for k in middle),
                     *(tables.spread(v) for v in values.values() if v),
                     tables.ratio(middle["rust"], middle["c"]) if len(middle) == 2 else "-"])
    kinds = [k for k in plans.DRIVERS if any(r["driver"] == k for r in got["rows"])]
    head = ["KiB per session", *(plans.MODULES[k] for k in kinds), *("spread" for _ in kinds), "ratio"]
    text = [tables.table(head, rows)]
    for kind in kinds:
        row = [r for r in got["rows"] if r["driver"] == kind][-1]
        for what in ("vmalloc", "slabs"):
            text.append(f"{plans.MODULES[kind]}, {what}: " + ", ".join(
                f"{n} {v:.0f}" for n, v in list(row[what].items())[:12]))
    return got, "\n".join(text)


RUNS = {"paired": run_paired, "counted": run_counted, "memory": run_memory}


def measure(args: argparse.Namespace) -> int:
    """Run the parts, show and keep what they say."""
    report = Reporter()
    lab = Lab(report)
    for part in args.parts:
        if part not in PARTS:
            raise LabError(f"no part is called {part}; there are {', '.join(PARTS)}")
    module = args.module or verbs.build_module(lab)
    if not module.is_file():
        raise LabError(f"{module} does not exist")
    out = args.out.absolute() if args.out else vm.results_dir(lab.cache, "bench")
    bench = Bench(lab, out, module)
    command = shlex.join(["tests/bench/run", *sys.argv[1:]])
    kept: dict[str, Any] = {"command": command, "quick": args.quick, "conditions": bench.conditions(),
                            "date": time.strftime("%Y-%m-%d")}
    head = ["# SPDX-License-Identifier: GPL-2.0", f"{command}{' (quick)' if args.quick else ''}",
            *(f"{k}: {v}" for k, v in kept["conditions"].items())]
    texts = ["\n".join(head)]
    for part in args.parts or PARTS:
        with report.step(part):
            kept[part], text = RUNS[part](bench, args)
        texts.append(f"== {part}\n\n{text}")
        print(f"\n{text}\n", flush=True)
        (out / "bench.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        (out / "bench.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    report.line(f"results: {out}/bench.txt and bench.json")
    return 0


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
        print("bench: interrupted", file=sys.stderr)
        return 130
