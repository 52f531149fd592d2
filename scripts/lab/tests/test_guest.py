# SPDX-License-Identifier: GPL-2.0
"""Logic of the guest's side that needs no guest."""

import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lab.guest import demo, disk, initiator, net, tgt, wire
from lab.guest.driver import Driver
from lab.guest.system import wait_for
from lab.report import LabError

FOUND = """192.168.77.1:3260,1 iqn.2026-01.lab.iser:lio
[fd77::1]:3260,1 iqn.2026-01.lab.iser:lio
192.168.77.1:3260,1 iqn.2026-01.lab.iser:other
iscsiadm: some remark
"""


class DiscoveryTest(unittest.TestCase):
    """What iscsiadm prints."""

    def test_parse(self) -> None:
        nodes = initiator.parse_discovery(FOUND)
        self.assertEqual([n.portal for n in nodes],
                         ["192.168.77.1:3260", "[fd77::1]:3260", "192.168.77.1:3260"])
        self.assertEqual(nodes[0].tpgt, 1)

    def test_portal(self) -> None:
        for text, wanted in (("10.0.0.1", "10.0.0.1:3260"), ("10.0.0.1:3261", "10.0.0.1:3261"),
                             ("fd77::1", "[fd77::1]:3260"), ("[fd77::1]", "[fd77::1]:3260"),
                             ("[fd77::1]:99", "[fd77::1]:99"), ("host", "host:3260")):
            self.assertEqual(initiator.portal_text(text), wanted)

    def test_choose(self) -> None:
        nodes = initiator.parse_discovery(FOUND)
        chosen = demo.choose_node(nodes, "[fd77::1]:3260", "iqn.2026-01.lab.iser:lio")
        self.assertEqual(chosen.portal, "[fd77::1]:3260")
        with self.assertRaisesRegex(LabError, "--iqn"):
            demo.choose_node(nodes, "192.168.77.1:3260", None)
        with self.assertRaisesRegex(LabError, "does not offer iqn.x"):
            demo.choose_node(nodes, "192.168.77.1:3260", "iqn.x")


class TgtTest(unittest.TestCase):
    """tgtd is started again where it has crashed, and only there. Its programs are made up."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        top = Path(directory.name)
        self.starts = top / "starts"
        self.end = top / "end"
        tgtd = top / "tgtd"
        # Serves until it is told how to end.
        tgtd.write_text(f"""#!/bin/sh
