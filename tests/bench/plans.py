# SPDX-License-Identifier: GPL-2.0
"""What is measured: the loads, how often, by which drivers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.variant import VARIANTS
from lab import config

KIB = 1024
ISER = ["c", "rust"]
DRIVERS = [*ISER, "tcp", "nvme"]
MODULES = {"c": "ib_iser", "rust": "ib_iser_rs", "tcp": "iscsi_tcp", "nvme": "nvme_rdma"}
MIB = 128

Plan = dict[str, Any]


def load(rw: str, size: int, depth: int, count: int, jobs: int = 1) -> Plan:
    """One load, as bench.guest.rig.Pattern takes it."""
    return {"rw": rw, "size": size, "depth": depth, "count": count, "jobs": jobs}


def both(size: int, depth: int, count: int, jobs: int = 1) -> list[Plan]:
    """Random reads and random writes."""
    return [load(rw, size, depth, count, jobs) for rw in ("randread", "randwrite")]


def machine(setups: list[Plan], luns: int = 1, mib: int = MIB, target: str = "lio") -> Plan:
    """A machine of bench.guest.counted: its target, and what is counted in it."""
    return {"luns": luns, "mib": mib, "target": target, "setups": setups,
            "memory": config.GUEST_MEMORY_MIB + luns * mib}


def only(setups: list[Plan], drivers: Sequence[str]) -> list[Plan]:
    """The setups of these drivers."""
    return [s for s in setups if s["driver"] in drivers]


def counted(quick: bool, drivers: Sequence[str]) -> Plan:
    """Instructions per I/O by size."""
    patterns = both(4 * KIB, 16, 1500)
    if not quick:
        patterns = [*both(512, 16, 1500), *patterns, *both(16 * KIB, 16, 800),
                    *both(64 * KIB, 16, 400), *both(256 * KIB, 16, 128), *both(1024 * KIB, 16, 48)]
    rounds = 2 if quick else 5
    return machine([{"name": "main", "driver": d, "patterns": patterns, "rounds": rounds}
                    for d in drivers])


def limit() -> Plan:
    """As little as tells whether our module has become more expensive."""
    return machine([{"name": "main", "driver": "rust", "patterns": both(4 * KIB, 16, 1000),
                     "rounds": 3}])


def scale(quick: bool, drivers: Sequence[str]) -> dict[str, Plan]:
    """Instructions per I/O as sessions and LUNs become many."""
    base = {"patterns": both(4 * KIB, 16, 1500), "rounds": 1 if quick else 2}
    sessions = [{"name": f"{n} session{'s' if n > 1 else ''}", "driver": d, "sessions": n, **base}
                for d in ISER for n in (1, 8, 32)]
    luns = [{"name": "luns", "driver": d, "cases": {"1 LUN": 1, "100 LUNs": 100}, **base}
            for d in ISER]
    return {"sessions": machine(only(sessions, drivers)),
            "luns": machine(only(luns, drivers), luns=100, mib=16)}


# The choices of the design, and how each is switched: by the target, by a
# setting, by a parameter of the C driver, or by a constant of a module built
# for it (bench.variant).
LOCAL = "invalidated here (tgt)"
CHOICES = {
    "as it is": "remote invalidation (LIO), immediate data, always_register=Y",
    LOCAL: "tgt does not invalidate the key, so a local invalidation does",
    "ImmediateData=No": "data of a write are registered and fetched by the target",
    "always_register=N": "C only, ours refuses it: a read of one segment goes by the device's own key",
    **{name: v.says for name, v in VARIANTS.items()},
}


def choices(quick: bool, drivers: Sequence[str]) -> dict[str, Plan]:
    """The effect of each choice of the design."""
    base = {"patterns": both(4 * KIB, 16, 800 if quick else 1500), "rounds": 1 if quick else 2}
    lio: list[Plan] = []
    for driver in ISER:
        lio += [{"name": "as it is", "driver": driver, **base},
                {"name": "ImmediateData=No", "driver": driver, **base,
                 "settings": {"node.session.iscsi.ImmediateData": "No"}}]
    lio.append({"name": "always_register=N", "driver": "c", **base,
                "parameters": {"always_register": "N"}})
    lio += [{"name": name, "driver": "rust", **base, "module": v.file}
            for name, v in VARIANTS.items()]
    return {"lio": machine(only(lio, drivers)),
            "tgt": machine([{"name": LOCAL, "driver": d, **base} for d in ISER if d in drivers],
                           target="tgt")}


def timed(quick: bool, drivers: Sequence[str]) -> Plan:
    """All drivers in turn, fio's own figures."""
    count = 2000 if quick else 4000
    steady = both(4 * KIB, 16, count)
    bandwidth = [load(rw, 256 * KIB, 16, 200) for rw in ("read", "write")]
    if quick:
        return {"drivers": drivers, "rounds": 3,
                "loads": {"steady": [*both(4 * KIB, 1, count), *steady, *bandwidth]}}
    steady = [p for jobs in (1, 4) for depth in (1, 16, 64) for p in both(4 * KIB, depth, count, jobs)]
    return {"drivers": drivers, "rounds": 5,
            "loads": {"steady": [*steady, *bandwidth], "stock": both(4 * KIB, 16, count)}}


def control(quick: bool, drivers: Sequence[str]) -> Plan:
    """Logins, logouts, and the return of a lost target."""
    return {"drivers": drivers, "rounds": 1 if quick else 3, "logins": 3 if quick else 6}


def link(quick: bool, drivers: Sequence[str]) -> Plan:
    """The return of a lost link, in two machines."""
    return {"drivers": [d for d in drivers if d in ISER] if quick else drivers,
            "rounds": 1 if quick else 3}


def memory(quick: bool, drivers: Sequence[str]) -> Plan:
    """Memory per session and per 100 LUNs, from the machine that is the initiator and no target."""
    return {"drivers": [d for d in drivers if d in ISER] if quick else drivers,
            "rounds": 1 if quick else 3, "sessions": 8, "luns": 100}
