# SPDX-License-Identifier: GPL-2.0
"""The module built with another constant, to show what a choice of the design is worth."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from lab import chroot, config, verbs
from lab.core import Lab
from lab.report import LabError

# Where a constant is, and what it is turned into.
SIGNALLED = ("rust/rdma/send_queue.rs", r"(?m)^(const MAX_INTERVAL: u32 = )\d+;", r"\g<1>1;")


def changed(text: str, pattern: str, replacement: str) -> str:
    """The text with the one place changed."""
    found, count = re.subn(pattern, replacement, text)
    if count != 1:
        raise LabError(f"{pattern} is in the source {count} times, not once; "
                       "tests/bench/variant.py has to follow")
    return found


def build(lab: Lab, change: tuple[str, str, str], where: Path) -> Path:
    """Build the module from a copy of the source with one change; return the file."""
    source = where / "source"
    for name in ("Kbuild", "Makefile", "drivers", "rust", "scripts", ".clippy.toml"):
        origin = config.checkout() / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns(
                "*.o", "*.ko", "*.cmd", "*.rmeta", "__pycache__"))
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, source / name)
    path, pattern, replacement = change
    target = source / path
    target.write_text(changed(target.read_text(encoding="utf-8"), pattern, replacement),
                      encoding="utf-8")
    argv = chroot.command(lab.roots.toolchain(), lab.cache.root,
                          ["make", f"KDIR={verbs.kdir(lab)}"], source, [where])
    log = where / "make.log"
    with open(log, "wb") as out:
        done = subprocess.run(argv, env=chroot.environment(lab.cache.root, dict(os.environ)),
                              stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                              check=False, preexec_fn=chroot.die_with_parent)
    if done.returncode:
        raise LabError(f"the changed module does not build; {log} says why")
    module = Path(shutil.move(source / "ib_iser_rs.ko", where / "ib_iser_rs.ko"))
    shutil.rmtree(source)
    return module
