#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""PDUs made by chance, from a seed: ISER_SEED and ISER_PDUS say which and how many."""

import os
import sys
import time

from hostile.rows import Scene, scene
from harness import program
from harness.case import Failure, case
from harness.env import Env
from lab.guest.system import SLOWNESS

SEED = int(os.environ.get("ISER_SEED", "1"))
PDUS = int(os.environ.get("ISER_PDUS", "2000"))
# On one connection at most; one that is wrong ends it sooner.
BURST = 1000
STALLED_SECONDS = 150


def counts(stage: Scene) -> tuple[int, int]:
    """What the target has counted: PDUs that the initiator's device has acknowledged, and bursts."""
    found = dict(word.split("=") for word in stage.sim.order("count").split())
    return int(found["random"]), int(found["bursts"])


@case(limit=300 + PDUS / 20)
def pdus(env: Env) -> None:
    """In the place of an answer come so many PDUs; after all of them the session works."""
    print(f"# seed {SEED}, {PDUS} PDUs", flush=True)
    began = time.monotonic()
    with scene(env) as stage:
        total = start = counts(stage)[0]
        moved, shown = began, began
        stage.sim.order(f"rules read* random={SEED}:{BURST}")
        while total - start < PDUS:
            try:
                stage.provoke("read", timeout=5)
            except OSError:
                time.sleep(0.5)
            now = time.monotonic()
            before, (total, bursts) = total, counts(stage)
            if total != before:
                moved = now
            elif now - moved > STALLED_SECONDS * SLOWNESS:
                raise Failure(f"no PDU for {STALLED_SECONDS * SLOWNESS:.0f} s after {total - start} of them; "
                              f"session {stage.session.state}")
            if now - shown > 60:
                shown = now
                print(f"# {total - start} PDUs, {bursts} bursts, {now - began:.0f} s", flush=True)
        stage.sim.order("rules")
        stage.usable(120)
        stage.works()
        print(f"# {total - start} PDUs were acknowledged by the device, in {bursts} bursts, "
              f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
