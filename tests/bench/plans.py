# SPDX-License-Identifier: GPL-2.0
"""What is measured: the loads, how often, by which drivers."""

from __future__ import annotations

from typing import Any

KIB = 1024
DRIVERS = ["c", "rust"]
MODULES = {"c": "ib_iser", "rust": "ib_iser_rs"}


def load(rw: str, size: int, depth: int, count: int) -> dict[str, Any]:
    """One load, as bench.guest.rig.Pattern takes it."""
    return {"rw": rw, "size": size, "depth": depth, "count": count}


def both(size: int, depth: int, count: int) -> list[dict[str, Any]]:
    """Random reads and random writes."""
    return [load(rw, size, depth, count) for rw in ("randread", "randwrite")]


def paired(quick: bool, drivers: list[str]) -> dict[str, Any]:
    """Both drivers in turn, fio's own figures."""
    patterns = [*both(4 * KIB, 16, 8000), *both(512, 16, 8000), *both(256 * KIB, 8, 400)]
    if not quick:
        patterns += [*both(4 * KIB, 1, 4000), *both(4 * KIB, 64, 8000)]
    return {"drivers": drivers, "rounds": 3 if quick else 5, "patterns": patterns,
            "schedulers": ["steady"] if quick else ["steady", "stock"]}


def counted(quick: bool, drivers: list[str]) -> dict[str, Any]:
    """Instructions per I/O from the plugin's snapshots."""
    patterns = both(4 * KIB, 16, 1500)
    if not quick:
        patterns += [*both(512, 16, 1500), *both(16 * KIB, 16, 800), *both(64 * KIB, 16, 400),
                     *both(256 * KIB, 8, 150), *both(1024 * KIB, 8, 60)]
    return {"drivers": drivers, "rounds": 2 if quick else 3, "patterns": patterns}


def memory(quick: bool, drivers: list[str]) -> dict[str, Any]:
    """Memory per session, from the machine that is the initiator and no target."""
    return {"drivers": drivers, "rounds": 2 if quick else 3, "sessions": 8,
            "settings": {"node.session.cmds_max": 128, "node.session.queue_depth": 32}}
