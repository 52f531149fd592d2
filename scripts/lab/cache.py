# SPDX-License-Identifier: GPL-2.0
"""A cache of directories and files, safe against interruption and company.

An entry is keyed by a hash of what it was made from. It is built under a
temporary name and published by one rename, so that it either exists whole or
not at all. A lock file per entry is held exclusively while it is built and
shared while it is used: two runs at once build it once, and pruning never
takes an entry from under a run that needs it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lab.config import KEEP_ENTRIES
from lab.report import LabError

TMP_PREFIX = ".new-"


def key_of(*parts: Any) -> str:
    """A short name for what an entry is made from (anything JSON can hold)."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_files(paths: Iterable[Path]) -> str:
    """A hash over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def remove_tree(path: Path) -> None:
    """Remove a file or a tree, but never reach through a mount."""
    if not path.is_symlink() and not path.exists():
        return
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as table:
        for row in table:
            point = row.split()[1].encode().decode("unicode_escape")
            if point == str(path) or point.startswith(f"{path}/"):
                raise LabError(f"{point} is still mounted; unmount it, then try again")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(path)], check=True)


@contextmanager
def building_in(tree: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Have nobody else build in a source tree; `waiting` is called if somebody does.

    Gives the descriptor of the lock: who inherits it, holds it after the block, too.
    """
    handle = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


class Cache:
    """The cache directory and the locks this process holds in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._held: dict[str, IO[bytes]] = {}
        for name in ("locks", "logs"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, key: str) -> Path:
        """Where the entry is, or would be."""
        return self.root / kind / key

    def _lock(self, name: str, how: int) -> IO[bytes] | None:
        handle = open(self.root / "locks" / name, "ab")
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            handle.close()
            return None
        return handle

    def entry(self, kind: str, key: str, build: Callable[[Path], None],
              announce: Callable[[], None] | None = None,
              waiting: Callable[[], None] | None = None) -> Path:
        """Return the entry, building it first if it does not exist.

        `build` gets the temporary path, which does not exist yet, and makes a
        file or a directory there. The entry stays locked (shared) until this
        process ends. `waiting` is called if another process builds it already.
        """
        name = f"{kind}-{key}"
        final = self.path(kind, key)
        if name in self._held:
            return final
        lock = self._lock(name, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if lock is None:
            if waiting:
                waiting()
            lock = self._lock(name, fcntl.LOCK_SH)
        assert lock is not None
        if not final.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Somebody may have built it while this process waited.
            if not final.exists():
                if announce:
                    announce()
                self._held[name] = lock
                try:
                    self._build(kind, key, final, build)
                finally:
                    del self._held[name]
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not final.exists():  # pruned in the instant between two locks
                lock.close()
                return self.entry(kind, key, build, announce, waiting)
        self._held[name] = lock
        os.utime(self.root / "locks" / name)
        self.prune(kind)
        return final

    def _build(self, kind: str, key: str, final: Path,
               build: Callable[[Path], None]) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f"{TMP_PREFIX}{key}"
        remove_tree(temporary)
        try:
            build(temporary)
            subprocess.run(["sync", "-f", str(temporary)], check=False)
            os.rename(temporary, final)
        except BaseException:
            remove_tree(temporary)
            raise

    def _age(self, kind: str, path: Path) -> float:
        try:
            return (self.root / "locks" / f"{kind}-{path.name}").stat().st_mtime
        except OSError:
            return 0.0

    def prune(self, kind: str, keep: int = KEEP_ENTRIES) -> list[Path]:
        """Drop all but the most recently used entries, and stale temporaries.

        Whatever another process has locked is left alone.
        """
        parent = self.root / kind
        if not parent.is_dir():
            return []
        found = list(parent.iterdir())
        stale = [p for p in found if p.name.startswith(TMP_PREFIX)]
        entries = [p for p in found if not p.name.startswith(".")]
        entries.sort(key=lambda p: self._age(kind, p), reverse=True)
        removed = []
        for path in stale + entries[keep:]:
            key = path.name.removeprefix(TMP_PREFIX)
            name = f"{kind}-{key}"
            if name in self._held:
                continue
            lock = self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock is None:
                continue
            with lock:
                doomed = parent / f"{TMP_PREFIX}{key}"
                if path != doomed and path.exists():
                    remove_tree(doomed)
                    os.rename(path, doomed)
                remove_tree(doomed)
                removed.append(path)
        return removed

    def kinds(self) -> list[str]:
        """Kinds of entry there are."""
        locks = self.root / "locks"
        return sorted(p.name for p in self.root.iterdir()
                      if p.is_dir() and any(locks.glob(f"{p.name}-*")))

    def clean(self) -> list[Path]:
        """Remove every entry nobody is using; logs and locks stay."""
        return [path for kind in self.kinds() for path in self.prune(kind, keep=0)]

    def inherit(self) -> None:
        """Let a program this process is replaced by keep the locks."""
        for handle in self._held.values():
            os.set_inheritable(handle.fileno(), True)

    def descriptors(self) -> list[int]:
        """The locks held, for children: one that outlives this process, killed
        in the middle of a build, then still keeps others from its directory."""
        return [handle.fileno() for handle in self._held.values()]

    def close(self) -> None:
        """Let go of every entry this process uses."""
        for handle in self._held.values():
            handle.close()
        self._held.clear()

    def mutex(self, name: str) -> IO[bytes]:
        """Wait for, and return, an exclusive lock; closing it lets go."""
        handle = self._lock(name, fcntl.LOCK_EX)
        assert handle is not None
        return handle
