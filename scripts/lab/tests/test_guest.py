# SPDX-License-Identifier: GPL-2.0
"""Logic of the guest's side that needs no guest."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lab.guest import demo, disk, initiator, net, wire
from lab.guest.driver import Driver
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
