# SPDX-License-Identifier: GPL-2.0
"""How long the return after a lost link takes, in two machines.

Both drop what they receive for a while, as a cable that was pulled does: no
side is told. (Taking a netdev down instead makes rxe fail the queue pair of
connection requests for good, and no driver could connect again.)
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.guest import ways
from bench.guest.control import recovery
from bench.guest.rig import conditions, leave
from lab.guest import initiator, lio, net, peer
from lab.guest.system import modprobe, run

AWAY = 10.0              # seconds without a link,
LONGER = 0.7             # and so much longer from round to round: retries have a period
WARNING = 0.5            # seconds from the call to the loss, for the answer to get through
MIB = 16


def deaf(netdev: str, value: bool) -> None:
    """Drop all that comes in, or no longer."""
    if value:
        run("tc", "filter", "add", "dev", netdev, "ingress", "matchall", "action", "drop")
    else:
        run("tc", "filter", "del", "dev", netdev, "ingress")


def ready(netdev: str) -> None:
    """What it takes to drop packets."""
    modprobe("sch_ingress", "cls_matchall", "act_gact")
    run("tc", "qdisc", "add", "dev", netdev, "clsact")


def be_target(plan: Mapping[str, Any]) -> int:
    """Serve a disk, and be deaf when asked to."""
    network = net.up("target")
    target = lio.Target(portals=[(network.ipv4, 3260)], luns=[lio.Ramdisk("disk0", MIB)])
    target.up()
    target.add_portal(network.ipv4, ways.TCP_PORT, iser=False)
    if "nvme" in plan["drivers"]:
        ways.Nvmet(network.ipv4, MIB).up()
    ready(network.netdev)

    def lose(seconds: float) -> None:
        def work() -> None:
            time.sleep(WARNING)
            deaf(network.netdev, True)
            time.sleep(seconds)
            deaf(network.netdev, False)
        threading.Thread(target=work).start()
    peer.serve({"lose": lose})
    return 0


def measure(plan: Mapping[str, Any], network: net.Network) -> list[dict[str, Any]]:
    """Every driver, round by round."""
    rows: list[dict[str, Any]] = []
    address = network.target_ipv4
    for number in range(int(plan["rounds"])):
        for kind in plan["drivers"]:
            way = ways.of(kind, lio.IQN, address)
            way.load()
            path, = way.attach()
            away = AWAY + LONGER * number

            def lose() -> None:
                peer.call(address, "lose", away)
                time.sleep(WARNING)
                deaf(network.netdev, True)
            rows.append({"driver": kind, "round": number, "loss": "link",
                         **recovery(path, away, lose, lambda: deaf(network.netdev, False))})
            print(f"link {kind:<4} round {number + 1}: {rows[-1]['seconds']:.2f} s", flush=True)
            way.disks()
            way.detach()
            way.unload()
    return rows


def be_initiator(out: Path, plan: Mapping[str, Any]) -> int:
    """Measure, and leave the rows in the results directory."""
    network = net.up("initiator")
    initiator.start()
    peer.wait(network.target_ipv4)
    ready(network.netdev)
    rows = measure(plan, network)
    leave(out, {"conditions": conditions(), "rows": rows})
    peer.call(network.target_ipv4, "end")
    return 0


def main(role: str) -> int:
    """Be one of the two machines."""
    out = Path(os.environ["ISER_OUT"])
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    return be_target(plan) if role == "target" else be_initiator(out, plan)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
