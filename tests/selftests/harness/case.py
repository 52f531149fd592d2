# SPDX-License-Identifier: GPL-2.0
"""What a test is: a function with a name, a time limit, and targets it is for.

    @case(targets=BOTH, limit=90)
    def discovery(env):
        \"\"\"What it shows, in one line.\"\"\"

    @case(targets=BOTH, each={"4k": 4096, "64k": 65536})
    def write(env, size): ...

makes lio.discovery, tgt.discovery, lio.write[4k] and so on. Tests without a
target are run beside those with LIO. A test that takes long (`long=True`) is left out
unless ISER_SET asks for it, or a pattern names it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lab.report import LabError

LIO, TGT = ("lio",), ("tgt",)
BOTH = ("lio", "tgt")
SETS = ("short", "long", "all")


class Failure(LabError):
    """What a test found wrong."""


class Skip(Exception):
    """Why a test cannot be done here."""


class OverTime(Exception):
    """A test took longer than it may."""


@dataclass(frozen=True)
class Case:
    """One test of a program."""

    name: str
    run: Callable[..., None]
    target: str = ""                 # "lio", "tgt", or none
    limit: float = 60
    differs: Mapping[str, str] = field(default_factory=dict)   # driver: why it fails there
    arguments: tuple[object, ...] = ()
    long: bool = False

    @property
    def full_name(self) -> str:
        """The name with the target."""
        return f"{self.target}.{self.name}" if self.target else self.name


_registered: list[Case] = []


def case(targets: Sequence[str] = (), limit: float = 60, differs: Mapping[str, str] | None = None,
         each: Mapping[str, object] | None = None,
         long: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a test, for each target and for each value of `each`.

    `differs` says of a driver why it is expected to fail: it does so in the
    result (XFAIL), and passing is a failure then, so that the list stays true.
    """
    def add(function: Callable[..., None]) -> Callable[..., None]:
        variants: list[tuple[str, tuple[object, ...]]] = [(function.__name__, ())]
        if each is not None:
            variants = [(f"{function.__name__}[{label}]", (value,)) for label, value in each.items()]
        for target in targets or ("",):
            for name, arguments in variants:
                _registered.append(Case(name, function, target, limit, dict(differs or {}), arguments, long))
        return function
    return add


def registered() -> list[Case]:
    """All tests of this program, those of one target together."""
    order = {"": 0, "lio": 1, "tgt": 2}
    return sorted(_registered, key=lambda c: order[c.target])


def wanted(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of the patterns: a part of it, or one with wildcards."""
    patterns = list(patterns)
    if not patterns:
        return True
    return any(fnmatch.fnmatchcase(name, p) if any(c in p for c in "*?") else p in name
               for p in patterns)


def select(cases: Iterable[Case], targets: Sequence[str], program: str,
           patterns: Sequence[str], done: Sequence[str] = (), which: str = "") -> list[Case]:
    """The tests that were asked for, by patterns and of a set, but those that are done.

    By default these are the short ones, or all that are named.
    """
    which = which or ("all" if patterns else "short")
    return [c for c in cases if (c.target or LIO[0]) in targets
            and (which == "all" or c.long == (which == "long"))
            and wanted(f"{program}/{c.full_name}", patterns)
            and f"{program}/{c.full_name}" not in done]


def check(condition: object, message: str) -> None:
    """Fail with the message unless the condition holds."""
    if not condition:
        raise Failure(message)


def equal(what: str, got: object, expected: object) -> None:
    """Fail unless both are equal."""
    if got != expected:
        raise Failure(f"{what}: {got!r}, and it should be {expected!r}")
