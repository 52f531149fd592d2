# SPDX-License-Identifier: GPL-2.0
"""The verb `fuzz`: libFuzzer on the pure code, for so many seconds.

The compiler is that of the toolchain root, and so is the C++ compiler that libFuzzer needs;
cargo-fuzz comes from crates.io and is kept in the cache. The code under test has no unsafe
block, so there is nothing to find for a sanitizer, and no nightly compiler is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import time
from pathlib import Path

from lab import chroot, config, vm
from lab.cache import key_of
from lab.core import Lab
from lab.report import LabError

CRATE = "tests/host/fuzz"
# One file for each target: an input a line, in hexadecimal.
CORPUS = "tests/host/corpus"
# The newest that the compiler of the toolchain root takes.
CARGO_FUZZ = "0.12.0"
SECONDS = 60
PROGRESS_SECONDS = 60
TRIPLE = "x86_64-unknown-linux-gnu"
# No input is longer; one that takes more seconds has failed.
MAX_LEN, ONE_SECONDS = 320, 20
HEADER = "# SPDX-License-Identifier: GPL-2.0\n"
STAT = re.compile(r"^stat::number_of_executed_units:\s*(\d+)$", re.MULTILINE)
COVERAGE = re.compile(r"\bcov: (\d+)")


def targets(manifest: str) -> list[str]:
    """The fuzzer's programs, as its Cargo.toml names them."""
    return re.findall(r'^\[\[bin\]\]\nname = "(\w+)"$', manifest, re.MULTILINE)


def inputs(text: str) -> list[bytes]:
    """The inputs that a file of the corpus holds."""
    return [bytes.fromhex(row) for row in text.splitlines() if not row.startswith("#")]


def corpus_text(found: list[bytes]) -> str:
    """A file of the corpus: the same inputs always make the same file."""
    rows = sorted(set(found), key=lambda data: (len(data), data))
    return HEADER + "".join(f"{data.hex()}\n" for data in rows if data)


