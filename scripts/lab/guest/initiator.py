# SPDX-License-Identifier: GPL-2.0
"""open-iscsi, unchanged: discovery, node settings, login, sessions, disks."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.guest.lio import Chap
from lab.guest.system import modprobe, output, read, run, wait_for, write
from lab.report import LabError

NAME = "iqn.2026-01.lab.iser:initiator"
NAME_FILE = Path("/etc/iscsi/initiatorname.iscsi")
ISCSID_LOG = "/run/iser/iscsid.log"  # where the lab's machine has no syslog
TARGET_LINE = re.compile(r"^(\S+),(-?\d+) (\S+)$")
PROCESSORS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Node:
    """A target as discovery found it."""

    portal: str          # as iscsiadm writes it: 10.0.0.1:3260 or [fd00::1]:3260
    tpgt: int
    iqn: str


@dataclass(frozen=True)
class Session:
    """A session of transport iser."""

    sid: int
    iqn: str

    @property
    def directory(self) -> Path:
        """The session in sysfs."""
        return Path(f"/sys/class/iscsi_session/session{self.sid}")

    @property
    def host(self) -> str:
        """The SCSI host, e.g. host2."""
        for part in self.directory.resolve().parts:
            if re.fullmatch(r"host\d+", part):
                return part
        raise LabError(f"session {self.sid} has no SCSI host")

    @property
    def state(self) -> str:
        """LOGGED_IN, FAILED or FREE."""
        return read(self.directory / "state", "gone")

    @property
    def connection(self) -> Path:
        """The connection in sysfs."""
        return Path(f"/sys/class/iscsi_connection/connection{self.sid}:0")

    def devices(self) -> list[str]:
        """SCSI addresses of its devices."""
        return sorted(p.name for p in (self.directory / "device").glob("target*/[0-9]*:*"))

    def disks(self) -> list[str]:
        """Its disks, by LUN, as /dev/sdX."""
        found = []
        for path in (self.directory / "device").glob("target*/[0-9]*:*/block/*"):
            lun = int(path.parent.parent.name.rsplit(":", 1)[-1])
            found.append((lun, f"/dev/{path.name}"))
        return [name for _, name in sorted(found)]

    def wait_disks(self, count: int = 1, timeout: float = 30) -> list[str]:
        """Wait until that many disks can be opened."""
        def ready() -> list[str]:
            names = self.disks()
            good = len(names) >= count and all(os.path.exists(n) for n in names)
            return names if good else []
        found = wait_for(f"{count} disk(s) of session {self.sid}", ready, timeout)
        assert isinstance(found, list)
        return found


def parse_discovery(text: str) -> list[Node]:
    """Read what `iscsiadm -m discovery` prints."""
    found = []
    for row in text.splitlines():
        match = TARGET_LINE.match(row.strip())
        if match:
            found.append(Node(match[1], int(match[2]), match[3]))
    return found


def portal_text(host: str, port: int = 3260) -> str:
    """A portal as iscsiadm writes it: ADDRESS, ADDRESS:PORT, with or without brackets."""
    if host.startswith("["):
        return host if "]:" in host else f"{host}:{port}"
    if host.count(":") > 1:
        return f"[{host}]:{port}"
    return host if ":" in host else f"{host}:{port}"


def iscsiadm(*argv: str, check: bool = True, timeout: float = 90) -> str:
    """Run iscsiadm and return its output."""
    return run("iscsiadm", *argv, check=check, timeout=timeout).stdout


def iscsid_pids() -> list[int]:
    """The processes of iscsid."""
    return [int(pid) for pid in run("pidof", "iscsid", check=False).stdout.split()]


def iscsid_running() -> bool:
    """Whether the daemon is there."""
    return bool(iscsid_pids())


@contextmanager
def in_idle_time() -> Iterator[None]:
    """Have iscsid run only when nobody else wants to, in a virtual machine on its one processor."""
    others = sorted(PROCESSORS.glob("cpu[1-9]*/online")) if os.environ.get("ISER_GUEST") else []

    def schedule(policy: int, online: int) -> None:
        for path in others:
            write(path, online)
        for pid in iscsid_pids():
            os.sched_setscheduler(pid, policy, os.sched_param(0))
    schedule(os.SCHED_IDLE, 0)
    try:
        yield
    finally:
        schedule(os.SCHED_OTHER, 1)


def start(name: str | None = None) -> None:
    """Have iscsid running; on a real machine the running one is used as it is."""
    if iscsid_running():
        return
    if name is None and os.environ.get("ISER_GUEST"):
        name = NAME
    if name:
        NAME_FILE.write_text(f"InitiatorName={name}\n", encoding="utf-8")
    if not NAME_FILE.exists():
        raise LabError(f"{NAME_FILE} does not exist; write InitiatorName=iqn... into it")
    os.makedirs("/run/lock/iscsi", exist_ok=True)
    modprobe("sd_mod", "scsi_transport_iscsi", "libiscsi")
    if Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "iscsid")
    else:
        # There is no syslog in the lab's machine; in the foreground it writes
        # to a file, which the first process saves with the results.
        os.makedirs("/run/iser", exist_ok=True)
        level = os.environ.get("ISER_ISCSID_DEBUG", "1")
        with open(ISCSID_LOG, "ab") as log:
            subprocess.Popen(["iscsid", "-f", "-d", level], stdin=subprocess.DEVNULL,
                             stdout=log, stderr=log, start_new_session=True)
    wait_for("iscsid", iscsid_running, 10)


def stop() -> None:
    """End iscsid; it must not hold a session."""
    run("iscsiadm", "-k", "0", check=False)
    wait_for("the end of iscsid", lambda: not iscsid_running(), 10)


def initiator_name() -> str:
    """The name this host logs in with."""
    for row in NAME_FILE.read_text(encoding="utf-8").splitlines():
        if row.startswith("InitiatorName="):
            return row.partition("=")[2].strip()
    raise LabError(f"{NAME_FILE} holds no InitiatorName")


def chap_settings(chap: Chap, prefix: str) -> dict[str, str]:
    """CHAP as settings under `node.session` or `discovery.sendtargets`."""
    found = {f"{prefix}.auth.authmethod": "CHAP", f"{prefix}.auth.username": chap.user,
             f"{prefix}.auth.password": chap.password}
    if chap.mutual_user:
        found[f"{prefix}.auth.username_in"] = chap.mutual_user
        found[f"{prefix}.auth.password_in"] = chap.mutual_password
    return found


def discover(portal: str, chap: Chap | None = None, transport: str = "iser",
             record: bool = True, attempts: int = 1) -> list[Node]:
    """SendTargets discovery over iSER; the nodes are recorded unless told otherwise.

    More than one attempt is for targets that are known to hang up at times.
    """
    if attempts > 1:
        try:
            return discover(portal, chap, transport, record)
        except LabError:
            return discover(portal, chap, transport, record, attempts - 1)
    if chap is None:
        return parse_discovery(iscsiadm("-m", "discovery", "-t", "sendtargets",
                                        "-p", portal, "-I", transport,
                                        *(() if record else ("-o", "nonpersistent"))))
    base = ("-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", transport)
    iscsiadm(*base, "-o", "new")
    for name, value in chap_settings(chap, "discovery.sendtargets").items():
        iscsiadm(*base, "-o", "update", "-n", name, "-v", value)
    return parse_discovery(iscsiadm(*base, "--discover"))


def new_node(iqn: str, portal: str, transport: str = "iser") -> Node:
    """Record a node without discovery."""
    iscsiadm("-m", "node", "-T", iqn, "-p", portal, "-I", transport, "-o", "new")
    return Node(portal, -1, iqn)


def recorded(node: Node, transport: str = "iser") -> bool:
    """Whether a record of this node over this transport exists."""
    return run("iscsiadm", *of(node, transport), check=False).returncode == 0


def of(node: Node, transport: str = "iser") -> tuple[str, ...]:
    """The arguments that name one record; one for TCP beside it stays untouched."""
    return ("-m", "node", "-T", node.iqn, "-p", node.portal, "-I", transport)


def settings(node: Node, values: Mapping[str, object]) -> None:
    """Change settings of a node's record."""
    for name, value in values.items():
        iscsiadm(*of(node), "-o", "update", "-n", name, "-v", str(value))


