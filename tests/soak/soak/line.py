# SPDX-License-Identifier: GPL-2.0
"""Faults of the network between initiator and target.

Without a link or an address rxe's queue pair 1 may die for good when a connection is given up
meanwhile (Documentation/testing.md): such faults are over before a ping times out, and after that
the rig looks whether it lives.
"""

from __future__ import annotations

import time

from soak.rig import Rig
from soak.table import fault


@fault(seconds=(0.3, 1.5))
def silence(rig: Rig, seconds: float) -> None:
    """No packet passes, for less than a ping waits."""
    lossy(rig, 100, seconds)


@fault(seconds=(8, 20.0))
def long_silence(rig: Rig, seconds: float) -> None:
    """No packet passes until pings have timed out."""
    lossy(rig, 100, seconds)


@fault(seconds=(3.0, 12.0))
def loss_of_1_percent(rig: Rig, seconds: float) -> None:
    """One packet in a hundred is lost in each direction."""
    lossy(rig, 1, seconds)


@fault(seconds=(3.0, 12.0))
def loss_of_10_percent(rig: Rig, seconds: float) -> None:
    """One packet in ten is lost in each direction."""
    lossy(rig, 10, seconds)


def lossy(rig: Rig, percent: float, seconds: float) -> None:
    """Lose packets for so long; where it was none, nothing has been injected."""
    rig.wire.lose(percent)
    try:
        time.sleep(seconds)
        lost = rig.wire.dropped()
    finally:
        rig.wire.lose(0)
    if not lost:
        rig.missed("no packet was lost")


@fault(seconds=(0.2, 2.5))
def link_switched_off(rig: Rig, seconds: float) -> None:
    """The initiator's link goes down and up."""
    end = rig.wire.initiator
    end.set_link(False)
    time.sleep(seconds)
    end.set_link(True)
    end.wait_ready()


@fault(seconds=(0.2, 2.5))
def cable_unplugged(rig: Rig, seconds: float) -> None:
    """The initiator's netdev has no carrier."""
    end = rig.wire.initiator
    end.set_cable(False)
    time.sleep(seconds)
    end.set_cable(True)
    end.wait_ready()


@fault(seconds=(0.2, 6.0))
def device_removed(rig: Rig, seconds: float) -> None:
    """The initiator's RDMA device goes, and another comes."""
    end = rig.wire.initiator
    end.remove_device()
    time.sleep(seconds)
    end.add_device()


@fault(seconds=(0.2, 2.5))
def address_removed(rig: Rig, seconds: float) -> None:
    """The initiator's address goes and is put back."""
    end = rig.wire.initiator
    end.remove_address()
    time.sleep(seconds)
    end.add_address()
    end.wait_ready()
