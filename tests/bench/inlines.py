# SPDX-License-Identifier: GPL-2.0
"""Where in the source a module's instructions come from, inlined functions apart.

Rust's small functions are inlined into a few large ones, so that a table by
symbol says little. The module's debug information knows better: each executed
instruction is given to the innermost function of this project whose text it is;
what is inlined into that from the kernel's or the language's libraries is its.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench import counts

# Runs a program of the toolchain root: arguments and input to output.
Tool = Callable[[list[str], str], str]

INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t")
SYMBOL = re.compile(r"^([0-9a-f]+) .* F \.text\t[0-9a-f]+ (?:\.hidden )?(\S+)$")
FRAME = re.compile(r"^(?:0x[0-9a-f]+: | \(inlined by\) )(.*) at (.*?)(?: \(discriminator \d+\))?$")
FOREIGN = ("rust/kernel/", "rust/library/", "library/", "include/", "rust/pin-init/")
CRATE_HASH = re.compile(r"\[[0-9a-f]{16}\]")


@dataclass(frozen=True)
class Place:
    """A function as the source has it, and the file it is in."""

    function: str
    file: str


@dataclass
class Sources:
    """Instructions per I/O by function of the source, and by line."""

    places: dict[Place, float] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, list[list[object]]]:
        """What costs anything, for programs."""
        return {"functions": [[p.file, p.function, round(v, 2)] for p, v in
                              sorted(self.places.items(), key=lambda i: -i[1]) if v >= 0.05],
                "lines": [[line, round(v, 2)] for line, v in
                          sorted(self.lines.items(), key=lambda i: -i[1]) if v >= 0.05]}


def base_of(kallsyms: Mapping[str, int], symbols: str) -> int:
    """Where .text was loaded, from one function that both lists name once."""
    rows = [m for m in map(SYMBOL.match, symbols.splitlines()) if m]
    names = [m[2] for m in rows]
    for match in rows:
        if match[2] in kallsyms and names.count(match[2]) == 1:
            return kallsyms[match[2]] - int(match[1], 16)
    raise counts.Bad("no function of the module file is in the guest's kallsyms")


def instruction_counts(snapshot: counts.Snapshot, starts: list[int], base: int) -> dict[int, int]:
    """Executions of each instruction (offset in .text) from executions of blocks."""
    found: dict[int, int] = {}
    end = base + starts[-1]
    for block, executions in snapshot.executions.items():
        if not base <= block.address <= end:
            continue
        first = bisect.bisect_left(starts, block.address - base)
        for at in starts[first:first + block.instructions]:
            found[at] = found.get(at, 0) + executions
    return found


def attribute(executions: Mapping[int, int], frames: Mapping[int, tuple[Place, str]],
              ios: int) -> Sources:
    """Sum instructions by innermost function and by line."""
    sources = Sources()
    for at, count in executions.items():
        place, line = frames[at]
        sources.places[place] = sources.places.get(place, 0.0) + count / ios
        sources.lines[line] = sources.lines.get(line, 0.0) + count / ios
    return sources


def parse_frames(text: str) -> list[tuple[Place, str]]:
    """What `addr2line -afCpi` prints: for each address one place, and its file with line."""
    found: list[tuple[Place, str]] = []
    chosen = True
    for row in text.splitlines():
        if row.startswith("0x"):
            found.append((Place("?", "?"), "?"))
            chosen = False
        match = FRAME.match(row)
        if not match or chosen:
            continue
        where, _, number = match[2].rpartition(":")
        short = shorten(where)
        found[-1] = Place(CRATE_HASH.sub("", match[1]), short), f"{short}:{number}"
        chosen = not short.startswith(FOREIGN)
    return found


def shorten(path: str) -> str:
    """A source path from this project's or the kernel's top on."""
    for top in ("/drivers/", "/rust/", "/library/", "/include/"):
        if top in path:
            return path[path.rindex(top) + 1:]
    return path


class Module:
    """A module file with debug information, and the tools that read it."""

    def __init__(self, path: str, tool: Tool) -> None:
        self._path, self._tool = path, tool
        self._frames: dict[int, tuple[Place, str]] = {}
        listing = tool(["objdump", "-d", "--no-show-raw-insn", "-j", ".text", path], "")
        self.starts = sorted({int(m[1], 16) for m in map(INSTRUCTION.match, listing.splitlines())
                              if m})
        self.symbols = tool(["objdump", "-t", "-j", ".text", path], "")

    def sources(self, snapshot: counts.Snapshot, kallsyms: Mapping[str, int], ios: int) -> Sources:
        """What one difference of snapshots says about this module's source."""
        found = instruction_counts(snapshot, self.starts, base_of(kallsyms, self.symbols))
        self._look_up([at for at in found if at not in self._frames])
        return attribute(found, self._frames, ios)

    def _look_up(self, wanted: list[int]) -> None:
        if not wanted:
            return
        text = self._tool(["addr2line", "-e", self._path, "-j", ".text", "-afCpi"],
                          "".join(f"{at:#x}\n" for at in wanted))
        self._frames.update(zip(wanted, parse_frames(text), strict=True))


def addresses(rows: list[str], module: str) -> dict[str, int]:
    """Name to address of a module's functions in kallsyms; ambiguous names are left out."""
    found: dict[str, int] = {}
    twice = set()
    for row in rows:
        match = counts.KALLSYMS.match(row.rstrip("\n"))
        if match and match[4] == module:
            if match[3] in found:
                twice.add(match[3])
            found[match[3]] = int(match[1], 16)
    return {n: a for n, a in found.items() if n not in twice}


def text(load: str, found: Sources, most: int) -> str:
    """The most expensive functions and lines of our source for one load."""
    rows = [f"{load}, by innermost function of our source"]
    for place, value in sorted(found.places.items(), key=lambda i: -i[1])[:most]:
        rows.append(f"{value:8.1f}  {place.function}  ({place.file})")
    rows.append(f"{load}, by line")
    for line, value in sorted(found.lines.items(), key=lambda i: -i[1])[:most]:
        rows.append(f"{value:8.1f}  {line}")
    return "\n".join(rows)
