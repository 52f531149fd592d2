#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What user space reads of host, session, connection and endpoint, as with the C driver."""

import sys
from ipaddress import ip_address
from pathlib import Path

from harness import program
from harness.case import BOTH, LIO, case, check, equal
from harness.env import Env
from lab.guest import initiator
from lab.guest.lio import Chap
from lab.guest.system import output, read

IGNORED = {"device", "power", "subsystem", "uevent", "recover"}
SESSION = {
    "abort_tmo", "creator", "data_pdu_in_order", "data_seq_in_order", "discovery_session",
    "fast_abort", "first_burst_len", "ifacename", "immediate_data", "initial_r2t",
    "initiatorname", "lu_reset_tmo", "max_burst_len", "max_outstanding_r2t", "password",
    "password_in", "recovery_tmo", "state", "target_id", "target_state", "targetname",
    "tgt_reset_tmo", "tpgt", "username", "username_in"}
CONNECTION = {
    "address", "data_digest", "exp_statsn", "header_digest", "max_recv_dlength",
    "max_xmit_dlength", "persistent_address", "persistent_port", "ping_tmo", "port", "recv_tmo",
    "state"}
HOST = {"hwaddress", "initiatorname", "netdev"}

SETTINGS = {
    "node.session.timeo.replacement_timeout": 77, "node.session.err_timeo.abort_timeout": 11,
    "node.session.err_timeo.lu_reset_timeout": 12, "node.session.err_timeo.tgt_reset_timeout": 13,
    "node.conn[0].timeo.noop_out_interval": 14, "node.conn[0].timeo.noop_out_timeout": 15,
    "node.session.iscsi.FastAbort": "No"}


def names(directory: Path) -> set[str]:
    """The attributes in a directory of sysfs."""
    return {p.name for p in directory.iterdir()} - IGNORED


@case(BOTH)
def attributes_are_there(env: Env) -> None:
    """Host, session and connection have exactly the attributes of the C driver."""
    with env.session() as session:
        for what, directory, expected in (
                ("session", session.directory, SESSION),
                ("connection", session.connection, CONNECTION),
                ("iSCSI host", Path(f"/sys/class/iscsi_host/{session.host}"), HOST)):
            got = names(directory)
            check(got == expected, f"{what}: missing {sorted(expected - got)}, "
                                   f"not expected {sorted(got - expected)}")
            for name in sorted(expected):
                read(directory / name)


@case(BOTH)
def values_are_those_negotiated(env: Env) -> None:
    """Names, addresses and negotiated values."""
    target = env.target()
    with env.session() as session:
        for name, value in {
                "targetname": target.iqn, "initiatorname": initiator.initiator_name(),
                "ifacename": "iser", "tpgt": "1", "discovery_session": "0",
                "target_state": "SCANNED", "state": "LOGGED_IN"}.items():
            equal(name, read(session.directory / name), value)
        for name, value in {
                "persistent_address": env.network.target_ipv4, "address": env.network.target_ipv4,
                "persistent_port": "3260", "port": "3260", "header_digest": "0",
                "data_digest": "0", "state": "up"}.items():
            equal(name, read(session.connection / name), value)
        # What the driver announces is its own matter; RFC 7143 allows 512 and more, and the
        # C driver has always announced 128, which is enough for sense data.
        check(int(read(session.connection / "max_recv_dlength")) >= 128, "max_recv_dlength is too small")
        check(int(read(session.connection / "max_xmit_dlength")) >= 512, "max_xmit_dlength is too small")


@case(LIO)
def endpoint_of_a_session(env: Env) -> None:
    """There is one endpoint while there is one session, and its handle is not 0."""
    endpoints = Path("/sys/class/iscsi_endpoint")
    with env.session(v6=True) as session:
        found = list(endpoints.iterdir())
        equal("endpoints", len(found), 1)
        check(int(read(found[0] / "handle")) > 0, "the handle is 0, which open-iscsi takes for an error")
        equal("address", ip_address(read(session.connection / "address")),
              ip_address(env.network.target_ipv6))
    env.expect_gone(lambda module: list(endpoints.iterdir()))


@case(LIO)
def settings_reach_the_kernel(env: Env) -> None:
    """Timeouts of open-iscsi's configuration arrive in the session."""
    with env.session(SETTINGS) as session:
        for name, value in {"recovery_tmo": "77", "abort_tmo": "11", "lu_reset_tmo": "12",
                            "tgt_reset_tmo": "13", "fast_abort": "0"}.items():
            equal(name, read(session.directory / name), value)
        for name, value in {"ping_tmo": "15", "recv_tmo": "14"}.items():
            equal(name, read(session.connection / name), value)


@case(LIO)
def names_of_chap_are_shown(env: Env) -> None:
    """The user names are shown, as iscsiadm -P 3 needs them."""
    chap = Chap("user", "secret-of-user", "target", "secret-of-target")
    env.lio(chap=chap)
    with env.session(chap=chap) as session:
        equal("username", read(session.directory / "username"), "user")
        equal("username_in", read(session.directory / "username_in"), "target")


@case(LIO)
def limits_of_the_host(env: Env) -> None:
    """cmds_max and queue_depth become limits of host and disk.

    Whether cmds_max counts libiscsi's 15 management tasks is the driver's choice.
    """
    with env.session({"node.session.cmds_max": 64, "node.session.queue_depth": 24}) as session:
        host = Path(f"/sys/class/scsi_host/{session.host}")
        check(64 - 15 <= int(read(host / "can_queue")) <= 64, f"can_queue is {read(host / 'can_queue')}")
        name = session.disks()[0].removeprefix("/dev/")
        equal("queue_depth", read(f"/sys/block/{name}/device/queue_depth"), "24")
        queue = Path(f"/sys/block/{name}/queue")
        equal("max_hw_sectors_kb", read(queue / "max_hw_sectors_kb"), "512")
        check(int(read(queue / "max_segments")) >= 128, "fewer than 128 segments per command")


@case(LIO)
def shown_by_lsscsi(env: Env) -> None:
    """lsscsi tells transport and target of the disk."""
    with env.session() as session:
        text = output("lsscsi", "--transport")
        row = [r for r in text.splitlines() if session.disks()[0] in r]
        check(row and "iqn.2026-01.lab.iser" in row[0], f"lsscsi --transport says {text!r}")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
