#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""PDUs made by chance, from a seed: ISER_SEED and ISER_PDUS say which and how many."""

import os
import re
import sys
import time
from collections import Counter

from hostile.rows import SEED, Scene, many_losses, ours, pause, scene
from harness import program
from harness.case import Failure, case, check
from harness.env import Env
from lab.guest import kernlog
from lab.guest.system import SLOWNESS

PDUS = int(os.environ.get("ISER_PDUS", "2000"))
# On one connection at most; one that is wrong ends it sooner.
BURST = 300
LIMIT = 300 + PDUS / 20
STALLED_SECONDS = 150
NAMED = re.compile(r"protocol violation by the target \((\w+)\)|PDU of the target (refused)")
# So many bursts bring a violation at least, and so many a kind of them, up to so many kinds.
PER_VIOLATION = 2
KINDS, PER_KIND = 8, 6


def counts(stage: Scene) -> tuple[int, int]:
    """What the target has counted: PDUs that the initiator's device has acknowledged, and bursts."""
    found = dict(word.split("=") for word in stage.sim.order("count").split())
    return int(found["random"]), int(found["bursts"])


class Messages:
    """What the driver says of it, as far as the kernel has not limited that."""

    def __init__(self) -> None:
        self._log = kernlog.Tail()
        self.kinds: Counter[str] = Counter()

    def look(self) -> None:
        """Read what is new."""
        for row in ours(self._log.rows()):
            if match := NAMED.search(row):
                self.kinds[match[1] or match[2]] += 1

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.kinds.most_common()) or "none"


def judge(env: Env, stage: Scene, bursts: int, messages: Messages) -> None:
    """The driver must have seen enough of what is wrong."""
    if env.driver.kind != "rust":
        return
    counted = stage.violations()
    print(f"# {counted} violations were counted; those that ended a connection: {messages}", flush=True)
    least = bursts // PER_VIOLATION
    check(counted >= least, f"{counted} violations in {bursts} bursts: {least} are the least that test anything")
    kinds = min(KINDS, bursts // PER_KIND)
    check(len(messages.kinds) >= kinds, f"fewer than {kinds} kinds of violations: {messages}")


@case(limit=LIMIT)
def pdus(env: Env) -> None:
    """In the place of an answer come so many PDUs; after all of them the session works."""
    print(f"# seed {SEED}, {PDUS} PDUs", flush=True)
    began = time.monotonic()
    with scene(env) as stage, many_losses(LIMIT):
        (start, earlier) = (total, bursts) = counts(stage)
        messages = Messages()
        moved, shown = began, began
        stage.sim.order(f"rules read* random={SEED}:{BURST}")
        while total - start < PDUS:
            try:
                stage.provoke("read", timeout=5)
            except OSError:
                pause(0.5)
            messages.look()
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
        stage.nobody_waits()
        messages.look()
        print(f"# {total - start} PDUs were acknowledged by the device, in {bursts} bursts, "
              f"{time.monotonic() - began:.0f} s", flush=True)
        judge(env, stage, bursts - earlier, messages)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