def login(node: Node, values: Mapping[str, object] | None = None, chap: Chap | None = None,
          timeout: float = 90) -> Session:
    """Log in and return the session."""
    wanted: dict[str, object] = dict(values or {})
    if chap:
        wanted.update(chap_settings(chap, "node.session"))
    settings(node, wanted)
    before = {s.sid for s in sessions()}
    iscsiadm(*of(node), "--login", timeout=timeout)
    for session in sessions():
        if session.iqn == node.iqn and session.sid not in before:
            return session
    raise LabError(f"iscsiadm logged in to {node.iqn}, but no session of transport iser is there")


def logout(node: Node, timeout: float = 90) -> None:
    """Log out of a node."""
    iscsiadm(*of(node), "--logout", timeout=timeout)


def forget(node: Node) -> None:
    """Delete a node's record."""
    iscsiadm(*of(node), "-o", "delete", check=False)


def sessions(transport: str = "iser") -> list[Session]:
    """Sessions of a transport, read from sysfs rather than asked of iscsid."""
    found = []
    for path in Path("/sys/class/iscsi_session").glob("session*"):
        host = next((p for p in path.resolve().parts if re.fullmatch(r"host\d+", p)), None)
        proc_name = read(f"/sys/class/scsi_host/{host}/proc_name", "") if host else ""
        if transport == "iser" and proc_name != "iscsi_iser":
            continue
        found.append(Session(int(path.name.removeprefix("session")), read(path / "targetname", "")))
    return sorted(found, key=lambda s: s.sid)


def show(session: Session, level: int = 3) -> str:
    """`iscsiadm -m session -P 3` for one session."""
    return output("iscsiadm", "-m", "session", "-r", str(session.sid), "-P", str(level))
