# SPDX-License-Identifier: GPL-2.0
"""What a person sees of a build: steps with their time, and one-line errors.

Everything goes to standard error; standard output is for results.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.report import LabError

# A step that is not watched on a terminal says that it lives this often.
SILENCE = 20.0
# Seconds that a command has to end when asked to.
PATIENCE = 2.0


class BuildError(LabError):
    """A failure with a message for the user; no traceback belongs to it."""


def say(text: str) -> None:
    """Print one line in Kbuild's manner."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _last_line(path: Path) -> str:
    """Return the last line of a log, shortened for a status line."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 400))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1].split())[:60] if lines else ""


class _Status:
    """Shows how far a command is: in place on a terminal, now and then elsewhere."""

    def __init__(self, title: str, log: Path) -> None:
        self.title, self.log = title, log
        self.start = self.shown = time.monotonic()
        self.tty = sys.stderr.isatty()

    def tick(self) -> None:
        """Show the status, if the last time was long enough ago."""
        now = time.monotonic()
        if now - self.shown < (1 if self.tty else SILENCE):
            return
        self.shown = now
        text = f"{self.title} ({now - self.start:.0f} s) {_last_line(self.log)}"
        if self.tty:
            print(f"\r\033[K  {text}", end="", file=sys.stderr, flush=True)
        else:
            say(text)

    def done(self) -> None:
        """Replace the status by the time the command took."""
        if self.tty:
            print("\r\033[K", end="", file=sys.stderr)
        say(f"{self.title}: {time.monotonic() - self.start:.1f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and everything it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            process.poll()
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def run(title: str, command: Sequence[str | Path], log: Path, locks: Sequence[int] = (),
        **kwargs: Any) -> None:
    """Run `command`, its output appended to `log`; show progress.

    The command inherits the descriptors `locks`, so that what it writes to stays
    locked should this process be killed. On failure raise BuildError with the end
    of the log and its place.
    """
    status = _Status(title, log)
    with open(log, "ab") as output:
        output.write(f"+ {' '.join(map(str, command))}\n".encode())
        output.flush()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(locks),
            start_new_session=True,
            **kwargs,
        ) as process:
            try:
                while True:
                    try:
                        code = process.wait(timeout=0.5)
                        break
                    except subprocess.TimeoutExpired:
                        status.tick()
            except BaseException:
                _end(process)
                raise
    if code:
        with open(log, encoding="utf-8", errors="replace") as file:
            tail = "".join(f"    {line}" for line in file.readlines()[-12:])
        raise BuildError(f"{title} failed:\n{tail}full log: {log}")
    status.done()
