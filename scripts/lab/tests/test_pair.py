# SPDX-License-Identifier: GPL-2.0
"""The host's hand on machines: what is asked for, the control socket, consoles."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

from lab import qemu, qmp
from lab.guest import hand as asking
from lab.hand import Console, Hand
from lab.pair import Pair
from lab.report import LabError
from lab.tests.test_machine import MACHINE


def refuse() -> None:
    """A thing that cannot be done."""
    raise LabError("the machine is gone")


class HandTest(unittest.TestCase):
    """Requests and answers by files."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.out = Path(directory.name)
        self.done: list[float] = []
        self.hand = Hand(self.out, {"wait": self.done.append, "say": lambda: ["a"], "kill": refuse})
        self.stop = threading.Event()
        thread = threading.Thread(target=self.serve)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.stop.set)
        for patch in (mock.patch.dict("os.environ", ISER_OUT=str(self.out)),
                      mock.patch.object(asking, "_serial", iter(range(1, 100)))):
            patch.start()
            self.addCleanup(patch.stop)

    def serve(self) -> None:
        """What the host does all the time."""
        while not self.stop.wait(0.01):
            self.hand.look()

    def test_in_order(self) -> None:
        for number in (1.5, 2):
            self.assertIsNone(asking.ask("wait", number))
        self.assertEqual(self.done, [1.5, 2])
        self.assertEqual(asking.ask("say"), ["a"])

    def test_refusals(self) -> None:
        with self.assertRaisesRegex(LabError, "kill: the machine is gone"):
            asking.ask("kill")
        with self.assertRaisesRegex(LabError, "does not know how to dance"):
            asking.ask("dance")

    def test_nothing_asked(self) -> None:
        self.assertFalse(Hand(self.out / "other", {}).look())


class FreezeTest(unittest.TestCase):
    """A machine's emulator, stopped and continued."""

    def test_stops_and_goes_on(self) -> None:
        pair = Pair.__new__(Pair)
        pair._target = None

        with subprocess.Popen(["sleep", "60"]) as process:
            self.addCleanup(process.kill)
            pair._initiator = mock.Mock(process=process)
            seen: list[object] = []

            def sleep(seconds: float) -> None:
                seen.append((seconds, os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])))
            with mock.patch("time.sleep", sleep):
                pair.freeze("initiator", 30)
            self.assertEqual(seen, [(30, True)])
            self.assertTrue(os.WIFCONTINUED(os.waitpid(process.pid, os.WCONTINUED)[1]))
            process.kill()

    def test_no_such_machine(self) -> None:
        pair = Pair.__new__(Pair)
        pair._initiator = pair._target = None
        with self.assertRaisesRegex(LabError, "no machine of the target"):
            pair.freeze("target", 1)


class ConsoleTest(unittest.TestCase):
    """Lines of a log that grows."""

    def test_grows(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "console.log"
            console = Console(path)
            self.assertEqual(console.rows(), [])
            path.write_text("[1] BUG: of the firmware\r\n[2] iser-lab: booted\r\n[3] a\r\n[4] b", encoding="utf-8")
            self.assertEqual(console.rows(), ["[3] a"])
            with open(path, "a", encoding="utf-8") as log:
                log.write("c\r\n")
            self.assertEqual(console.rows(), ["[4] bc"])
            self.assertEqual(console.rows(), [])

    def test_panic_before(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "console.log"
            path.write_text("[1] a\n[2] Kernel panic - not syncing: no init\n", encoding="utf-8")
            self.assertEqual(Console(path).rows(), ["[2] Kernel panic - not syncing: no init"])


class QmpTest(unittest.TestCase):
    """One command, one answer."""

    def control(self, *answers: dict[str, object]) -> tuple[qmp.Control, socket.socket]:
        """A connection at whose other end these answers lie ready."""
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        self.addCleanup(theirs.close)
        for answer in ({"QMP": {}}, {"return": {}}, *answers):
            theirs.sendall(json.dumps(answer).encode() + b"\r\n")
        control = qmp.Control(ours)
        self.addCleanup(control.close)
        return control, theirs

    def test_events_are_skipped(self) -> None:
        control, theirs = self.control({"event": "STOP"}, {"return": {"status": "paused"}})
        self.assertEqual(control.execute("query-status", x=1), {"status": "paused"})
        said = theirs.recv(4096).decode().splitlines()
        self.assertEqual([json.loads(row) for row in said],
                         [{"execute": "qmp_capabilities"}, {"execute": "query-status", "arguments": {"x": 1}}])

    def test_refusal(self) -> None:
        control, _ = self.control({"error": {"class": "GenericError", "desc": "not now"}})
        with self.assertRaisesRegex(LabError, "refused stop: not now"):
            control.execute("stop")

    def test_hangs_up(self) -> None:
        control, theirs = self.control()
        theirs.shutdown(socket.SHUT_WR)
        with self.assertRaisesRegex(LabError, "closed its control socket"):
            control.execute("cont")

    def test_no_machine(self) -> None:
        with tempfile.TemporaryDirectory() as where, self.assertRaisesRegex(LabError, "no answer"):
            qmp.connect(Path(where))


class DiskTest(unittest.TestCase):
    """The disk that outlives its machine."""

    def test_may_be_written(self) -> None:
        argv = qemu.arguments(replace(MACHINE, disk=Path("/out/disk")))
        drive = next(a for a in argv if "file=/out/disk" in a)
        self.assertNotIn("read-only", drive)
        self.assertTrue(any(f"serial={qemu.DISK_SERIAL}" in a for a in argv))


if __name__ == "__main__":
    unittest.main()
