# SPDX-License-Identifier: GPL-2.0
"""A machine that is only a target: LIO or tgt on the disk that it was given, until it is ended.

    python3 -m lab.guest.server lio
"""

from __future__ import annotations

import sys
from pathlib import Path

from lab.guest import initiator, lio, net, peer, tgt
from lab.guest.system import read
from lab.qemu import DISK_SERIAL
from lab.report import LabError, Reporter


def disk() -> str:
    """The disk that this machine may write to."""
    for path in sorted(Path("/sys/block").glob("vd*")):
        if read(path / "serial", "") == DISK_SERIAL:
            return f"/dev/{path.name}"
    raise LabError("this machine was given no disk to serve")


def target(kind: str, network: net.Network, path: str) -> lio.Target | tgt.Target:
    """The target of that kind."""
    if kind == "lio":
        return lio.Target([(network.ipv4, 3260)], [lio.Device("disk0", path)])
    return tgt.Target(mib=(), initiators=(initiator.NAME,), devices=(path,))


def main(kind: str) -> int:
    """Serve; `lab.guest.peer` tells who asks that it does."""
    report = Reporter()
    with report.step("network"):
        network = net.up("target")
    served = target(kind, network, disk())
    with report.step(f"target: {kind}"):
        served.up()
    peer.serve({})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
