# SPDX-License-Identifier: GPL-2.0
"""The stock kernel as the machine boots it: image, modules, initramfs.

Debian's image package is unpacked, not installed. Its modules become one
read-only ext4 image that holds usr/lib/modules/<release> and lies over the
guest root, so that the guest root does not depend on a kernel version. They
are stored uncompressed where the lab loads them: emulated xz is slow.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import apt, config
from lab.cache import key_of
from lab.report import LabError
from lab.roots import Roots, make_image, script_hash

# Parts of the module tree the guest may want. The rest of a stock kernel's
# 4000 modules are drivers of hardware that no virtual machine has.
KEEP_TREES = (
    "kernel/arch", "kernel/block", "kernel/crypto", "kernel/lib", "kernel/kernel",
    "kernel/mm", "kernel/fs", "kernel/net/9p", "kernel/net/ipv4", "kernel/net/ipv6",
    "kernel/net/core", "kernel/net/sched", "kernel/net/rds", "kernel/net/sunrpc",
    "kernel/net/8021q", "kernel/net/bridge", "kernel/net/llc", "kernel/net/802",
    "kernel/net/netfilter", "kernel/net/key", "kernel/net/vmw_vsock",
    "kernel/drivers/infiniband", "kernel/drivers/target", "kernel/drivers/scsi",
    "kernel/drivers/nvme", "kernel/drivers/md", "kernel/drivers/block",
    "kernel/drivers/virtio", "kernel/drivers/char", "kernel/drivers/net/virtio_net",
    "kernel/drivers/net/dummy", "kernel/drivers/net/veth", "kernel/drivers/net/ipvlan",
    "kernel/drivers/net/macvlan", "kernel/drivers/net/net_failover",
    "kernel/drivers/cdrom", "kernel/drivers/iommu", "kernel/drivers/nvdimm",
    "kernel/drivers/dax", "kernel/drivers/pci", "kernel/drivers/firmware",
    "kernel/drivers/misc", "kernel/drivers/uio", "kernel/drivers/vfio",
)


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to boot."""

    release: str
    image: Path
    modules: Path        # ext4 image with usr/lib/modules/<release>
    initramfs: Path


def parse_dep(text: str) -> dict[str, list[str]]:
    """Read modules.dep: path to the paths it needs, in order of loading."""
    table = {}
    for row in text.splitlines():
        name, _, needs = row.partition(":")
        table[name] = list(reversed(needs.split()))
    return table


def module_name(path: str) -> str:
    """`kernel/fs/9p/9p.ko.xz` is module `9p`."""
    return path.rsplit("/", 1)[-1].split(".ko", 1)[0].replace("-", "_")


def load_order(dep: dict[str, list[str]], builtin: set[str], wanted: tuple[str, ...]) -> list[str]:
    """Paths to load, dependencies first, for the wanted module names."""
    by_name = {module_name(p): p for p in dep}
    order: list[str] = []
    for name in wanted:
        if name in builtin:
            continue
        if name not in by_name:
            raise LabError(f"this kernel has no module {name}, which the virtual machine needs")
        path = by_name[name]
        for item in (*dep[path], path):
            if item not in order:
                order.append(item)
    return order


def unpack_module(path: Path) -> Path:
    """Decompress a module in place and return its new path."""
    if path.suffix == ".xz":
        subprocess.run(["xz", "-d", "-f", str(path)], check=True)
    elif path.suffix == ".zst":
        subprocess.run(["zstd", "-q", "-d", "--rm", str(path)], check=True)
    elif path.suffix == ".gz":
        plain = path.with_suffix("")
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    else:
        return path
    return path.with_suffix("")


def trim_modules(tree: Path) -> None:
    """Keep what a virtual machine can use, uncompressed."""
    compressed: dict[str, list[Path]] = {}
    for path in sorted(tree.glob("kernel/**/*.ko*")):
        name = str(path.relative_to(tree))
        stem = name.split(".ko", 1)[0]
        if not any(name.startswith(k + "/") or stem == k for k in KEEP_TREES):
            path.unlink()
        else:
            compressed.setdefault(path.suffix, []).append(path)
    if ".xz" in compressed:
        subprocess.run(["xz", "-d", "-f", "-T2", *map(str, compressed.pop(".xz"))], check=True)
    for paths in compressed.values():
        for path in paths:
            unpack_module(path)


def stock(roots: Roots) -> Kernel:
    """The newest stock kernel, ready to boot."""
    v = roots.versions
    key = key_of("kernel", v.release, v.kernel, config.BOOT_MODULES, KEEP_TREES,
                 script_hash("kernel.py", "initramfs.sh"))

    def build(target: Path) -> None:
        with roots.report.step(f"kernel {v.release}: image, modules, initramfs"):
            _build(roots, target)
    entry = roots.cache.entry("kernel", key, build)
    return Kernel(v.release, entry / "vmlinuz", entry / "modules.img", entry / "initramfs.gz")


def _build(roots: Roots, target: Path) -> None:
    v = roots.versions
    unpacked = target / "unpacked"
    unpacked.mkdir(parents=True)
    for deb in apt.download_image(roots.cache, v, target):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True)
        deb.unlink()
    for name in ("vmlinuz", "config", "System.map"):
        shutil.copy(find_part(unpacked, name, v.release), target / name)

    staged = target / "staged"
    tree = staged / "usr/lib/modules" / v.release
    tree.parent.mkdir(parents=True)
    found = next(iter(unpacked.glob(f"**/lib/modules/{v.release}")))
    found.rename(tree)
    trim_modules(tree)
    roots.run(["depmod", "-b", str(staged / "usr"), v.release])
    make_initramfs(roots, tree, target)
    make_image(roots, staged, target / "modules.img")
    shutil.rmtree(unpacked)
    shutil.rmtree(staged)


def find_part(unpacked: Path, name: str, release: str) -> Path:
    """A part of the kernel, in /boot or, as newer packages have it, by its modules."""
    for path in (unpacked / "boot" / f"{name}-{release}",
                 *unpacked.glob(f"**/lib/modules/{release}/{name}")):
        if path.is_file():
            return path
    raise LabError(f"the packages of kernel {release} hold no {name}")


def make_initramfs(roots: Roots, tree: Path, target: Path) -> None:
    """Pack busybox, the modules to find the guest root, and the first script."""
    dep = parse_dep((tree / "modules.dep").read_text(encoding="utf-8"))
    builtin = {module_name(p) for p in
               (tree / "modules.builtin").read_text(encoding="utf-8").split()}
    order = load_order(dep, builtin, config.BOOT_MODULES)
    stage = target / "initramfs"
    for name in ("bin", "modules", "proc", "sys", "dev", "lower", "modimg", "rw", "newroot"):
        (stage / name).mkdir(parents=True)
    shutil.copy(roots.toolchain() / "usr/bin/busybox", stage / "bin/busybox")
    names = []
    for path in order:
        shutil.copy(tree / path, stage / "modules" / Path(path).name)
        names.append(Path(path).name)
    (stage / "modules/order").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
    script = Path(__file__).parent / "initramfs.sh"
    shutil.copy(script, stage / "init")
    (stage / "init").chmod(0o755)
    roots.run(["sh", "-c", f"cd {stage} && find . | cpio -o -H newc --quiet -R 0:0 "
                           f"| gzip -1 > {target / 'initramfs.gz'}"])
    shutil.rmtree(stage)
