# SPDX-License-Identifier: GPL-2.0
"""Running virtual machines: start, stream, judge, end.

A machine runs one command. Its output goes to the host as it comes, its
kernel log to a file; how it ended is written by the guest into the results
directory. A machine always ends: by itself, by a panic, or by a time limit,
in which case its blocked tasks are put into the log first.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lab import chroot, config, kmsg, qemu, qmp
from lab.cache import Cache, remove_tree
from lab.kreport import Report
from lab.report import Reporter

LAST_MESSAGES = 40
# Before a report of the kernel that no test has failed for.
UNTOLD = "kernel: REPORT: "
ASSERTION = "Assertion `"      # of QEMU itself, in its log
COMPLAINED = 123
TIMED_OUT = 124
DIED = 125


@dataclass
class Verdict:
    """How a machine ended."""

    status: int                  # exit status of the command, or TIMED_OUT, DIED or COMPLAINED
    reason: str                  # one line; empty if the command ended by itself
    out: Path
    seconds: float

    emulator: str = ""           # what QEMU said, if it failed before the guest said a word
    # Filled by `lab.judge`: reports of the kernel that count, and those that the list excuses.
    reports: list[Report] = field(default_factory=list)
    known: list[Report] = field(default_factory=list)

    @property
    def complained(self) -> bool:
        """Whether the run failed by what the kernel said, and by nothing else."""
        return self.status == COMPLAINED and bool(self.reports)

    @property
    def console(self) -> list[str]:
        """The kernel log as the serial console showed it."""
        path = self.out / "console.log"
        if not path.exists():
            return []
        return path.read_text(encoding="utf-8", errors="replace").splitlines()


def results_dir(cache: Cache, name: str) -> Path:
    """A new directory for the results of a run; the oldest ones are removed."""
    logs = cache.root / "logs"
    with cache.mutex("logs"):
        runs = sorted((p for p in logs.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
        for old in runs[:-config.KEEP_LOGS]:
            if time.time() - old.stat().st_mtime > 3600:
                remove_tree(old)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for serial in range(1000):
            path = logs / f"{stamp}-{name}{f'-{serial}' if serial else ''}"
            if not path.exists():
                path.mkdir()
                return path
    raise AssertionError("unreachable")


def prepare(out: Path, command: list[str], env: Mapping[str, str],
            hostname: str, interactive: bool = False) -> None:
    """Leave in the results directory what the guest's first process reads."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "command").write_text(shlex.join(command) + "\n", encoding="utf-8")
    rows = [f"export {k}={shlex.quote(v)}\n" for k, v in sorted(env.items())]
    (out / "environment").write_text("".join(rows), encoding="utf-8")
    (out / "hostname").write_text(hostname + "\n", encoding="utf-8")
    if interactive:
        (out / "interactive").touch()


class Running:
    """One machine that has been started."""

    def __init__(self, cache: Cache, toolchain: Path, machine: qemu.Machine,
                 sink: Callable[[bytes], None] | None) -> None:
        self.machine = machine
        self.began = time.monotonic()
        self._sink = sink
        argv = chroot.command(toolchain, cache.root, qemu.arguments(machine), machine.out,
                              [machine.source, machine.out, machine.kernel.parent])
        env = chroot.environment(cache.root, dict(os.environ))
        # Input that ends would close the port; a pipe nobody writes to does not.
        pipe = None if machine.interactive else subprocess.PIPE
        self._stderr = open(machine.out / "qemu.log", "wb")
        self.process = subprocess.Popen(
            argv, env=env, stdin=pipe, stdout=pipe, stderr=self._stderr,
            preexec_fn=chroot.die_with_parent)
        self._reader: threading.Thread | None = None
        if self.process.stdout is not None:
            self._reader = threading.Thread(target=self._pump, args=(self.process.stdout,),
                                            daemon=True)
            self._reader.start()

    def _pump(self, pipe: BinaryIO) -> None:
        fd = pipe.fileno()
        with open(self.machine.out / "output.log", "wb") as copy:
            while chunk := os.read(fd, 65536):
                copy.write(chunk)
                copy.flush()
                if self._sink:
                    self._sink(chunk)

    def monitor(self, *commands: str) -> None:
        """Give commands to QEMU's monitor; failing to is not an error."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(5)
                # A unix socket path is short: reach it from its own directory.
                here = os.open(self.machine.out, os.O_PATH)
                try:
                    line.connect(f"/proc/self/fd/{here}/monitor")
                finally:
                    os.close(here)
                for command in commands:
                    line.sendall(command.encode() + b"\n")
                    time.sleep(0.5)
        except OSError:
            pass

    def control(self) -> qmp.Control:
        """A connection to control QEMU by."""
        return qmp.connect(self.machine.out)

    def age(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def kill(self) -> None:
        """End the machine now."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait(self, timeout: float | None) -> Verdict:
        """Wait for the end, within what is left of `timeout` since the start."""
        timed_out = False
        left = None if timeout is None else max(0.1, self.began + timeout - time.monotonic())
        try:
            self.process.wait(left)
        except subprocess.TimeoutExpired:
            timed_out = True
            # w: blocked tasks, l: what every CPU does.
            self.monitor("sendkey alt-sysrq-w", "sendkey alt-sysrq-l")
            time.sleep(2)
        finally:
            self.kill()
            self._stderr.close()
        if self._reader:
            self._reader.join(5)
        return self._verdict(timed_out, timeout)

    def _verdict(self, timed_out: bool, timeout: float | None) -> Verdict:
        out = self.machine.out
        verdict = Verdict(DIED, "", out, time.monotonic() - self.began)
        panic = kmsg.panic_reason(verdict.console)
        status = out / "status"
        if panic:
            verdict.reason = f"the guest kernel panicked: {panic}"
        elif timed_out:
            verdict.status = TIMED_OUT
            verdict.reason = f"the machine was ended by its time limit of {timeout:.0f} s"
        elif status.exists():
            verdict.status = int(status.read_text(encoding="utf-8"))
        else:
            rows = (out / "qemu.log").read_text(encoding="utf-8", errors="replace").splitlines()
            last = f": {rows[-1]}" if rows else ""
            verdict.reason = f"the machine ended without a result{last}"
            output = out / "output.log"
            if ASSERTION in last and not (output.exists() and output.stat().st_size):
                verdict.emulator = rows[-1]
        return verdict


def to_stdout(chunk: bytes) -> None:
    """Pass the guest's output on as it comes."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def explain(report: Reporter, verdict: Verdict, who: str = "guest") -> None:
    """Say what went wrong: the reason, the last kernel messages, the log."""
    if verdict.complained:
        report.line(f"{who}: the kernel complained: {verdict.reports[0].title}")
    else:
        report.line(f"{who}: {verdict.reason or f'exit status {verdict.status}'}")
    rows = kmsg.after_boot(verdict.console)
    # A report was told in full.
    if rows and not verdict.complained:
        report.line(f"{who}: last kernel messages:")
        report.text("\n".join(rows[-LAST_MESSAGES:]))
    report.line(f"{who}: all of it: {verdict.out}/console.log, {verdict.out}/output.log")


def copy_kernel_log(verdict: Verdict, target: Path) -> None:
    """Keep the console log elsewhere, for a caller that names its own place."""
    shutil.copy(verdict.out / "console.log", target)
