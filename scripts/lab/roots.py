# SPDX-License-Identifier: GPL-2.0
"""The two Debian roots: the toolchain that builds, and the guest that runs.

Both come from mmdebstrap and the host's own mirror. The toolchain root holds
the compiler the stock kernel was built with, the kernel's headers and source,
and QEMU, so that the host needs nothing but Python and mmdebstrap.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab import apt, chroot, config
from lab.cache import Cache, hash_files, key_of
from lab.report import LabError, Reporter

# Documentation and translations only cost time when an image is made of a root.
DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/info/*",
    "force-unsafe-io",
)


def need_mmdebstrap(report: Reporter) -> None:
    """Have mmdebstrap on the host; it is the one package the host must have."""
    if os.geteuid() != 0:
        raise LabError("building the lab's roots needs root; run it as root or by sudo")
    if shutil.which("mmdebstrap"):
        return
    with report.step("host: apt-get install mmdebstrap"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for argv in (["apt-get", "-q", "update"],
                     ["apt-get", "-qy", "--no-install-recommends", "install", "mmdebstrap"]):
            done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabError(f"{' '.join(argv)} failed; install mmdebstrap by hand\n"
                               f"{done.stderr}")


def mmdebstrap(target: Path, packages: list[str], url: str, log: Path) -> None:
    """Make a root with these packages at `target`."""
    argv = ["mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
            f"--architectures={config.ARCH}", "--skip=check/qemu",
            "--aptopt=APT::Sandbox::User \"root\"", "--aptopt=Acquire::Retries \"3\"",
            "--aptopt=Acquire::Languages \"none\"",
            *[f"--dpkgopt={o}" for o in DPKG_OPTIONS],
            f"--include={','.join(packages)}", config.SUITE, str(target), "-"]
    # mmdebstrap mounts into the root and starts many processes: in namespaces
    # of its own nothing of that can be left behind, not even by SIGKILL.
    alone = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
             "--kill-child", "--mount-proc", "--"]
    with open(log, "w", encoding="utf-8") as out:
        done = subprocess.run([*alone, *argv], preexec_fn=chroot.die_with_parent,
                              input=apt.sources(url), text=True, stdout=out,
                              stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        rows = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [r for r in rows if r.startswith("E:")] or rows[-1:]
        raise LabError(f"mmdebstrap failed: {' '.join(errors)} (all of it: {log})")
    target.chmod(0o755)
    (target / chroot.MARKER.lstrip("/")).write_text("a root of scripts/lab\n", encoding="utf-8")


class Roots:
    """The roots for one answer of apt."""

    def __init__(self, cache: Cache, versions: apt.Versions, report: Reporter) -> None:
        self.cache, self.versions, self.report = cache, versions, report

    def entry(self, kind: str, packages: list[str], key: str) -> Path:
        def build(target: Path) -> None:
            need_mmdebstrap(self.report)
            with self.report.step(f"{kind}: {len(packages)} packages of {config.SUITE}"):
                mmdebstrap(target, packages, self.versions.mirror,
                           self.cache.root / "logs" / f"mmdebstrap-{kind}.log")
        return self.cache.entry(kind, key, build)

    def toolchain(self) -> Path:
        """The root with compiler, kernel headers, kernel source and QEMU."""
        v = self.versions
        packages = [*config.TOOLCHAIN_PACKAGES, f"linux-headers-{v.release}={v.kernel}",
                    f"{v.source}={v.kernel}"]
        key = key_of("toolchain", v.key_for(config.TOOLCHAIN_PACKAGES), v.kernel, v.release,
                     packages, DPKG_OPTIONS, 1)
        return self.entry("toolchain", packages, key)

    def guest(self) -> Path:
        """The userland of the virtual machine, as a directory."""
        key = key_of("guest", self.versions.key_for(config.GUEST_PACKAGES),
                     config.GUEST_PACKAGES, DPKG_OPTIONS, 1)
        return self.entry("guest", list(config.GUEST_PACKAGES), key)

    def guest_image(self) -> Path:
        """The same userland as a read-only ext4 image, shared by all machines."""
        root = self.guest()
        key = key_of(root.name, "ext4", 1)

        def build(target: Path) -> None:
            with self.report.step("guest: ext4 image of the userland"):
                make_image(self, root, target)
        return self.cache.entry("guest-image", key, build)

    def run(self, argv: list[str], cwd: Path | None = None, **kwargs: object) -> str:
        """Run a command in the toolchain root and return its output."""
        full = chroot.command(self.toolchain(), self.cache.root, argv,
                              cwd or Path("/"), [config.checkout()])
        env = chroot.environment(self.cache.root, dict(os.environ))
        return apt.run(full, env=env, **kwargs)


def make_image(roots: Roots, source: Path, target: Path) -> None:
    """Write a directory as an ext4 image, sized to what it holds."""
    used = int(subprocess.run(["du", "-s", "--block-size=1M", "--apparent-size", str(source)],
                              capture_output=True, text=True, check=True).stdout.split()[0])
    size = used + used // 3 + 64
    roots.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", "iser",
               "-E", "root_owner=0:0,lazy_itable_init=0", "-N", str(200_000),
               "-d", str(source), str(target), f"{size}M"])


def script_hash(*names: str) -> str:
    """A hash over files of this package that an entry is made from."""
    return hash_files([Path(__file__).parent / n for n in names])
