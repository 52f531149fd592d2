# SPDX-License-Identifier: GPL-2.0
"""All drivers in turn on the same disk, several rounds: what fio says of each load."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.guest.rig import Pattern, Rig, conditions, drive, leave, side, steady, stock

SCHEDULERS = {"steady": steady, "stock": stock}


def numbers(part: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of fio's report on one load; latencies in nanoseconds."""
    percentiles = part["clat_ns"].get("percentile", {})
    return {"iops": part["iops"], "bytes": part["bw_bytes"],
            "p50": percentiles.get("50.000000"), "p99": percentiles.get("99.000000"),
            "p99.9": percentiles.get("99.900000")}


def measure(rig: Rig, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every load of the plan, by each driver, round by round."""
    rows: list[dict[str, Any]] = []
    drivers = [str(d) for d in plan["drivers"]]
    for turn in range(int(plan["rounds"])):
        # The order changes from round to round: what drifts hits all alike.
        for kind in drivers if turn % 2 == 0 else drivers[::-1]:
            with rig.connected(kind) as disks:
                drive(disks, Pattern("randread", 4096, 16, 200))
                for scheduler, patterns in plan["loads"].items():
                    SCHEDULERS[scheduler]()
                    for pattern in (Pattern(**p) for p in patterns):
                        got = numbers(side(drive(disks, pattern), pattern))
                        rows.append({"round": turn, "driver": kind, "load": pattern.name,
                                     "scheduler": scheduler, **got})
                        print(f"timed round {turn + 1} {scheduler:<6} {kind:<4} "
                              f"{pattern.name:<21} {got['iops']:8.0f} IOPS", flush=True)
    return rows


def main() -> int:
    """Run the plan in the results directory and leave the rows beside it."""
    out = Path(os.environ["ISER_OUT"])
    rig = Rig()
    rows = measure(rig, json.loads((out / "plan.json").read_text(encoding="utf-8")))
    leave(out, {"conditions": conditions(rig), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
