# SPDX-License-Identifier: GPL-2.0
"""The stages of `make check`, one after another, each with its output in a log.

    toolchain   the root that builds and runs the rest (apt only; minutes when it is new)
    build       the module, against the newest stock kernel, without a warning
    lint        `make lint`
    host        the pure code on this machine: cargo test
    simulator   the plain code of the hostile target: cargo test in the toolchain root
    demo        `make demo`, on LIO and then on tgt
    selftests   tests/selftests in two virtual machines at once, one for LIO and one for tgt
    counted     instructions per I/O of our module, against tests/bench/limits.toml
    fuzz-brief      `make fuzz`, for some seconds
    hostile-brief   `make hostile`, one or two tests of each kind

and, where everything is asked for, what takes longer or needs another compiler or kernel, and
the last two in full:

    fuzz        `make fuzz`: libFuzzer on the pure code, for a minute
    miri        the host's tests of the pure code under Miri, where it is installed
    long        tests/selftests: the tests that take long, on LIO and on tgt at once
    peers       tests/selftests: a target in a machine of its own dies, hangs and comes back
    hostile     `make hostile`, with 100 000 PDUs made by chance
    soak        `make soak` for some minutes with each target
    kunit       the module's KUnit suites
    hostile-debug, soak-debug, peers-debug   those above, on the instrumented kernel
    selftests-debug   tests/selftests, short and long, on the instrumented kernel: `make check-debug` has the short ones
    selftests-siw     the same over iWARP
    peers-siw         `peers` over iWARP
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.case import BOTH
from harness.ktap import FAIL, PASS, SKIP
from lab import config, debugkernel

from suite import guest
from suite.process import Processes, Running
from suite.results import CargoReader, KtapReader, OneReader, Outcome, Reader
from suite.tally import Tally

TOP = config.checkout()
LAB = "scripts/iser-lab"
MANIFEST = "tests/host/Cargo.toml"
SOAK_MINUTES = {"stock": 10, "debug": 30}
FUZZ_BRIEF_SECONDS = 20
# Of each kind of misbehaviour one or two, none of which waits long.
HOSTILE_BRIEF = (
    "pdus/length[0_bytes]", "pdus/length[1_mebibyte]", "pdus/iser_header[hello]", "pdus/segment[cut_off]",
    "pdus/sense[65535]", "pdus/opcode[r2t]", "pdus/answer[text]", "pdus/status[both_residuals]",
    "tasks/tag[freed]", "tasks/twice[read]", "tasks/invalidation[of_an_earlier_command]",
    "tasks/key_of_another_command", "tasks/abort_answered_by[wrong_task]",
    "data/order[once_more_after_the_response]", "data/outside[read_behind]", "data/hangs_up[read_data]",
    "unasked/flood[1000_nops]", "unasked/window[goes_back]", "unasked/storm[async_drop]",
    "logins/private_data[3_of_ff]", "logins/login[text_without_an_end]", "logins/logout[twice]",
    "logins/discovery[garbage]", "keys/dead_by_the_initiator")
SIMULATOR = "tests/hostile/Cargo.toml"
MSRV = (1, 85)
WARNING = re.compile(r"\bwarning\b", re.IGNORECASE)
NO_MIRI = ("Miri is part of nightly Rust only, which no Debian package brings; with rustup: "
           "rustup toolchain install nightly --component miri,rust-src")
# The lines of a log that a stage without results of its own shows when it fails.
LAST_LINES = 40


def cargo() -> list[str]:
    """A cargo that is new enough: this machine's, or the toolchain root's."""
    if path := shutil.which("cargo"):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, cwd=TOP)
        if match := re.search(r"(\d+)\.(\d+)", said.stdout):
            if (int(match[1]), int(match[2])) >= MSRV:
                return [path]
    return [LAB, "toolchain", "exec", "--", "cargo"]


def miri() -> list[str]:
    """`cargo miri` of the nightly toolchain; empty if there is none."""
    for command in (["rustup", "run", "nightly", "cargo", "miri"], ["cargo", "miri"]):
        if shutil.which(command[0]) and not subprocess.run(
                [*command, "--version"], capture_output=True, check=False, cwd=TOP).returncode:
            return command
    return []


def slowness(kernel: str) -> int:
    """How many times as long anything may take."""
    return debugkernel.SLOWNESS if kernel == "debug" else 1


def named(stage: str, kernel: str, target: str, rdma: str = "rxe") -> str:
    """How results and logs of a stage are called: what is not said is stock, and rxe."""
    return "-".join([stage, *(("debug",) if kernel != "stock" else ()), target, *((rdma,) if rdma != "rxe" else ())])


class Suite:
    """One run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.tally = Tally()
        self.processes = Processes(TOP)
        self.logs = config.cache_dir() / "logs" / time.strftime("%Y%m%d-%H%M%S-check")
        self.logs.mkdir(parents=True, exist_ok=True)

    def program(self, stage: str, argv: Sequence[str], reader: Reader, seconds: float,
                environment: Mapping[str, str] | None = None) -> list[str]:
        """Run a program whose output holds results; return its lines.

        It has failed itself if it ends with an error and no test of it failed,
        or if it ran no test; one that has no tests is a test.
        """
        log = self.logs / f"{stage}.log"
        before = dict(self.tally.counts)
        rows: list[str] = []
        running = self.processes.start(argv, log, seconds, environment)
        for line in running:
            rows.append(line.rstrip())
            for outcome in reader.feed(line):
                self.tally.add(stage, outcome)
        for outcome in reader.finish():
            self.tally.add(stage, outcome)
        new = {name: count - before[name] for name, count in self.tally.counts.items()}
        if running.error and not new[FAIL]:
            note = f"{running.error}; all of it: {log}"
            self.tally.add(stage, Outcome("run", FAIL, note, rows[-LAST_LINES:]))
        elif not running.error and isinstance(reader, OneReader):
            self.tally.add(stage, Outcome("run", PASS))
        elif not running.error and not any(new.values()):
            self.tally.add(stage, Outcome("run", FAIL, "ran no test", rows[-LAST_LINES:]))
        return rows

    def toolchain(self) -> None:
        """The root with compiler, kernel headers and QEMU."""
        self.program("toolchain", [LAB, "toolchain", "build"], OneReader(), 1800)

    def build(self) -> None:
        """The module builds, and the build has nothing to say."""
        rows = self.program("build", [LAB, "make"], OneReader(), 1800)
        said = [row for row in rows if WARNING.search(row)]
        self.tally.add("build", Outcome("no-warnings", FAIL if said else PASS, "", said))

    def lint(self) -> None:
        """The static checks."""
        self.program("lint", [LAB, "make", "lint"], KtapReader(), 1800)

    def host(self) -> None:
        """The pure code."""
        self.program("host", [*cargo(), "test", "--locked", "--manifest-path", MANIFEST], CargoReader(), 1200)

    def simulator(self) -> None:
        """The plain code of the hostile target; that what is put into tgt compiles."""
        self.program("simulator", [LAB, "toolchain", "exec", "--", "cargo", "test", "--locked", "--workspace",
                                   "--manifest-path", SIMULATOR], CargoReader(), 1200)

    def fuzz(self) -> None:
        """libFuzzer on the pure code, after what it has found before."""
        self.program("fuzz", [LAB, "fuzz"], KtapReader(), 1800)

    def fuzz_brief(self) -> None:
        """libFuzzer on the pure code, for some seconds."""
        self.program("fuzz-brief", [LAB, "fuzz", "--seconds", str(FUZZ_BRIEF_SECONDS)], KtapReader(), 1800)

    def miri(self) -> None:
        """The tests of the pure code, interpreted: no undefined behaviour, no data race."""
        command = miri()
        if not command:
            self.tally.add("miri", Outcome("run", SKIP, NO_MIRI))
            return
        # The corpus is in files.
        environment = {**os.environ, "MIRIFLAGS": "-Zmiri-disable-isolation"}
        self.program("miri", [*command, "test", "--locked", "--manifest-path", MANIFEST], CargoReader(),
                     3600, environment)

    def peers(self) -> None:
        """A target in a machine of its own dies, hangs and comes back."""
        self._peers(self.args.kernel, self.args.rdma)

    def peers_debug(self) -> None:
        """The same on the instrumented kernel."""
        self._peers("debug", "rxe")

    def peers_siw(self) -> None:
        """The same on that kernel over iWARP."""
        self._peers("debug", "siw")

    def _peers(self, kernel: str, rdma: str) -> None:
        if self.args.only and not guest.fits_peers(self.args.only):
            return
        for target in self.targets():
            argv = [LAB, "peers", "--driver", self.args.driver, "--kernel", kernel, "--rdma", rdma,
                    "--target", target, *(w for pattern in self.args.only for w in ("--only", pattern))]
            self.program(named("peers", kernel, target, rdma), argv, KtapReader(), 2 * 3600 * slowness(kernel))

    def hostile(self) -> None:
        """A target that breaks the rules."""
        self.program("hostile", [LAB, "hostile", "--full"], KtapReader(), 6 * 3600)

    def hostile_brief(self) -> None:
        """A target that breaks the rules, in one or two ways of each kind."""
        words = [word for name in HOSTILE_BRIEF for word in ("--only", name)]
        self.program("hostile-brief", [LAB, "hostile", *words], KtapReader(), 1800)

    def hostile_debug(self) -> None:
        """A target that breaks the rules, and the instrumented kernel."""
        self.program("hostile-debug", [LAB, "hostile", "--full", "--kernel", "debug"], KtapReader(), 12 * 3600)

    def soak(self) -> None:
        """Random faults under verified load."""
        self._soak("stock")

    def soak_debug(self) -> None:
        """Random faults under verified load, on the instrumented kernel."""
        self._soak("debug")

    def _soak(self, kernel: str) -> None:
        minutes = SOAK_MINUTES[kernel]
        for target in self.targets():
            self.program(named("soak", kernel, target),
                         [LAB, "soak", "--minutes", str(minutes), "--target", target, "--kernel", kernel],
                         KtapReader(), minutes * 60 + 3600 * slowness(kernel))

    def demo(self) -> None:
        """The way of a newcomer, from loading the module to unloading it."""
        for target in self.targets():
            self.program(f"demo-{target}", [LAB, "demo", "--target", target], OneReader(), 900)

    def targets(self) -> Sequence[str]:
        """The targets asked for."""
        return tuple(name for name in BOTH if self.args.target in ("", name))

    def selftests(self) -> None:
        """The tests in virtual machines, one for each target."""
        self._both_targets("selftests", self.args.kernel, "", self.args.rdma)

    def selftests_debug(self) -> None:
        """The same tests, and those that take long, on the instrumented kernel (hours)."""
        self._both_targets("selftests", "debug", "all", "rxe")

    def selftests_siw(self) -> None:
        """All of them on that kernel over iWARP (hours)."""
        self._both_targets("selftests", "debug", "all", "siw")

    def long(self) -> None:
        """The tests in virtual machines that take long: outages, hundreds of disks."""
        self._both_targets("long", self.args.kernel, "long", self.args.rdma)

    def _both_targets(self, stage: str, kernel: str, which: str, rdma: str) -> None:
        if kernel == "debug":
            # Once, and not in each thread.
            self.program("debug-kernel", [LAB, "debug-kernel"], OneReader(), 3600)
        threads = [threading.Thread(target=self._selftests, args=(stage, target, kernel, which, rdma), daemon=True)
                   for target in self.targets()]
        for thread in threads:
            thread.start()
            if kernel == "debug":
                # Two at once are so slow that rxe sends again, which it does badly.
                thread.join()
        for thread in threads:
            thread.join()

    def _selftests(self, stage: str, target: str, kernel: str, which: str, rdma: str) -> None:
        """The tests with one target; in a thread of its own."""
        stage = named(stage, kernel, target, rdma)
        job = guest.Job(self.args.driver, target, tuple(self.args.only), kernel, which, rdma, self.args.walk_from)

        def start(argv: Sequence[str], log: Path) -> Running:
            return self.processes.start(argv, log, job.seconds() + 600)
        began = time.monotonic()
        try:
            programs = guest.chosen(job)
            if not programs and not job.patterns:
                self.tally.add(stage, Outcome("run", FAIL, "there is no test"))
            for outcome in guest.run(job, programs, start, self.logs / stage):
                self.tally.add(stage, outcome)
        except Exception as exc:  # nobody else would hear of it
            self.tally.add(stage, Outcome("run", FAIL, f"{type(exc).__name__}: {exc}"))
        self.tally.line(f"{stage}: done in {time.monotonic() - began:.0f} s")

    def counted(self) -> None:
        """Instructions per I/O of our module stay below their limits."""
        self.program("counted", ["tests/bench/run", "limit"], KtapReader(), 900)

    def kunit(self) -> None:
        """The module's KUnit suites, in a kernel that has KUnit (built once: 15 minutes)."""
        self.program("kunit", [LAB, "kunit"], KtapReader(), 3600)

    def run(self) -> int:
        """Run the stages asked for."""
        self.tally.line(f"logs: {self.logs}")
        if tuple(self.args.stage) == STAGES:
            self.tally.line(f"left out: {', '.join(MORE)}; make check-all runs them too")
        for name in self.args.stage:
            function: Callable[[], None] = getattr(self, name.replace("-", "_"))
            self.tally.line(f"{name}: {(function.__doc__ or '').splitlines()[0].rstrip('.')}")
            try:
                function()
            except (OSError, subprocess.SubprocessError) as exc:
                self.tally.add(name, Outcome("run", FAIL, str(exc)))
        return self.tally.end(self.logs)


