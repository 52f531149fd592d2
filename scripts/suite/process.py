# SPDX-License-Identifier: GPL-2.0
"""Running the programs of the suite: their lines as they come, a log, a time limit.

Several may run at once, each read by a thread of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

KILL_SECONDS = 30


def end(process: subprocess.Popen[str]) -> None:
    """Ask a program to end; kill it and all it has started if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Running:
    """A program that was started; iterate over its lines, then look at `error`."""

    def __init__(self, process: subprocess.Popen[str], log: Path, seconds: float) -> None:
        self.process = process
        self.error = ""            # why it has failed, when it has ended
        self._log = log
        self._seconds = seconds
        self._late = False

    def _expired(self) -> None:
        self._late = True
        end(self.process)

    def __iter__(self) -> Iterator[str]:
        timer = threading.Timer(self._seconds, self._expired)
        timer.daemon = True
        timer.start()
        try:
            assert self.process.stdout is not None
            with open(self._log, "w", encoding="utf-8") as copy:
                for line in self.process.stdout:
                    copy.write(line)
                    copy.flush()
                    yield line
            status = self.process.wait()
        finally:
            timer.cancel()
            end(self.process)
        if self._late:
            self.error = f"took more than {self._seconds:.0f} s"
        elif status:
            self.error = f"exit status {status}"


class Processes:
    """What the suite has started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._closed = False

    def start(self, argv: Sequence[str], log: Path, seconds: float,
              environment: Mapping[str, str] | None = None) -> Running:
        """Start a command, which has so much time."""
        with self._lock:
            if self._closed:
                raise OSError("the run was interrupted")
            process = subprocess.Popen(argv, cwd=self._directory, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       errors="replace", env=environment, start_new_session=True)
            self._started.append(process)
        return Running(process, log, seconds)

    def end_all(self) -> None:
        """End everything, and start nothing more."""
        with self._lock:
            self._closed = True
        for process in self._started:
            end(process)
