# SPDX-License-Identifier: GPL-2.0
"""Four ways to a disk of the same kind, behind one interface.

`c` and `rust` are the iSER drivers. `tcp` logs in to the same LIO target by a
portal that is not for iSER. `nvme` connects over the same rxe device to nvmet
with a ramdisk (brd) of the same size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lab.guest import initiator
from lab.guest.driver import Driver
from lab.guest.system import modprobe, output, run, settle_mounts, wait_for, write

TCP_PORT = 3261
NVME_PORT = 4420
NQN = "nqn.2026-01.lab.iser:nvmet"
HOST_ID = "6c2e35f5-6c5f-4c5e-9d1c-3b1f0d2a7e10"
HOST_NQN = f"nqn.2014-08.org.nvmexpress:uuid:{HOST_ID}"
NVMET = Path("/sys/kernel/config/nvmet")

# Settings of the node's record that change what is measured; open-iscsi's own
# defaults, written down so that a file of the guest's root cannot change them.
DEFAULTS = {"node.session.cmds_max": 128, "node.session.queue_depth": 32}


class Way:
    """How a driver is loaded and its disks come and go."""

    def load(self, parameters: Mapping[str, object] | None = None) -> None:
        """Load the modules."""
        raise NotImplementedError

    def prepare(self, settings: Mapping[str, object] | None = None, sessions: int = 1) -> None:
        """Say what the next login is to be like."""

    def login(self) -> None:
        """Log in as prepared."""
        raise NotImplementedError

    def disks(self, luns: int = 1, sessions: int = 1) -> list[str]:
        """Wait for the disks, `luns` for each session, and return them."""
        raise NotImplementedError

    def attach(self, luns: int = 1, sessions: int = 1,
               settings: Mapping[str, object] | None = None) -> list[str]:
        """All of it."""
        self.prepare(settings, sessions)
        self.login()
        return self.disks(luns, sessions)

    def detach(self) -> None:
        """Log out, and wait until that is done."""
        raise NotImplementedError

    def unload(self) -> None:
        """Unload the modules."""
        raise NotImplementedError


class Iscsi(Way):
    """What the ways by open-iscsi have in common."""

    def __init__(self, iqn: str, portal: str, interface: str) -> None:
        self.interface = interface
        self.transport = "iser" if interface == "iser" else "tcp"
        self.node = initiator.Node(portal, -1, iqn)
        self.record = initiator.of(self.node, interface)

    def sessions(self) -> list[initiator.Session]:
        """The sessions now."""
        return initiator.sessions(self.transport)

    def prepare(self, settings: Mapping[str, object] | None = None, sessions: int = 1) -> None:
        wanted = {**DEFAULTS, "node.session.nr_sessions": sessions, **(settings or {})}
        # A record keeps its settings: begin with a new one.
        if initiator.recorded(self.node, self.interface):
            initiator.iscsiadm(*self.record, "-o", "delete")
        initiator.new_node(self.node.iqn, self.node.portal, self.interface)
        for name, value in wanted.items():
            initiator.iscsiadm(*self.record, "-o", "update", "-n", name, "-v", str(value))

    def login(self) -> None:
        initiator.iscsiadm(*self.record, "--login", timeout=300)

    def disks(self, luns: int = 1, sessions: int = 1) -> list[str]:
        wait_for(f"{sessions} sessions", lambda: len(self.sessions()) == sessions)
        return [name for s in self.sessions() for name in s.wait_disks(luns, timeout=300)]

    def detach(self) -> None:
        initiator.iscsiadm(*self.record, "--logout", timeout=300)
        wait_for("the end of the sessions", lambda: not self.sessions(), 60)


class Iser(Iscsi):
    """One of the two iSER drivers."""

    def __init__(self, kind: str, iqn: str, address: str) -> None:
        super().__init__(iqn, initiator.portal_text(address), "iser")
        named = os.environ.get("ISER_MODULE")
        self.driver = Driver(kind, Path(named) if kind == "rust" and named else None)

    def load(self, parameters: Mapping[str, object] | None = None) -> None:
        self.driver.install()
        self.driver.load(parameters)

    def unload(self) -> None:
        self.driver.unload()


class Tcp(Iscsi):
    """iSCSI over TCP."""

    def __init__(self, iqn: str, address: str) -> None:
        super().__init__(iqn, f"{address}:{TCP_PORT}", "default")

    def load(self, parameters: Mapping[str, object] | None = None) -> None:
        modprobe("iscsi_tcp")

    def unload(self) -> None:
        run("rmmod", "iscsi_tcp", "libiscsi_tcp")


class Nvme(Way):
    """NVMe over RDMA; several sessions are several controllers of one subsystem."""

    def __init__(self, address: str) -> None:
        self.address, self.controllers = address, 1

    def load(self, parameters: Mapping[str, object] | None = None) -> None:
        modprobe("nvme-rdma")

    def prepare(self, settings: Mapping[str, object] | None = None, sessions: int = 1) -> None:
        self.controllers = sessions

    def login(self) -> None:
        for _ in range(self.controllers):
            run("nvme", "connect", "--transport=rdma", f"--traddr={self.address}",
                f"--trsvcid={NVME_PORT}", f"--nqn={NQN}", f"--hostnqn={HOST_NQN}",
                f"--hostid={HOST_ID}", *(["--duplicate-connect"] if self.controllers > 1 else []))

    def disks(self, luns: int = 1, sessions: int = 1) -> list[str]:
        # Controllers of one subsystem share its namespaces (multipath).
        def found() -> list[str]:
            # nvme0c1n1 and the like are paths to a namespace, and no disks.
            names = [f"/dev/{p.name}" for p in sorted(Path("/sys/block").glob("nvme*"))
                     if re.fullmatch(r"nvme\d+n\d+", p.name)]
            good = len(names) >= luns and all(os.path.exists(n) for n in names)
            live = "".join(p.read_text() for p in Path("/sys/class/nvme").glob("nvme*/state"))
            return names if good and live.split().count("live") >= sessions else []
        names = wait_for(f"{luns} NVMe disks", found, 300)
        assert isinstance(names, list)
        return names

    def detach(self) -> None:
        run("nvme", "disconnect", f"--nqn={NQN}")
        wait_for("the end of NVMe", lambda: not list(Path("/sys/class/nvme").glob("nvme*")), 60)

    def unload(self) -> None:
        run("rmmod", "nvme_rdma", "nvme_fabrics")


def of(kind: str, iqn: str, address: str) -> Way:
    """The way that is called so."""
    if kind == "tcp":
        return Tcp(iqn, address)
    return Nvme(address) if kind == "nvme" else Iser(kind, iqn, address)


class Nvmet:
    """The kernel's NVMe target with ramdisks, on an address of the RDMA device."""

    def __init__(self, address: str, mib: int, luns: int = 1) -> None:
        self.address, self.mib, self.luns = address, mib, luns
        self.subsystem, self.port = NVMET / "subsystems" / NQN, NVMET / "ports/1"

    def up(self) -> None:
        """Make it and listen."""
        settle_mounts()
        run("modprobe", "brd", f"rd_nr={self.luns}", f"rd_size={self.mib << 10}")
        modprobe("nvmet-rdma")
        self.subsystem.mkdir()
        write(self.subsystem / "attr_allow_any_host", 1)
        for number in range(self.luns):
            namespace = self.subsystem / f"namespaces/{number + 1}"
            namespace.mkdir()
            write(namespace / "device_path", f"/dev/ram{number}")
            write(namespace / "enable", 1)
        self.port.mkdir()
        for name, value in (("trtype", "rdma"), ("adrfam", "ipv4"), ("traddr", self.address),
                            ("trsvcid", NVME_PORT)):
            write(self.port / f"addr_{name}", value)
        (self.port / "subsystems" / NQN).symlink_to(self.subsystem)

    def down(self) -> None:
        """Take it away; nothing may be connected."""
        (self.port / "subsystems" / NQN).unlink()
        self.port.rmdir()
        for namespace in (self.subsystem / "namespaces").iterdir():
            namespace.rmdir()
        self.subsystem.rmdir()
        run("rmmod", "nvmet_rdma", "nvmet", "brd")


def nvme_version() -> str:
    """nvme-cli, in one line."""
    return output("nvme", "version").splitlines()[0].strip()
