# SPDX-License-Identifier: GPL-2.0
"""Numbers to text: plain tables that fit a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import counts, plans

# The transport's own layers, of which issue and goals speak together.
TRANSPORT = ("libiscsi", "scsi_transport_iscsi")
DRIVERS = tuple(plans.MODULES.values())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    cells = [[str(c) for c in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in cells)


def spread(values: Sequence[float]) -> str:
    """How far values lie from their median, in per cent of it."""
    middle = statistics.median(values)
    if not middle:
        return "-"
    return f"{100 * (max(values) - min(values)) / middle:.1f}%"


def ratio(rust: float, c: float, digits: int = 3) -> str:
    """Rust divided by C."""
    return f"{rust / c:.{digits}f}" if c else "-"


def paired(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians of the rounds, for each load and scheduler."""
    keys = list(dict.fromkeys((r["scheduler"], r["load"]) for r in rows))
    found = []
    for scheduler, load in keys:
        of = {kind: [r for r in rows if (r["scheduler"], r["load"], r["driver"]) ==
                     (scheduler, load, kind)] for kind in plans.DRIVERS}
        if not all(of.values()):
            continue
        entry: dict[str, Any] = {"scheduler": scheduler, "load": load}
        for kind, members in of.items():
            values = [float(r["iops"]) for r in members]
            entry[kind] = {"iops": statistics.median(values), "spread": spread(values),
                           **{p: statistics.median(float(r[p]) for r in members)
                              for p in ("p50", "p99")}}
        found.append(entry)
    return found


def paired_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """The table of fio's figures."""
    rows = []
    for e in entries:
        c, rust = e["c"], e["rust"]
        rows.append([f"{e['load']} ({e['scheduler']})", f"{c['iops']:.0f}", c["spread"],
                     f"{rust['iops']:.0f}", rust["spread"], ratio(rust["iops"], c["iops"]),
                     ratio(rust["p50"], c["p50"]), ratio(rust["p99"], c["p99"])])
    return table(["load", "C IOPS", "spread", "Rust IOPS", "spread", "ratio", "p50", "p99"], rows)


def groups(profile: counts.Profile) -> dict[str, float]:
    """The lines of the table by module."""
    modules = profile.modules()
    driver = sum(modules.pop(name, 0.0) for name in DRIVERS)
    found = {"whole guest": profile.total(), "driver": driver,
             "driver + libiscsi + transport class":
                 driver + sum(modules.get(name, 0.0) for name in TRANSPORT)}
    for name in sorted(modules, key=lambda n: -modules[n]):
        if modules[name] >= 0.5:
            found[name] = modules[name]
    return found


def counted_text(load: str, profiles: Mapping[str, Sequence[counts.Profile]]) -> str:
    """Instructions per I/O by module, for one load and each driver."""
    means = {kind: groups(counts.mean(list(runs))) for kind, runs in profiles.items()}
    each = {kind: [groups(p) for p in runs] for kind, runs in profiles.items()}
    names = list(dict.fromkeys(n for kind in means for n in means[kind]))
    rows = []
    for name in names:
        row = [name]
        for kind in profiles:
            row += [f"{means[kind].get(name, 0.0):.1f}",
                    spread([g.get(name, 0.0) for g in each[kind]])]
        if "c" in profiles and "rust" in profiles:
            row.append(ratio(means["rust"].get(name, 0.0), means["c"].get(name, 0.0)))
        rows.append(row)
    head = [f"{load}, instructions per I/O"]
    for kind in profiles:
        head += [plans.MODULES[kind], "spread"]
    if "c" in profiles and "rust" in profiles:
        head.append("ratio")
    return table(head, rows)


def functions_text(module: str, profiles: Mapping[str, counts.Profile], most: int = 60) -> str:
    """The functions of one module: instructions and calls per I/O for each load."""
    costs = {load: profile.of_module(module) for load, profile in profiles.items()}
    names = {n for c in costs.values() for n in c}
    order = sorted(names, key=lambda n: -max(c[n].instructions for c in costs.values() if n in c))
    rows = []
    for name in order[:most]:
        row = []
        for found in costs.values():
            cost = found.get(name, counts.Cost())
            row += [f"{cost.instructions:.1f}", f"{cost.calls:.2f}"]
        if max(float(v) for v in row) >= 0.05:
            rows.append([name, *row])
    head = [f"{module}: function"]
    for load in costs:
        head += [load, "calls"]
    return table(head, rows)


def elsewhere_text(load: str, c: counts.Profile, rust: counts.Profile, most: int = 16) -> str:
    """Functions outside both drivers that cost more or less under ours."""
    rows = []
    for function in {*c.functions, *rust.functions}:
        if function.module in DRIVERS:
            continue
        before = c.functions.get(function, counts.Cost())
        after = rust.functions.get(function, counts.Cost())
        rows.append((after.instructions - before.instructions, function, before, after))
    rows.sort(key=lambda r: -abs(r[0]))
    return table([f"{load}: elsewhere", "module", "C", "calls", "Rust", "calls", "more"],
                 [[f.name, f.module, f"{b.instructions:.1f}", f"{b.calls:.2f}",
                   f"{a.instructions:.1f}", f"{a.calls:.2f}", f"{more:+.1f}"]
                  for more, f, b, a in rows[:most]])
