# SPDX-License-Identifier: GPL-2.0
"""Running machines under the plugin, and making profiles of what it counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import counts, inlines, plans, tables
from bench.machine import Bench

TIMEOUT = 3600.0
MOST_LINES = 40
LEAST = 5                # instructions per I/O of a function that the JSON file names

# Profiles by setup, load and driver: one for each round.
Found = dict[str, dict[str, dict[str, list[counts.Profile]]]]


def machine(bench: Bench, part: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Run one machine's plan under the plugin."""
    return bench.run(part, "counted", plan, TIMEOUT, accel="icount", append=("nokaslr",),
                     memory=plan["memory"], extra=("-plugin", str(bench.plugin())))


class Counted:
    """What one machine counted, resolved to functions."""

    def __init__(self, bench: Bench, part: str, plan: Mapping[str, Any], lines: bool = False,
                 keep: bool = False) -> None:
        self.bench, self.where = bench, bench.out / part
        self.got = machine(bench, part, plan)
        self.found: Found = {}
        self.sources: dict[str, inlines.Sources] = {}
        self._resolve(lines)
        if not keep:
            for path in (*self.where.glob("blocks.*"), *self.where.glob("kallsyms.*")):
                path.unlink()

    def _tool(self, argv: list[str], text: str) -> str:
        return self.bench.lab.roots.run(argv, input=text)

    def _resolve(self, lines: bool) -> None:
        windows = self.got["windows"]
        rows = {name: (self.where / name).read_text(encoding="utf-8").splitlines()
                for name in {w["symbols"] for w in windows}}
        symbols = {name: counts.Symbols(text) for name, text in rows.items()}
        source = inlines.Module(str(self.bench.module), self._tool) if lines else None
        for window in windows:
            difference = counts.second_difference(
                *(counts.read(self.where / f"blocks.{label}") for label in window["labels"]))
            profile = counts.resolve(difference, symbols[window["symbols"]], window["count"])
            self.found.setdefault(window["setup"], {}).setdefault(window["load"], {}).setdefault(
                window["driver"], []).append(profile)
            if source and window["driver"] == "rust":
                self.sources[window["load"]] = source.sources(
                    difference, inlines.addresses(rows[window["symbols"]], "ib_iser_rs"),
                    window["count"])
        self._demangle()

    def _demangle(self) -> None:
        """Rust names a person can read."""
        lists = [runs for setup in self.found.values() for load in setup.values()
                 for runs in load.values()]
        names = sorted({f.name for runs in lists for p in runs for f in p.functions
                        if f.name.startswith("_R")})
        text = self._tool(["c++filt"], "".join(f"{n}\n" for n in names))
        readable = [inlines.CRATE_HASH.sub("", row) for row in text.splitlines()]
        table = dict(zip(names, readable, strict=True))
        for runs in lists:
            runs[:] = [counts.rename(p, table) for p in runs]

    def as_json(self) -> dict[str, Any]:
        """Modules of every round, and every function that costs anything, for programs."""
        return {setup: {load: {kind: {
            "groups": [tables.groups(p, kind) for p in runs],
            "functions": [[f.module, f.name, round(c.instructions, 1), round(c.calls, 2)]
                          for f, c in sorted(counts.mean(runs).functions.items(),
                                             key=lambda i: -i[1].instructions)
                          if abs(c.instructions) >= LEAST]}
            for kind, runs in kinds.items()} for load, kinds in loads.items()}
            for setup, loads in self.found.items()}


def by_size(bench: Bench, plan: Mapping[str, Any], keep: bool) -> tuple[dict[str, Any], str]:
    """Instructions per I/O by module, function, and place in our source."""
    counted = Counted(bench, "counted", plan, lines=True, keep=keep)
    loads = counted.found["main"]
    text = [tables.counted_text(load, runs) for load, runs in loads.items()]
    for load, kinds in loads.items():
        if " 4k " in load and all(k in kinds for k in plans.ISER):
            text.append(tables.elsewhere_text(load, *(counts.mean(kinds[k]) for k in plans.ISER)))
    for kind in plans.ISER:
        text.append(tables.functions_text(plans.MODULES[kind], {
            load: counts.mean(kinds[kind]) for load, kinds in loads.items() if kind in kinds}))
    text += [inlines.text(load, found, MOST_LINES) for load, found in counted.sources.items()
             if " 4k " in load]
    return {**counted.got, "profiles": counted.as_json(),
            "sources": {load: s.as_json() for load, s in counted.sources.items()}}, "\n\n".join(text)


def several(bench: Bench, part: str, machines: Mapping[str, Mapping[str, Any]], title: str,
            keep: bool) -> tuple[dict[str, Any], str]:
    """Setups in machines of their own: a line of a table for each."""
    data: dict[str, Any] = {}
    complaints: list[str] = []
    text = []
    for name, plan in machines.items():
        counted = Counted(bench, f"{part}-{name}", plan, keep=keep)
        data[name] = {"conditions": counted.got["conditions"], "profiles": counted.as_json()}
        complaints += counted.got["complaints"]
        text.append(tables.setups_text(f"{title} ({name})", counted.found))
    return {**data, "complaints": complaints}, "\n\n".join(text)
