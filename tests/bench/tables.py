# SPDX-License-Identifier: GPL-2.0
"""Counts to text: plain tables that fit a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from bench import counts, plans

# What belongs to a driver: its own modules, and those it cannot do without.
OWN = {"c": ("ib_iser",), "rust": ("ib_iser_rs",), "tcp": ("iscsi_tcp", "libiscsi_tcp"),
       "nvme": ("nvme_rdma",)}
ISCSI = ("libiscsi", "scsi_transport_iscsi")
LIBRARIES = {"c": ISCSI, "rust": ISCSI, "tcp": ISCSI, "nvme": ("nvme_core", "nvme_fabrics")}
MIDLAYER = ("scsi_mod", "sd_mod", "scsi_common")

WHOLE, DRIVER, STACK = "whole guest", "driver", "driver and its libraries"
IB_CORE, SCSI = "ib_core, initiator's share", "SCSI mid-layer"

# How ib_core's instructions are shared out between the two ends, which are one
# machine here. All initiators poll in softirq and both targets in a workqueue.
TARGETS = ("rdma_rw_", "ib_cq_poll_work", "ib_cq_completion_workqueue")
# rxe looks addresses up for each packet of either side.
PACKETS = ("rdma_get_gid_attr", "rdma_read_gid_attr_ndev_rcu", "rdma_put_gid_attr", "ib_device_put")
INITIATORS = ("ib_poll_handler", "ib_cq_completion_softirq", "ib_map_mr_sg", "ib_sg_to_pages")
OF_TARGET = ("isert_", "nvmet_rdma_")
OF_C = ("iser_task_rsp", "iser_cmd_comp", "iser_dataout_comp")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    cells = [[str(c) for c in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in cells)


def spread(values: Sequence[float]) -> str:
    """How far values lie from each other, in per cent of their median."""
    middle = statistics.median(values)
    if not middle:
        return "-"
    return f"{100 * (max(values) - min(values)) / middle:.1f}%"


def ratio(rust: float, c: float, digits: int = 3) -> str:
    """Rust divided by C."""
    return f"{rust / c:.{digits}f}" if c else "-"


def in_order(kinds: Iterable[str]) -> list[str]:
    """Drivers in the order of the tables."""
    wanted = set(kinds)
    return [k for k in plans.DRIVERS if k in wanted]


def completions(profile: counts.Profile) -> tuple[float, float]:
    """Completion handlers called per I/O: by the initiator, by the target."""
    mine = theirs = 0.0
    own = {m for names in OWN.values() for m in names}
    for function, cost in profile.functions.items():
        handler = "_done" in function.name
        if handler and function.name.startswith(OF_TARGET):
            theirs += cost.calls
        elif function.module in own and (handler or function.name in OF_C):
            mine += cost.calls
    return mine, theirs


def initiators_ib_core(profile: counts.Profile) -> float:
    """ib_core's instructions on behalf of the initiator."""
    functions = profile.of_module("ib_core")
    mine, theirs = completions(profile)
    by_completions = mine / (mine + theirs) if mine + theirs else 0.0
    total = 0.0
    for name, cost in functions.items():
        if name.startswith(TARGETS) or name in PACKETS:
            continue
        share = 1.0 if name in INITIATORS else by_completions
        if name == "ib_dma_virt_map_sg" and cost.calls:
            # The target maps once for each transfer that it begins.
            begun = functions.get("rdma_rw_ctx_init", counts.Cost()).calls
            share = max(0.0, 1 - begun / cost.calls)
        total += share * cost.instructions
    return total


def groups(profile: counts.Profile, kind: str) -> dict[str, float]:
    """The lines of the table by module."""
    modules = profile.modules()
    driver = sum(modules.get(name, 0.0) for name in OWN[kind])
    found = {WHOLE: profile.total(), DRIVER: driver,
             STACK: driver + sum(modules.get(name, 0.0) for name in LIBRARIES[kind]),
             SCSI: sum(modules.get(name, 0.0) for name in MIDLAYER),
             IB_CORE: initiators_ib_core(profile) if kind != "tcp" else 0.0}
    for name in sorted(modules, key=lambda n: -modules[n]):
        if modules[name] >= 0.5 and name not in OWN[kind]:
            found[name] = modules[name]
    return found


