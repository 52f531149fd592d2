# SPDX-License-Identifier: GPL-2.0
"""Each load with n and with 2n I/Os between snapshots of the plugin's counters.

A plan is a target with so many LUNs and a list of setups: sessions of a driver
with some settings, and in each of them cases that use so many of its disks.
One machine has one target, which all setups of a plan share.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.guest.marker import Marker
from bench.guest.rig import Pattern, Rig, conditions, drive, leave, steady

WARM_UP = 500


def setup(rig: Rig, marker: Marker, out: Path, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run one setup; one row says which snapshots belong to which load."""
    kind, name = plan["driver"], plan["name"]
    rows: list[dict[str, Any]] = []
    os.environ["ISER_MODULE"] = str(out / plan.get("module", "measured.ko"))
    with rig.connected(kind, plan.get("parameters"), plan.get("settings"),
                       plan.get("sessions", 1)) as disks:
        symbols = f"kallsyms.{kind}.{name}"
        shutil.copy("/proc/kallsyms", out / symbols)
        drive(disks, Pattern("randread", 4096, 16, WARM_UP))
        for case, number in plan.get("cases", {name: len(disks)}).items():
            for found in window(marker, disks[:number], plan):
                rows.append({"setup": case, "driver": kind, "symbols": symbols, **found})
                print(f"counted {kind:<5} {case}, {found['load']}, round {found['round'] + 1}",
                      flush=True)
    return rows


def window(marker: Marker, disks: list[str], plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Run the setup's loads on these disks, round by round."""
    for pattern in (Pattern(**p) for p in plan["patterns"]):
        drive(disks, pattern, min(pattern.count, WARM_UP))
        for turn in range(int(plan["rounds"])):
            labels = [marker.snapshot()]
            for count in (pattern.count, 2 * pattern.count):
                drive(disks, pattern, count)
                labels.append(marker.snapshot())
            yield {"load": pattern.name, "round": turn, "count": pattern.count, "labels": labels}


def main() -> int:
    """Run the plan in the results directory and leave the list of windows beside it."""
    out = Path(os.environ["ISER_OUT"])
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    rig = Rig(plan["luns"], plan["mib"], plan["target"])
    steady()
    marker = Marker()
    rows = [row for each in plan["setups"] for row in setup(rig, marker, out, each)]
    leave(out, {"conditions": conditions(rig), "windows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