STAGES = ("toolchain", "build", "lint", "host", "simulator", "demo", "selftests", "counted", "fuzz-brief",
          "hostile-brief")
# Only where everything is asked for: they take longer, or need a kernel of their own.
MORE = ("fuzz", "miri", "long", "peers", "hostile", "soak", "kunit", "hostile-debug", "soak-debug",
        "peers-debug", "selftests-debug", "selftests-siw", "peers-siw")
# What the selftests need.
SELFTESTS = ("toolchain", "build", "selftests")
# Those that load the module which lies in the checkout, whatever it was made from.
LOADING = ("selftests", "long")


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="check", description="Run the test suite.",
                                  epilog=f"stages: {', '.join(STAGES)}; with --all {', '.join(MORE)}")
    top.add_argument("--stage", action="append", choices=(*STAGES, *MORE), default=[],
                     help="only this stage; may be given more than once")
    top.add_argument("--all", action="store_true",
                     help="the stages with an instrumented kernel, too, which is built once")
    top.add_argument("--driver", choices=("rust", "c"), default="rust",
                     help="the driver for the selftests; with c nothing else is run")
    top.add_argument("--kernel", choices=("stock", "debug"), default="stock",
                     help="the kernel for the stage selftests; debug is the instrumented one, on which "
                     "every time limit is longer")
    top.add_argument("--rdma", choices=("rxe", "siw"), default="rxe",
                     help="the RDMA device of the selftests: RoCE or iWARP, in software; siw is for the "
                     "instrumented kernel, and nothing else is run")
    top.add_argument("--walk-from", type=int, default=1, metavar="N",
                     help="the selftest `allocations` begins with the N-th allocation, where a run before has ended")
    top.add_argument("--target", choices=BOTH, default="", help="demo and selftests only with this target")
    top.add_argument("--only", action="append", default=[], metavar="PATTERN",
                     help="only selftests whose name (program/target.test) has this part, or fits it "
                     "if it has * or ?; nothing else is run")
    return top


