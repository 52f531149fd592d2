# SPDX-License-Identifier: GPL-2.0
"""What a test in a machine has the host do to machines: kill, start, suspend.

The machine leaves a request in its results directory, which both see, and finds the
answer there; `lab.guest.hand` is its side. A file needs nothing of the machine but that
it runs, so one that was suspended meanwhile finds its answer as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab import kmsg
from lab.report import LabError

ASKED, ANSWERED = "asked", "answered"


def leave(path: Path, value: object) -> None:
    """Write a file that is there whole or not at all."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(value), encoding="utf-8")
    os.replace(draft, path)


class Hand:
    """Does what is asked for in one results directory."""

    def __init__(self, out: Path, deeds: Mapping[str, Callable[..., Any]]) -> None:
        self._out, self._deeds = out, deeds
        self._next = 1

    def look(self) -> bool:
        """Do the next thing that was asked for; False if there is none."""
        path = self._out / f"{ASKED}-{self._next}"
        if not path.exists():
            return False
        name, arguments = json.loads(path.read_text(encoding="utf-8"))
        answer: dict[str, Any]
        if name not in self._deeds:
            answer = {"error": f"the host does not know how to {name}"}
        else:
            try:
                answer = {"value": self._deeds[name](*arguments)}
            except (LabError, OSError) as exc:
                answer = {"error": str(exc)}
        leave(self._out / f"{ANSWERED}-{self._next}", answer)
        self._next += 1
        return True


class Console:
    """What a machine writes to its kernel log, from the start of its command on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._booted = False

    def rows(self) -> list[str]:
        """The lines since the last call; an unfinished one is left for the next."""
        try:
            with open(self._path, "rb") as log:
                log.seek(self._read)
                text = log.read()
        except FileNotFoundError:
            return []
        text = text[:text.rfind(b"\n") + 1]
        self._read += len(text)
        rows = text.decode(errors="replace").splitlines()
        if self._booted:
            return rows
        for number, row in enumerate(rows):
            if kmsg.BOOTED in row:
                self._booted = True
                return rows[number + 1:]
        # Before that only what ends a machine is of interest.
        return [row for row in rows if kmsg.PANIC.search(row)]
