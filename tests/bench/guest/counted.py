# SPDX-License-Identifier: GPL-2.0
"""Each load with n and with 2n I/Os between snapshots of the plugin's counters."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from bench.guest.marker import Marker
from bench.guest.rig import Pattern, Rig, conditions, drive, steady
from lab.guest import kernlog

WARM_UP = 500


def windows(rig: Rig, out: Path, plan: dict[str, object]) -> list[dict[str, object]]:
    """Run the plan; one row says which snapshots belong to which load."""
    patterns = [Pattern(**p) for p in plan["patterns"]]  # type: ignore[attr-defined]
    marker = Marker()
    rows: list[dict[str, object]] = []
    for kind in plan["drivers"]:  # type: ignore[attr-defined]
        with rig.driver(kind), rig.session() as disks:
            shutil.copy("/proc/kallsyms", out / f"kallsyms.{kind}")
            drive(disks[0], Pattern("randread", 4096, 16, WARM_UP))
            for pattern in patterns:
                drive(disks[0], pattern, min(pattern.count, WARM_UP))
                for turn in range(int(str(plan["rounds"]))):
                    labels = [marker.snapshot()]
                    for count in (pattern.count, 2 * pattern.count):
                        drive(disks[0], pattern, count)
                        labels.append(marker.snapshot())
                    rows.append({"driver": kind, "load": pattern.name, "round": turn,
                                 "count": pattern.count, "labels": labels})
                    print(f"counted {kind:<5} {pattern.name}, round {turn + 1}", flush=True)
    return rows


def main() -> int:
    """Run the plan in the results directory and leave the list of windows beside it."""
    out = Path(os.environ["ISER_OUT"])
    mark = kernlog.mark("bench")
    rig = Rig()
    steady()
    rows = windows(rig, out, json.loads((out / "plan.json").read_text(encoding="utf-8")))
    (out / "counted.json").write_text(
        json.dumps({"conditions": conditions(rig), "windows": rows}, indent=1), encoding="utf-8")
    kernlog.check(mark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
