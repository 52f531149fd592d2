# SPDX-License-Identifier: GPL-2.0
"""Running commands, writing files of sysfs and configfs, waiting for things."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.report import LabError

# How many times as long everything may take: an instrumented kernel is slow.
SLOWNESS = float(os.environ.get("ISER_SLOWNESS", "1"))


def run(*argv: str, check: bool = True, timeout: float = 120, input: str | None = None,
        env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; a failure names it, its status and its last words."""
    timeout *= SLOWNESS
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout,
                              input=input, env=None if env is None else {**os.environ, **env})
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"`{' '.join(argv)}` took more than {timeout:.0f} s") from exc
    except FileNotFoundError as exc:
        raise LabError(f"{argv[0]} is not installed") from exc
    if check and done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LabError(f"`{' '.join(argv)}` ended with {done.returncode}: "
                       f"{' / '.join(words[-3:]) or 'no message'}")
    return done


def output(*argv: str, timeout: float = 120) -> str:
    """The standard output of a command."""
    return run(*argv, timeout=timeout).stdout


def write(path: str | Path, value: object) -> None:
    """Write one value to a file of sysfs, configfs or procfs.

    No newline follows it: LIO takes one for a part of a CHAP name.
    """
    try:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except OSError as exc:
        raise LabError(f"writing {value!r} to {path}: {exc.strerror}") from exc


def read(path: str | Path, default: str | None = None) -> str:
    """Read a one-value file; `default`, if given, stands in for a missing one."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as exc:
        if default is not None:
            return default
        raise LabError(f"reading {path}: {exc.strerror}") from exc


def modprobe(*names: str) -> None:
    """Load modules with what they need."""
    run("modprobe", "-a", *names)


def loaded(module: str) -> bool:
    """Whether a module is in the kernel (built in counts)."""
    return Path("/sys/module", module.replace("-", "_")).is_dir()


def wait_for(what: str, condition: Callable[[], object], timeout: float = 30,
             pause: float = 0.05) -> object:
    """Wait until the condition returns something true, and return that."""
    timeout *= SLOWNESS
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {timeout:.0f} s")
        time.sleep(pause)


def settle_mounts() -> None:
    """Mount what this library needs and a bare guest may lack."""
    config = Path("/sys/kernel/config")
    if not config.joinpath("target").exists() and not os.path.ismount(config):
        run("mount", "-t", "configfs", "configfs", str(config), check=False)
