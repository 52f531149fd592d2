# SPDX-License-Identifier: GPL-2.0
"""A wire between initiator and target of one machine, which can be cut.

rxe on one netdev hands packets for itself over without the network: there is
nothing to lose or to cut, and so does TCP for siw. So each end has a netdev and an RDMA device
of its own, with a switch (a bridge) between them:

    initiator: isw0, `ini0`, 192.168.80.2 -- bridge -- target: tsw0, `tgt0`, 192.168.80.1

Both addresses are the machine's own. A table of routes for each, looked at before the one of
local addresses, sends what is for it through the wire all the same; what arrives is local.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.guest import net
from lab.guest.system import modprobe, output, run
from lab.report import LabError

RULE_WIRE, RULE_LOCAL = "10", "20"
CONNECTS = "RTS"         # state of a queue pair 1 that works
LAST = "9999"            # metric of the route that is taken when no other is there


def lacking() -> str:
    """Why this kernel has no wires; empty if it has."""
    if run("modprobe", "-a", "veth", "bridge", "sch_netem", check=False).returncode:
        return "the kernel has no veth, bridge or netem"
    if run("ip", "rule", "show", check=False).returncode:
        return "the kernel has no routing rules"
    return ""


def drops(text: str) -> int:
    """Packets that netem has dropped, from what `tc -s -j qdisc show` prints of one device."""
    return sum(int(row["drops"]) for row in json.loads(text) if row["kind"] == "netem")


@dataclass(frozen=True)
class End:
    """One end of a wire."""

    netdev: str
    port: str            # of the switch
    device: str
    ipv4: str
    peer: str            # the other end's address
    table: str           # of the routes to the other end

    def set_rules(self) -> None:
        """Have what goes to the other end look into our table, where it finds at least a refusal."""
        run("ip", "rule", "add", "pref", RULE_WIRE, "iif", "lo", "to", self.peer, "lookup", self.table)
        run("ip", "route", "add", "unreachable", self.peer, "metric", LAST, "table", self.table)

    def drop_rules(self) -> None:
        """Forget them."""
        run("ip", "rule", "del", "pref", RULE_WIRE, "to", self.peer, check=False)
        run("ip", "route", "flush", "table", self.table, check=False)

    def _route(self) -> None:
        # Goes by itself with the link and with the address, and has to be set again.
        run("ip", "route", "replace", self.peer, "dev", self.netdev, "src", self.ipv4, "table", self.table)

    def add_address(self) -> None:
        """Give the netdev its address, and the route to the other end."""
        run("ip", "addr", "add", f"{self.ipv4}/24", "dev", self.netdev)
        self._route()

    def remove_address(self) -> None:
        """Take the address away."""
        run("ip", "addr", "del", f"{self.ipv4}/24", "dev", self.netdev)

    def set_link(self, up: bool) -> None:
        """Switch the netdev on or off, as `ip link` does."""
        run("ip", "link", "set", self.netdev, "up" if up else "down")
        if up:
            self._route()

    def set_cable(self, plugged: bool) -> None:
        """Switch the port at the other side of the cable: the netdev has a carrier, or has none."""
        run("ip", "link", "set", self.port, "up" if plugged else "down")

    def add_device(self) -> None:
        """Make the RDMA device."""
        net.add_device(self.device, self.netdev)
        self.wait_ready()

    def remove_device(self) -> None:
        """Remove the RDMA device, whoever uses it."""
        run("rdma", "link", "delete", self.device)

    def has_device(self) -> bool:
        """Whether the RDMA device is there."""
        return f"link {self.device}/" in output("rdma", "link", "show")

    def queue_pair_1(self) -> str:
        """The state of the queue pair by which an rxe device makes connections; siw needs none."""
        if net.chosen() == "siw":
            return CONNECTS
        for row in run("rdma", "resource", "show", "qp", "link", f"{self.device}/1", check=False).stdout.splitlines():
            if " type GSI " in row:
                return row.partition(" state ")[2].split()[0]
        return "gone"

    def wait_ready(self) -> None:
        """Wait until the device can be used with the address."""
        net.wait_ready(self.device, self.ipv4)


class Wire:
    """A wire with its two ends; several may be there at once."""

    def __init__(self, number: int = 0) -> None:
        ours, theirs = f"192.168.{80 + number}.2", f"192.168.{80 + number}.1"
        self.switch = f"sw{number}"
        self.initiator = End(f"isw{number}", f"isw{number}p", f"ini{number}", ours, theirs, f"{200 + 2 * number}")
        self.target = End(f"tsw{number}", f"tsw{number}p", f"tgt{number}", theirs, ours, f"{201 + 2 * number}")
        self.ends = (self.initiator, self.target)

    def up(self) -> None:
        """Lay it."""
        modprobe(net.MODULES[net.chosen()], "rdma_cm", "rdma_ucm", "ib_uverbs", "bridge", "veth")
        if run("ip", "rule", "del", "pref", "0", check=False).returncode == 0:
            run("ip", "rule", "add", "pref", RULE_LOCAL, "lookup", "local")
        run("ip", "link", "add", self.switch, "mtu", str(net.MTU), "type", "bridge")
        # It would answer for all addresses of the machine.
        run("ip", "link", "set", self.switch, "arp", "off", "up")
        for end in self.ends:
            run("ip", "link", "add", end.netdev, "mtu", str(net.MTU), "type", "veth", "peer", "name", end.port)
            run("ip", "link", "set", end.port, "mtu", str(net.MTU), "master", self.switch, "up")
            run("ip", "link", "set", end.netdev, "up")
            end.set_rules()
            end.add_address()
            end.add_device()

    def _impair(self, *how: str) -> None:
        """Have the switch treat all packets so, in both directions, or well again."""
        for end in self.ends:
            if how:
                run("tc", "qdisc", "replace", "dev", end.port, "root", "netem", *how)
            else:
                run("tc", "qdisc", "del", "dev", end.port, "root")

    def lose(self, percent: float) -> None:
        """Lose so many of all packets."""
        self._impair(*(("loss", f"{percent}%") if percent else ()))

    def delay(self, seconds: float) -> None:
        """Have each packet take so long."""
        self._impair(*(("delay", f"{seconds * 1000:.0f}ms") if seconds else ()))

    def dropped(self) -> int:
        """How many packets the switch has lost, in both directions, since it does."""
        return sum(drops(output("tc", "-s", "-j", "qdisc", "show", "dev", end.port, "root")) for end in self.ends)

    @contextmanager
    def losing(self, percent: float) -> Iterator[None]:
        """Lose so many of all packets meanwhile; if it was none at all, that is an error."""
        self.lose(percent)
        try:
            yield
            lost = self.dropped()
        finally:
            self.lose(0)
        print(f"# the wire has lost {lost} packets", flush=True)
        if not lost:
            raise LabError(f"the wire should lose {percent} % of the packets, and has lost none")

    def down(self) -> None:
        """Take away what is there of it; nobody may use its devices any more."""
        for end in self.ends:
            if end.has_device():
                end.remove_device()
            run("ip", "link", "del", end.netdev, check=False)
            end.drop_rules()
        run("ip", "link", "del", self.switch, check=False)
