# SPDX-License-Identifier: GPL-2.0
"""The kernel's target (LIO) over iSER, set up by plain writes to configfs.

    target = lio.Target(portals=[("192.168.77.1", 3260)], luns=[lio.Ramdisk("disk0", 128)])
    target.up()
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.guest import net
from lab.guest.system import modprobe, run, settle_mounts, wait_for, write
from lab.report import LabError

CONFIG = Path("/sys/kernel/config/target")
IQN = "iqn.2026-01.lab.iser:lio"
END_SECONDS = 45


@dataclass(frozen=True)
class Chap:
    """Credentials; with `mutual_*` the target proves itself as well."""

    user: str
    password: str
    mutual_user: str = ""
    mutual_password: str = ""


@dataclass(frozen=True)
class Ramdisk:
    """A LUN in memory."""

    name: str
    mib: int
    hba = "rd_mcp_0"

    def control(self) -> str:
        """What configures the backstore."""
        return f"rd_pages={self.mib * 256}"


@dataclass(frozen=True)
class File:
    """A LUN in a file, which is made if it does not exist."""

    name: str
    mib: int
    path: str
    hba = "fileio_0"

    def control(self) -> str:
        """What configures the backstore."""
        with open(self.path, "ab") as handle:
            handle.truncate(self.mib << 20)
        return f"fd_dev_name={self.path},fd_dev_size={self.mib << 20},fd_buffered_io=1"


@dataclass(frozen=True)
class Device:
    """A LUN on a block device, which is written through."""

    name: str
    path: str
    hba = "iblock_0"

    def control(self) -> str:
        """What configures the backstore."""
        return f"udev_path={self.path}"


Lun = Ramdisk | File | Device


@dataclass
class Target:
    """One target with one portal group."""

    portals: Sequence[tuple[str, int]]
    luns: Sequence[Lun]
    iqn: str = IQN
    chap: Chap | None = None
    discovery_chap: Chap | None = None
    initiators: Sequence[str] = ()       # empty: everybody may log in
    parameters: Mapping[str, object] = field(default_factory=dict)   # param/
    attributes: Mapping[str, object] = field(default_factory=dict)   # attrib/
    device_attributes: Mapping[str, object] = field(default_factory=dict)
    iser: bool = True

    @property
    def tpg(self) -> Path:
        """The portal group's directory."""
        return CONFIG / "iscsi" / self.iqn / "tpgt_1"

    def up(self) -> None:
        """Make the target and enable it."""
        os.makedirs("/etc/target", exist_ok=True)
        os.makedirs("/var/target", exist_ok=True)
        settle_mounts()
        modprobe("target_core_mod", "iscsi_target_mod", *(["ib_isert"] if self.iser else []))
        (CONFIG / "iscsi").mkdir(exist_ok=True)
        self.tpg.mkdir(parents=True)
        for number, lun in enumerate(self.luns):
            self._add_lun(number, lun)
        self._access()
        for name, value in self.parameters.items():
            write(self.tpg / "param" / name, value)
        write(self.tpg / "enable", 1)
        for host, port in self.portals:
            self.add_portal(host, port)

    def add_portal(self, host: str, port: int, iser: bool | None = None) -> None:
        """Listen on an address, over iSER unless the target or the caller says otherwise."""
        entry = self._portal(host, port)
        over_rdma = self.iser if iser is None else iser
        if over_rdma and net.chosen() == "siw":
            # A port of iWARP is one of TCP, and LIO listens to each portal by TCP, too, in
            # the network namespace of who makes it.
            run("unshare", "--net", "mkdir", str(entry))
        else:
            entry.mkdir()
        if over_rdma:
            write(entry / "iser", 1)

    def remove_portal(self, host: str, port: int) -> None:
        """Stop listening on an address."""
        self._portal(host, port).rmdir()

    def _portal(self, host: str, port: int) -> Path:
        return self.tpg / "np" / (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _add_lun(self, number: int, lun: Lun) -> None:
        store = CONFIG / "core" / lun.hba / lun.name
        store.mkdir(parents=True)
        write(store / "control", lun.control())
        write(store / "enable", 1)
        write(store / "wwn/vpd_unit_serial", f"iserlab{lun.name}")
        for name, value in self.device_attributes.items():
            write(store / "attrib" / name, value)
        entry = self.tpg / "lun" / f"lun_{number}"
        entry.mkdir()
        (entry / lun.name).symlink_to(store)

    def add_lun(self, lun: Ramdisk | File) -> None:
        """Add a LUN with the next number, also under a session."""
        self._add_lun(len(self.luns), lun)
        self.luns = [*self.luns, lun]

    def remove_last_lun(self) -> None:
        """Take the LUN with the highest number away, also under a session."""
        number, lun = len(self.luns) - 1, self.luns[-1]
        self.luns = self.luns[:-1]
        self._remove_lun(number, lun)
        (CONFIG / "core" / lun.hba / lun.name).rmdir()

    def _remove_lun(self, number: int, lun: Lun) -> None:
        entry = self.tpg / "lun" / f"lun_{number}"
        (entry / lun.name).unlink()
        entry.rmdir()

    def _access(self) -> None:
        attributes: dict[str, object] = {"authentication": int(self.chap is not None)}
        if not self.initiators:
            attributes.update(generate_node_acls=1, demo_mode_write_protect=0, cache_dynamic_acls=1)
            if self.chap:
                self._credentials(self.tpg / "auth", self.chap)
        for name, value in {**attributes, **self.attributes}.items():
            write(self.tpg / "attrib" / name, value)
        for initiator in self.initiators:
            acl = self.tpg / "acls" / initiator
            acl.mkdir()
            if self.chap:
                self._credentials(acl / "auth", self.chap)
            for number in range(len(self.luns)):
                mapped = acl / f"lun_{number}"
                mapped.mkdir()
                (mapped / "default").symlink_to(self.tpg / "lun" / f"lun_{number}")
        discovery = CONFIG / "iscsi/discovery_auth"
        if self.discovery_chap:
            self._credentials(discovery, self.discovery_chap)
        write(discovery / "enforce_discovery_auth", int(self.discovery_chap is not None))

    @staticmethod
    def _credentials(where: Path, chap: Chap) -> None:
        write(where / "userid", chap.user)
        write(where / "password", chap.password)
        # The word NULL clears what an earlier setting may have left.
        write(where / "userid_mutual", chap.mutual_user or "NULL")
        write(where / "password_mutual", chap.mutual_password or "NULL")

    def sessions(self) -> list[str]:
        """Initiators logged in now, as LIO tells."""
        try:
            return (self.tpg / "dynamic_sessions").read_text(encoding="utf-8").split("\0")[0].split()
        except OSError:
            return []

    def down(self) -> None:
        """Take the target away; sessions are dropped.

        A session that was about to end by itself is not waited for by LIO, which then
        frees the ACL it has made for the initiator under it (core_tpg_deregister): seen as
        `list_del corruption` in transport_deregister_session_configfs.
        """
        if self.tpg.exists():
            write(self.tpg / "enable", 0)
            wait_for("the end of the target's sessions", lambda: not self.sessions(), END_SECONDS)
            for entry in (self.tpg / "np").iterdir():
                entry.rmdir()
            for acl in (self.tpg / "acls").iterdir():
                for mapped in acl.glob("lun_*"):
                    (mapped / "default").unlink(missing_ok=True)
                    mapped.rmdir()
                acl.rmdir()
            for number, lun in enumerate(self.luns):
                self._remove_lun(number, lun)
            self.tpg.rmdir()
            self.tpg.parent.rmdir()
        for lun in self.luns:
            (CONFIG / "core" / lun.hba / lun.name).rmdir()


def standard(portals: Sequence[tuple[str, int]], mib: int = 256) -> Target:
    """The target of the demo: one ramdisk that everybody may write."""
    if not portals:
        raise LabError("a target needs at least one portal")
    return Target(portals=portals, luns=[Ramdisk("disk0", mib)])