echo >>{self.starts}
until [ -e {self.end} ]; do sleep 0.02; done
end=$(cat {self.end})
rm {self.end}
[ "$end" != crash ] || kill -SEGV $$
""", encoding="ascii")
        tgtd.chmod(0o755)
        self.told: list[str] = []
        for patch in (mock.patch.dict(tgt.os.environ, {"PATH": f"{top}:{tgt.os.environ['PATH']}"}),
                      mock.patch.object(tgt, "LOG", str(top / "log")),
                      mock.patch.object(tgt, "DIRECTORY", str(top / "disks")),
                      mock.patch.object(tgt, "RUN", str(top / "run")),
                      mock.patch.object(tgt, "_admin", self.admin), mock.patch.object(tgt, "modprobe"),
                      mock.patch.object(tgt, "privileged"), mock.patch("builtins.print")):
            patch.start()
            self.addCleanup(patch.stop)

    def admin(self, op: str, mode: str, *_rest: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """What tgtadm would be told."""
        del check
        self.told.append(f"{op} {mode}")
        if (op, mode) == ("delete", "system"):
            self.end.write_text("done", encoding="ascii")
        return subprocess.CompletedProcess([], 0, "", "")

    def started(self, times: int) -> None:
        """Wait until tgtd was started so often."""
        wait_for(f"start {times}", lambda: self.starts.exists() and self.starts.stat().st_size == times, 10)

    def test_crash(self) -> None:
        target = tgt.Target(mib=(1, 1))
        target.up()
        for crash in 1, 2:
            self.started(crash)
            self.told.clear()
            self.end.write_text("crash", encoding="ascii")
            wait_for("the crash", lambda c=crash: target.crashes == c, 10)
            target.serves()
            self.assertEqual(self.told.count("new logicalunit"), 2)
        self.started(3)
        target.kill()
        self.assertEqual(target.crashes, 2)
        target.up()
        self.started(4)
        target.down()
        self.assertEqual(self.starts.stat().st_size, 4)
        self.assertEqual(target.crashes, 2)

    def test_end_without_an_error(self) -> None:
        target = tgt.Target(mib=(1,))
        target.up()
        self.started(1)
        self.end.write_text("done", encoding="ascii")
        target._keeper.join(10)
        self.assertFalse(target._keeper.is_alive())
        target.down()
        self.assertEqual((self.starts.stat().st_size, target.crashes), (1, 0))


class DiskTest(unittest.TestCase):
    """A disk with anything on it is not touched."""

    def image(self, content: bytes, where: int) -> str:
        """A sparse file that stands for a disk."""
        handle = tempfile.NamedTemporaryFile(delete=False)
        self.addCleanup(Path(handle.name).unlink)
        with handle:
            handle.truncate(64 << 20)
            handle.seek(where)
            handle.write(content)
        return handle.name

    def test_blank(self) -> None:
        self.assertEqual(disk.has_data(self.image(b"", 0)), "")

    def test_data(self) -> None:
        for where in (0, 5000, (64 << 20) - 10):
            self.assertNotEqual(disk.has_data(self.image(b"data", where)), "")

    def test_refused(self) -> None:
        name = self.image(b"data", 0)
        with self.assertRaisesRegex(LabError, "will not be touched"):
            disk.refuse_if_used(name, overwrite=False)
        disk.refuse_if_used(name, overwrite=True)

    def test_files(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            sums = disk.write_files(where, 2 << 20)
            disk.check_files(where, sums)
            path = Path(where, sorted(sums)[-1])
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
            with self.assertRaisesRegex(LabError, "another checksum"):
                disk.check_files(where, sums)


class DriverTest(unittest.TestCase):
    """Two drivers, no third."""

    def test_names(self) -> None:
        self.assertEqual(Driver("rust").module, "ib_iser_rs")
        self.assertEqual(Driver("c").module, "ib_iser")
        with self.assertRaises(LabError):
            Driver("go")


class NetTest(unittest.TestCase):
    """Addresses as RoCE has them."""

    def test_gid(self) -> None:
        self.assertEqual(net.gid_of("192.168.77.1").hex(), "00000000000000000000ffffc0a84d01")
        self.assertEqual(net.gid_of("fd77::1").hex(), "fd770000000000000000000000000001")


class WireTest(unittest.TestCase):
    """Packets that a wire loses, and must have lost."""

    PRINTED = ('[{"kind":"netem","handle":"8001:","root":true,"refcnt":2,"options":{"limit":1000},"bytes":940,'
               '"packets":9,"drops":%d,"overlimits":0,"requeues":0,"backlog":0,"qlen":0}]')

    def test_drops(self) -> None:
        self.assertEqual(wire.drops(self.PRINTED % 12), 12)
        self.assertEqual(wire.drops('[{"kind":"noqueue","handle":"0:","root":true,"drops":3}]'), 0)

    def lose(self, drops: int) -> list[str]:
        """Lose all; returns which commands it took."""
        done: list[str] = []
        with mock.patch.object(wire, "run", lambda *words: done.append(" ".join(words[2:6]))), \
                mock.patch.object(wire, "output", lambda *words: self.PRINTED % drops), mock.patch("builtins.print"):
            try:
                with wire.Wire().losing(100):
                    pass
            except LabError as exc:
                done.append(str(exc))
        return done

    def test_losing(self) -> None:
        commands = ["replace dev isw0p root", "replace dev tsw0p root", "del dev isw0p root", "del dev tsw0p root"]
        self.assertEqual(self.lose(1), commands)
        self.assertEqual(self.lose(0), [*commands, "the wire should lose 100 % of the packets, and has lost none"])


if __name__ == "__main__":
    unittest.main()
