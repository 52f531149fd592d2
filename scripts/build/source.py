# SPDX-License-Identifier: GPL-2.0
"""Find the source of exactly the kernel that a header package belongs to.

In order: what KSRC= names, the installed linux-source package if its version is
that of the headers, and that version of the package from apt, unpacked without
being installed.
"""

import os
import pathlib
import re
import shutil
import subprocess

from progress import BuildError, run

INSTALLED = pathlib.Path("/usr/src")


def series(version):
    """Return the part of a kernel version that names Debian's source package."""
    return ".".join(version.split(".")[:2])


def tree_version(makefile):
    """Return the version that a kernel's top Makefile states, such as 7.3.4."""
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$", makefile, re.MULTILINE))
    return ".".join(found.get(key, "?") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))


def _installed_version(package):
    if not shutil.which("dpkg-query"):
        return None
    result = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", package],
        capture_output=True, text=True, check=False,
    )
    status, _, version = result.stdout.partition("  ")
    return version.strip() if result.returncode == 0 and status.startswith("ii") else None


def _from_apt(package, version, directory, log, lock_fd):
    """Fetch the package into `directory` and return the tarball in it, or None."""
    if not shutil.which("apt-get"):
        return None
    try:
        run(
            f"SOURCE  fetching {package} {version}",
            # apt's own user cannot write here; it says so unless told to stay root.
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", f"{package}={version}"],
            log, lock_fd=lock_fd, cwd=directory,
        )
        deb = next(directory.glob("*.deb"))
        run(
            f"SOURCE  opening {deb.name}", ["dpkg-deb", "-x", str(deb), str(directory / "package")],
            log, lock_fd=lock_fd,
        )
    except (BuildError, StopIteration):
        return None
    return next((directory / "package/usr/src").glob("linux-source-*.tar.*"), None)


def find(kdir, directory, log, lock_fd):
    """Return (path, description) of a source tree or tarball for `kdir`."""
    given = os.environ.get("KSRC")
    if given:
        if not os.path.exists(given):
            raise BuildError(f"KSRC={given}: no such file or directory")
        return pathlib.Path(given).resolve(), f"KSRC={given}"
    version = kdir.package_version
    package = f"linux-source-{series(kdir.version)}"
    if version is None:
        raise BuildError(
            f"{kdir.path} has no rust/*.rmeta and does not say which package it came from; "
            f"give KSRC= the source of kernel {kdir.release}"
        )
    if _installed_version(package) == version:
        for tarball in sorted(INSTALLED.glob(f"{package}.tar.*")):
            return tarball, f"{package} {version}"
    tarball = _from_apt(package, version, directory, log, lock_fd)
    if tarball:
        return tarball, f"{package} {version}"
    have = _installed_version(package)
    raise BuildError(
        f"the source of kernel {kdir.release} is needed: apt install {package}={version}"
        + (f" (installed is {have})" if have else "")
        + "; if the mirror no longer has it, upgrade kernel, headers and source together,"
        " or give KSRC="
    )


def unpack(path, directory, log, lock_fd):
    """Return a writable tree of the source `path` below `directory`."""
    tree = directory / "linux"
    tree.mkdir()
    if path.is_dir():
        run("SOURCE  copying", ["cp", "-a", f"{path}/.", str(tree)], log, lock_fd=lock_fd)
    else:
        run(
            f"SOURCE  unpacking {path.name}",
            ["tar", "-x", "-f", str(path), "--strip-components=1", "-C", str(tree)],
            log, lock_fd=lock_fd,
        )
    return tree
