# SPDX-License-Identifier: GPL-2.0
"""The module built with another constant, to show what a choice of the design is worth."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import chroot, config, verbs
from lab.core import Lab
from lab.report import LabError


@dataclass(frozen=True)
class Variant:
    """Another constant: the file and the place it is in, and what it is turned into."""

    path: str
    pattern: str
    replacement: str
    says: str

    @property
    def file(self) -> str:
        """What the module of this variant is called."""
        return f"{Path(self.path).stem}.ko"

    def changed(self, text: str) -> str:
        """The text with the one place changed."""
        found, count = re.subn(self.pattern, self.replacement, text)
        if count != 1:
            raise LabError(f"{self.pattern} is in {self.path} {count} times, not once; "
                           "tests/bench/variant.py has to follow")
        return found


VARIANTS = {
    "all sends signalled": Variant(
        "rust/rdma/send_queue.rs", r"(?m)^(const MAX_INTERVAL: u32 = )\d+;", r"\g<1>1;",
        "ours built with one signalled work request in one instead of one in 32"),
    "receives one by one": Variant(
        "rust/rdma/recv_account.rs", r"(?m)^(const BATCH: u32 = )\d+;", r"\g<1>1;",
        "ours built to post each receive buffer when it is free, not eight of them together"),
    # Not IB_POLL_WORKQUEUE, whose queues LIO would share, which is in the same machine.
    "polled by a worker": Variant(
        "rust/rdma/qp.rs", r"ib_poll_context_IB_POLL_SOFTIRQ",
        "ib_poll_context_IB_POLL_UNBOUND_WORKQUEUE",
        "ours built to have its receive completions polled by a worker and not in softirq"),
}


def build(lab: Lab, variant: Variant, where: Path) -> None:
    """Build the module from a copy of the source with one change, and leave it there."""
    source = where / "source"
    for name in ("Kbuild", "Makefile", "drivers", "rust", "scripts", ".clippy.toml"):
        origin = config.checkout() / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns(
                "*.o", "*.ko", "*.cmd", "*.rmeta", "__pycache__"))
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, source / name)
    target = source / variant.path
    target.write_text(variant.changed(target.read_text(encoding="utf-8")), encoding="utf-8")
    argv = chroot.command(lab.roots.toolchain(), lab.cache.root,
                          ["make", f"KDIR={verbs.kdir(lab)}"], source, [where])
    log = where / f"{variant.file}.log"
    with open(log, "wb") as out:
        done = subprocess.run(argv, env=chroot.environment(lab.cache.root, dict(os.environ)),
                              stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                              check=False, preexec_fn=chroot.die_with_parent)
    if done.returncode:
        raise LabError(f"the changed module does not build; {log} says why")
    shutil.move(source / "ib_iser_rs.ko", where / variant.file)
    shutil.rmtree(source)
