# SPDX-License-Identifier: GPL-2.0
"""Both drivers in turn on the same disk, several rounds: what fio says of each load."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from bench.guest.rig import Pattern, Rig, conditions, drive, side, steady, stock
from lab.guest import kernlog

SCHEDULERS = {"steady": steady, "stock": stock}


def numbers(part: dict[str, object]) -> dict[str, object]:
    """What is kept of fio's report on one load."""
    latency = part["clat_ns"]
    assert isinstance(latency, dict)
    percentiles = latency.get("percentile", {})
    return {"iops": part["iops"], "p50": percentiles.get("50.000000"),
            "p99": percentiles.get("99.000000"), "p99.9": percentiles.get("99.900000")}


def measure(rig: Rig, plan: dict[str, object]) -> list[dict[str, object]]:
    """Every load of the plan, by each driver, round by round."""
    patterns = [Pattern(**p) for p in plan["patterns"]]  # type: ignore[attr-defined]
    rows: list[dict[str, object]] = []
    drivers = [str(d) for d in plan["drivers"]]  # type: ignore[attr-defined]
    for turn in range(int(str(plan["rounds"]))):
        # The order changes from round to round: what drifts hits both alike.
        for kind in drivers if turn % 2 == 0 else drivers[::-1]:
            with rig.driver(kind), rig.session() as disks:
                drive(disks[0], Pattern("randread", 4096, 16, 200))
                for scheduler in plan["schedulers"]:  # type: ignore[attr-defined]
                    SCHEDULERS[scheduler]()
                    for pattern in patterns:
                        got = numbers(side(drive(disks[0], pattern), pattern))
                        rows.append({"round": turn, "driver": kind, "load": pattern.name,
                                     "scheduler": scheduler, **got})
                        print(f"paired round {turn + 1} {scheduler:<6} {kind:<4} "
                              f"{pattern.name:<18} {got['iops']:8.0f} IOPS", flush=True)
    return rows


def main() -> int:
    """Run the plan in the results directory and leave the rows beside it."""
    out = Path(os.environ["ISER_OUT"])
    mark = kernlog.mark("bench")
    rig = Rig()
    rows = measure(rig, json.loads((out / "plan.json").read_text(encoding="utf-8")))
    (out / "paired.json").write_text(
        json.dumps({"conditions": conditions(rig), "rows": rows}, indent=1), encoding="utf-8")
    kernlog.check(mark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
