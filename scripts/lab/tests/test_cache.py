# SPDX-License-Identifier: GPL-2.0
"""The cache under interruption, company and pruning."""

import multiprocessing
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from lab.cache import TMP_PREFIX, Cache, building_in, hash_files, key_of


def build_slowly(root: str, key: str, counter: str) -> None:
    """In a process of its own: build an entry, counting how often that happens."""
    def build(target: Path) -> None:
        with open(counter, "a", encoding="utf-8") as log:
            log.write("x")
        target.mkdir()
        (target / "half").write_text("1", encoding="utf-8")
        time.sleep(0.5)
        (target / "whole").write_text("2", encoding="utf-8")
    cache = Cache(Path(root))
    cache.entry("kind", key, build)
    cache.close()


class CacheTest(unittest.TestCase):
    """Each test has a cache directory of its own."""

    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.root = Path(self.directory.name)
        self.counter = str(self.root / "counter")

    def start(self, key: str) -> multiprocessing.Process:
        """Build in another process."""
        process = multiprocessing.Process(target=build_slowly,
                                          args=(str(self.root), key, self.counter))
        process.start()
        return process

    def make(self, cache: Cache, key: str) -> Path:
        """Build a small entry."""
        return cache.entry("kind", key, lambda t: t.mkdir())

    def test_built_once(self) -> None:
        both = [self.start("a"), self.start("a")]
        for process in both:
            process.join()
        self.assertEqual([p.exitcode for p in both], [0, 0])
        self.assertEqual(Path(self.counter).read_text(encoding="utf-8"), "x")
        self.assertTrue((self.root / "kind/a/whole").exists())

    def test_one_builder_in_a_tree(self) -> None:
        """A second one waits, and says so, for the first and for what that has started."""
        waited: list[str] = []
        with building_in(self.root, lambda: waited.append("first")) as lock:
            heir = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
        timer = threading.Timer(0.3, heir.kill)
        with building_in(self.root, lambda: (waited.append("second"), timer.start())):
            self.assertEqual(heir.wait(), -signal.SIGKILL)
        self.assertEqual(waited, ["second"])

    def test_interrupted(self) -> None:
        process = self.start("a")
        while not (self.root / f"kind/{TMP_PREFIX}a/half").exists():
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        self.assertFalse((self.root / "kind/a").exists())
        again = self.start("a")
        again.join()
        self.assertEqual(sorted(p.name for p in (self.root / "kind").iterdir()), ["a"])
        self.assertTrue((self.root / "kind/a/whole").exists())

    def test_failed_build_leaves_nothing(self) -> None:
        def build(target: Path) -> None:
            target.mkdir()
            raise ValueError("no")
        with self.assertRaises(ValueError):
            Cache(self.root).entry("kind", "a", build)
        self.assertEqual(list((self.root / "kind").iterdir()), [])

    def test_prune_keeps_newest(self) -> None:
        for index, key in enumerate("abc"):
            cache = Cache(self.root)
            self.make(cache, key)
            os.utime(self.root / f"locks/kind-{key}", (index, index))
            cache.close()
        Cache(self.root).prune("kind", keep=2)
        self.assertEqual(sorted(p.name for p in (self.root / "kind").iterdir()), ["b", "c"])

    def test_prune_spares_what_is_used(self) -> None:
        user = Cache(self.root)
        self.addCleanup(user.close)
        self.make(user, "a")
        self.assertEqual(Cache(self.root).prune("kind", keep=0), [])
        self.assertTrue((self.root / "kind/a").exists())

    def test_prune_removes_stale_temporary(self) -> None:
        Cache(self.root)
        (self.root / f"kind/{TMP_PREFIX}z").mkdir(parents=True)
        Cache(self.root).prune("kind")
        self.assertEqual(list((self.root / "kind").iterdir()), [])

    def test_keys(self) -> None:
        self.assertEqual(key_of("a", ["b"]), key_of("a", ["b"]))
        self.assertNotEqual(key_of("a", "b"), key_of("ab"))
        one, two = self.root / "one", self.root / "two"
        one.write_text("1", encoding="utf-8")
        two.write_text("2", encoding="utf-8")
        self.assertNotEqual(hash_files([one, two]), hash_files([two, one]))


if __name__ == "__main__":
    unittest.main()
