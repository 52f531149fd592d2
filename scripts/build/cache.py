# SPDX-License-Identifier: GPL-2.0
"""Cache entries that are whole or absent, however a build ends.

An entry is a directory made under a temporary name while a lock is held, and
renamed when it is complete. The lock is handed to child processes, so it stays
held until the last of them is gone: whoever gets the lock next may delete what
an interrupted build left behind.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil


def root():
    """Return the directory that holds everything this project caches."""
    given = os.environ.get("ISER_CACHE")
    if given:
        return pathlib.Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base).absolute() / "ib_iser_rs"


def digest(*parts):
    """Return a short hash of `parts` (bytes or str), for names of entries."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()[:16]


@contextlib.contextmanager
def lock(path, waiting=None):
    """Hold the lock file `path`; yield its descriptor, to be passed to children.

    `waiting` is called once if another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def entry(path, make, waiting=None):
    """Return directory `path`, made by `make(temporary, lock_fd)` if absent."""
    if path.is_dir():
        return path
    with lock(path.with_name(path.name + ".lock"), waiting) as fd:
        if path.is_dir():
            return path
        temporary = path.with_name(path.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            make(temporary, fd)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def replace(path, make, waiting=None):
    """Make directory `path` anew, in place of one that may exist."""
    with lock(path.with_name(path.name + ".lock"), waiting) as fd:
        temporary = path.with_name(path.name + ".tmp")
        old = path.with_name(path.name + ".old")
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            make(temporary, fd)
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    return path
