# SPDX-License-Identifier: GPL-2.0
"""What a kernel build directory says about the kernel, and whether we can use it.

Each thing that can be missing is reported in one line that says what to install.
"""

import os
import pathlib
import re
import shutil
import subprocess

from progress import BuildError

ELSEWHERE = "or build in the toolchain root: make toolchain"


def _read(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def config_value(config, name):
    """Return the value of CONFIG_<name> in a .config text, unquoted, or None."""
    match = re.search(rf'^CONFIG_{name}=(?:"(.*)"|(.*))$', config, re.MULTILINE)
    if not match:
        return None
    return match[1] if match[1] is not None else match[2]


class Kdir:
    """A kernel build directory: the `build` link of an installed kernel, or a tree."""

    def __init__(self, path):
        self.given = path
        if not os.path.isdir(path):
            release = re.search(r"/lib/modules/([^/]+)/build/?$", str(path))
            what = f"linux-headers-{release[1]}" if release else "the kernel's header package"
            raise BuildError(f"{path}: no such kernel build directory; install {what} (or give KDIR=)")
        self.path = pathlib.Path(path).resolve()
        self.config = _read(self.path / ".config") or _read(self.path / "include/config/auto.conf")
        if not self.config:
            raise BuildError(
                f"{self.path}: no .config here; give KDIR= a configured kernel or a header package"
            )
        self.release = (
            _read(self.path / "include/config/kernel.release").strip()
            or "".join(re.findall(r'UTS_RELEASE "(.*)"', _read(self.generated / "utsrelease.h")))
            or "unknown"
        )

    @property
    def generated(self):
        """Where the generated headers are."""
        return self.path / "include/generated"

    @property
    def package_version(self):
        """The version of the distribution's package, where Debian's build noted it."""
        match = re.search(r'LINUX_PACKAGE_ID " \S+ (\S+)"', _read(self.generated / "package.h"))
        return match[1] if match else None

    @property
    def version(self):
        """The upstream version, such as 7.3.4."""
        match = re.match(r"\d+\.\d+(\.\d+)?", self.release)
        return match[0] if match else self.release

    @property
    def rustc_text(self):
        """What the rustc that built this kernel prints for --version."""
        return config_value(self.config, "RUSTC_VERSION_TEXT")

    @property
    def has_metadata(self):
        """Whether the metadata of the kernel's crates is there already."""
        return (self.path / "rust/libkernel.rmeta").is_file()


def tool_version(command):
    """Return what `command --version` prints, or None if there is no such command."""
    try:
        result = subprocess.run(
            [*command.split(), "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _check_rustc(kdir):
    rustc = os.environ.get("RUSTC") or "rustc"
    found = tool_version(rustc)
    wanted = kdir.rustc_text
    if found is None:
        raise BuildError(
            f"{rustc}: not found; install the rustc that built kernel {kdir.release}: "
            f"{wanted} (Debian: apt install rustc), {ELSEWHERE}"
        )
    if wanted and found != wanted:
        raise BuildError(
            f"{rustc} is `{found}` but kernel {kdir.release} was built by `{wanted}`: "
            f"install that one (RUSTC= selects it), {ELSEWHERE}"
        )


def _check_cc(kdir):
    text = config_value(kdir.config, "CC_VERSION_TEXT") or ""
    name = text.split(" ", 1)[0]
    if not name or os.environ.get("CC"):
        return
    if "clang" in name:
        if not (os.environ.get("LLVM") or shutil.which("clang")):
            raise BuildError(f"clang: not found; kernel {kdir.release} was built by it: install clang, lld, llvm")
        return
    candidates = {name, name.split("-gnu-")[-1]}
    if not any(map(shutil.which, candidates)):
        package = name.split("-gnu-")[-1]
        raise BuildError(
            f"{name}: not found; kernel {kdir.release} was built by it: apt install {package}, {ELSEWHERE}"
        )


def check(kdir):
    """Raise BuildError unless a Rust module can be built for `kdir` here."""
    if config_value(kdir.config, "RUST") != "y":
        raise BuildError(
            f"kernel {kdir.release} is built without CONFIG_RUST, no Rust module loads into it; "
            "install one that has it (Debian: linux-image-amd64 and linux-headers-amd64 "
            "of trixie-backports or newer)"
        )
    _check_cc(kdir)
    _check_rustc(kdir)
    bindgen = os.environ.get("BINDGEN") or "bindgen"
    if tool_version(bindgen) is None:
        raise BuildError(f"{bindgen}: not found; install it (Debian: apt install bindgen), {ELSEWHERE}")
    if not (kdir.path / "Module.symvers").is_file():
        raise BuildError(
            f"{kdir.path}: no Module.symvers; install the complete header package, "
            "or build the modules of this tree first"
        )
