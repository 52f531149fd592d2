# SPDX-License-Identifier: GPL-2.0
"""What a test takes for verified: load that has read back, and how it says that it has not."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import unittest
from contextlib import nullcontext
from unittest import mock

from lab.guest import disk, load
from lab.report import LabError

# Stands in for fio: gives account of more and more that it has read, and ends as it is told to when it is interrupted, or at once.
FIO = """
import json, signal, sys, time
words, status, at_once, step = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4])
print(sys.argv[5], file=sys.stderr, flush=True)
def end(*_):
    print("fio: terminating on signal 2", words, "trailing words", sep="\\n", flush=True)
    sys.exit(status)
signal.signal(signal.SIGINT, end)
if at_once:
    end()
read = 0
while True:
    read += step
    print(json.dumps({"jobs": [{"error": 0, "read": {"io_bytes": read, "total_ios": 9},
                                "write": {"io_bytes": 8192, "total_ios": 2}}]}), flush=True)
    time.sleep(0.05)
"""
# What has to be read: what is written, and what may be under way.
ENOUGH = 8192 + load.BACKLOG * (16 << 10)


def said(read: int, wrote: int, error: int = 0) -> str:
    """JSON as fio's."""
    return json.dumps({"jobs": [{"error": error, "read": {"io_bytes": read, "total_ios": 1},
                                 "write": {"io_bytes": wrote, "total_ios": 1}}]})


class LoadTest(unittest.TestCase):
    """A load, with a program in fio's place and numbers in the disk's."""

    def setUp(self) -> None:
        self.count = 0

    def completed(self, _: str) -> int:
        """The disk does some requests between any two looks."""
        self.count += 7
        return self.count

    def loaded(self, words: str, status: int, at_once: bool = False, step: int = ENOUGH // 4,
               complaint: str = "") -> load.Load:
        """A load on a disk that does not exist."""
        argv = [sys.executable, "-c", FIO, words, str(status), str(int(at_once)), str(step), complaint]
        patch = mock.patch.object(disk, "completed", self.completed)
        patch.start()
        self.addCleanup(patch.stop)
        with mock.patch.object(disk, "fio_argv", return_value=argv):
            made = load.Load("/dev/none")
        self.addCleanup(made.kill)
        load.wait_for("the program", made._told)
        return made

    def test_ends_well_when_all_is_read(self) -> None:
        made = self.loaded(said(4096, 4096), load.INTERRUPTED)
        made.goes_on()
        self.assertEqual(disk.moved(made.end(), "read"), 4096)
        accounts = [json.loads(row) for row in made._tail().splitlines() if row.startswith("{")]
        self.assertGreaterEqual(max(disk.moved(row["jobs"][0], "read") for row in accounts), ENOUGH)

    def test_options(self) -> None:
        with mock.patch.object(disk, "fio_argv", return_value=["true"]) as argv:
            load.Load("/dev/none", kib=4, size="8m").kill()
        self.assertEqual((argv.call_args.kwargs["size"], argv.call_args.kwargs["bs"]), ("8m", "4k"))

    def test_is_not_read_back_in_time(self) -> None:
        made = self.loaded(said(4096, 4096), load.INTERRUPTED, step=0)
        with self.assertRaisesRegex(LabError, "what was written to /dev/none is read back: not within"):
            made.end(1)

    def test_only_accounts_since_then(self) -> None:
        made = self.loaded(said(4096, 4096), load.INTERRUPTED)
        load.wait_for("enough", lambda: disk.moved(disk.fio_json(made._tail()), "read") >= ENOUGH)
        made._job.send_signal(signal.SIGSTOP)
        try:
            with self.assertRaisesRegex(LabError, "not within"):
                made.end(0.5)
        finally:
            made._job.send_signal(signal.SIGCONT)

    def test_error_at_its_end(self) -> None:
        made = self.loaded(said(4096, 4096, error=5), load.INTERRUPTED)
        with self.assertRaisesRegex(LabError, "fio failed"):
            made.end()

    def test_error_before(self) -> None:
        made = self.loaded(said(4096, 4096, error=84), 1, at_once=True)
        load.wait_for("its end", made.over)
        for what in (made.end, made.goes_on, made.check_running):
            with self.assertRaisesRegex(LabError, "fio failed"):
                what()
        # What it read was not what it wrote: that is no error of the disk.
        with self.assertRaisesRegex(LabError, "fio failed"):
            made.fails(1)

    def test_error_of_the_disk(self) -> None:
        for error in load.GONE:
            made = self.loaded(said(4096, 4096, error), 1, at_once=True)
            self.assertGreater(made.fails(5), 0)

    def test_wrong_data_behind_an_error_of_the_disk(self) -> None:
        made = self.loaded(said(4096, 4096, load.GONE[0]), 1, at_once=True, complaint="crc32c: verify failed at file x")
        with self.assertRaisesRegex(LabError, "fio failed: crc32c: verify failed"):
            made.fails(5)

    def test_no_words(self) -> None:
        made = self.loaded("killed", 1, at_once=True)
        with self.assertRaisesRegex(LabError, "fio failed"):
            made.fails(5)

    def test_end_without_error(self) -> None:
        made = self.loaded(said(4096, 4096), 0, at_once=True)
        load.wait_for("its end", made.over)
        with self.assertRaisesRegex(LabError, "ended by itself"):
            made.end()
        with self.assertRaisesRegex(LabError, "without an error"):
            made.fails(1)

    def test_block_in_which_it_fails(self) -> None:
        made = self.loaded(said(4096, 4096, error=5), 1, at_once=True)
        load.wait_for("its end", made.over)
        with mock.patch.object(load, "Load", return_value=made), self.assertRaisesRegex(LabError, "fio failed"), \
                load.load("/dev/none"):
            pass


class KeptTest(unittest.TestCase):
    """A part of a disk that is not to change; a file is the disk."""

    def test_seen_on_the_disk(self) -> None:
        with tempfile.NamedTemporaryFile() as made:
            made.write(bytes(3 * disk.CHUNK))
            made.flush()
            with mock.patch.object(disk, "fio_verify") as fio:
                kept = load.Kept(made.name, disk.CHUNK, disk.CHUNK)
            self.assertEqual(fio.call_args.kwargs["offset"], str(disk.CHUNK))
            # What is outside may change.
            for start, same in ((disk.CHUNK - 1, True), (2 * disk.CHUNK, True), (2 * disk.CHUNK - 1, False)):
                made.seek(start)
                made.write(b"x")
                made.flush()
                with self.subTest(start=start), nullcontext() if same else self.assertRaisesRegex(LabError, "any more"):
                    kept.check(made.name)

    def test_disk_that_ends(self) -> None:
        with tempfile.NamedTemporaryFile() as made, self.assertRaisesRegex(LabError, "ends early"):
            disk.checksum(made.name, 0, 1)


class VerifyTest(unittest.TestCase):
    """One pass."""

    def verify(self, read: int, wrote: int) -> None:
        """With so many bytes."""
        with mock.patch.object(disk, "fio", return_value=json.loads(said(read, wrote))["jobs"][0]):
            disk.fio_verify("/dev/none")

    def test_all_read(self) -> None:
        self.verify(4096, 4096)
        self.verify(8192, 4096)

    def test_not_all_read(self) -> None:
        for read, wrote in ((0, 4096), (2048, 4096), (0, 0), (4096, 0)):
            with self.subTest(read=read, wrote=wrote), self.assertRaisesRegex(LabError, "has read .* bytes back"):
                self.verify(read, wrote)


if __name__ == "__main__":
    unittest.main()