class Fuzzer:
    """One run: programs that are built once, and what they say."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab, self.seed = lab, seed
        self.top = config.checkout()
        self.out = vm.results_dir(lab.cache, "fuzz")
        # What cargo makes is kept for all checkouts.
        self.built = lab.cache.root / "home" / CRATE.replace("/", "-")

    def start(self, argv: list[str], log: Path, extra: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a command in the toolchain root, in the crate's directory."""
        cache = self.lab.cache.root
        full = chroot.command(self.lab.roots.toolchain(), cache, argv, self.top / CRATE, [self.top])
        env = {**chroot.environment(cache, dict(os.environ)), **extra}
        with open(log, "ab") as sink:
            return subprocess.Popen(full, env=env, stdin=subprocess.DEVNULL, stdout=sink,
                                    stderr=subprocess.STDOUT, preexec_fn=chroot.die_with_parent)

    def cargo(self, argv: list[str], log: Path, extra: dict[str, str]) -> None:
        """Run cargo to its end."""
        if self.start(["cargo", *argv], log, extra).wait():
            rows = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise LabError("\n".join(["cargo failed:", *rows[-30:], f"all of it: {log}"]))

    def tool(self) -> Path:
        """The directory of cargo-fuzz; compiled once, in a minute or two."""
        log = self.lab.cache.root / "logs" / "cargo-fuzz.log"

        def build(where: Path) -> None:
            with self.lab.report.step(f"cargo-fuzz {CARGO_FUZZ}: cargo install"):
                self.cargo(["install", "--locked", "--root", str(where), "--version", CARGO_FUZZ,
                            "cargo-fuzz"], log, {"CARGO_TARGET_DIR": f"{where}.build"})
        made = self.lab.cache.entry("cargo-fuzz", key_of(CARGO_FUZZ), build)
        return made / "bin"

    def build(self) -> None:
        """Compile all targets, with the counters that libFuzzer is led by."""
        path = f"{chroot.environment(self.lab.cache.root, {})['PATH']}:{self.tool()}"
        with self.lab.report.step("fuzz targets: cargo fuzz build"), self.lab.cache.mutex("fuzz"):
            self.cargo(["fuzz", "build", "--fuzz-dir", ".", "--sanitizer", "none"],
                       self.out / "build.log", {"PATH": path, "CARGO_TARGET_DIR": str(self.built)})

    def program(self, name: str, argv: list[str], log: Path, seconds: float) -> str:
        """Run a target; return what went wrong, or nothing."""
        binary = self.built / TRIPLE / "release" / name
        process = self.start([str(binary), *argv], log, {"RUST_BACKTRACE": "1"})
        began = time.monotonic()
        while True:
            try:
                status = process.wait(PROGRESS_SECONDS)
                return f"exit status {status}" if status else ""
            except subprocess.TimeoutExpired:
                took = time.monotonic() - began
                rows = log.read_text(encoding="utf-8", errors="replace").splitlines()
                self.lab.report.line(f"{name}: {took:.0f} s: {rows[-1] if rows else 'nothing yet'}")
                if took > 2 * seconds + 120:
                    process.kill()
                    process.wait()
                    return f"did not end within {took:.0f} s"

    def one(self, name: str, seconds: float, update: bool) -> str:
        """Fuzz one target; return what went wrong, or nothing."""
        say = self.lab.report.line
        known = self.top / CORPUS / name
        work, least = self.out / name, self.out / f"{name}.least"
        work.mkdir()
        least.mkdir()
        old = inputs(known.read_text(encoding="utf-8"))
        for number, data in enumerate(old):
            (work / f"known-{number}").write_bytes(data)
        log = self.out / f"{name}.log"
        wrong = self.program(name, [
            f"-seed={self.seed}", f"-max_total_time={max(1, round(seconds))}", f"-max_len={MAX_LEN}",
            f"-timeout={ONE_SECONDS}", "-print_final_stats=1", f"-artifact_prefix={self.out}/{name}-",
            str(work)], log, seconds)
        text = log.read_text(encoding="utf-8", errors="replace")
        for found in self.out.glob(f"{name}-*"):
            say(f"{name}: an input that fails, as a line for {CORPUS}/{name}, where `cargo test` "
                f"shows it: {found.read_bytes().hex()}")
        tried, coverage = STAT.search(text), COVERAGE.findall(text)
        if wrong or not tried or int(tried[1]) <= len(old):
            self.lab.report.text("\n".join(text.splitlines()[-40:]))
            return f"{wrong or 'tried nothing new'}; all of it: {log}"
        say(f"{name}: {int(tried[1])} inputs, {coverage[-1] if coverage else '?'} places reached")
        if update:
            wrong = self.program(name, ["-merge=1", f"-max_len={MAX_LEN}", str(least), str(work)],
                                 self.out / f"{name}.merge.log", seconds)
            found = [path.read_bytes() for path in least.iterdir()]
            if wrong or not found:
                return f"-merge: {wrong or 'nothing is left'}; see {self.out / f'{name}.merge.log'}"
            known.write_text(corpus_text(found), encoding="utf-8")
            say(f"{name}: {len(found)} inputs reach the same; {known} has them")
        return ""


def cmd_fuzz(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `fuzz`: build the targets, and give each its part of the time."""
    names = targets((config.checkout() / CRATE / "Cargo.toml").read_text(encoding="utf-8"))
    unknown = sorted(set(args.target) - set(names))
    if unknown:
        raise LabError(f"no such target: {' '.join(unknown)}; there are {' '.join(names)}")
    wanted = args.target or names
    # libFuzzer takes 0 for: choose one.
    seed = args.seed if args.seed is not None else 1 + secrets.randbelow((1 << 31) - 1)
    fuzzer = Fuzzer(lab, seed)
    fuzzer.build()
    seconds = args.seconds / len(wanted)
    lab.report.line(f"seed: {seed} (--seed {seed} begins the same way again); logs: {fuzzer.out}")
    print(f"KTAP version 1\n1..{len(wanted)}", flush=True)
    failed = 0
    for number, name in enumerate(wanted, 1):
        wrong = fuzzer.one(name, seconds, args.update)
        failed += bool(wrong)
        if wrong:
            print(f"# {wrong}")
        print(f"{'not ok' if wrong else 'ok'} {number} {name}", flush=True)
    return 1 if failed else 0


def add_verbs(add: object) -> None:
    """Add the verb to the command line."""
    verb = add("fuzz", help="libFuzzer on the pure code")  # type: ignore[operator]
    verb.add_argument("--seconds", type=float, default=SECONDS,
                      help=f"for all targets together (default {SECONDS})")
    verb.add_argument("--seed", type=int, help="of the fuzzer; one is chosen and printed")
    verb.add_argument("--update", action="store_true",
                      help=f"put what was found into {CORPUS}, without what adds nothing")
    verb.add_argument("target", nargs="*", help="one of those in tests/host/fuzz (default: all)")
    verb.set_defaults(run=cmd_fuzz)
