# SPDX-License-Identifier: GPL-2.0
"""An instrumented kernel from the source package of the stock one.

Its configuration is tests/debug/kernel.config over allnoconfig, its compiler
clang, since KASAN and Rust go together with no other. It is built once; the
entry of the cache is a kernel directory for --kernel, with the build tree that
modules are built against as `tree` beside the three files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from build.files import project_files, walk
from lab import chroot, config
from lab.cache import hash_files, key_of
from lab.kernel import Kernel, make_initramfs
from lab.report import LabError
from lab.roots import DPKG_OPTIONS, Roots, make_image, script_hash

# lld has the version of clang, and both are of the series that rustc uses.
PACKAGES = (
    "bc", "bindgen", "bison", "busybox-static", "ca-certificates", "clang", "cpio",
    "e2fsprogs", "flex", "kmod", "libc6-dev", "libclang-dev", "libelf-dev", "libssl-dev",
    "lld", "llvm", "make", "perl", "python3", "rsync", "rust-src", "rustc", "rustfmt",
    "xz-utils", "zstd",
)
FRAGMENT = Path("tests/debug/kernel.config")
# KASAN's shadow and what lockdep and kmemleak remember come out of this.
MEMORY_MIB = 4096
# So many times longer may anything take there.
SLOWNESS = 6
# Report every bad access, not only the first. And no page tables of five levels: while
# identify_cpu() reads the processor's features anew, KASAN takes their addresses for wild ones if
# an interrupt comes, and its reports never end (seen once in some fifty boots).
APPEND = ("kasan_multi_shot", "no5lvl")
MAKE_LINES = 30
# The parts of the checkout that make reads.
SOURCES = ("Kbuild", "Makefile", "rust/", "drivers/", "scripts/build/", "scripts/lab/")
SETTING = re.compile(r"(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)")
# What the build leaves that no module needs. The programs of scripts/ and tools/ stay.
DROPPED = ("*.o", "*.a", "*.c", "*.S", "*.ko", "*.mod", "*.dts", "*.dtsi", "*.rst", ".*.cmd")


def settings(text: str) -> dict[str, str]:
    """Read a .config or a part of one; what is off has the value n."""
    found = {}
    for row in text.splitlines():
        match = SETTING.fullmatch(row.strip())
        if match:
            found[match[1]] = match[2] or "n"
    return found


def refused(wanted: str, made: str) -> list[str]:
    """Settings that were asked for and that Kconfig did not take."""
    have = settings(made)
    return [f"{name}={value} (is {have.get(name, 'n')})"
            for name, value in settings(wanted).items() if have.get(name, "n") != value]


def toolchain(roots: Roots) -> Path:
    """The root with clang, lld, the distribution's rustc and the kernel's source."""
    v = roots.versions
    packages = [*PACKAGES, f"{v.source}={v.kernel}"]
    key = key_of("debug-toolchain", v.key_for(PACKAGES), v.kernel, packages, DPKG_OPTIONS, 1)
    return roots.entry("debug-toolchain", packages, key)


def run_in(roots: Roots, argv: list[str], cwd: Path, log: Path, binds: list[Path]) -> None:
    """Run a command in that root; a failure shows the end of its log."""
    full = chroot.command(toolchain(roots), roots.cache.root, argv, cwd, binds)
    env = chroot.environment(roots.cache.root, dict(os.environ))
    for name in ("KDIR", "CLIPPY"):
        env.pop(name, None)
    with open(log, "ab") as out:
        done = subprocess.run(full, env=env, stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.STDOUT, check=False,
                              preexec_fn=chroot.die_with_parent)
    if done.returncode != 0:
        rows = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise LabError("\n".join([f"{' '.join(argv[:4])} failed:", *rows[-MAKE_LINES:],
                                  f"all of it: {log}"]))


def kernel(roots: Roots) -> Kernel:
    """The instrumented kernel, ready to boot."""
    v = roots.versions
    fragment = config.checkout() / FRAGMENT
    key = key_of("debug-kernel", v.kernel, toolchain(roots).name, hash_files([fragment]),
                 config.BOOT_MODULES, DROPPED, script_hash("initramfs.sh"), 1)

    def build(target: Path) -> None:
        with roots.report.step(f"instrumented kernel {v.kernel}: make (once, 15 minutes)"):
            _build(roots, fragment, target)
    entry = roots.cache.entry("debug-kernel", key, build)
    release = (entry / "tree/include/config/kernel.release").read_text(encoding="ascii").strip()
    return Kernel(release, entry / "vmlinuz", entry / "modules.img", entry / "initramfs.gz")


def tree(roots: Roots) -> Path:
    """The build tree of that kernel, for KDIR=."""
    return kernel(roots).image.parent / "tree"


def _build(roots: Roots, fragment: Path, target: Path) -> None:
    target.mkdir(parents=True)
    log = roots.cache.root / "logs" / "debug-kernel.log"
    log.unlink(missing_ok=True)
    source = target / "tree"
    source.mkdir()
    top = [config.checkout()]
    archive = f"/usr/src/{roots.versions.source}.tar.xz"
    run_in(roots, ["tar", "-xJf", archive, "--strip-components=1"], source, log, top)
    run_in(roots, ["make", "LLVM=1", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"],
           source, log, top)
    missing = refused(fragment.read_text(encoding="utf-8"),
                      (source / ".config").read_text(encoding="utf-8"))
    if missing:
        raise LabError(f"Kconfig did not take from {FRAGMENT}: {', '.join(missing)}")
    jobs = f"-j{os.cpu_count() or 1}"
    run_in(roots, ["nice", "-n", "5", "make", "LLVM=1", jobs, "bzImage", "modules"],
           source, log, top)
    pack(roots, source, target, log)


def pack(roots: Roots, source: Path, target: Path, log: Path) -> None:
    """Make the three files of a kernel directory from a tree that is built."""
    top = [config.checkout()]
    release = (source / "include/config/kernel.release").read_text(encoding="ascii").strip()
    staged = target / "staged"
    run_in(roots, ["make", "LLVM=1", f"INSTALL_MOD_PATH={staged}/usr", "modules_install"],
           source, log, top)
    modules = staged / "usr/lib/modules" / release
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    make_initramfs(roots, modules, target)
    make_image(roots, staged, target / "modules.img")
    shutil.rmtree(staged)
    shutil.copy(source / "arch/x86/boot/bzImage", target / "vmlinuz")
    names = [word for name in DROPPED for word in ("-o", "-name", name)][1:]
    subprocess.run(["find", ".", "(", "-path", "./scripts", "-o", "-path", "./tools", ")",
                    "-prune", "-o", "-type", "f", "(", *names, ")", "-exec", "rm", "-f", "{}", "+"],
                   cwd=source, check=True)


def build_module(roots: Roots) -> Path:
    """Build the module of this checkout for that kernel; return the file.

    It is built in a copy: what is built in the checkout is the stock kernel's, and
    MO= refuses a checkout in which something is built.
    """
    top = config.checkout()
    kdir = tree(roots)
    copy = roots.cache.root / "debug-module" / key_of(str(top), kdir.parent.name)
    log = roots.cache.root / "logs" / "debug-module.log"
    with roots.report.step("module for the instrumented kernel: make"), \
            roots.cache.mutex("debug-module"):
        mirror(top, copy)
        log.unlink(missing_ok=True)
        run_in(roots, ["make", f"KDIR={kdir}"], copy, log, [top])
    module = copy / "ib_iser_rs.ko"
    if not module.is_file():
        raise LabError(f"make succeeded, but {module} does not exist; see {log}")
    return module


def mirror(top: Path, copy: Path) -> None:
    """Bring a copy of the sources up to date; what has not changed keeps its time."""
    def sources(names: list[str]) -> set[str]:
        return {name for name in names if name.startswith(SOURCES)}

    wanted = sources(project_files(top))
    for gone in sources(walk(copy)) - wanted:
        (copy / gone).unlink()
    for name in wanted:
        text = (top / name).read_bytes()
        target = copy / name
        if not target.is_file() or target.read_bytes() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
