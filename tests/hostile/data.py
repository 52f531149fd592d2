#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Data that come late, not at all, or where they do not belong.

The memory of a command is the target's from the command to the command's end, and
no byte around it ever is. Each write that goes elsewhere has to be refused by the
device, which ends the connection.
"""

import sys

from hostile.rows import LIVES, LOST, SILENT, Row, run
from harness import program
from harness.case import case
from harness.env import Env

WITHOUT = "none 4:c0000000"
LATE, TRESPASS = "late", "trespass"

ORDER = {
    "without_data": Row("read nodata", SILENT, end=LIVES, good=True),
    "write_without_fetching": Row("write nodata", SILENT, end=LIVES, good=True, io="large"),
    "response_first": Row("read early", LOST, refuses=LATE),
    "response_between": Row("read between", LOST, refuses=LATE),
    "response_first_for_a_write": Row("write early", LOST, io="large", refuses=LATE),
    "response_between_for_a_write": Row("write between", LOST, io="large", refuses=LATE),
    "once_more_after_the_response": Row("read late=0", LOST, refuses=LATE),
    "a_second_after_the_response": Row("read late=1000", LOST, refuses=LATE, settle=2),
    "write_fetched_after_the_response": Row("write late=300", LOST, io="large", refuses=LATE, settle=1),
}


@case(limit=120, each=ORDER)
def order(env: Env, row: Row) -> None:
    """Data before, between, without and after the response."""
    run(env, row)


KEPT = {
    "once_more_after_the_response": Row("read late=500", LOST, refuses=LATE, mode=WITHOUT, settle=1.5),
    "write_fetched_after_the_response": Row("write late=500", LOST, io="large", refuses=LATE, mode=WITHOUT, settle=1.5),
}


@case(limit=120, each=KEPT, differs={"c": "the C driver leaves a key valid until its region is used again"})
def key_kept(env: Env, row: Row) -> None:
    """The same by a target that invalidates nothing: the initiator has to."""
    run(env, row)


OUTSIDE = {
    f"{io}_{where}": Row(f"{'read' if io == 'read' else 'write'} outside={where}", LOST, io=io,
                         refuses=TRESPASS)
    for io in ("read", "large") for where in ("before", "behind", "across", "far", "key", "direction")
}


@case(limit=120, each=OUTSIDE)
def outside(env: Env, row: Row) -> None:
    """Memory that the command has not given: beside it, far away, or in the other direction."""
    run(env, row)


# What goes with its command, or has no data, has no moment in the midst of them.
MOMENTS = {"read": ("before", "data", "response", "after"), "large": ("before", "data", "response", "after"),
           "write": ("before", "after"), "command": ("before", "after")}
HANGUP = {
    f"{io}_{when}": Row(f"{'write' if io == 'large' else io} hangup{'' if when == 'before' else f'={when}'}",
                        LOST, io=io)
    for io, moments in MOMENTS.items() for when in moments}


@case(limit=120, each=HANGUP)
def hangs_up(env: Env, row: Row) -> None:
    """The target disconnects at some point of a command."""
    run(env, row)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
