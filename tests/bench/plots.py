# SPDX-License-Identifier: GPL-2.0
"""Plots of a run, as SVG, by gnuplot in a root of its own.

Each plot is a gnuplot script with its data in it. The command and the versions
that the figures are from stand below the title.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import plans, tables
from lab import apt, chroot
from lab.cache import key_of
from lab.core import Lab

PACKAGES = ("gnuplot-nox",)
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#c44e52", "#937860")


@dataclass
class Bars:
    """Bars in groups: a group for each label, a bar for each series."""

    name: str
    title: str
    y: str
    labels: list[str] = field(default_factory=list)
    series: dict[str, list[float | None]] = field(default_factory=dict)


def quoted(text: str) -> str:
    """A string for gnuplot."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def script(plot: Bars, caption: str) -> str:
    """The gnuplot script of a plot."""
    rows = [f"set terminal svg size {max(760, 240 + 125 * len(plot.labels))},460 "
            "font 'sans-serif,11' background '#ffffff'",
            f"set title {quoted(plot.title)} noenhanced",
            f"set label {quoted(caption)} at screen 0.01,0.06 font ',8' noenhanced",
            "set bmargin 7",
            f"set ylabel {quoted(plot.y)} noenhanced", "set yrange [0:*]", "set grid ytics",
            "set style data histograms", "set style fill solid 0.9 noborder", "set boxwidth 0.9",
            "set style histogram clustered gap 1",
            "set key outside right top noenhanced", "set xtics noenhanced"]
    body = ["$data << END"]
    for at, label in enumerate(plot.labels):
        values = [column[at] for column in plot.series.values()]
        body.append("\t".join([label, *("NaN" if v is None else f"{v:.6g}" for v in values)]))
    body.append("END")
    parts = [f"$data using {number}:xtic(1) title {quoted(name)} linecolor rgb '{COLOURS[number - 2]}'"
             for number, name in enumerate(plot.series, 2)]
    return "\n".join([*rows, "set datafile separator tab", *body, "plot " + ", ".join(parts)]) + "\n"


def counted(part: Mapping[str, Any]) -> list[Bars]:
    """The whole guest by size, and where 4 KiB go."""
    loads: Mapping[str, Any] = part["profiles"]["main"]
    found = []
    kinds = tables.in_order(k for load in loads.values() for k in load)

    def value(load: str, kind: str, line: str) -> float | None:
        runs = loads[load].get(kind, {}).get("groups", [])
        return statistics.mean(g.get(line, 0.0) for g in runs) if runs else None
    for rw in ("randread", "randwrite"):
        names = [n for n in loads if n.startswith(f"{rw} ")]
        sizes = [n.split()[1] for n in names]
        plot = Bars(f"whole-guest-{rw}", f"Whole guest, {rw}, queue depth 16: instructions per byte",
                    "instructions per byte", sizes)
        for kind in kinds:
            plot.series[plans.MODULES[kind]] = [
                None if v is None else v / size_of(s)
                for v, s in ((value(n, kind, tables.WHOLE), s)
                             for n, s in zip(names, sizes, strict=True))]
        found.append(plot)
        own = Bars(f"driver-{rw}", f"Driver and its libraries, {rw}, queue depth 16",
                   "instructions per I/O", sizes)
        for kind in kinds:
            own.series[plans.MODULES[kind]] = [value(n, kind, tables.STACK) for n in names]
        found.append(own)
    return found


def size_of(text: str) -> int:
    """Bytes of a size as loads have it."""
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def timed(part: Mapping[str, Any]) -> list[Bars]:
    """IOPS and latency."""
    entries = [e for e in part["entries"]
               if e["scheduler"] == "steady" and e["load"].startswith("rand")]
    found = []
    for value, title, y, unit in (("iops", "IOPS", "IOPS", 1.0),
                                  ("p50", "latency, 50th percentile", "us", 1e-3),
                                  ("p99", "latency, 99th percentile", "us", 1e-3)):
        plot = Bars(value, f"Random 4 KiB under icount: {title}", y,
                    [e["load"].replace("rand", "").replace(" 4k", "") for e in entries])
        for kind in entries[0]["values"][value] if entries else ():
            plot.series[plans.MODULES[kind]] = [
                e["values"][value][kind]["median"] * unit for e in entries]
        found.append(plot)
    return found


def memory(part: Mapping[str, Any]) -> list[Bars]:
    """Memory per session."""
    plot = Bars("memory", "Memory of a session with one LUN", "KiB", ["kernel", "vmalloc", "slabs"])
    rows = [r for r in part["rows"] if r["what"] == "session"]
    for kind in tables.in_order(r["driver"] for r in rows):
        plot.series[plans.MODULES[kind]] = [
            statistics.median(float(r[name]) for r in rows if r["driver"] == kind)
            for name in ("kernel", "VmallocUsed", "SUnreclaim")]
    return [plot]


def scale(part: Mapping[str, Any]) -> list[Bars]:
    """Driver and libraries as sessions and LUNs become many."""
    found = []
    for rw in ("randread", "randwrite"):
        profiles = {**part["sessions"]["profiles"], **part["luns"]["profiles"]}
        plot = Bars(f"scale-{rw}", f"{rw} 4 KiB, queue depth 16 in all: driver and its libraries",
                    "instructions per I/O", list(profiles))
        for kind in plans.ISER:
            plot.series[plans.MODULES[kind]] = [
                statistics.mean(g[tables.STACK] for g in p[f"{rw} 4k qd16"][kind]["groups"])
                for p in profiles.values()]
        found.append(plot)
    return found


MAKERS = {"counted": counted, "timed": timed, "memory": memory, "scale": scale}


def tidy(picture: str) -> str:
    """The picture as a file of this project: with its licence, without space at line ends."""
    first, *rows = (row.rstrip() for row in picture.strip().splitlines())
    return "\n".join([first, "<!-- SPDX-License-Identifier: GPL-2.0 -->", *rows]) + "\n"


def root(lab: Lab) -> Path:
    """The root that gnuplot is in."""
    key = key_of("plot", lab.versions.key_for(PACKAGES), PACKAGES, 1)
    return lab.roots.entry("plot", list(PACKAGES), key)


def draw(lab: Lab, kept: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw what the parts of a run allow; return the files."""
    plots: Sequence[Bars] = [p for name, maker in MAKERS.items() if name in kept
                             for p in maker(kept[name])]
    plots = [p for p in plots if p.labels and p.series]
    if not plots:
        return []
    conditions = kept["conditions"]
    caption = (f"{kept['command']}, {kept['date']}, source {conditions['source']}, module sha256 "
               f"{conditions['module sha256']}\nkernel {conditions['kernel package']}, "
               f"{conditions['qemu']}")
    where = out / "plots"
    where.mkdir(exist_ok=True)
    found = []
    for plot in plots:
        argv = chroot.command(root(lab), lab.cache.root, ["gnuplot", "-"], where, [where])
        picture = apt.run(argv, env=chroot.environment(lab.cache.root, dict(os.environ)),
                          input=script(plot, caption))
        path = where / f"{plot.name}.svg"
        path.write_text(tidy(picture), encoding="utf-8")
        found.append(path)
    return found
