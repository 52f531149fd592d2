# SPDX-License-Identifier: GPL-2.0
"""Rebuild the metadata of the kernel's Rust crates, and lay it beside the headers.

Header packages lack rust/*.rmeta and scripts/target.json. Both come from the
kernel's own `make prepare` on the source of the same version, with the kernel's
.config and compiler. The installed headers are never written to: a shadow
directory links to their entries and adds what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from build import source
from build.kdir import Kdir, config_value, overrides, tool, tool_version, wants_llvm
from build.progress import BuildError, run, say
from lab.cache import Cache, key_of

# What later builds read of the source's rust/ directory.
KEPT = ("*.rmeta", "*.so", "*generated*", "helpers/*.bc", "bindings/*generated*",
        "kernel/*generated*")
# What `make lint` reads of the source.
KEPT_SCRIPTS = ("scripts/checkpatch.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch")

# Raised when an entry of the cache is made differently from the same input.
FORMAT = 1

# What of our command line is meant for that make too, and what must not reach it.
PASSED = ("ARCH", "CROSS_COMPILE", "LLVM", "CC", "LD", "HOSTCC", "RUSTC", "HOSTRUSTC", "BINDGEN",
          "RUSTFMT", "RUST_LIB_SRC", "PAHOLE")
DROPPED = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "KBUILD_OUTPUT", "KBUILD_EXTMOD",
           "O", "M", "MO", "W", "V", "C", "CLIPPY")

# What `make prepare` needs beside rustc and bindgen: each with Debian's package.
HOST_TOOLS = {"flex": "flex", "bison": "bison", "bc": "bc", "make": "make", "perl": "perl",
              "gcc": "gcc", "clang": "clang", "xz": "xz-utils"}
HOST_HEADERS = {"gelf.h": "libelf-dev", "openssl/opensslv.h": "libssl-dev"}
RUST_SOURCE = "lib/rustlib/src/rust/library/core/src/lib.rs"


def versions(kdir: Kdir) -> dict[str, str]:
    """Return everything that the metadata of `kdir` depends on, by name."""
    return {
        "release": kdir.release,
        "package": kdir.package_version or "",
        "config": kdir.config,
        "rustc": tool_version(tool("rustc")) or "",
        "bindgen": tool_version(tool("bindgen")) or "",
        "source": os.environ.get("KSRC", ""),
        "format": str(FORMAT),
    }


def key(kdir: Kdir) -> str:
    """Return the name of the metadata entry: the release, and a hash of the rest."""
    return f"{kdir.release}-{key_of(versions(kdir))}"


def has_rust_source() -> bool:
    """Whether the source of the standard library is beside rustc."""
    given = overrides().get("RUST_LIB_SRC")
    if given:
        return (Path(given) / "core/src/lib.rs").is_file()
    result = subprocess.run([*tool("rustc").split(), "--print", "sysroot"],
                            capture_output=True, text=True, check=False)
    return (Path(result.stdout.strip()) / RUST_SOURCE).is_file()


def missing_packages(include: Path = Path("/usr/include")) -> list[str]:
    """Return the packages without which `make prepare` fails here."""
    missing = [package for name, package in HOST_TOOLS.items() if not shutil.which(name)]
    if not has_rust_source():
        missing.append("rust-src")
    missing += [package for header, package in HOST_HEADERS.items()
                if not (include / header).is_file()]
    return missing


def _keep(tree: Path, target: Path, origin: str) -> None:
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
    (target / "lint/scripts").mkdir(parents=True)
    for name in KEPT_SCRIPTS:
        if (tree / name).is_file():
            shutil.copy2(tree / name, target / "lint" / name)


def make_command(kdir: Kdir, tree: Path) -> tuple[list[str], dict[str, str]]:
    """Return a make in `tree` that is no part of this one, and its environment."""
    given = overrides()
    command = ["make", "-C", str(tree), f"-j{os.cpu_count() or 1}"]
    command += [f"{name}={given[name]}" for name in PASSED if name in given]
    if wants_llvm(kdir):
        command.append("LLVM=1")
    dropped = {*DROPPED, *given}
    return command, {k: v for k, v in os.environ.items() if k not in dropped}


def _build(kdir: Kdir, cache: Cache, target: Path) -> None:
    """Build the metadata for `kdir` into the directory `target`."""
    missing = missing_packages()
    if missing:
        raise BuildError(
            f"the Rust crates of kernel {kdir.release} must be compiled once, "
            f"which needs: apt install {' '.join(missing)}"
        )
    log = cache.root / "logs" / f"rust-metadata-{kdir.release}.log"
    log.write_bytes(b"")
    say(f"RUSTMETA kernel {kdir.release} came without; this is done once (log: {log})")
    work = target / "work"
    work.mkdir(parents=True)
    locks = cache.descriptors()
    path, description = source.find(kdir, work, log, locks)
    tree = source.unpack(path, work, log, locks)
    version = source.tree_version((tree / "Makefile").read_text(encoding="utf-8"))
    if version != kdir.version:
        raise BuildError(f"{description} is the source of {version}, but the kernel is {kdir.version}")
    (tree / ".config").write_text(kdir.config, encoding="utf-8")
    variables = kdir.path / ".kernelvariables"
    if variables.is_file():
        shutil.copy(variables, tree)
    make, environment = make_command(kdir, tree)
    run("RUSTMETA configuring", [*make, "olddefconfig"], log, locks, env=environment)
    config = (tree / ".config").read_text(encoding="utf-8")
    if config_value(config, "RUST") != "y":
        result = subprocess.run([*make, "rustavailable"], env=environment, capture_output=True,
                                text=True, errors="replace", check=False)
        raise BuildError(
            "with the tools installed here this kernel cannot have CONFIG_RUST: "
            + (rust_unavailable(result.stderr) or f"see {log}")
        )
    run("RUSTMETA compiling", [*make, "prepare"], log, locks, env=environment)
    rustc = tool_version(tool("rustc"))
    _keep(tree, target, f"{description}, {rustc}, {tool_version(tool('bindgen'))}")
    shutil.rmtree(work)


def rust_unavailable(output: str) -> str:
    """Return in one line what `make rustavailable` complains of."""
    lines = (line.strip("* \t") for line in output.splitlines() if line.startswith("***"))
    text = " ".join(filter(None, lines))
    # What follows is how to find this out, and where to read on.
    return text.split(" Please see ")[0]


Plan = dict[str, tuple[str, str]]


def shadow_plan(kdir: Kdir, entry: Path) -> Plan:
    """Return what a shadow holds: {path: ("link", target) or ("text", text)}.

    The Makefile's text has a `{shadow}` in the place of the directory's own path.
    """
    plan: Plan = {}
    for path in sorted(kdir.path.iterdir()):
        if path.name not in ("Makefile", "rust", "scripts"):
            plan[path.name] = ("link", str(path))
    for path in sorted((kdir.path / "scripts").iterdir()):
        plan[f"scripts/{path.name}"] = ("link", str(path))
    for path in sorted((entry / "scripts").glob("*")):
        plan[f"scripts/{path.name}"] = ("link", str(path))
    plan["rust"] = ("link", str(entry / "rust"))
    lines = (kdir.path / "Makefile").read_text(encoding="utf-8").splitlines()
    # The Makefile of a header package says where the output is and includes the
    # real one; that of a source tree is the real one.
    if any(line.startswith("KBUILD_OUTPUT") for line in lines):
        lines = [line for line in lines if not line.startswith("KBUILD_OUTPUT")]
    else:
        lines = [f"include {kdir.path}/Makefile"]
    plan["Makefile"] = ("text", "\n".join(["KBUILD_OUTPUT={shadow}", *lines]) + "\n")
    return plan


def _lay(plan: Plan, directory: Path, final: Path) -> None:
    for name, (kind, value) in plan.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(value)
        else:
            path.write_text(value.replace("{shadow}", str(final)), encoding="utf-8")


def build_directory(kdir: Kdir, cache: Cache) -> Path:
    """Return the directory to give to `make -C` for modules of `kdir`."""
    name = key(kdir)
    entry = cache.entry(
        "rust-metadata", name, lambda target: _build(kdir, cache, target),
        waiting=lambda: say("RUSTMETA another build makes it already; waiting for that"),
    )
    plan = shadow_plan(kdir, entry)
    shadow = f"{kdir.release}-{key_of(plan)}"
    final = cache.path("kdir", shadow)
    return cache.entry("kdir", shadow, lambda target: _lay(plan, target, final))
