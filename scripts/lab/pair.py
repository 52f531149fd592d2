# SPDX-License-Identifier: GPL-2.0
"""An initiator's machine, and a target's that dies and comes back as the initiator asks.

The target's disk is a file of the host: what the target has written to it is there for
the next machine, as with a server that lost its power and not its disks. (What such a
server had in its memory only is lost, so the targets are set up to write through.)
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab import qemu, vm
from lab.core import Lab
from lab.hand import Console, Hand
from lab.report import LabError

DISK_MIB = 96
MAC = "52:54:00:12:34:{:02x}"
# Between what machines said, so that a report ends there.
MARK = "iser-lab: mark {}"


class Pair:
    """The two machines of one run."""

    def __init__(self, lab: Lab, out: Path, env: Mapping[str, str], options: Mapping[str, object]) -> None:
        self.lab, self.out, self.env, self.options = lab, out, env, options
        self.disk = out / "disk"
        with open(self.disk, "wb") as handle:
            handle.truncate(DISK_MIB << 20)
        self._initiator: vm.Running | None = None
        self._target: vm.Running | None = None
        self._targets = 0
        self._consoles: list[tuple[str, Console]] = []

    def _start(self, name: str, role: str, command: list[str],
               sink: Callable[[bytes], None] | None, **options: object) -> vm.Running:
        # The target's end of the cable listens, and the initiator's connects again and again.
        link = qemu.Link("../link", role == "target", MAC.format(1 if role == "target" else 2))
        return self.lab.start(self.out / name, command, {**self.env, "ISER_ROLE": role}, hostname=role,
                              sink=sink, link=link, **{**self.options, **options})  # type: ignore[arg-type]

    def run(self, command: list[str], timeout: float, sink: Callable[[bytes], None]) -> vm.Verdict:
        """Run the initiator's command to its end; then the target ends, too."""
        try:
            running = self._initiator = self._start("initiator", "initiator", command, sink)
            hand = Hand(running.machine.out, {
                "start target": self.start_target, "kill target": self.kill_target,
                "suspend": self.suspend, "freeze": self.freeze, "target log": self.target_log})
            while running.process.poll() is None and running.age() < timeout:
                if not hand.look():
                    time.sleep(0.1)
            verdict = running.wait(timeout)
        finally:
            for machine in (self._initiator, self._target):
                if machine is not None:
                    machine.kill()
        return self.lab.judged(verdict, [self.out / name for name, _ in self._consoles])

    def start_target(self, kind: str) -> None:
        """Start a machine that serves the disk by this target."""
        if self._target is not None:
            raise LabError("the target's machine is there already")
        self._targets += 1
        name = f"target-{self._targets}"
        self._target = self._start(name, "target", ["python3", "-m", "lab.guest.server", kind], None,
                                   disk=self.disk)
        self._consoles.append((name, Console(self.out / name / "console.log")))

    def kill_target(self) -> None:
        """End it from one instruction to the next: its peers hear nothing."""
        target, self._target = self._target, None
        if target is not None:
            target.kill()

    def suspend(self, role: str, seconds: float) -> None:
        """Stop a machine's processors for a while, and with them its clock."""
        with self._machine(role).control() as control:
            control.execute("stop")
            status = control.execute("query-status")["status"]
            time.sleep(seconds)
            control.execute("cont")
        if status != "paused":
            raise LabError(f"the machine of the {role} was {status}, and not paused")

    def freeze(self, role: str, seconds: float) -> None:
        """Stop a machine's emulator for a while: its clock goes on, as that of a host which is suspended does."""
        process = self._machine(role).process
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def _machine(self, role: str) -> vm.Running:
        machine = self._initiator if role == "initiator" else self._target
        if machine is None:
            raise LabError(f"there is no machine of the {role}")
        return machine

    def target_log(self) -> list[str]:
        """What the targets' kernels have said since the last time, each machine's after a mark."""
        found = []
        for name, console in self._consoles:
            if rows := console.rows():
                found += [MARK.format(name), *rows]
        return found
