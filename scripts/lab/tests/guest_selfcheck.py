#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Try every part of the guest library once, with either driver.

    iser-lab run --env ISER_DRIVER=c scripts/lab/tests/guest_selfcheck.py

With a wrong library the tests of the driver would test nothing: this shows
that discovery, login, CHAP, IPv6, ACLs, several LUNs and both targets work
with the C driver, which is known to.
"""

import sys

from lab.guest import disk, initiator, kernlog, lio, net, tgt
from lab.guest.driver import Driver
from lab.report import LabError, Reporter

report = Reporter()
CHAP = lio.Chap("user", "secret-of-user", "target", "secret-of-target")


def use(portal: str, iqn: str, disks: int = 1, chap: lio.Chap | None = None,
        discovery: lio.Chap | None = None, attempts: int = 1) -> None:
    """Discover, log in, verify data on every disk, log out."""
    nodes = [n for n in initiator.discover(portal, discovery, attempts=attempts) if n.iqn == iqn]
    if not nodes:
        raise LabError(f"{iqn} was not discovered at {portal}")
    node = [n for n in nodes if n.portal == portal][0]
    session = initiator.login(node, chap=chap)
    for path in session.wait_disks(disks):
        disk.fio_verify(path, bs="16k", size="2m")
    initiator.logout(node)
    initiator.forget(node)


def main() -> int:
    """All checks; the exit status says whether one failed."""
    driver = Driver.from_env()
    mark = kernlog.mark("selfcheck")
    driver.install()
    driver.load()
    network = net.up()
    v4, v6 = f"{network.ipv4}:3260", f"[{network.ipv6}]:3260"
    portals = [(network.ipv4, 3260), (network.ipv6, 3260)]
    initiator.start()

    with report.step("LIO: two LUNs (ramdisk, file), IPv4"):
        target = lio.Target(portals, [lio.Ramdisk("ram", 32), lio.File("file", 32, "/run/file")])
        target.up()
        use(v4, target.iqn, disks=2)
    with report.step("LIO: IPv6"):
        use(v6, target.iqn)
    with report.step("LIO: down"):
        target.down()
    with report.step("LIO: CHAP and mutual CHAP, discovery too, ACL"):
        target = lio.Target(portals, [lio.Ramdisk("ram", 32)], chap=CHAP, discovery_chap=CHAP,
                            initiators=[initiator.NAME])
        target.up()
        use(v4, target.iqn, chap=CHAP, discovery=CHAP)
    with report.step("LIO: a wrong password is refused"):
        node = initiator.discover(v4, CHAP)[0]
        # The target rejects and hangs up. With the C driver iscsid sees the
        # one or the other first, and in the second case it tries again.
        impatient = {"node.session.initial_login_retry_max": 1,
                     "node.conn[0].timeo.login_timeout": 5}
        try:
            initiator.login(node, impatient, chap=lio.Chap("user", "not-the-password"))
        except LabError as exc:
            report.text(str(exc))
        else:
            raise LabError("login succeeded")
        initiator.forget(node)
        target.down()
    with report.step("LIO: CHAP without ACL"):
        target = lio.Target(portals, [lio.Ramdisk("ram", 32)], chap=CHAP)
        target.up()
        use(v4, target.iqn, chap=CHAP)
        target.down()
    with report.step("tgt"):
        other = tgt.Target(mib=[32], initiators=[initiator.NAME])
        other.up()
        use(v4, other.iqn, attempts=5)
    with report.step("tgt: down, CHAP"):
        other.down()
        other = tgt.Target(mib=[32], initiators=[initiator.NAME], chap=lio.Chap("user", "secret-of-user"))
        other.up()
        use(v4, other.iqn, chap=other.chap, attempts=5)
        other.down()
    with report.step("driver: unload; network: down"):
        driver.unload()
        initiator.stop()
        net.down(network)
    with report.step("kernel log"):
        kernlog.check(mark)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as problem:
        print(problem)
        sys.exit(1)
