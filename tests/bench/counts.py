# SPDX-License-Identifier: GPL-2.0
"""From the plugin's snapshots to instructions per I/O of every function.

    before, middle, after = (counts.read(path) for path in files)
    profile = counts.per_io(before, middle, after, n)

`middle` was taken after n I/Os, `after` after 2n more. What the second run
has more than the first is the cost of n I/Os: starting fio, and whatever else
both runs did once, is in both and falls out.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("<8s3Q")
RECORD = struct.Struct("<2Q2I")
MAGIC = b"blocks1\0"

KERNEL = "vmlinux"
USER = "user space"

# An address this far behind the last symbol is not that symbol's.
FAR = 1 << 20

KALLSYMS = re.compile(r"^([0-9a-f]{16}) ([tTwW]) (\S+)(?:\t\[(\S+)\])?$")


class Bad(Exception):
    """A file that is not what it should be."""


class Block(NamedTuple):
    """A block of code: where it begins, its instructions, whether it is one REP string step."""

    address: int
    instructions: int
    repeats: int


@dataclass
class Snapshot:
    """Counters at one moment."""

    executions: dict[Block, int]
    user: int = 0        # instructions in user space
    lost: int = 0        # instructions the plugin had no counter for


@dataclass(frozen=True)
class Function:
    """A function of the kernel or of a module."""

    name: str
    module: str


@dataclass
class Cost:
    """What a function costs."""

    instructions: float = 0.0
    calls: float = 0.0       # executions of its first block
    steps: float = 0.0       # of the instructions: steps of REP string instructions


@dataclass
class Profile:
    """Cost per I/O, function by function."""

    functions: dict[Function, Cost] = field(default_factory=dict)

    def total(self) -> float:
        """Instructions of the whole guest."""
        return sum(c.instructions for c in self.functions.values())

    def modules(self) -> dict[str, float]:
        """Instructions by module."""
        found: dict[str, float] = {}
        for function, cost in self.functions.items():
            found[function.module] = found.get(function.module, 0.0) + cost.instructions
        return found

    def of_module(self, module: str) -> dict[str, Cost]:
        """The functions of one module."""
        return {f.name: c for f, c in self.functions.items() if f.module == module}


def parse(data: bytes) -> Snapshot:
    """Read a snapshot as plugin/blocks.c writes it."""
    if len(data) < HEADER.size:
        raise Bad("a snapshot ends within its header")
    magic, records, user, lost = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Bad("a snapshot does not begin as one")
    if len(data) != HEADER.size + records * RECORD.size:
        raise Bad(f"a snapshot of {records} records has {len(data)} bytes")
    found = {Block(address, instructions, repeats): executions
             for address, executions, instructions, repeats
             in RECORD.iter_unpack(data[HEADER.size:])}
    return Snapshot(found, user, lost)


def read(path: Path) -> Snapshot:
    """Read a snapshot's file."""
    try:
        return parse(path.read_bytes())
    except (OSError, Bad) as exc:
        raise Bad(f"{path}: {exc}") from exc


def second_difference(before: Snapshot, middle: Snapshot, after: Snapshot) -> Snapshot:
    """(after - middle) - (middle - before), without what is zero."""
    found = {}
    for block, last in after.executions.items():
        value = last - 2 * middle.executions.get(block, 0) + before.executions.get(block, 0)
        if value:
            found[block] = value
    return Snapshot(found, after.user - 2 * middle.user + before.user,
                    after.lost - 2 * middle.lost + before.lost)


class Symbols:
    """/proc/kallsyms of the guest: address to function."""

    def __init__(self, rows: Iterable[str]) -> None:
        # Of several names at one address the first that is no alias made by a macro.
        named: dict[int, Function] = {}
        for row in rows:
            match = KALLSYMS.match(row.rstrip("\n"))
            if not match:
                continue
            address, name = int(match[1], 16), match[3]
            if address and (address not in named or named[address].name.startswith("__pfx_")):
                named[address] = Function(name, match[4] or KERNEL)
        if not named:
            raise Bad("kallsyms holds no address; it must be read as root")
        self._starts = sorted(named)
        self._functions = [named[a] for a in self._starts]

    def find(self, address: int) -> tuple[Function, bool]:
        """The function an address lies in, and whether it is its first byte."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0 or address - self._starts[at] > FAR:
            return Function("(no symbol)", KERNEL), False
        return self._functions[at], self._starts[at] == address


def resolve(snapshot: Snapshot, symbols: Symbols, ios: int) -> Profile:
    """Divide a difference by the number of I/Os and sort it by function."""
    profile = Profile()
    for block, executions in snapshot.executions.items():
        function, entry = symbols.find(block.address)
        cost = profile.functions.setdefault(function, Cost())
        instructions = executions * block.instructions / ios
        cost.instructions += instructions
        if entry:
            cost.calls += executions / ios
        if block.repeats:
            cost.steps += instructions
    for name, value in ((USER, snapshot.user), ("(not counted)", snapshot.lost)):
        if value:
            profile.functions[Function(name, USER if name == USER else KERNEL)] = Cost(value / ios)
    return profile


def per_io(before: Snapshot, middle: Snapshot, after: Snapshot, symbols: Symbols,
           ios: int) -> Profile:
    """Cost of one I/O from three snapshots around runs of n and of 2n I/Os."""
    return resolve(second_difference(before, middle, after), symbols, ios)


def mean(profiles: list[Profile]) -> Profile:
    """The mean of several runs, function by function."""
    total = Profile()
    for profile in profiles:
        for function, cost in profile.functions.items():
            into = total.functions.setdefault(function, Cost())
            into.instructions += cost.instructions / len(profiles)
            into.calls += cost.calls / len(profiles)
            into.steps += cost.steps / len(profiles)
    return total


def rename(profile: Profile, names: Mapping[str, str]) -> Profile:
    """The same profile with other names of functions (demangled ones)."""
    found = Profile()
    for function, cost in profile.functions.items():
        key = Function(names.get(function.name, function.name), function.module)
        into = found.functions.setdefault(key, Cost())
        into.instructions += cost.instructions
        into.calls += cost.calls
        into.steps += cost.steps
    return found
