# SPDX-License-Identifier: GPL-2.0
"""The table of faults: name, targets and ranges of each, and what it does.

    @fault(seconds=(0.3, 1.5))
    def silence(rig, seconds):
        \"\"\"No packet passes for so long.\"\"\"

A fault repairs what it has broken before it returns; what must hold then is in `soak.rig`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.case import BOTH
from soak.plan import Kind
from soak.rig import Rig


@dataclass(frozen=True)
class Fault:
    """One way to break something."""

    kind: Kind
    run: Callable[..., None]
    targets: Sequence[str]
    possible: Callable[[str], bool]      # in this kernel, with this driver

    @property
    def name(self) -> str:
        """Its name."""
        return self.kind.name


_faults: dict[str, Fault] = {}


def always(driver: str) -> bool:
    """A fault that takes nothing special."""
    del driver
    return True


def fault(targets: Sequence[str] = BOTH, possible: Callable[[str], bool] = always,
          **ranges: tuple[float, float]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a fault: its first argument is the rig, the others are drawn from ranges."""
    def add(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__
        _faults[name] = Fault(Kind(name, ranges), function, targets, possible)
        return function
    return add


def everything() -> dict[str, Fault]:
    """All faults."""
    return dict(_faults)


def chosen(target: str, driver: str, only: Sequence[str] = ()) -> list[Fault]:
    """The faults for a target and driver on this kernel, or those of them that are named."""
    unknown = sorted(set(only) - set(_faults))
    if unknown:
        raise ValueError(f"no fault is called {', '.join(unknown)}; there are {', '.join(sorted(_faults))}")
    return [f for f in _faults.values() if target in f.targets and f.possible(driver)
            and (not only or f.name in only)]


def apply(item: Fault, rig: Rig, values: dict[str, float]) -> None:
    """Do it."""
    item.run(rig, **values)
