# SPDX-License-Identifier: GPL-2.0
"""QEMU's control socket (QMP): one JSON object a line, a command at a time.

    with qmp.connect(machine.out) as control:
        control.execute("stop")
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from lab.report import LabError

NAME = "qmp"             # of the socket, in the results directory
SECONDS = 20


class Control:
    """A connection on which commands are given."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        # Not for both ways: a text file forgets what it has read ahead when it is written to.
        self._answers = line.makefile("r", encoding="utf-8")
        if "QMP" not in self._read():
            raise LabError("what answers at QEMU's control socket is not QEMU")
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        text = self._answers.readline()
        if not text:
            raise LabError("QEMU has closed its control socket")
        return dict(json.loads(text))

    def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command and return its answer; events in between are skipped."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._line.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "error" in answer:
                raise LabError(f"QEMU refused {command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._line.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


def connect(out: Path) -> Control:
    """Connect to the machine with this results directory."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(SECONDS)
    # A unix socket path is short: reach it from its own directory.
    here = os.open(out, os.O_PATH)
    try:
        line.connect(f"/proc/self/fd/{here}/{NAME}")
        return Control(line)
    except OSError as exc:
        line.close()
        raise LabError(f"no answer at {out}/{NAME}: {exc}") from exc
    finally:
        os.close(here)