def with_build(stages: Sequence[str], driver: str) -> list[str]:
    """The stages, with the build before those that would find an old module or none."""
    loading = [name for name in stages if name in LOADING]
    if driver != "rust" or not loading or "build" in stages:
        return list(stages)
    first = stages.index(loading[0])
    return [*stages[:first], "build", *stages[first:]]


def in_full(stages: Sequence[str]) -> list[str]:
    """All stages, after these; what is there in full is not run in brief."""
    found = [name for name in stages if name not in MORE]
    return [name for name in found if name.removesuffix("-brief") not in MORE] + list(MORE)


def main(argv: list[str]) -> int:
    """Run the suite; a run that is interrupted ends what it has started."""
    top = parser()
    args = top.parse_args(argv)
    if mistaken := guest.unfit(args.only):
        top.error(f"no test fits --only {' --only '.join(mistaken)}; tests/selftests/PROGRAM --list prints their names")
    if args.rdma == "siw":
        args.kernel = "debug"       # no other has siw
    if not args.stage:
        few = args.only or args.driver == "c" or args.kernel != "stock"
        args.stage = list(SELFTESTS if few else STAGES)
        args.stage += ["peers"] if guest.fits_peers(args.only) and not args.all else ()
    if args.all:
        args.stage = in_full(args.stage)
    args.stage = with_build(args.stage, args.driver)

    def terminated(number: int, frame: object) -> None:
        del frame
        # A second one must not interrupt the ending.
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, terminated)
    suite = Suite(args)
    try:
        return suite.run()
    except KeyboardInterrupt:
        suite.tally.line("interrupted")
        suite.processes.end_all()
        return 130
