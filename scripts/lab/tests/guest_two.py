#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Two machines: a target, and an initiator that logs in over the link.

    iser-lab run --two --env ISER_DRIVER=c scripts/lab/tests/guest_two.py
"""

import sys

from lab.guest import disk, initiator, kernlog, lio, net, peer
from lab.guest.driver import Driver
from lab.report import LabError, Reporter

report = Reporter()


def be_target() -> int:
    """Serve a disk, and take it away when asked."""
    network = net.up("target")
    target = lio.standard([(network.ipv4, 3260), (network.ipv6, 3260)], mib=64)
    target.up()
    report.line("serving")
    peer.serve({"down": target.down})
    return 0


def be_initiator() -> int:
    """Discover, log in, verify data, log out."""
    driver = Driver.from_env()
    mark = kernlog.mark("two")
    driver.install()
    driver.load()
    network = net.up("initiator")
    initiator.start()
    with report.step("the target is ready"):
        peer.wait(network.target_ipv4)
    for address in (network.target_ipv4, network.target_ipv6):
        with report.step(f"login and data over {address}"):
            portal = initiator.portal_text(address)
            node = [n for n in initiator.discover(portal) if n.portal == portal][0]
            session = initiator.login(node)
            disk.fio_verify(session.wait_disks()[0], bs="64k", size="8m")
            initiator.logout(node)
    peer.call(network.target_ipv4, "down")
    peer.call(network.target_ipv4, "end")
    driver.unload()
    with report.step("kernel log"):
        kernlog.check(mark)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(be_target() if sys.argv[1] == "target" else be_initiator())
    except LabError as problem:
        print(problem)
        sys.exit(1)
