# SPDX-License-Identifier: GPL-2.0
"""Memory of the initiator's kernel for sessions and LUNs, in a machine that is no target.

Several sessions to one target with one LUN are logged in at once; then one to
a target with many LUNs. Before and after, caches are dropped, and
/proc/meminfo, /proc/zoneinfo and /proc/slabinfo are read. A round before the
first that counts fills the slabs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.guest import ways
from bench.guest.rig import conditions, leave
from lab.guest import initiator, lio, net, peer
from lab.guest.system import read, write

MANY = "iqn.2026-01.lab.iser:many"

# What is not the kernel's own: free pages, page cache, pages of processes.
NOT_KERNEL = ("MemFree", "Cached", "Buffers", "AnonPages", "PageTables")
KEPT = ("SUnreclaim", "SReclaimable", "VmallocUsed", "Percpu", "KernelStack")
SETTLE = 2.0


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in KiB."""
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\S+):\s+(\d+) kB$", text, re.MULTILINE)}


def parse_slabinfo(text: str) -> dict[str, int]:
    """Bytes in pages of each slab cache."""
    found = {}
    for row in text.splitlines():
        words = row.split()
        if len(words) == 16 and words[1].isdigit():
            pages, slabs = int(words[5]), int(words[14])
            found[words[0]] = slabs * pages * 4096
    return found


def parse_vmallocinfo(text: str) -> dict[str, int]:
    """Bytes in pages of each function that called vmalloc."""
    found: dict[str, int] = {}
    for row in text.splitlines():
        match = re.match(r"^0x\S+\s+\d+ ([^\s+]+)\S* .*\bpages=(\d+) ", row)
        if match:
            found[match[1]] = found.get(match[1], 0) + int(match[2]) * 4096
    return found


def parse_zoneinfo(text: str) -> int:
    """KiB of free pages that wait on the CPUs' own lists, which MemFree does not count."""
    return 4 * sum(int(m[1]) for m in re.finditer(r"^ +count: +(\d+)$", text, re.MULTILINE))


def kernel_kib(memory: dict[str, int], waiting: int) -> int:
    """What the kernel holds for itself."""
    return memory["MemTotal"] - waiting - sum(memory[n] for n in NOT_KERNEL)


def sample() -> dict[str, object]:
    """One reading, after everything that can be given back has been."""
    time.sleep(SETTLE)
    os.sync()
    write("/proc/sys/vm/drop_caches", 3)
    memory = parse_meminfo(read("/proc/meminfo"))
    waiting = parse_zoneinfo(read("/proc/zoneinfo"))
    return {"kernel": kernel_kib(memory, waiting), "slabs": parse_slabinfo(read("/proc/slabinfo")),
            "vmalloc": parse_vmallocinfo(read("/proc/vmallocinfo")), **{n: memory[n] for n in KEPT}}


def difference(before: dict[str, object], after: dict[str, object], sessions: int) -> dict[str, object]:
    """KiB per session."""
    found: dict[str, object] = {n: (int(str(after[n])) - int(str(before[n]))) / sessions
                                for n in ("kernel", *KEPT)}
    for name in ("slabs", "vmalloc"):
        first, last = before[name], after[name]
        assert isinstance(first, dict) and isinstance(last, dict)
        parts = {n: (last.get(n, 0) - first.get(n, 0)) / 1024 / sessions for n in {*first, *last}}
        found[name] = {n: v for n, v in sorted(parts.items(), key=lambda i: -abs(i[1]))
                       if abs(v) >= 0.5}
    return found


def measure(plan: Mapping[str, Any], address: str) -> list[dict[str, Any]]:
    """Every driver, round by round: some sessions at once, then one with many LUNs."""
    rows: list[dict[str, Any]] = []
    for kind in plan["drivers"]:
        loaded = ways.of(kind, lio.IQN, address)
        loaded.load()
        cases = [("session", loaded, int(plan["sessions"]), 1)]
        if kind != "nvme":
            cases.append(("many", ways.of(kind, MANY, address), 1, int(plan["luns"])))
        for what, way, sessions, luns in cases:
            for turn in range(int(plan["rounds"]) + 1):
                before = sample()
                way.attach(luns, sessions)
                after = sample()
                way.detach()
                if turn == 0:
                    continue
                row = {"driver": kind, "what": what, "round": turn - 1,
                       **difference(before, after, sessions)}
                rows.append(row)
                print(f"memory {kind:<4} {what:<7} round {turn}: {row['kernel']:.0f} KiB", flush=True)
        loaded.unload()
    return rows


def be_target(plan: Mapping[str, Any]) -> int:
    """Serve disks until the initiator has done."""
    network = net.up("target")
    address = network.ipv4
    first = lio.Target(portals=[(address, 3260)], luns=[lio.Ramdisk("disk0", 16)])
    many = lio.Target(portals=[(address, 3260)], iqn=MANY,
                      luns=[lio.Ramdisk(f"many{i}", 1) for i in range(int(plan["luns"]))])
    for target in (first, many):
        target.up()
        target.add_portal(address, ways.TCP_PORT, iser=False)
    if "nvme" in plan["drivers"]:
        ways.Nvmet(address, 16).up()
    peer.serve({})
    return 0


def be_initiator(out: Path, plan: Mapping[str, Any]) -> int:
    """Measure, and leave the rows in the results directory."""
    network = net.up("initiator")
    initiator.start()
    peer.wait(network.target_ipv4)
    rows = measure(plan, network.target_ipv4)
    leave(out, {"conditions": conditions(), "plan": plan, "rows": rows})
    peer.call(network.target_ipv4, "end")
    return 0


def main(role: str) -> int:
    """Be one of the two machines."""
    out = Path(os.environ["ISER_OUT"])
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    return be_target(plan) if role == "target" else be_initiator(out, plan)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
