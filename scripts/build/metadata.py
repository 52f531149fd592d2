# SPDX-License-Identifier: GPL-2.0
"""Rebuild the metadata of the kernel's Rust crates, and lay it beside the headers.

Header packages lack rust/*.rmeta and scripts/target.json. Both come from the
kernel's own `make prepare` on the source of the same version, with the kernel's
.config and compiler. The installed headers are never written to: a shadow
directory links to their entries and adds what is missing.
"""

import os
import shutil

import cache
import kdir as kdir_module
import source
from progress import BuildError, run, say

# What later builds read of the source's rust/ directory.
KEPT = ("*.rmeta", "*.so", "*generated*", "helpers/*.bc", "bindings/*generated*", "kernel/*generated*")

HOST_TOOLS = {
    "flex": "flex", "bison": "bison", "bc": "bc", "make": "make", "gcc": "gcc", "perl": "perl",
    "xz": "xz-utils", "clang": "clang",
}


def key(kdir, rustc_text):
    """Return the name of the metadata entry: version, configuration and compiler."""
    return f"{kdir.release}-{cache.digest(kdir.package_version or '', kdir.config, rustc_text)}"


def _check_host_tools():
    missing = [package for tool, package in HOST_TOOLS.items() if not shutil.which(tool)]
    rustc = os.environ.get("RUSTC") or "rustc"
    sysroot = os.popen(f"{rustc} --print sysroot").read().strip()
    if not os.path.exists(f"{sysroot}/lib/rustlib/src/rust/library/core/src/lib.rs"):
        missing.append("rust-src")
    for header, package in (("gelf.h", "libelf-dev"), ("openssl/opensslv.h", "libssl-dev")):
        if not os.path.exists(f"/usr/include/{header}"):
            missing.append(package)
    if missing:
        raise BuildError(
            "the kernel's Rust crates must be compiled once, which needs: apt install "
            + " ".join(missing)
        )


def _keep(tree, target, origin):
    """Copy what later builds need from the built `tree` to `target`."""
    rust = tree / "rust"
    for pattern in KEPT:
        for path in rust.glob(pattern):
            if path.is_file() and not path.name.startswith("."):
                copy = target / "rust" / path.relative_to(rust)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
    if not (target / "rust/libkernel.rmeta").is_file():
        raise BuildError("the source's `make prepare` made no rust/libkernel.rmeta")
    (target / "rust/origin").write_text(origin + "\n", encoding="utf-8")
    spec = tree / "scripts/target.json"
    if spec.is_file():
        (target / "scripts").mkdir()
        shutil.copy2(spec, target / "scripts")


def _build(kdir, rustc_text, target, lock_fd):
    """Build the metadata for `kdir` into the directory `target`."""
    _check_host_tools()
    logs = cache.root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"rust-metadata-{kdir.release}.log"
    log.write_bytes(b"")
    say(f"RUSTMETA kernel {kdir.release} came without; this is done once (log: {log})")
    work = target / "work"
    work.mkdir()
    path, description = source.find(kdir, work, log, lock_fd)
    tree = source.unpack(path, work, log, lock_fd)
    version = source.tree_version((tree / "Makefile").read_text(encoding="utf-8"))
    if version != kdir.version:
        raise BuildError(f"{description} is {version}, but the kernel is {kdir.version}")
    (tree / ".config").write_text(kdir.config, encoding="utf-8")
    variables = kdir.path / ".kernelvariables"
    if variables.is_file():
        shutil.copy(variables, tree)
    make = ["make", "-C", str(tree), f"-j{os.cpu_count() or 1}"]
    environment = {
        name: value for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "KBUILD_OUTPUT", "O")
    }
    run("RUSTMETA configuring", [*make, "olddefconfig"], log, lock_fd=lock_fd, env=environment)
    config = (tree / ".config").read_text(encoding="utf-8")
    if kdir_module.config_value(config, "RUST") != "y":
        raise BuildError(
            "with the tools installed here the source turns CONFIG_RUST off; "
            f"`make rustavailable` says why (full log: {log})"
        )
    run("RUSTMETA compiling", [*make, "prepare"], log, lock_fd=lock_fd, env=environment)
    _keep(tree, target, f"{description}, {rustc_text}")
    shutil.rmtree(work)


def _shadow_plan(kdir, entry, shadow):
    """Return {path in the shadow: link target or text}, which is all it holds."""
    plan = {}
    for path in sorted(kdir.path.iterdir()):
        if path.name not in ("Makefile", "rust", "scripts"):
            plan[path.name] = ("link", str(path))
    for path in sorted((kdir.path / "scripts").iterdir()):
        plan[f"scripts/{path.name}"] = ("link", str(path))
    for path in sorted((entry / "scripts").glob("*")):
        plan[f"scripts/{path.name}"] = ("link", str(path))
    plan["rust"] = ("link", str(entry / "rust"))
    lines = (kdir.path / "Makefile").read_text(encoding="utf-8").splitlines()
    if len(lines) < 10:
        lines = [line for line in lines if not line.startswith("KBUILD_OUTPUT")]
    else:
        lines = [f"include {kdir.path}/Makefile"]
    plan["Makefile"] = ("text", "\n".join([f"KBUILD_OUTPUT={shadow}", *lines]) + "\n")
    return plan


def _lay(plan, directory):
    for name, (kind, value) in plan.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(value)
        else:
            path.write_text(value, encoding="utf-8")
    (directory / ".plan").write_text(repr(plan), encoding="utf-8")


def _waiting():
    say("RUSTMETA another build makes it already; waiting")


def build_directory(kdir):
    """Return the directory to give to `make -C` for modules of `kdir`."""
    if kdir.has_metadata:
        return kdir.path
    rustc_text = kdir_module.tool_version(os.environ.get("RUSTC") or "rustc") or ""
    name = key(kdir, rustc_text)
    entry = cache.entry(
        cache.root() / "rust-metadata" / name,
        lambda target, lock_fd: _build(kdir, rustc_text, target, lock_fd),
        _waiting,
    )
    shadow = cache.root() / "kdir" / f"{name}-{cache.digest(str(kdir.path))[:8]}"
    plan = _shadow_plan(kdir, entry, shadow)
    try:
        current = (shadow / ".plan").read_text(encoding="utf-8")
    except OSError:
        current = None
    if current != repr(plan):
        cache.replace(shadow, lambda directory, _: _lay(plan, directory))
    return shadow
