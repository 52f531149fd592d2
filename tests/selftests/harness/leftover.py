# SPDX-License-Identifier: GPL-2.0
"""What a driver may have left behind: sessions, endpoints, RDMA objects, memory.

Each function returns one line per thing found, and an empty list is good. The
same functions show while a session is up that they can find something.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab.guest import initiator
from lab.guest.system import loaded, output, read

RDMA_KINDS = ("cm_id", "qp", "cq", "pd", "mr", "ctx")
_OWNER = re.compile(r"\bcomm \[?([^\]\s]+)\]?")


def hosts() -> list[str]:
    """SCSI hosts of transport iser."""
    return [f"SCSI host {p.name}" for p in sorted(Path("/sys/class/scsi_host").glob("host*"))
            if read(p / "proc_name", "") == "iscsi_iser"]


def endpoints() -> list[str]:
    """Endpoints of the transport class."""
    return [f"endpoint {p.name}" for p in sorted(Path("/sys/class/iscsi_endpoint").glob("*"))]


def owned(kind: str, text: str, module: str) -> list[str]:
    """The lines of `rdma resource show` that belong to a module."""
    return [f"RDMA {kind}: {row.strip()}" for row in text.splitlines()
            if any(owner == module for owner in _OWNER.findall(row))]


def rdma(module: str) -> list[str]:
    """RDMA objects that a module holds.

    A queue pair made by the connection manager is listed as the manager's own,
    but never without its cm_id; a completion queue of the core's pool is the core's.
    """
    found = []
    for kind in RDMA_KINDS:
        found += owned(kind, output("rdma", "resource", "show", kind), module)
    return found


def of_sessions(module: str) -> list[str]:
    """All that should be gone when the last session is."""
    found = [f"session {s.sid} ({s.state})" for s in initiator.sessions()]
    return found + hosts() + endpoints() + rdma(module)


def kernel_threads() -> set[str]:
    """The names of all kernel threads."""
    names = set()
    for path in Path("/proc").glob("[0-9]*"):
        if not read(path / "cmdline", "x"):
            names.add(read(path / "comm", ""))
    return names


def named_after(module: str) -> list[str]:
    """What bears the driver's name and should be gone with the module."""
    ours = re.compile(r"iser(?!t)")
    found = []
    for path in Path("/sys/kernel/slab").glob("*"):
        # A symbolic link is the name of a cache that was merged with one of the
        # kernel's own: it stays, because the kernel's cache does.
        if ours.search(path.name) and not path.is_symlink():
            found.append(f"slab cache {path.name}")
    for where in ("/sys/bus/workqueue/devices", "/sys/kernel/debug"):
        found += [f"{p}" for p in Path(where).glob("*") if ours.search(p.name)]
    found += [f"kernel thread {n}" for n in sorted(kernel_threads()) if ours.search(n)]
    rows = Path("/proc/vmallocinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    found += [f"vmalloc area: {r}" for r in rows if f"[{module}]" in r]
    return found


def of_module(module: str) -> list[str]:
    """All that should be gone when the module is."""
    found = [f"module {module}"] if loaded(module) else []
    if Path("/sys/class/iscsi_transport/iser").exists():
        found.append("transport iser")
    return found + of_sessions(module) + named_after(module)