Runs = Mapping[str, Sequence[counts.Profile]]


def counted_text(load: str, runs: Runs) -> str:
    """Instructions per I/O by module, for one load and each driver."""
    kinds = in_order(runs)
    means = {k: groups(counts.mean(list(runs[k])), k) for k in kinds}
    each = {k: [groups(p, k) for p in runs[k]] for k in kinds}
    paired = all(k in kinds for k in plans.ISER)
    rows = []
    for name in dict.fromkeys(n for k in kinds for n in means[k]):
        row = [name]
        for kind in kinds:
            value = means[kind].get(name, 0.0)
            row += [f"{value:.1f}", spread([g.get(name, 0.0) for g in each[kind]])] \
                if value else ["-", ""]
        if paired:
            row.append(ratio(means["rust"].get(name, 0.0), means["c"].get(name, 0.0)))
        rows.append(row)
    head = [f"{load}, instructions per I/O", *(w for k in kinds for w in (plans.MODULES[k], "spread")),
            *(["rust/C"] if paired else [])]
    return table(head, rows)


def setups_text(title: str, found: Mapping[str, Mapping[str, Runs]],
                lines: Sequence[str] = (DRIVER, STACK, WHOLE)) -> str:
    """A line for each setup and driver, columns for loads: what the drivers cost."""
    loads = list(dict.fromkeys(load for setup in found.values() for load in setup))
    rows = []
    for kind in plans.ISER:
        for name, setup in found.items():
            if not any(kind in runs for runs in setup.values()):
                continue
            row = [f"{plans.MODULES[kind]}, {name}"]
            for load in loads:
                runs = [groups(p, kind) for p in setup[load][kind]]
                row += [f"{statistics.mean(g[line] for g in runs):.1f}" for line in lines]
            rows.append(row)
    head = [title, *(f"{load}: {line}" if i == 0 else line.replace(" and its libraries", "+libs")
                     for load in loads for i, line in enumerate(lines))]
    return table(head, rows)


def functions_text(module: str, profiles: Mapping[str, counts.Profile], most: int = 60) -> str:
    """The functions of one module: instructions and calls per I/O for each load."""
    costs = {load: profile.of_module(module) for load, profile in profiles.items()}
    names = {n for c in costs.values() for n in c}
    order = sorted(names, key=lambda n: -max(c[n].instructions for c in costs.values() if n in c))
    rows = []
    for name in order[:most]:
        row = []
        for found in costs.values():
            cost = found.get(name, counts.Cost())
            row += [f"{cost.instructions:.1f}", f"{cost.calls:.2f}"]
        if max(float(v) for v in row) >= 0.05:
            rows.append([name, *row])
    head = [f"{module}: function"]
    for load in costs:
        head += [load.replace("rand", "").replace(" qd16", ""), "calls"]
    return table(head, rows)


def elsewhere_text(load: str, c: counts.Profile, rust: counts.Profile, most: int = 16) -> str:
    """Functions outside both drivers that cost more or less under ours."""
    rows = []
    for function in {*c.functions, *rust.functions}:
        if function.module in plans.MODULES.values():
            continue
        before = c.functions.get(function, counts.Cost())
        after = rust.functions.get(function, counts.Cost())
        rows.append((after.instructions - before.instructions, function, before, after))
    rows.sort(key=lambda r: -abs(r[0]))
    return table([f"{load}: elsewhere", "module", "C", "calls", "Rust", "calls", "more"],
                 [[f.name, f.module, f"{b.instructions:.1f}", f"{b.calls:.2f}",
                   f"{a.instructions:.1f}", f"{a.calls:.2f}", f"{more:+.1f}"]
                  for more, f, b, a in rows[:most]])
