#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Login and logout: what iscsiadm shows, IPv6, and logins that must fail."""

import sys
import time
from ipaddress import ip_address

from harness import program
from harness.case import BOTH, LIO, case, check, equal
from harness.env import Env
from lab.guest import disk, initiator, kernlog, lio
from lab.guest.system import output, read, run, write

SHOWN = ("Iface Transport: iser", "iSCSI Connection State: LOGGED IN",
         "iSCSI Session State: LOGGED_IN", "Internal iscsid Session State: NO CHANGE",
         "HeaderDigest: None", "DataDigest: None", "State: running")
QUICK_SECONDS = 45


@case(BOTH)
def plain(env: Env) -> None:
    """A login brings a disk that can be used, the logout takes it away."""
    with env.session() as session:
        path = session.disks()[0]
        disk.fio_verify(path, bs="4k", size="1m")
        name = path.removeprefix("/dev/")
        equal("driver of the host", read(f"/sys/class/scsi_host/{session.host}/proc_name"), "iscsi_iser")
    check(name not in {p.split("/")[-1] for p in output("lsblk", "-ndo", "NAME").split()},
          f"{name} is still there after the logout")


@case(BOTH)
def shown_by_iscsiadm(env: Env) -> None:
    """`iscsiadm -m session -P 3` tells transport, states, digests and disk."""
    iqn = env.target().iqn
    with env.session() as session:
        text = initiator.show(session)
        for words in (*SHOWN, f"Target: {iqn}", f"Current Portal: {env.portal()}",
                      f"Attached scsi disk {session.disks()[0].removeprefix('/dev/')}"):
            check(words in text, f"`iscsiadm -m session -P 3` does not say {words!r}:\n{text}")
        equal("transport in the list", initiator.iscsiadm("-m", "session").split(":")[0], "iser")


@case(BOTH)
def ipv6(env: Env) -> None:
    """Login and data over an IPv6 portal."""
    with env.session(v6=True) as session:
        equal("address of the connection", ip_address(read(session.connection / "address")),
              ip_address(env.network.target_ipv6))
        disk.fio_verify(session.disks()[0], bs="32k", size="2m")


@case(BOTH)
def statistics(env: Env) -> None:
    """Each command and each response is counted."""
    def counts() -> dict[str, int]:
        text = initiator.iscsiadm("-m", "session", "-r", str(session.sid), "-s")
        rows = [r.split(":") for r in text.splitlines() if r.startswith("\t")]
        return {r[0].strip(): int(r[1]) for r in rows}
    with env.session() as session:
        path = session.disks()[0]
        # Neighbours are not to become one command.
        write(f"/sys/block/{path.removeprefix('/dev/')}/queue/nomerges", 2)
        before = counts()
        disk.fio(path, rw="randread", bs="4k", size="1m", number_ios=100, iodepth=4)
        after = counts()
        for name in ("scsicmd_pdus", "scsirsp_pdus"):
            check(after[name] - before[name] >= 100, f"{name}: {before[name]}, then {after[name]}")
        equal("commands and responses", after["scsicmd_pdus"], after["scsirsp_pdus"])
        for name in ("digest_err", "timeout_err", "r2t_pdus", "datain_pdus"):
            equal(name, after[name], 0)


@case(BOTH, limit=90)
def unknown_target(env: Env) -> None:
    """A target name that does not exist fails the login within seconds."""
    env.target()
    began = time.monotonic()
    env.refused(env.node(iqn="iqn.2026-01.lab.iser:nobody"))
    check(time.monotonic() - began < QUICK_SECONDS, "the refusal took too long")


@case(limit=90)
def closed_port(env: Env) -> None:
    """Nobody listens: the login fails within seconds."""
    began = time.monotonic()
    env.refused(initiator.new_node("iqn.2026-01.lab.iser:lio", env.portal(port=3999)))
    check(time.monotonic() - began < QUICK_SECONDS, "the failure took too long")


@case(limit=90, differs={"c": "the C driver logs nothing by default"})
def failure_is_logged(env: Env) -> None:
    """The kernel log says that the connection failed, and to which portal."""
    mark = kernlog.mark("closed port")
    env.refused(initiator.new_node("iqn.2026-01.lab.iser:lio", env.portal(port=3999)))
    rows = [r for r in kernlog.since(mark) if env.network.target_ipv4 in r and "3999" in r]
    check(rows, "no line names the portal")


@case(limit=120)
def no_such_host(env: Env) -> None:
    """An address without a route or a host fails the login, and leaves nothing."""
    for address in ("192.168.77.99:3260", "[fd77::99]:3260", "203.0.113.1:3260"):
        node = initiator.new_node("iqn.2026-01.lab.iser:lio", address)
        env.refused(node)
        initiator.forget(node)


@case(LIO, limit=90)
def not_an_iser_portal(env: Env) -> None:
    """A portal that speaks plain iSCSI over TCP only is refused."""
    env.lio(iser=False)
    env.refused(env.node())


@case(LIO, limit=90)
def acl(env: Env) -> None:
    """With an ACL the named initiator gets in, and after its removal it does not."""
    env.lio(initiators=[initiator.NAME])
    with env.session():
        pass
    env.lio(initiators=["iqn.2026-01.lab.iser:somebody-else"])
    env.refused(env.node())


@case(LIO)
def no_lun(env: Env) -> None:
    """A target without LUNs is logged in to, and out of."""
    env.lio(luns=[])
    with env.session(disks=0) as session:
        equal("disks", session.disks(), [])


@case(BOTH)
def logout_with_open_disk(env: Env) -> None:
    """A disk that somebody holds open does not keep the session; using it is an error then."""
    with env.session() as session:
        path = session.disks()[0]
        holder = open(path, "rb", buffering=0)
    with holder:
        try:
            holder.seek(1 << 20)
            got = holder.read(4096)
        except OSError:
            got = b""
        equal("bytes read after the logout", len(got), 0)


@case(LIO)
def luns_of_a_target(env: Env) -> None:
    """Each LUN becomes a disk of its own."""
    env.lio(luns=[lio.Ramdisk(f"lun{n}", 8 + n) for n in range(4)])
    with env.session(disks=4) as session:
        sizes = [disk.size(p) >> 20 for p in session.disks()]
        equal("sizes in MiB", sizes, [8, 9, 10, 11])
        run("sg_luns", session.disks()[0])


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
