# SPDX-License-Identifier: GPL-2.0
"""An RDMA device where there is none: rxe or siw over a dummy or a virtio netdev.

A dummy netdev makes one machine both target and initiator. With two machines
the device sits on the virtio link between them. rxe (RoCE) takes its RDMA MTU from the
netdev: 4200 bytes carry 4096. siw is iWARP, over the kernel's own TCP; stock kernels
lack it. Who listens to all addresses, as tgt does, listens to siw's own netdev only, and a
machine's own packets come by `lo`; so that is siw's netdev in one machine. ISER_RDMA says which.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from lab.guest.system import modprobe, output, read, run, wait_for, write
from lab.report import LabError

MTU = 4200
ALONE = {"rxe": "iser0", "siw": "lo"}          # the netdev of a machine that is both ends
LO_ADDRESS = "02:00:00:00:77:01"
MODULES = {"rxe": "rdma_rxe", "siw": "siw"}
FIRST = -20              # nice
# siw connects in the handler that the end of a connection waits for. By default TCP tries for two
# minutes, and then the kernel reports iscsid as hung; so it is 7 s.
SYN_RETRIES = 2


@dataclass(frozen=True)
class Network:
    """Addresses of this machine and of the target it talks to."""

    device: str          # RDMA device
    netdev: str
    ipv4: str            # our own
    ipv6: str
    target_ipv4: str
    target_ipv6: str
    kind: str = "rxe"


def chosen() -> str:
    """The kind of RDMA device: ISER_RDMA, by default rxe."""
    kind = os.environ.get("ISER_RDMA") or "rxe"
    if kind not in MODULES:
        raise LabError(f"ISER_RDMA={kind}: a device is rxe or siw")
    return kind


def address(role: str) -> tuple[str, str]:
    """IPv4 and IPv6 address of a role."""
    number = 2 if role == "initiator" else 1
    return f"192.168.77.{number}", f"fd77::{number}"


def virtio_netdev() -> str:
    """The name of the virtio link between two machines."""
    for entry in sorted(Path("/sys/class/net").iterdir()):
        driver = entry / "device/driver"
        if driver.exists() and driver.resolve().name == "virtio_net":
            return entry.name
    raise LabError("this machine has no virtio network device; start it with --two")


def prefer_siw() -> None:
    """Have siw's threads, one for each processor, run before the programs that wait for what they send.

    They are as nice as any program, and with many of these all connections stop.
    """
    for path in Path("/proc").glob("[0-9]*/comm"):
        if read(path, "").startswith("siw_tx/"):
            os.setpriority(os.PRIO_PROCESS, int(path.parent.name), FIRST)


def add_device(device: str, netdev: str) -> None:
    """Make an RDMA device of the chosen kind."""
    run("rdma", "link", "add", device, "type", chosen(), "netdev", netdev)
    if chosen() == "siw":
        prefer_siw()


def wait_ready(device: str, *addresses: str) -> None:
    """Wait until the device can be used with these addresses."""
    wait_for(f"RDMA device {device} active",
             lambda: "state ACTIVE" in output("rdma", "link", "show", f"{device}/1"))
    if chosen() == "siw":
        return               # it knows its netdev's addresses
    for own in addresses:
        wait_for(f"the RoCE address of {own} on {device}", lambda a=own: has_gid(device, a), timeout=10)


def up(role: str = "both") -> Network:
    """Bring the network up for `both`, `target` or `initiator`."""
    kind = chosen()
    device = f"{kind}0"
    modprobe(MODULES[kind], "rdma_cm", "rdma_ucm", "ib_uverbs", "ib_umad")
    if kind == "siw":
        write("/proc/sys/net/ipv4/tcp_syn_retries", SYN_RETRIES)
    netdev = ALONE[kind] if role == "both" else virtio_netdev()
    if netdev == "iser0":
        modprobe("dummy")
        run("ip", "link", "add", netdev, "type", "dummy")
    ipv4, ipv6 = address(role)
    if netdev == "lo":
        # Its hardware address of zeros makes a GID of zeros, which counts as none.
        run("ip", "link", "set", "lo", "down", "address", LO_ADDRESS)
        run("ip", "link", "set", "lo", "up")
    else:
        run("ip", "link", "set", netdev, "mtu", str(MTU), "up")
    run("ip", "addr", "add", f"{ipv4}/24", "dev", netdev)
    run("ip", "-6", "addr", "add", f"{ipv6}/64", "dev", netdev, "nodad")
    add_device(device, netdev)
    wait_ready(device, ipv4, ipv6)
    target4, target6 = address("target")
    return Network(device, netdev, ipv4, ipv6, target4, target6, kind)


def gid_of(address_text: str) -> bytes:
    """An IP address as RoCE has it: 16 bytes, IPv4 mapped into IPv6."""
    parsed = ipaddress.ip_address(address_text)
    return parsed.packed if parsed.version == 6 else b"\0" * 10 + b"\xff" * 2 + parsed.packed


def has_gid(device: str, address_text: str) -> bool:
    """Whether the device's GID table holds the address."""
    wanted = gid_of(address_text)
    for entry in Path(f"/sys/class/infiniband/{device}/ports/1/gids").glob("*"):
        try:
            if ipaddress.ip_address(entry.read_text(encoding="ascii").strip()).packed == wanted:
                return True
        except (OSError, ValueError):
            continue
    return False


def down(network: Network) -> None:
    """Take it away again; an error means something still holds the device."""
    run("rdma", "link", "delete", network.device)
    if network.netdev == "iser0":
        run("ip", "link", "delete", network.netdev)
    elif network.netdev == "lo":
        run("ip", "addr", "del", f"{network.ipv4}/24", "dev", "lo")
        run("ip", "-6", "addr", "del", f"{network.ipv6}/64", "dev", "lo")


def wait_peer(address_text: str, timeout: float = 60) -> None:
    """Wait until the other machine answers."""
    wait_for(f"{address_text} answers",
             lambda: run("ping", "-c", "1", "-W", "1", address_text, check=False).returncode == 0,
             timeout=timeout, pause=0.2)
