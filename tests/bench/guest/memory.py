# SPDX-License-Identifier: GPL-2.0
"""Memory of the initiator's kernel for one session, in a machine that is no target.

Several sessions to one target with one LUN are logged in at once. Before and
after, caches are dropped, and /proc/meminfo, /proc/zoneinfo and /proc/slabinfo
are read. A round before the first that counts fills the slabs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from bench.guest.rig import conditions
from lab.guest import initiator, kernlog, lio, net, peer
from lab.guest.driver import Driver
from lab.guest.system import read, wait_for, write

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


def login(node: initiator.Node, settings: dict[str, object], sessions: int) -> None:
    """Log in that many times and wait for the disks."""
    initiator.login(node, {**settings, "node.session.nr_sessions": sessions}, timeout=300)
    wait_for(f"{sessions} sessions", lambda: len(initiator.sessions()) == sessions)
    for session in initiator.sessions():
        session.wait_disks(1, timeout=60)


def measure(plan: dict[str, object], portal: str) -> list[dict[str, object]]:
    """Every driver, round by round."""
    sessions = int(str(plan["sessions"]))
    rows: list[dict[str, object]] = []
    node = initiator.new_node(lio.IQN, initiator.portal_text(portal))
    named = os.environ.get("ISER_MODULE")
    for kind in plan["drivers"]:  # type: ignore[attr-defined]
        driver = Driver(kind, Path(named) if kind == "rust" and named else None)
        driver.install()
        driver.load()
        for turn in range(int(str(plan["rounds"])) + 1):
            before = sample()
            login(node, plan["settings"], sessions)  # type: ignore[arg-type]
            after = sample()
            initiator.logout(node, timeout=300)
            wait_for("the end of the sessions", lambda: not initiator.sessions())
            if turn == 0:
                continue
            row = {"driver": kind, "round": turn - 1, **difference(before, after, sessions)}
            rows.append(row)
            print(f"memory {kind:<4} round {turn}: {row['kernel']:.0f} KiB per session", flush=True)
        driver.unload()
    return rows


def be_target() -> int:
    """Serve a disk until the initiator has done."""
    network = net.up("target")
    lio.Target(portals=[(network.ipv4, 3260)], luns=[lio.Ramdisk("disk0", 16)]).up()
    peer.serve({})
    return 0


def be_initiator() -> int:
    """Measure, and leave the rows in the results directory."""
    out = Path(os.environ["ISER_OUT"])
    mark = kernlog.mark("bench")
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    network = net.up("initiator")
    initiator.start()
    peer.wait(network.target_ipv4)
    rows = measure(plan, network.target_ipv4)
    (out / "memory.json").write_text(
        json.dumps({"conditions": conditions(), "plan": plan, "rows": rows}, indent=1),
        encoding="utf-8")
    peer.call(network.target_ipv4, "end")
    kernlog.check(mark)
    return 0


if __name__ == "__main__":
    sys.exit(be_target() if sys.argv[1] == "target" else be_initiator())
