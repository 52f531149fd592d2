# SPDX-License-Identifier: GPL-2.0
"""Connections that rxe has lost by itself.

On the instrumented kernel its timer for acknowledgements runs out all the time, and on a busy host now
and then. rxe then does again what is behind the last acknowledged packet, memory registrations too (`req_retry()`); it
finds the region registered (`rxe_reg_fast_mr()`) and fails the queue pair, without a status.
Both are recorded, each by a kprobe, so that such a loss can be told from others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from harness.probe import TRACING, define
from lab.guest import net
from lab.guest.system import write
from lab.report import LabError

GROUP = "iser_rxe"
AGAIN, REFUSED = "sends_again", "registration"
# The stock kernel's compiler has inlined the first one; there the timer that has run out tells of it.
SENDS_AGAIN = ("req_retry", "retransmit_timer")
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


def define_one(event: str, functions: Sequence[str], values: str = "") -> None:
    """Make the event of the first of these functions that there is."""
    *others, last = functions
    for function in others:
        with suppress(LabError):
            define(f"{event} rdma_rxe:{function}{values}")
            return
    define(f"{event} rdma_rxe:{last}{values}")


def record() -> None:
    """Begin a new record, where there is anything to be excused."""
    if net.chosen() != "rxe":
        return
    try:
        if not RECORD.exists():
            define_one(f"p:{GROUP}/{AGAIN}", SENDS_AGAIN)
            define_one(f"r:{GROUP}/{REFUSED}", ("rxe_reg_fast_mr",), " ret=$retval:s32")
            RECORD.mkdir()
            # That of the kernel log, to which the record is compared: a corrected time stamp counter. By the
            # common one, which is not, they are seconds apart after some minutes.
            write(RECORD / "trace_clock", "perf")
            write(RECORD / "events" / GROUP / REFUSED / "filter", "ret != 0")
            for name in (AGAIN, REFUSED):
                write(RECORD / "events" / GROUP / name / "enable", 1)
        (RECORD / "trace").write_text("", encoding="ascii")
    except (OSError, LabError) as exc:
        print(f"# cannot see what rxe sends again: {exc}", flush=True)


def excuses(rows: Sequence[str]) -> bool:
    """Whether rxe is to blame for these losses of a connection since the record began; says so."""
    trace = RECORD / "trace"
    if not trace.exists():
        return False
    events = parse(trace.read_text(encoding="utf-8", errors="replace"))
    if not explained(events, rows):
        last = ", ".join(f"{name} at {when:.3f}" for when, name in events[-5:])
        print(f"# {len(events)} events do not explain it: {last}", flush=True)
        return False
    print(f"# rxe has sent again, and failed at a registration: {len(rows)} connections lost", flush=True)
    return True
