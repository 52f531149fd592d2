# SPDX-License-Identifier: GPL-2.0
"""Become make in the kernel build directory for KDIR, made ready for our module.

    python3 -m build.kbuild build KDIR MAKE ARGUMENT…
    python3 -m build.kbuild install KDIR MAKE ARGUMENT…

`build` checks what is installed and has the metadata of the kernel's Rust crates
made where the kernel's packages lack it; `install` needs no compiler. The process
is replaced by make, which so inherits the locks on what it uses of the cache.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from build import kdir as kdirs
from build import metadata
from build.progress import BuildError
from lab.cache import Cache
from lab.config import cache_dir
from lab.report import LabError


def build_arguments(kdir: kdirs.Kdir) -> list[str]:
    """Return what make has to be told about this machine to build for `kdir`."""
    arguments = []
    if kdirs.wants_llvm(kdir):
        arguments.append("LLVM=1")
    if kdir.value("DEBUG_INFO_BTF_MODULES") == "y":
        pahole = shutil.which(tool) if (tool := kdirs.tool("pahole")) else None
        if not pahole:
            # Kbuild would complain that the version (none) is not the kernel's.
            arguments.append(f"PAHOLE_VERSION={kdir.value('PAHOLE_VERSION') or ''}")
        if not pahole or not (kdir.path / "vmlinux").is_file():
            # A module without BTF loads as well; only tracers miss its types.
            arguments.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
    return arguments


def install_arguments(kdir: kdirs.Kdir) -> list[str]:
    """Return what make has to be told to install a module for `kdir`."""
    # depmod is run by build.install: Kbuild's wants a System.map beside .config.
    arguments = ["cmd_depmod="]
    key = kdir.value("MODULE_SIG_KEY") or ""
    if not key.startswith("pkcs11:") and not any(
        path.is_file() for path in (Path(key), kdir.path / key)
    ):
        # A distribution keeps its key. Kbuild would try and complain.
        arguments.append("CONFIG_MODULE_SIG_ALL=")
    return arguments


def command(kdir: kdirs.Kdir, make: list[str], cache: Cache) -> list[str]:
    """Return the make command that builds, after what has to come before."""
    kdirs.check(kdir)
    directory = kdir.path
    if not kdir.has_metadata:
        kdirs.check_paths([cache.root])
        directory = metadata.build_directory(kdir, cache)
    cache.inherit()
    return [make[0], "-C", str(directory), *build_arguments(kdir), *make[1:]]


def main(argv: list[str]) -> int:
    """Run; a BuildError becomes one line and exit status 1."""
    if len(argv) < 3 or argv[0] not in ("build", "install"):
        print(__doc__, file=sys.stderr)
        return 2
    # A build that is ended cleans up after itself: let `finally` run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        kdir, make = kdirs.Kdir(argv[1]), argv[2:]
        if argv[0] == "install":
            full = [make[0], "-C", str(kdir.path), *install_arguments(kdir), *make[1:]]
        else:
            cache = Cache(cache_dir())  # holds its locks until exec passes them on
            full = command(kdir, make, cache)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.flush()
    os.execvp(full[0], full)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
