# SPDX-License-Identifier: GPL-2.0
"""The initiator driver: ours, or the C driver, behind one interface.

open-iscsi loads a module by the literal name `ib_iser`. For our driver an
`install ib_iser` line of modprobe.d leads that name to it, as a `make
install DEFAULT=1` would.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from lab.guest.system import loaded, output, read, run, wait_for
from lab.report import LabError

CONF = Path("/etc/modprobe.d/iser-lab.conf")


class Driver:
    """One of the two drivers of transport `iser`."""

    def __init__(self, kind: str, path: Path | None = None) -> None:
        if kind not in ("rust", "c"):
            raise LabError(f"no driver is called {kind}; use rust or c")
        self.kind = kind
        self.module = "ib_iser_rs" if kind == "rust" else "ib_iser"
        self.path = path

    @classmethod
    def from_env(cls) -> Driver:
        """The driver that $ISER_DRIVER and $ISER_MODULE name."""
        kind = os.environ.get("ISER_DRIVER", "rust")
        named = os.environ.get("ISER_MODULE")
        if kind == "rust" and not named and os.environ.get("ISER_SRC"):
            named = os.path.join(os.environ["ISER_SRC"], "ib_iser_rs.ko")
        return cls(kind, Path(named) if kind == "rust" and named else None)

    def install(self) -> None:
        """Let modprobe find the module file, and `ib_iser` lead to it."""
        if self.kind != "rust":
            CONF.unlink(missing_ok=True)
            return
        rows = ["# written by scripts/lab",
                "install ib_iser /sbin/modprobe ib_iser_rs $CMDLINE_OPTS"]
        if self.path is not None:
            if not self.path.is_file():
                raise LabError(f"{self.path} does not exist; build it with make")
            # depmod over a whole kernel takes long when emulated; the module's
            # own list of what it depends on is all that modprobe would use.
            needs = output("modinfo", "-F", "depends", str(self.path)).strip().split(",")
            first = f"/sbin/modprobe -a {' '.join(filter(None, needs))} && " if any(needs) else ""
            rows.append(f"install ib_iser_rs {first}/sbin/insmod {self.path} $CMDLINE_OPTS")
        CONF.parent.mkdir(exist_ok=True)
        CONF.write_text("\n".join(rows) + "\n", encoding="utf-8")

    def load(self, parameters: Mapping[str, object] | None = None) -> None:
        """Load the module with these parameters."""
        other = "ib_iser" if self.kind == "rust" else "ib_iser_rs"
        if loaded(other):
            raise LabError(f"{other} is loaded and owns transport iser; unload it first: rmmod {other}")
        words = [f"{k}={v}" for k, v in (parameters or {}).items()]
        run("modprobe", self.module, *words)
        if not loaded(self.module):
            raise LabError(f"modprobe succeeded, but {self.module} is not in /sys/module")
        wait_for("transport iser", lambda: Path("/sys/class/iscsi_transport/iser").exists(), 5)

    def unload(self) -> None:
        """Remove the module; it must have no user left."""
        run("rmmod", self.module)
        if loaded(self.module):
            raise LabError(f"rmmod succeeded, but {self.module} is still in /sys/module")

    def try_unload(self) -> int:
        """Have the kernel remove the module, as modprobe has where nobody seems to use it; returns its error, or 0.

        Nothing else is looked at, so it takes no time.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        return ctypes.get_errno() if libc.delete_module(self.module.encode(), os.O_NONBLOCK) else 0

    def is_loaded(self) -> bool:
        """Whether the module is in the kernel."""
        return loaded(self.module)

    def users(self) -> int:
        """The module's reference count."""
        return int(read(f"/sys/module/{self.module}/refcnt", "0"))

    def parameter(self, name: str) -> str:
        """The value of a module parameter."""
        return read(f"/sys/module/{self.module}/parameters/{name}")

    def version(self) -> str:
        """One line for a person: which module this is."""
        what = str(self.path) if self.path else self.module
        text = output("modinfo", "-F", "description", what).strip()
        return f"{self.module} ({text})" if text else self.module
