# SPDX-License-Identifier: GPL-2.0
"""What a kernel build directory says about the kernel, and whether we can use it.

Each thing that can be missing is reported in one line that says what to install.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from build.progress import BuildError

# Where the right compilers are, whatever this machine has.
ELSEWHERE = "or build in the toolchain root (`make toolchain`)"

# What the module needs of the kernel, and what the option is for.
NEEDED_OPTIONS = {
    "MODULES": "loadable modules",
    "INFINIBAND": "RDMA",
    "INFINIBAND_ADDR_TRANS": "the RDMA connection manager",
    "SCSI_ISCSI_ATTRS": "the iSCSI transport class",
}
# libiscsi has no option of its own: it is there if one of these drivers is.
LIBISCSI_SYMBOL, LIBISCSI_OPTIONS = "iscsi_session_setup", "CONFIG_ISCSI_TCP or CONFIG_INFINIBAND_ISER"


def read_text(path: Path) -> str:
    """Return the text of a file, or nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def config_value(config: str, name: str) -> str | None:
    """Return the value of CONFIG_<name> in a .config text, unquoted, or None."""
    match = re.search(rf'^CONFIG_{name}=(?:"(.*)"|(.*))$', config, re.MULTILINE)
    if not match:
        return None
    return match[1] if match[1] is not None else match[2]


def header_package(path: str) -> str:
    """Return what to install so that the build directory `path` exists."""
    release = re.search(r"/lib/modules/([^/]+)/build/?$", path)
    return f"linux-headers-{release[1]}" if release else "the header package of the kernel"


class Kdir:
    """A kernel build directory: the `build` link of an installed kernel, or a tree."""

    def __init__(self, path: str) -> None:
        if not os.path.isdir(path):
            raise BuildError(
                f"{path}: no such kernel build directory; install {header_package(path)}, "
                f"give KDIR=, {ELSEWHERE}"
            )
        self.path = Path(path).resolve()
        self.config = read_text(self.path / ".config") or read_text(
            self.path / "include/config/auto.conf"
        )
        if not self.config:
            raise BuildError(
                f"{self.path}: no .config here; give KDIR= a header package or a configured kernel"
            )
        if not (self.path / "Makefile").is_file():
            raise BuildError(f"{self.path}: no Makefile here; reinstall {header_package(path)}")

    def value(self, name: str) -> str | None:
        """Return the value of the kernel's CONFIG_<name>, or None."""
        return config_value(self.config, name)

    @property
    def generated(self) -> Path:
        """Where the generated headers are."""
        return self.path / "include/generated"

    @cached_property
    def release(self) -> str:
        """What `uname -r` prints under this kernel."""
        return (
            read_text(self.path / "include/config/kernel.release").strip()
            or "".join(re.findall(r'UTS_RELEASE "(.*)"', read_text(self.generated / "utsrelease.h")))
            or "unknown"
        )

    @cached_property
    def package_version(self) -> str | None:
        """The version of the distribution's package, where Debian's build noted it."""
        match = re.search(r'LINUX_PACKAGE_ID " \S+ (\S+)"', read_text(self.generated / "package.h"))
        return match[1] if match else None

    @property
    def version(self) -> str:
        """The upstream version, such as 7.3.4."""
        match = re.match(r"\d+\.\d+(\.\d+)?", self.release)
        return match[0] if match else self.release

    @property
    def is_clang(self) -> bool:
        """Whether clang built this kernel."""
        return self.value("CC_IS_CLANG") == "y"

    @property
    def has_metadata(self) -> bool:
        """Whether the metadata of the kernel's crates is there already."""
        return (self.path / "rust/libkernel.rmeta").is_file()


def overrides() -> dict[str, str]:
    """Return the variables given to make on its command line.

    Those of the environment do not count: Kbuild sets its tools itself.
    """
    words = shlex.split(os.environ.get("MAKEFLAGS", "").replace("$$", "$"))
    given = words[words.index("--") + 1:] if "--" in words else []
    return {name: value for name, equals, value in (word.partition("=") for word in given) if equals}


def tool(name: str) -> str:
    """Return the command for a tool that a variable may replace, such as RUSTC."""
    return overrides().get(name.upper()) or name


