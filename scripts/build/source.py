# SPDX-License-Identifier: GPL-2.0
"""Find the source of exactly the kernel that a header package belongs to.

In order: what KSRC= names, the installed linux-source package if its version is
that of the headers, and that version of the package from apt, unpacked without
being installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from build.kdir import Kdir
from build.progress import BuildError, run

INSTALLED = Path("/usr/src")
# apt's own user cannot write into the cache; apt complains unless told to stay root.
APT_GET = ("apt-get", "-q", "-o", "APT::Sandbox::User=root")


def series(version: str) -> str:
    """Return the part of a kernel version that names Debian's source package."""
    return ".".join(version.split(".")[:2])


def tree_version(makefile: str) -> str:
    """Return the version that a kernel's top Makefile states, such as 7.3.4."""
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$", makefile, re.MULTILINE))
    return ".".join(found.get(key, "?") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))


def _installed_version(package: str) -> str | None:
    """Return the version of an installed Debian package, or None."""
    if not shutil.which("dpkg-query"):
        return None
    result = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", package],
        capture_output=True, text=True, check=False,
    )
    status, _, version = result.stdout.partition("  ")
    return version.strip() if result.returncode == 0 and status.startswith("ii") else None


def _download(package: str, version: str, directory: Path, log: Path,
              locks: Sequence[int]) -> Path | None:
    """Fetch a package of exactly `version` from apt; return the .deb, or None."""
    def attempt() -> Path | None:
        try:
            run(f"SOURCE   fetching {package} {version}",
                [*APT_GET, "download", f"{package}={version}"], log, locks, cwd=directory)
        except BuildError:
            return None
        return next(directory.glob("*.deb"), None)

    found = attempt()
    if found is None and os.geteuid() == 0:
        # The lists may be older than the kernel, or empty.
        try:
            run("SOURCE   apt-get update", [*APT_GET, "update"], log, locks)
        except BuildError:
            return None
        found = attempt()
    return found


def _from_apt(package: str, version: str, directory: Path, log: Path,
              locks: Sequence[int]) -> Path | None:
    """Return the tarball of the package `package` from apt, or None."""
    if not shutil.which("apt-get"):
        return None
    deb = _download(package, version, directory, log, locks)
    if deb is None:
        return None
    content = directory / "package"
    run(f"SOURCE   opening {deb.name}", ["dpkg-deb", "-x", deb, content], log, locks)
    return next((content / "usr/src").glob("linux-source-*.tar.*"), None)


def find(kdir: Kdir, directory: Path, log: Path, locks: Sequence[int]) -> tuple[Path, str]:
    """Return a source tree or tarball for `kdir`, and what it is.

    What has to be fetched goes to `directory`; `locks` are for child processes.
    """
    given = os.environ.get("KSRC")
    if given:
        if not os.path.exists(given):
            raise BuildError(f"KSRC={given}: no such file or directory")
        return Path(given).resolve(), f"KSRC={given}"
    version = kdir.package_version
    package = f"linux-source-{series(kdir.version)}"
    if version is None:
        raise BuildError(
            f"{kdir.path} has no rust/*.rmeta and does not say which package it came from; "
            f"give KSRC= the source of kernel {kdir.release}"
        )
    have = _installed_version(package)
    if have == version:
        for tarball in sorted(INSTALLED.glob(f"{package}.tar.*")):
            return tarball, f"{package} {version}"
    tarball = _from_apt(package, version, directory, log, locks)
    if tarball:
        return tarball, f"{package} {version}"
    raise BuildError(
        f"the source of kernel {kdir.release} is needed: apt install {package}={version}"
        + (f" (installed is {have})" if have else "")
        + "; if apt no longer has that version, upgrade kernel, headers and source together,"
        f" or give KSRC= a tree or tarball (log: {log})"
    )


def unpack(path: Path, directory: Path, log: Path, locks: Sequence[int]) -> Path:
    """Return a writable tree of the source `path` below `directory`."""
    tree = directory / "linux"
    tree.mkdir()
    if path.is_dir():
        # A tree that was built in is not clean, and what it made is not ours.
        run(f"SOURCE   copying {path}", ["cp", "-a", "--reflink=auto", f"{path}/.", tree], log, locks)
        run("SOURCE   cleaning the copy", ["make", "-C", tree, "mrproper"], log, locks)
    else:
        run(f"SOURCE   unpacking {path.name}",
            ["tar", "-x", "-f", path, "--strip-components=1", "-C", tree], log, locks)
    return tree
