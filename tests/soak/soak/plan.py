# SPDX-License-Identifier: GPL-2.0
"""From a seed the sequence of faults: which comes when, how strong, and with what pause after.

The same seed and the same faults give the same plan. Faults come in rounds, each of them once in
every round and in another order, so that a run of some length meets all. Each step is drawn
by itself: one can begin anywhere in a plan.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PAUSE_SECONDS = (1.0, 6.0)

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Kind:
    """A fault as the plan sees it: its name, and between which values its parameters are drawn."""

    name: str
    ranges: Ranges


@dataclass(frozen=True)
class Step:
    """One fault."""

    number: int                  # from 1
    fault: str
    values: Mapping[str, float]
    pause: float                 # seconds of quiet after it

    def __str__(self) -> str:
        words = [f"{name} {value:g}" for name, value in self.values.items()]
        return f"{self.fault} ({', '.join(words)})" if words else self.fault


def drawn(dice: random.Random, low: float, high: float) -> float:
    """A value between two: a whole number if both are, else with two digits."""
    if isinstance(low, int) and isinstance(high, int):
        return dice.randint(low, high)
    return round(dice.uniform(low, high), 2)


def order(seed: int, turn: int, names: Sequence[str]) -> list[str]:
    """The faults of one round."""
    # Not a secret: the same seed must give the same plan.
    return random.Random(f"{seed}/{turn}").sample(sorted(names), len(names))


def steps(seed: int, kinds: Sequence[Kind], first: int = 1) -> Iterator[Step]:
    """The plan, without an end, from its step `first` on."""
    if not kinds or first < 1:
        raise ValueError("a plan needs faults, and begins with step 1 or later")
    by_name = {kind.name: kind for kind in kinds}
    number = first
    while True:
        turn, place = divmod(number - 1, len(kinds))
        kind = by_name[order(seed, turn, list(by_name))[place]]
        dice = random.Random(f"{seed}:{number}")
        values = {name: drawn(dice, *kind.ranges[name]) for name in sorted(kind.ranges)}
        yield Step(number, kind.name, values, drawn(dice, *PAUSE_SECONDS))
        number += 1
