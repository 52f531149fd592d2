# SPDX-License-Identifier: GPL-2.0
"""The selftests in virtual machines: all programs of a target in one, the rest in another if it ends.

A panic, a hang or a state nobody can clean up ends a machine. The test it
happened in has failed; the programs that have not run get a fresh machine, so
that one bad ending does not hide the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import every, ktap
from lab import config, debugkernel, vm

from suite.results import Outcome

SELFTESTS = "tests/selftests"
LAB = "scripts/iser-lab"
MACHINE_SECONDS = 2400
# Programs for which one machine is not enough; the verb `peers` of the lab runs them.
EXTENDED = "TEST_PROGS_EXTENDED"


@dataclass(frozen=True)
class Job:
    """What to run: the driver, the target, and which tests: of a set (of `harness.case`), or by name."""

    driver: str
    target: str
    patterns: tuple[str, ...] = ()
    kernel: str = "stock"
    which: str = ""
    rdma: str = "rxe"
    walk_from: int = 1

    def environment(self) -> dict[str, str]:
        """As the test programs read it."""
        found = {"ISER_DRIVER": self.driver, "ISER_TARGET": self.target}
        if self.patterns:
            found["ISER_ONLY"] = " ".join(self.patterns)
        if self.kernel == "debug":
            found["ISER_SLOWNESS"] = str(debugkernel.SLOWNESS)
        if self.which:
            found["ISER_SET"] = self.which
        if self.rdma != "rxe":
            found["ISER_RDMA"] = self.rdma
        if self.walk_from > 1:
            found["ISER_WALK_FROM"] = str(self.walk_from)
        return found

    def seconds(self) -> float:
        """How long a machine may run."""
        both = 2 if self.which == "all" else 1
        return MACHINE_SECONDS * both * (debugkernel.SLOWNESS if self.kernel == "debug" else 1)


def fits_peers(patterns: Sequence[str]) -> bool:
    """Whether a test that needs two machines was asked for by name."""
    job = Job("rust", "", tuple(patterns))
    return bool(patterns) and bool(chosen(job, EXTENDED))


def unfit(patterns: Sequence[str]) -> list[str]:
    """The patterns that no test fits: mistaken, since with them nothing would run and nothing fail."""
    return [pattern for pattern in patterns
            if not chosen(Job("rust", "", (pattern,))) and not fits_peers([pattern])]


def chosen(job: Job, variable: str = "TEST_PROGS") -> list[str]:
    """The programs that have a test which fits; they are asked, on this machine."""
    found = []
    for program in every.programs(variable=variable):
        done = subprocess.run([sys.executable, f"{SELFTESTS}/{program}", "--list"], text=True,
                              cwd=config.checkout(), capture_output=True, check=True,
                              env={**os.environ, **job.environment()})
        if done.stdout.split():
            found.append(program)
    return found


def command(job: Job, out: Path, programs: Sequence[str]) -> list[str]:
    """The command that runs these programs in a machine."""
    environment = [word for name, value in job.environment().items() for word in ("--env", f"{name}={value}")]
    return [LAB, "run", "--timeout", str(job.seconds()), "--out", str(out), "--kernel", job.kernel,
            *environment,
            f"{SELFTESTS}/run", *programs]


class Machine:
    """One machine's output, read as it comes."""

    def __init__(self) -> None:
        self.reader = ktap.Reader()
        self.done: list[str] = []        # programs that have a result
        self.entered: list[str] = []     # programs that have begun

    def feed(self, line: str) -> Iterator[Outcome]:
        """Take one line; yield the results of single tests."""
        for result in self.reader.feed(line):
            if len(result.path) == 1:
                self.done.append(result.path[0])
            if not result.group:
                yield Outcome(result.name, result.outcome, result.note, result.diagnostics)
        running = self.reader.running()
        if running and running[0] not in self.entered:
            self.entered.append(running[0])

    def finish(self, reason: str) -> Iterator[Outcome]:
        """The machine has ended; a program that was under way has failed."""
        list(self.reader.finish())
        for name in self.entered:
            if name not in self.done:
                yield Outcome(f"{name}/ended early", ktap.FAIL, reason or self.reader.bailed)


class Lines(Protocol):
    """The lines of a command, and then why it has failed."""

    error: str

    def __iter__(self) -> Iterator[str]:
        """The lines."""


def run(job: Job, programs: Sequence[str], start: Callable[[list[str], Path], Lines],
        out: Path) -> Iterator[Outcome]:
    """Run programs, in as many machines as it takes.

    `start` starts a command with a log. Logs and results of the machines get
    names that begin with `out`.
    """
    left = list(programs)
    number = 0
    while left:
        number += 1
        name = out.with_name(f"{out.name}-{number}")
        machine = Machine()
        last: list[str] = []
        untold: list[str] = []
        failed, ended = False, ""
        lines = start(command(job, name, left), name.with_suffix(".log"))
        for line in lines:
            last = [*last[-40:], line.rstrip()]
            # What lab.vm.explain() says first.
            said = line.partition("] guest: ")[2].strip()
            if vm.UNTOLD in line:
                untold.append(line.partition(vm.UNTOLD)[2].strip())
            ended = ended or ("" if said.endswith("after its start") else said)
            for outcome in machine.feed(line):
                failed = failed or outcome.result == ktap.FAIL
                yield outcome
        for outcome in machine.finish(ended):
            outcome.details = outcome.details or last
            failed = True
            yield outcome
        for report in untold:
            failed = True
            yield Outcome("kernel log", ktap.FAIL, report, last)
        begun = {f"{n}.py" for n in (*machine.done, *machine.entered)}
        if not begun & set(left):
            yield Outcome("machine", ktap.FAIL, "no test program has begun", last)
            return
        if lines.error and not failed:
            yield Outcome("machine", ktap.FAIL, ended or lines.error, last)
        left = [p for p in left if p not in begun]
