# SPDX-License-Identifier: GPL-2.0
"""A LIO disk that can be made to stop, to go on and to grow: iblock over a dm device.

A suspended dm device keeps what arrives; so commands time out at the initiator
while the target has them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.case import Skip
from lab.guest.system import modprobe, output, run
from lab.report import LabError

NAME = "iser-slow"
FILE = "/run/iser/slow"


@dataclass(frozen=True)
class Block:
    """A LUN on a block device, as `lab.guest.lio` takes them."""

    name: str
    path: str
    hba = "iblock_0"

    def control(self) -> str:
        """What configures the backstore."""
        return f"udev_path={self.path}"


class Slow:
    """The dm device."""

    path = f"/dev/mapper/{NAME}"

    def __init__(self, base: str) -> None:
        self.base = base

    def lun(self) -> Block:
        """The LUN on it."""
        return Block("slow", self.path)

    def suspend(self) -> None:
        """Keep every request from now on."""
        run("dmsetup", "suspend", "--noflush", "--nolockfs", NAME)

    def resume(self) -> None:
        """Let them go on."""
        run("dmsetup", "resume", NAME)

    def resize(self, mib: int) -> None:
        """Have another size, within that of the device below; requests under way are finished before."""
        run("dmsetup", "reload", NAME, "--table", table(self.base, mib))
        run("dmsetup", "resume", NAME)

    @contextmanager
    def stopped(self, seconds: float) -> Iterator[None]:
        """Keep requests for so long, while the block goes on; at its end they flow in any case."""
        self.suspend()
        timer = threading.Timer(seconds, self.resume)
        timer.start()
        try:
            yield
        finally:
            timer.join()


def below(mib: int) -> str:
    """A block device in memory: a ramdisk of the kernel, or a file in tmpfs where there is none."""
    if run("modprobe", "brd", "rd_nr=1", f"rd_size={mib * 1024}", check=False).returncode == 0:
        return "/dev/ram0"
    modprobe("loop")
    os.makedirs(os.path.dirname(FILE), exist_ok=True)
    with open(FILE, "wb") as handle:
        handle.truncate(mib << 20)
    return output("losetup", "--find", "--show", FILE).strip()


def table(base: str, mib: int) -> str:
    """What the dm device consists of."""
    return f"0 {mib * 2048} linear {base} 0"


@contextmanager
def device(mib: int = 32, used: int = 0) -> Iterator[Slow]:
    """Make the device on a disk in memory, or on so much of it; the target on it must be gone at the end."""
    try:
        modprobe("dm_mod", "target_core_iblock")
        path = below(mib)
    except LabError as exc:
        raise Skip(f"no disk that can be stopped: {exc}") from exc
    try:
        run("dmsetup", "create", NAME, "--table", table(path, used or mib))
        # Without udev nobody else makes the node.
        run("dmsetup", "mknodes", NAME)
        yield Slow(path)
    finally:
        run("dmsetup", "resume", NAME, check=False)
        run("dmsetup", "remove", "--retry", NAME, check=False)
        if path.startswith("/dev/loop"):
            run("losetup", "--detach", path, check=False)
            os.unlink(FILE)
        else:
            run("rmmod", "brd", check=False)
