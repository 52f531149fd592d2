# SPDX-License-Identifier: GPL-2.0
"""How often functions of the kernel were called: counters made of kprobes.

    with Probes("ib_isert:isert_get_dataout") as probes:
        ...
        probes.count("isert_get_dataout")

So a test can see what the target received, and not only that it was content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from harness.case import Skip
from lab.guest.system import write
from lab.report import LabError

TRACING = Path("/sys/kernel/tracing")
GROUP = "iser_selftest"


def parse_profile(text: str) -> dict[str, int]:
    """Read kprobe_profile: name, hits, misses; a miss was a call all the same."""
    found = {}
    for row in text.splitlines():
        words = row.split()
        if len(words) >= 3 and words[-1].isdigit() and words[-2].isdigit():
            found[words[0].rpartition("/")[2]] = int(words[-2]) + int(words[-1])
    return found


def parse_trace(text: str, names: Sequence[str]) -> list[str]:
    """Read the trace file: the event names, as far as they are ours."""
    found = []
    for row in text.splitlines():
        match = re.search(r"\s\d+\.\d+: (\w+): ", row)
        if match and match[1] in names:
            found.append(match[1])
    return found


def define(text: str) -> None:
    """Make a kprobe event, or remove one. The file cannot be sought in, as Python does to append."""
    path = TRACING / "kprobe_events"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, text.encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as exc:
        raise LabError(f"writing {text!r} to {path}: {exc.strerror}") from exc


class Probes:
    """Counters on functions, each named `module:function` or `function`.

    `function%return` is where it returns, and its name here is `function_return`.
    """

    def __init__(self, *functions: str) -> None:
        self._functions = functions
        self._made: list[str] = []

    def __enter__(self) -> Probes:
        if not (TRACING / "kprobe_events").exists():
            raise Skip("this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)")
        try:
            for function in self._functions:
                name = function.rpartition(":")[2].replace("%", "_")
                define(f"p:{GROUP}/{name} {function}")
                self._made.append(name)
                write(TRACING / "events" / GROUP / name / "enable", 1)
        except LabError as exc:
            self.__exit__()
            raise Skip(f"no kprobe on {function}: {exc}") from exc
        return self

    def __exit__(self, *ignored: object) -> None:
        for name in self._made:
            try:
                write(TRACING / "events" / GROUP / name / "enable", 0)
                define(f"-:{GROUP}/{name}")
            except LabError:
                continue
        self._made = []

    def counts(self) -> dict[str, int]:
        """Calls of each function since the counters were made."""
        profile = parse_profile((TRACING / "kprobe_profile").read_text(encoding="ascii"))
        return {name: profile.get(name, 0) for name in self._made}

    def count(self, name: str) -> int:
        """Calls of one function."""
        return self.counts()[name]

    def order(self) -> list[str]:
        """The functions called since `forget()`, in the order of the calls."""
        return parse_trace((TRACING / "trace").read_text(encoding="utf-8", errors="replace"),
                           self._made)

    @staticmethod
    def forget() -> None:
        """Empty the record that `order()` reads."""
        (TRACING / "trace").write_text("", encoding="ascii")

    def since(self, before: dict[str, int]) -> dict[str, int]:
        """Calls of each function since an earlier `counts()`."""
        return {name: number - before[name] for name, number in self.counts().items()}
