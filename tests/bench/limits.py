# SPDX-License-Identifier: GPL-2.0
"""our module's own instructions per I/O against the limits kept in limits.toml."""

from __future__ import annotations

import statistics
import tomllib
from pathlib import Path
from typing import Any

from bench import counting, plans, tables
from bench.machine import Bench
from lab.report import LabError

FILE = Path(__file__).resolve().parent / "limits.toml"


def verdicts(limits: dict[str, Any], measured: dict[str, float], complaints: list[str]) -> list[str]:
    """KTAP: a result for each limit, and one for the kernel log."""
    rows = ["KTAP version 1", f"1..{len(limits) + 1}"]
    for number, (load, entry) in enumerate(limits.items(), 1):
        name = f"{number} {load}: "
        if load not in measured:
            rows.append(f"not ok {name}was not measured")
            continue
        value, limit = measured[load], float(entry["limit"])
        good = value <= limit
        rows.append(f"{'ok' if good else 'not ok'} {name}{value:.1f} instructions per I/O in "
                    f"ib_iser_rs, limit {limit:g}")
        if not good:
            rows.append(f"# the limit's reason: {entry['reason']}")
            rows.append(f"# `tests/bench/run counted --quick --driver rust` says which functions; "
                        f"if the cost is worth it, raise the limit in tests/bench/{FILE.name} and "
                        "say why")
    rows += [f"# the kernel complained: {title}" for title in complaints]
    rows.append(f"{'not ok' if complaints else 'ok'} {len(limits) + 1} the kernel log has no report")
    return rows


def check(bench: Bench) -> int:
    """Measure, compare, and say so in KTAP."""
    try:
        limits = tomllib.loads(FILE.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise LabError(f"{FILE}: {exc}") from exc
    counted = counting.Counted(bench, "limit", plans.limit())
    # Of a few rounds, the one in which the machine was neither lucky nor unlucky.
    measured = {load: statistics.median(tables.groups(run, "rust")[tables.DRIVER]
                                        for run in runs["rust"])
                for load, runs in counted.found["main"].items()}
    rows = verdicts(limits, measured, bench.complaints)
    print("\n".join(rows), flush=True)
    return int(any(row.startswith("not ok") for row in rows))
