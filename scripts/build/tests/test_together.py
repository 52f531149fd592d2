# SPDX-License-Identifier: GPL-2.0
"""Builds that are interrupted, or run at the same time, with a kernel source of straw."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from build.files import TOP
from build.tests import fake

# Its `make prepare` takes as long as the file `slow` says, and counts.
SOURCE = """\
VERSION = 7
PATCHLEVEL = 3
SUBLEVEL = 4

mrproper olddefconfig:
prepare:
\t@echo run >> {top}/runs
\t@sleep `cat {top}/slow`
\t@mkdir -p rust scripts; echo made > rust/libkernel.rmeta
\t@echo done >> {top}/runs
"""
TOOLS = {
    "rustc": f'if [ "$1" = --print ]; then echo {{top}}/sysroot; else echo "{fake.RUSTC}"; fi',
    "bindgen": "echo bindgen 0.71.1",
    "rustfmt": "echo rustfmt 1.8.0",
    **{name: "exit 0" for name in ("flex", "bison", "bc", "perl", "gcc", "clang", "xz", "pahole",
                                   "gcc-14", "x86_64-linux-gnu-gcc-14")},
}
# What stands for make at the end prints its arguments, or holds on.
RUN = """\
import sys
from build import kbuild, metadata
metadata.HOST_HEADERS = {}
sys.exit(kbuild.main(["build", *sys.argv[1:]]))
"""


def default_signals() -> None:
    """In a child: let the signals of the tests do what they usually do."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Together(unittest.TestCase):
    """The cache holds whole entries only, whatever happens to a build."""

    def setUp(self) -> None:
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        for name in ("bin", "source", "sysroot/lib/rustlib/src/rust/library/core/src"):
            (self.top / name).mkdir(parents=True)
        (self.top / "sysroot/lib/rustlib/src/rust/library/core/src/lib.rs").touch()
        (self.top / "source/Makefile").write_text(SOURCE.format(top=self.top), encoding="utf-8")
        for name, body in TOOLS.items():
            path = self.top / "bin" / name
            path.write_text(f"#!/bin/sh\n{body.format(top=self.top)}\n", encoding="utf-8")
            path.chmod(0o755)
        self.slow("0")
        self.kernel("")

    def slow(self, seconds: str) -> None:
        (self.top / "slow").write_text(seconds, encoding="utf-8")

    def kernel(self, option: str) -> None:
        """Write the header package, with one more line of configuration."""
        headers = self.top / "headers"
        shutil.rmtree(headers, ignore_errors=True)
        for name, text in ((".config", fake.CONFIG + option), ("Makefile", fake.MAKEFILE),
                           ("Module.symvers", fake.SYMVERS), ("vmlinux", ""),
                           ("include/config/kernel.release", "7.3.4\n"), ("scripts/x", "")):
            (headers / name).parent.mkdir(parents=True, exist_ok=True)
            (headers / name).write_text(text, encoding="utf-8")

    def start(self, *make: str) -> subprocess.Popen[str]:
        """Start a build that ends by running `make`."""
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "LLVM")},
            "PATH": f"{self.top}/bin:{os.environ['PATH']}", "PYTHONPATH": str(TOP / "scripts"),
            "ISER_CACHE": str(self.top / "cache"), "KSRC": str(self.top / "source"),
        }
        # A job in the background of a shell ignores what the tests send.
        process = subprocess.Popen(
            [sys.executable, "-B", "-c", RUN, str(self.top / "headers"), *(make or ("echo",))],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=default_signals)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def finish(self, process: subprocess.Popen[str]) -> Path:
        """Wait for a build; return the directory it would have run make in."""
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.said = err
        directory = Path(out.split()[1])
        self.assertTrue((directory / "rust/libkernel.rmeta").is_file())
        return directory

    def runs(self) -> list[str]:
        try:
            return (self.top / "runs").read_text(encoding="utf-8").split()
        except OSError:
            return []

    def wait_for_run(self) -> None:
        deadline = time.monotonic() + 30
        while "run" not in self.runs():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def entries(self) -> list[str]:
        return sorted(p.name for p in (self.top / "cache/rust-metadata").iterdir())

    def test_two_at_once(self) -> None:
        self.slow("1")
        processes = [self.start() for _ in range(2)]
        directories = {self.finish(process) for process in processes}
        self.assertEqual(len(directories), 1)
        self.assertEqual(self.runs(), ["run", "done"])

    def test_ended(self) -> None:
        self.slow("30")
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
            process = self.start()
            self.wait_for_run()
            process.send_signal(number)
            process.communicate(timeout=180)
            self.assertEqual(process.returncode, status)
            self.assertEqual(self.entries(), [])
            (self.top / "runs").unlink()
        self.slow("0")
        self.finish(self.start())

    def test_killed(self) -> None:
        self.slow("2")
        process = self.start()
        self.wait_for_run()
        process.kill()
        process.wait(timeout=30)
        # Its make goes on and keeps the lock; the next build begins after that.
        self.finish(self.start())
        self.assertIn("waiting", self.said)
        self.assertEqual(self.runs(), ["run", "done", "run", "done"])
        self.assertEqual(len(self.entries()), 1)

    def test_eviction(self) -> None:
        for name in "ABCD":
            self.kernel(f"CONFIG_{name}=y\n")
            self.finish(self.start())
            time.sleep(0.02)
        self.assertEqual(len(self.entries()), 2)

    def test_in_use_is_kept(self) -> None:
        # Stands for make: its -C DIR comes first, then what we gave.
        script = self.top / "bin/hold"
        script.write_text('#!/bin/sh\necho "$@"\nexec sleep 60 >&-\n', encoding="utf-8")
        script.chmod(0o755)
        holder = self.start("hold")
        directory = Path(holder.stdout.readline().split()[1])
        for name in "ABC":
            self.kernel(f"CONFIG_{name}=y\n")
            self.finish(self.start())
            time.sleep(0.02)
        self.assertTrue((directory / "rust/libkernel.rmeta").is_file())
        self.assertEqual(len(self.entries()), 3)
        holder.kill()
        holder.wait(timeout=30)
        self.finish(self.start())
        self.assertEqual(len(self.entries()), 2)


if __name__ == "__main__":
    unittest.main()
