# SPDX-License-Identifier: GPL-2.0
"""The steps of the demo: from loading the module to a clean kernel log.

In the lab's virtual machine the target is set up too. On a real machine the
same steps run against a target that is already there:

    scripts/iser-demo --portal 10.0.0.1 --iqn iqn.2026-01.example:disk
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from lab.guest import disk, initiator, kernlog, lio, net, tgt
from lab.guest.driver import Driver
from lab.guest.system import loaded, read
from lab.report import LabError, Reporter

MOUNT = "/run/iser/mnt"
LAST_MESSAGES = 40


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="iser-demo", description="Load the driver, log in over "
                                  "iSER, use the disk with checked data, log out, unload.")
    top.add_argument("--portal", help="address of a target that is there; without it, and in the "
                     "lab's machine only, one is set up", metavar="ADDRESS[:PORT]")
    top.add_argument("--iqn", help="which target of that portal (needed if it offers several)")
    top.add_argument("--driver", choices=("rust", "c"), default=os.environ.get("ISER_DRIVER", "rust"))
    top.add_argument("--module", help="module file; default: what modprobe finds")
    top.add_argument("--target", choices=("lio", "tgt"), default=os.environ.get("ISER_TARGET", "lio"))
    top.add_argument("--mib", type=int, default=48, help="MiB to write in each of the two passes")
    top.add_argument("--chap", metavar="USER:PASSWORD", help="CHAP for the login")
    top.add_argument("--overwrite", action="store_true", help="the disk may hold data; destroy it")
    top.add_argument("--only-up", action="store_true", help="module and target, then stop")
    return top


def setup_target(report: Reporter, kind: str) -> net.Network:
    """Network and target of the virtual machine."""
    with report.step(f"network: {net.chosen()} on {net.ALONE[net.chosen()]}"):
        network = net.up("both")
    if kind == "lio":
        with report.step(f"target: LIO, ramdisk, {network.ipv4} and {network.ipv6}"):
            lio.standard([(network.ipv4, 3260), (network.ipv6, 3260)]).up()
    else:
        with report.step(f"target: tgt, {network.ipv4}"):
            tgt.Target(initiators=[initiator.NAME]).up()
    return network


def choose_node(nodes: list[initiator.Node], portal: str, iqn: str | None) -> initiator.Node:
    """The node to use: at the portal asked for, and the target asked for."""
    fitting = [n for n in nodes if iqn in (None, n.iqn)]
    here = [n for n in fitting if n.portal == portal] or fitting
    names = sorted({n.iqn for n in here})
    if not names:
        offered = ", ".join(sorted({n.iqn for n in nodes})) or "nothing"
        raise LabError(f"{portal} does not offer {iqn or 'a target'}; it offers {offered}")
    if len(names) > 1:
        raise LabError(f"{portal} offers several targets; choose one by --iqn: {', '.join(names)}")
    return here[0]


def use_disk(report: Reporter, path: str, mib: int) -> None:
    """File system, checksums after a fresh mount, fio with verification."""
    with report.step(f"mkfs.ext4 {path}"):
        disk.mkfs(path)
    with report.step(f"write {mib} MiB of files"):
        disk.mount(path, MOUNT)
        try:
            sums = disk.write_files(MOUNT, mib << 20, seed=time.time_ns())
        finally:
            disk.unmount(MOUNT)
    with report.step(f"read {len(sums)} files back after a fresh mount, checksums"):
        disk.drop_caches()
        disk.mount(path, MOUNT)
        try:
            disk.check_files(MOUNT, sums)
        finally:
            disk.unmount(MOUNT)
    with report.step("fio: random 4 KiB writes, verify=crc32c"):
        small = disk.fio_verify(path, bs="4k", iodepth=16, size=f"{max(mib // 6, 1)}m")
    report.text(disk.described(small))
    with report.step("fio: 256 KiB writes, verify=crc32c"):
        large = disk.fio_verify(path, rw="write", bs="256k", iodepth=8, size=f"{mib}m")
    report.text(disk.described(large))


def steps(report: Reporter, args: argparse.Namespace) -> None:
    """All of the demo, in order; the first failure ends it."""
    driver = Driver.from_env() if not args.module else Driver(args.driver, args.module)
    in_guest = bool(os.environ.get("ISER_GUEST"))
    mark = kernlog.mark("demo")
    was_loaded = driver.is_loaded()
    with report.step(f"module: load {driver.module}"):
        if in_guest:
            driver.install()
        if not was_loaded:
            driver.load()
    portal = args.portal
    if not portal:
        portal = setup_target(report, args.target).target_ipv4
    with report.step("iscsid: running"):
        initiator.start()
    if args.only_up:
        return
    host = initiator.portal_text(portal)
    with report.step(f"discovery: {host} over iser"):
        attempts = 5 if args.target == "tgt" else 1
        nodes = initiator.discover(host, record=False, attempts=attempts)
        node = choose_node(nodes, host, args.iqn)
    report.text("\n".join(f"{n.portal},{n.tpgt} {n.iqn}" for n in nodes))
    new = not initiator.recorded(node)
    if new:
        initiator.new_node(node.iqn, node.portal)
    try:
        session_steps(report, args, node)
    finally:
        if new:
            initiator.forget(node)
    if not was_loaded:
        with report.step(f"module: unload {driver.module}"):
            driver.unload()
    with report.step("kernel log: no warning"):
        kernlog.check(mark)


def session_steps(report: Reporter, args: argparse.Namespace, node: initiator.Node) -> None:
    """From login to logout; the logout is done however the rest went."""
    chap = None
    if args.chap:
        user, _, password = args.chap.partition(":")
        chap = lio.Chap(user, password)
    with report.step(f"login: {node.iqn}"):
        session = initiator.login(node, chap=chap)
    try:
        with report.step("disk: attached"):
            path = session.wait_disks()[0]
        report.text(initiator.show(session))
        disk.refuse_if_used(path, args.overwrite)
        report.line(f"{path}: {disk.size(path) >> 20} MiB, on {session.host}, "
                    f"{read(f'/sys/class/scsi_host/{session.host}/proc_name')}")
        use_disk(report, path, args.mib)
    finally:
        with report.step("logout"):
            initiator.logout(node)


def main(argv: list[str]) -> int:
    """Run the demo; on failure show what the kernel said last."""
    args = parser().parse_args(argv)
    os.environ["ISER_DRIVER"] = args.driver
    elapsed = float(os.environ.get("ISER_ELAPSED", "0"))
    in_guest = bool(os.environ.get("ISER_GUEST"))
    report = Reporter(start=-elapsed if in_guest else None)
    if not args.portal and not in_guest:
        print("iser-demo: name a target by --portal ADDRESS (and --iqn), "
              "or run `make demo` for a virtual machine with one", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("iser-demo: loading a module and using a disk need root", file=sys.stderr)
        return 2
    if in_guest:
        report.line(f"guest: Linux {os.uname().release} is up, {time.monotonic():.1f} s after its start")
    try:
        steps(report, args)
    except KeyboardInterrupt:
        return 130
    except LabError as exc:
        if not report.failed:
            report.line(f"FAILED: {exc}")
        if not in_guest:
            report.line("last kernel messages:")
            report.text("\n".join(kernlog.lines()[-LAST_MESSAGES:]))
        return 1
    if not args.only_up:
        report.line(f"OK: {'ib_iser_rs' if loaded('ib_iser_rs') else args.driver + ' driver'}, "
                    "verified data over iSER")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
