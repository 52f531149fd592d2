# SPDX-License-Identifier: GPL-2.0
"""Every choice of the lab in one place: suites, package lists, time limits.

A cache entry is keyed by the lists below, so that editing one of them is all
that is needed to have the entry rebuilt.
"""

from __future__ import annotations

import os
from pathlib import Path

SUITE = "trixie"
BACKPORTS = f"{SUITE}-backports"
ARCH = "amd64"

# Seconds for which apt's answer about versions is believed without asking again.
VERSIONS_TTL = 3600

# Old entries of each kind that survive, the newest included.
KEEP_ENTRIES = 2
KEEP_LOGS = 40

TOOLCHAIN_PACKAGES = (
    "bc", "bindgen", "bison", "busybox-static", "ca-certificates", "cargo",
    "clang", "cmake", "cpio", "dwarves", "e2fsprogs", "flex", "gcc", "gcc-14", "git",
    "kmod", "libclang-dev", "libelf-dev", "libssl-dev", "llvm", "make", "mount",
    "perl", "python3", "qemu-system-x86", "rsync", "rust-clippy", "rust-src", "rustc",
    "rustfmt", "seabios", "shellcheck", "xz-utils", "zstd",
)

GUEST_PACKAGES = (
    "attr", "e2fsprogs", "ethtool", "fio", "ibverbs-providers", "ibverbs-utils",
    "iproute2", "iputils-ping", "kmod", "lsscsi", "multipath-tools",
    "nvme-cli", "open-iscsi", "perftest", "procps", "psmisc", "python3",
    "rdma-core", "rdmacm-utils", "sg3-utils", "strace", "targetcli-fb", "tgt",
    "udev", "util-linux", "xfsprogs",
)

# What the initramfs loads before it can mount the guest root.
BOOT_MODULES = (
    "virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng",
    "ext4", "overlay", "9p", "9pnet_virtio",
)

GUEST_MEMORY_MIB = 2560
GUEST_CPUS = 2
ACCEL_PROBE_SECONDS = 30
RUN_SECONDS = 300
DEMO_SECONDS = 600


def checkout() -> Path:
    """The top of the source tree this file lies in."""
    return Path(__file__).resolve().parent.parent.parent


def cache_dir() -> Path:
    """Where everything the lab builds is kept."""
    explicit = os.environ.get("ISER_CACHE")
    if explicit:
        return Path(explicit).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(Path.home(), ".cache")
    return Path(base).absolute() / "ib_iser_rs"
