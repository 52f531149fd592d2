# SPDX-License-Identifier: GPL-2.0
"""What the driver has to reach against the C driver, and whether it does."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import plans, tables, timings

READ, WRITE = "randread 4k qd16", "randwrite 4k qd16"
FLAT = 5.0               # per cent


@dataclass(frozen=True)
class Goal:
    """One line: a limit, and what was measured."""

    name: str
    limit: float
    value: float
    c: float | None = None
    least: bool = False      # the limit is a lower one
    digits: int = 0

    @property
    def reached(self) -> bool:
        """Whether it is; as precisely as it is printed."""
        value = round(self.value, self.digits)
        return value >= self.limit if self.least else value <= self.limit


def mean(profiles: Mapping[str, Any], setup: str, load: str, kind: str, line: str) -> float:
    """A line of the table by module, mean of the rounds."""
    return statistics.mean(g[line] for g in profiles[setup][load][kind]["groups"])


def of_counted(part: Mapping[str, Any]) -> Iterator[Goal]:
    """Instructions per I/O."""
    profiles = part["profiles"]
    for load, own, stack in ((READ, 430, 1380), (WRITE, 380, 1260)):
        for line, limit in ((tables.DRIVER, own), (tables.STACK, stack)):
            c, rust = (mean(profiles, "main", load, k, line) for k in plans.ISER)
            yield Goal(f"instructions per I/O, {line}, {load}", limit, rust, c)
    for load in profiles["main"]:
        c, rust = (mean(profiles, "main", load, k, tables.WHOLE) for k in plans.ISER)
        limit = 0.985 if load.split()[1] in ("512", "4k") else 1.0
        yield Goal(f"instructions per I/O, whole guest, {load}, ratio to C", limit, rust / c, 1.0,
                   digits=3)


def of_timed(part: Mapping[str, Any]) -> Iterator[Goal]:
    """IOPS and latency."""
    for entry in part["entries"]:
        if entry["scheduler"] != "steady" or " 4k " not in entry["load"]:
            continue
        yield Goal(f"IOPS, {entry['load']}, ratio to C", 1.0, entry["ratios"]["iops"], 1.0, True, 3)
        if entry["load"].endswith("qd1"):
            for name in ("p50", "p99"):
                yield Goal(f"latency {name}, {entry['load']}, ratio to C", 1.0,
                           entry["ratios"][name], 1.0, digits=3)


def of_memory(part: Mapping[str, Any]) -> Iterator[Goal]:
    """Memory per session."""
    found = timings.summary([r for r in part["rows"] if r["what"] == "session"], "kernel")
    yield Goal("memory per session, ratio to C", 0.7,
               found["rust"]["median"] / found["c"]["median"], 1.0, digits=3)


def of_scale(part: Mapping[str, Any]) -> Iterator[Goal]:
    """Whether a cost stays the same."""
    for name, title in (("sessions", "sessions 1, 8, 32"), ("luns", "LUNs 1, 100")):
        profiles = part[name]["profiles"]
        for load in (READ, WRITE):
            for line in (tables.DRIVER, tables.STACK, tables.WHOLE):
                rise = {}
                for kind in plans.ISER:
                    values = [mean(profiles, setup, load, kind, line) for setup in profiles]
                    rise[kind] = 100 * (max(values) / values[0] - 1)
                yield Goal(f"{title}: {line}, {load}, rise in per cent", FLAT,
                           rise["rust"], rise["c"], digits=1)


PARTS = {"counted": of_counted, "timed": of_timed, "memory": of_memory, "scale": of_scale}


def goals(kept: Mapping[str, Any]) -> list[Goal]:
    """All goals that the parts measured say something about."""
    return [goal for part, of in PARTS.items() if part in kept for goal in of(kept[part])]


def as_json(found: Sequence[Goal]) -> list[dict[str, Any]]:
    """For programs."""
    return [{**asdict(g), "reached": g.reached} for g in found]


def text(found: Sequence[Goal]) -> str:
    """The table, and how many are reached."""
    rows = [[g.name, f"{g.c:.{g.digits}f}" if g.c is not None else "-",
             f"{'>=' if g.least else '<='} {g.limit:g}", f"{g.value:.{g.digits}f}",
             "reached" if g.reached else "NOT reached"] for g in found]
    reached = sum(g.reached for g in found)
    return (tables.table(["goal", "C", "limit", "measured", ""], rows)
            + f"\n\n{reached} of {len(found)} reached")
