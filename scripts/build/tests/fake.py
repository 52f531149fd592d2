# SPDX-License-Identifier: GPL-2.0
"""A kernel build directory and tools that tests can bend."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from build.kdir import Kdir

RUSTC = "rustc 1.85.1 (4eb161250 2025-03-15)"
CONFIG = f"""\
CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0"
CONFIG_CC_IS_GCC=y
CONFIG_RUSTC_VERSION_TEXT="{RUSTC}"
CONFIG_PAHOLE_VERSION=130
CONFIG_RUST=y
CONFIG_MODULES=y
CONFIG_INFINIBAND=m
CONFIG_INFINIBAND_ADDR_TRANS=y
CONFIG_SCSI_ISCSI_ATTRS=m
CONFIG_DEBUG_INFO_BTF_MODULES=y
CONFIG_MODULE_SIG_KEY="output/signing_key.pem"
"""
SYMVERS = """\
0x00000000\tiscsi_session_setup\tdrivers/scsi/libiscsi\tEXPORT_SYMBOL_GPL\t
0x00000000\t_RNvNtCsabc_6kernel5print11call_printk\tvmlinux\tEXPORT_SYMBOL_GPL\t
"""
MAKEFILE = "KBUILD_OUTPUT=/usr/src/linux-headers-7.3.4\ninclude /usr/src/linux-headers-common/Makefile\n"


class KernelCase(unittest.TestCase):
    """A test with a header package in a temporary directory, and tools that work."""

    def setUp(self) -> None:
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.kernel = self.top / "headers"
        self.tools = {"rustc": RUSTC, "bindgen": "bindgen 0.71.1", "rustfmt": "rustfmt 1.8.0"}
        self.found = {"gcc-14", "x86_64-linux-gnu-gcc-14", "pahole"}
        self.write(".config", CONFIG)
        self.write("Makefile", MAKEFILE)
        self.write("Module.symvers", SYMVERS)
        self.write("vmlinux", "")
        self.write("include/config/kernel.release", "7.3.4+deb13-amd64\n")
        self.write("include/generated/package.h", '#define LINUX_PACKAGE_ID " Debian 7.3.4-1~bpo13+1"\n')
        self.write("scripts/Makefile.build", "")
        self.enterContext(mock.patch.dict(os.environ))
        for name in ("MAKEFLAGS", "LLVM", "KSRC", "KDIR"):
            os.environ.pop(name, None)
        self.enterContext(mock.patch("build.kdir.tool_version", self.tools.get))
        self.enterContext(mock.patch(
            "shutil.which", lambda name, **_: f"/bin/{name}" if name in self.found else None))

    def write(self, name: str, text: str) -> Path:
        """Write a file of the header package."""
        path = self.kernel / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def replace(self, old: str, new: str, name: str = ".config") -> None:
        """Replace text in a file of the header package."""
        path = self.kernel / name
        text = path.read_text(encoding="utf-8")
        self.assertIn(old, text)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def kdir(self) -> Kdir:
        """The directory as the build sees it."""
        return Kdir(str(self.kernel))
