# SPDX-License-Identifier: GPL-2.0
"""Connections that rxe has lost by itself, on the instrumented kernel.

It is so slow there that rxe's timer for acknowledgements runs out all the time. rxe then does
again what is behind the last acknowledged packet, memory registrations too (`req_retry()`); it
finds the region registered (`rxe_reg_fast_mr()`) and fails the queue pair, without a status.
Both are recorded, each by a kprobe, so that such a loss can be told from others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.probe import TRACING, define
from lab.guest import net
from lab.guest.system import SLOWNESS, write
from lab.report import LabError

GROUP = "iser_rxe"
AGAIN, REFUSED = "sends_again", "registration"
PROBES = (f"p:{GROUP}/{AGAIN} rdma_rxe:req_retry",
          f"r:{GROUP}/{REFUSED} rdma_rxe:rxe_reg_fast_mr ret=$retval:s32")
# A record of their own: tests empty the common one.
RECORD = TRACING / "instances" / GROUP
# From the failure of the queue pair to libiscsi's message.
SECONDS = 5.0

Event = tuple[float, str]


def parse(text: str) -> list[Event]:
    """Read a trace: time and name of each event."""
    found = []
    for row in text.splitlines():
        match = re.search(r"\s(\d+\.\d+): (\w+): ", row)
        if match:
            found.append((float(match[1]), match[2]))
    return found


def explained(events: Sequence[Event], rows: Iterable[str]) -> bool:
    """Whether rxe has refused to register, after it had sent again, right before each message."""
    again = min((when for when, name in events if name == AGAIN), default=float("inf"))
    refused = [when for when, name in events if name == REFUSED and when > again]
    for row in rows:
        match = re.match(r"\[\s*(\d+\.\d+)\]", row)
        if not match or not any(0 <= float(match[1]) - when <= SECONDS for when in refused):
            return False
    return True


def record() -> None:
    """Begin a new record, where there is anything to be excused."""
    if SLOWNESS == 1 or net.chosen() != "rxe":
        return
    try:
        if not RECORD.exists():
            for probe in PROBES:
                define(probe)
            RECORD.mkdir()
            write(RECORD / "events" / GROUP / REFUSED / "filter", "ret != 0")
            for name in (AGAIN, REFUSED):
                write(RECORD / "events" / GROUP / name / "enable", 1)
        (RECORD / "trace").write_text("", encoding="ascii")
    except (OSError, LabError) as exc:
        print(f"# cannot see what rxe sends again: {exc}", flush=True)


def excuses(rows: Sequence[str]) -> bool:
    """Whether rxe is to blame for these losses of a connection since the record began; says so."""
    trace = RECORD / "trace"
    if SLOWNESS == 1 or not trace.exists():
        return False
    events = parse(trace.read_text(encoding="utf-8", errors="replace"))
    if not explained(events, rows):
        last = ", ".join(f"{name} at {when:.3f}" for when, name in events[-5:])
        print(f"# {len(events)} events do not explain it: {last}", flush=True)
        return False
    print(f"# rxe has sent again, and failed at a registration: {len(rows)} connections lost", flush=True)
    return True
