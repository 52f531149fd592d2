# SPDX-License-Identifier: GPL-2.0
"""What a person sees of a build: steps with their time, and one-line errors.

Everything goes to standard error; standard output is for results.
"""

import os
import subprocess
import sys
import time

# A step that is not watched on a terminal says that it lives this often.
SILENCE = 20.0


class BuildError(Exception):
    """A failure with a message for the user; no traceback belongs to it."""


def say(text):
    """Print one line in Kbuild's manner."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _last_line(path):
    """Return the last line of the file `path`, shortened for a status line."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 400))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1].split())[:60] if lines else ""


class _Status:
    """Shows how far a command is: in place on a terminal, now and then elsewhere."""

    def __init__(self, title, log):
        self.title, self.log = title, log
        self.start = self.shown = time.monotonic()
        self.tty = sys.stderr.isatty()

    def tick(self):
        now = time.monotonic()
        if self.tty and now - self.shown >= 1:
            text = f"  {self.title} ({now - self.start:.0f} s) {_last_line(self.log)}"
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
            self.shown = now
        elif not self.tty and now - self.shown >= SILENCE:
            say(f"{self.title} ({now - self.start:.0f} s) {_last_line(self.log)}")
            self.shown = now

    def done(self):
        if self.tty:
            print("\r\033[K", end="", file=sys.stderr)
        say(f"{self.title}: {time.monotonic() - self.start:.1f} s")


def run(title, command, log, hint="", lock_fd=None, **kwargs):
    """Run `command`, its output appended to the file `log`; show progress.

    On failure raise BuildError with the end of the log, its place and `hint`.
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
            pass_fds=() if lock_fd is None else (lock_fd,),
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
                process.terminate()
                raise
    if code:
        with open(log, encoding="utf-8", errors="replace") as file:
            tail = "".join(f"    {line}" for line in file.readlines()[-12:])
        raise BuildError(f"{title} failed:\n{tail}{hint}{chr(10) if hint else ''}full log: {log}")
    status.done()