def tool_version(command: str) -> str | None:
    """Return what `command --version` prints, or None if there is no such command."""
    try:
        result = subprocess.run(
            [*shlex.split(command), "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def wants_llvm(kdir: Kdir) -> bool:
    """Whether make has to be told to use LLVM for `kdir`, because nobody did."""
    return kdir.is_clang and not (os.environ.get("LLVM") or "CC" in overrides())


def _check_options(kdir: Kdir) -> None:
    if kdir.value("RUST") != "y":
        raise BuildError(
            f"kernel {kdir.release} is built without CONFIG_RUST, so no Rust module loads into it; "
            "install one that has it (Debian: linux-image-amd64 and linux-headers-amd64 "
            "of trixie-backports or newer)"
        )
    for name, purpose in NEEDED_OPTIONS.items():
        if kdir.value(name) not in ("y", "m"):
            raise BuildError(
                f"kernel {kdir.release} is built without CONFIG_{name} ({purpose}), "
                "which this module needs; install one that has it"
            )


def _check_rustc(kdir: Kdir) -> None:
    rustc, wanted = tool("rustc"), kdir.value("RUSTC_VERSION_TEXT")
    found = tool_version(rustc)
    if found is None:
        raise BuildError(
            f"{rustc}: not found; install the rustc that built kernel {kdir.release}: "
            f"{wanted or 'see its .config'} (Debian: apt install rustc), {ELSEWHERE}"
        )
    if wanted and found != wanted:
        raise BuildError(
            f"{rustc} is `{found}` but kernel {kdir.release} was built by `{wanted}`; "
            f"install that one (RUSTC= selects it), {ELSEWHERE}"
        )


def _check_cc(kdir: Kdir) -> None:
    if "CC" in overrides() or os.environ.get("LLVM"):
        return
    if wants_llvm(kdir):
        missing = [name for name in ("clang", "ld.lld", "llvm-nm") if not shutil.which(name)]
        if missing:
            raise BuildError(
                f"{missing[0]}: not found; kernel {kdir.release} was built by "
                f"{kdir.value('CC_VERSION_TEXT') or 'clang'}: apt install clang lld llvm "
                f"(LLVM=-<version> selects one of several), {ELSEWHERE}"
            )
        return
    name = (kdir.value("CC_VERSION_TEXT") or "gcc").split(" ", 1)[0]
    # x86_64-linux-gnu-gcc-14, gcc-14 (GCC), or gcc.
    package = name.split("-gnu-")[-1]
    if not any(map(shutil.which, (name, package))):
        raise BuildError(
            f"{name}: not found; kernel {kdir.release} was built by it: "
            f"apt install {package}, {ELSEWHERE}"
        )


def _check_symvers(kdir: Kdir) -> None:
    symvers = read_text(kdir.path / "Module.symvers")
    if not symvers:
        raise BuildError(
            f"{kdir.path}: no Module.symvers, so nobody can tell which symbols kernel "
            f"{kdir.release} exports; install its complete header package, or run `make` "
            "(not only `make prepare`) in this kernel tree"
        )
    if f"\t{LIBISCSI_SYMBOL}\t" not in symvers:
        raise BuildError(
            f"kernel {kdir.release} has no libiscsi, which this module needs; "
            f"install one built with {LIBISCSI_OPTIONS}"
        )


def check(kdir: Kdir) -> None:
    """Raise BuildError unless a Rust module can be built for `kdir` here."""
    _check_options(kdir)
    _check_cc(kdir)
    _check_rustc(kdir)
    bindgen = tool("bindgen")
    if tool_version(bindgen) is None:
        raise BuildError(f"{bindgen}: not found; install it (Debian: apt install bindgen), {ELSEWHERE}")
    rustfmt = tool("rustfmt")
    if tool_version(rustfmt) is None:
        raise BuildError(f"{rustfmt}: not found, with which bindgen formats what it writes; install it "
                         f"(Debian: apt install rustfmt), {ELSEWHERE}")
    _check_symvers(kdir)
    check_paths([kdir.path])


def check_paths(paths: Iterable[Path]) -> None:
    """Raise BuildError if make cannot handle one of `paths`."""
    for path in paths:
        if re.search(r"[\s:%]", str(path)):
            raise BuildError(
                f"{path}: Kbuild cannot handle a path with a space, `:` or `%` in it; "
                "use another (ISER_CACHE= moves the cache)"
            )
