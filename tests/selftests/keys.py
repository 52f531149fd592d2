#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Remote keys: those of a command are dead when the command is done.

RFC 7145, 7.3.2 and 8.3.2. rxe's own functions that register and invalidate a
region (or siw's) are counted, whoever asked for it: the driver, or the target by Send
with Invalidate. Where siw's function is inlined, it cannot be counted, and the test is skipped.
"""

import sys

from harness import program, sgio
from harness.case import BOTH, LIO, TGT, case, check, equal
from harness.data import SECTOR
from harness.env import Env
from harness.probe import Probes
from lab.guest import net

REGISTER, INVALIDATE = {"rxe": ("rxe_reg_fast_mr", "rxe_invalidate_mr"),
                        "siw": ("siw_fastreg_mr", "siw_invalidate_stag")}[net.chosen()]
FUNCTIONS = tuple(f"{net.MODULES[net.chosen()]}:{name}" for name in (REGISTER, INVALIDATE))
SIZES = (512, 4096, 65536, 262144)
C_KEEPS = "the C driver leaves a key valid until its region is used again"


def dead_after_each(env: Env) -> None:
    """Whatever a command registered is invalidated when the command is done.

    One command at a time: as many invalidations as registrations, and none of
    the latter last.
    """
    with Probes(*FUNCTIONS) as probes, env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        for turn in range(12):
            size = SIZES[turn % len(SIZES)]
            cdb = (sgio.read10, sgio.write10)[turn // len(SIZES) % 2](0, size // SECTOR)
            probes.forget()
            if cdb[0] == sgio.read10(0, 1)[0]:
                reply, _ = device.read(cdb, size)
            else:
                reply = device.write(cdb, bytes(size))
            calls = probes.order()
            what = f"command {turn}, {size} bytes"
            check(reply.good, f"{what}: {reply}")
            equal(f"{what}: regions invalidated", calls.count(INVALIDATE), calls.count(REGISTER))
            check(not calls or calls[-1] == INVALIDATE,
                  f"{what}: the last region stays registered: {calls}")


@case(LIO, limit=90)
def dead_after_each_command(env: Env) -> None:
    """The target invalidates remotely."""
    dead_after_each(env)


@case(TGT, limit=90, differs={"c": C_KEEPS})
def dead_without_remote_invalidation(env: Env) -> None:
    """The target does not invalidate: the driver does, before the command is done."""
    dead_after_each(env)


@case(BOTH)
def reads_are_registered(env: Env) -> None:
    """A read's memory is registered: the target gets a key for it and nothing more."""
    with Probes(*FUNCTIONS) as probes, env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        before = probes.counts()
        for _ in range(10):
            check(device.read(sgio.read10(0, 8), 4096)[0].good, "read failed")
        equal("regions registered for ten reads", probes.since(before)[REGISTER], 10)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
