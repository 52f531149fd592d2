# SPDX-License-Identifier: GPL-2.0
"""What was timed, and memory, as tables: medians of the rounds with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import plans, tables

Row = Mapping[str, Any]
PERCENTILES = ("p50", "p99", "p99.9")


def paired_ratio(rows: Sequence[Row], value: str) -> float | None:
    """The median over the rounds of Rust divided by C."""
    of = {kind: {r["round"]: float(r[value]) for r in rows if r["driver"] == kind}
          for kind in plans.ISER}
    both = [of["rust"][turn] / of["c"][turn] for turn in of["c"] if turn in of["rust"]
            and of["c"][turn]]
    return statistics.median(both) if both else None


def summary(rows: Sequence[Row], value: str) -> dict[str, dict[str, Any]]:
    """Median and spread of each driver."""
    found: dict[str, dict[str, Any]] = {}
    for kind in tables.in_order(r["driver"] for r in rows):
        values = [float(r[value]) for r in rows if r["driver"] == kind]
        found[kind] = {"median": statistics.median(values), "spread": tables.spread(values)}
    return found


def entries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each scheduler and load: every figure of every driver, and the paired ratios."""
    found = []
    for scheduler, load in dict.fromkeys((r["scheduler"], r["load"]) for r in rows):
        of = [r for r in rows if (r["scheduler"], r["load"]) == (scheduler, load)]
        found.append({"scheduler": scheduler, "load": load,
                      "values": {v: summary(of, v) for v in ("iops", "bytes", *PERCENTILES)},
                      "ratios": {v: paired_ratio(of, v) for v in ("iops", "bytes", *PERCENTILES)}})
    return found


def lines(found: Sequence[Row], title: str, value: str,
          shown: Callable[[float], str]) -> str:
    """One figure of every load, driver by driver."""
    kinds = list(found[0]["values"][value])
    rows = []
    for entry in found:
        row = [f"{entry['load']} ({entry['scheduler']})"]
        for kind in kinds:
            one = entry["values"][value][kind]
            row += [shown(one["median"]), one["spread"]]
        ratio = entry["ratios"][value]
        rows.append([*row, f"{ratio:.3f}" if ratio is not None else "-"])
    return tables.table([title, *(w for k in kinds for w in (plans.MODULES[k], "spread")), "rust/C"],
                        rows)


def timed_text(found: Sequence[Row]) -> str:
    """IOPS, latencies, bandwidth."""
    random = [e for e in found if e["load"].startswith("rand")]
    sequential = [e for e in found if not e["load"].startswith("rand")]
    parts = [lines(random, "IOPS", "iops", lambda v: f"{v:.0f}")] if random else []
    if random:
        parts += [lines(random, f"latency {p}, us", p, lambda v: f"{v / 1000:.1f}")
                  for p in PERCENTILES]
    if sequential:
        parts.append(lines(sequential, "bandwidth, MB/s", "bytes", lambda v: f"{v / 1e6:.1f}"))
    return "\n\n".join(parts)


def plain(rows: Sequence[Row], title: str, names: Mapping[str, str], digits: int) -> str:
    """Figures that every row of some drivers has, one line each."""
    kinds = tables.in_order(r["driver"] for r in rows)
    body = []
    for value, name in names.items():
        of = [r for r in rows if value in r]
        if not of:
            continue
        found = summary(of, value)
        row = [name]
        for kind in kinds:
            row += [f"{found[kind]['median']:.{digits}f}", found[kind]["spread"]] \
                if kind in found else ["-", ""]
        both = all(k in found for k in plans.ISER)
        body.append([*row, tables.ratio(found["rust"]["median"], found["c"]["median"])
                     if both else "-"])
    return tables.table([title, *(w for k in kinds for w in (plans.MODULES[k], "spread")), "rust/C"],
                        body)


def control_text(rows: Sequence[Row]) -> str:
    """Logins, logouts and a lost target."""
    millis = [{k: v * 1000 if k in ("login", "disk", "logout") else v for k, v in r.items()}
              for r in rows]
    return "\n\n".join((
        plain(millis, "milliseconds", {"login": "login", "disk": "login until the disk is there",
                                       "logout": "logout"}, 1),
        loss_text(rows)))


def loss_text(rows: Sequence[Row]) -> str:
    """How long the first read took after a loss, and what was seen of it."""
    of = [r for r in rows if "loss" in r]
    return plain(of, "seconds", {"seconds": f"from the return of the {of[0]['loss']} to the first read",
                                 "errors": "reads that failed"}, 2)


def memory_text(rows: Sequence[Row]) -> str:
    """KiB of sessions and LUNs, and what they are made of."""
    names = {"kernel": "kernel", "VmallocUsed": "of it vmalloc", "SUnreclaim": "of it slabs",
             "Percpu": "of it per CPU"}
    parts = []
    for what, title in (("session", "KiB per session"), ("many", "KiB of a session with 100 LUNs")):
        of = [r for r in rows if r["what"] == what]
        if of:
            parts.append(plain(of, title, names, 1))
    parts.append(luns_text(rows))
    last = {r["driver"]: r for r in rows if r["what"] == "session"}
    text = []
    for kind in tables.in_order(last):
        for what in ("vmalloc", "slabs"):
            text.append(f"{plans.MODULES[kind]}, {what}: " + ", ".join(
                f"{n} {v:.0f}" for n, v in list(last[kind][what].items())[:12]))
    return "\n\n".join([*(p for p in parts if p), "\n".join(text)])


def luns_text(rows: Sequence[Row]) -> str:
    """What 100 LUNs add to a session."""
    body = []
    for kind in tables.in_order(r["driver"] for r in rows):
        middle = {what: [float(r["kernel"]) for r in rows if (r["driver"], r["what"]) == (kind, what)]
                  for what in ("session", "many")}
        if all(middle.values()):
            one, many = (statistics.median(v) for v in middle.values())
            body.append([plans.MODULES[kind], f"{(many - one) / 99 * 100:.0f}"])
    return tables.table(["KiB per 100 LUNs", "kernel"], body) if body else ""
