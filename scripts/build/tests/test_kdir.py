# SPDX-License-Identifier: GPL-2.0
"""What is said of a kernel that cannot be built for, and of missing tools."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

from build import kbuild, kdir
from build.progress import BuildError
from build.tests.fake import KernelCase


class Config(unittest.TestCase):
    """Reading a .config."""

    def test_values(self) -> None:
        text = 'CONFIG_A=y\nCONFIG_B="some text"\n# CONFIG_C is not set\nCONFIG_AB=m\n'
        self.assertEqual(kdir.config_value(text, "A"), "y")
        self.assertEqual(kdir.config_value(text, "B"), "some text")
        self.assertIsNone(kdir.config_value(text, "C"))

    def test_header_package(self) -> None:
        self.assertEqual(kdir.header_package("/lib/modules/7.3.4+deb13-amd64/build"),
                         "linux-headers-7.3.4+deb13-amd64")
        self.assertIn("header package", kdir.header_package("/usr/src/linux"))


class Overrides(KernelCase):
    """Variables on make's command line."""

    def test_none(self) -> None:
        os.environ["MAKEFLAGS"] = "w -j4 --jobserver-auth=3,4"
        self.assertEqual(kdir.overrides(), {})
        self.assertEqual(kdir.tool("rustc"), "rustc")

    def test_environment_is_not_the_command_line(self) -> None:
        os.environ["RUSTC"] = "other"
        self.assertEqual(kdir.tool("rustc"), "rustc")

    def test_given(self) -> None:
        os.environ["MAKEFLAGS"] = r" -j -- RUSTC=/opt/rust\ c/rustc KDIR=/x V=1"
        self.assertEqual(kdir.overrides(), {"RUSTC": "/opt/rust c/rustc", "KDIR": "/x", "V": "1"})
        self.assertEqual(kdir.tool("rustc"), "/opt/rust c/rustc")


class Complaints(KernelCase):
    """One line each, which says what to install."""

    def complaint(self) -> str:
        with self.assertRaises(BuildError) as caught:
            kdir.check(self.kdir())
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        return text

    def test_fine(self) -> None:
        kdir.check(self.kdir())

    def test_no_directory(self) -> None:
        with self.assertRaisesRegex(BuildError, "install linux-headers-9.9.9-none, "):
            kdir.Kdir("/lib/modules/9.9.9-none/build")

    def test_no_config(self) -> None:
        (self.kernel / ".config").unlink()
        with self.assertRaisesRegex(BuildError, r"no \.config"):
            self.kdir()

    def test_config_of_headers_only(self) -> None:
        (self.kernel / ".config").rename(self.write("include/config/auto.conf", ""))
        kdir.check(self.kdir())

    def test_no_rust(self) -> None:
        self.replace("CONFIG_RUST=y", "# CONFIG_RUST is not set")
        self.assertIn("without CONFIG_RUST", self.complaint())

    def test_no_rdma(self) -> None:
        self.replace("CONFIG_INFINIBAND=m\n", "")
        self.assertIn("without CONFIG_INFINIBAND (RDMA)", self.complaint())

    def test_no_libiscsi(self) -> None:
        self.write("Module.symvers", "0x0\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
        self.assertIn("CONFIG_ISCSI_TCP", self.complaint())

    def test_no_symvers(self) -> None:
        (self.kernel / "Module.symvers").unlink()
        self.assertIn("complete header package", self.complaint())

    def test_no_rustc(self) -> None:
        del self.tools["rustc"]
        self.assertRegex(self.complaint(), r"rustc: not found; install .*1\.85\.1")

    def test_other_rustc(self) -> None:
        self.tools["rustc"] = "rustc 1.97.1 (0123456 2026-07-01)"
        self.assertRegex(self.complaint(), r"is `rustc 1\.97\.1.* was built by `rustc 1\.85\.1")

    def test_no_bindgen(self) -> None:
        del self.tools["bindgen"]
        self.assertIn("apt install bindgen", self.complaint())

    def test_no_rustfmt(self) -> None:
        del self.tools["rustfmt"]
        self.assertIn("apt install rustfmt", self.complaint())

    def test_no_gcc(self) -> None:
        self.found -= {"gcc-14", "x86_64-linux-gnu-gcc-14"}
        self.assertIn("apt install gcc-14", self.complaint())

    def test_native_gcc_will_do(self) -> None:
        self.found -= {"x86_64-linux-gnu-gcc-14"}
        kdir.check(self.kdir())

    def test_no_clang(self) -> None:
        self.replace("CONFIG_CC_IS_GCC", "CONFIG_CC_IS_CLANG")
        self.replace("x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0", "Debian clang version 19.1.7")
        self.assertIn("apt install clang", self.complaint())
        self.found |= {"clang", "ld.lld", "llvm-nm"}
        kdir.check(self.kdir())

    def test_path_with_a_space(self) -> None:
        with self.assertRaisesRegex(BuildError, "ISER_CACHE="):
            kdir.check_paths([Path("/home/some one/.cache")])


class Arguments(KernelCase):
    """What make is told, so that it neither fails nor warns."""

    def test_nothing_to_tell(self) -> None:
        self.assertEqual(kbuild.build_arguments(self.kdir()), [])

    def test_no_vmlinux(self) -> None:
        (self.kernel / "vmlinux").unlink()
        self.assertEqual(kbuild.build_arguments(self.kdir()), ["CONFIG_DEBUG_INFO_BTF_MODULES="])

    def test_no_pahole(self) -> None:
        self.found.remove("pahole")
        self.assertEqual(kbuild.build_arguments(self.kdir()),
                         ["PAHOLE_VERSION=130", "CONFIG_DEBUG_INFO_BTF_MODULES="])

    def test_clang(self) -> None:
        self.replace("CONFIG_CC_IS_GCC", "CONFIG_CC_IS_CLANG")
        self.assertIn("LLVM=1", kbuild.build_arguments(self.kdir()))
        os.environ["LLVM"] = "-19"
        self.assertNotIn("LLVM=1", kbuild.build_arguments(self.kdir()))

    def test_signing(self) -> None:
        self.assertIn("CONFIG_MODULE_SIG_ALL=", kbuild.install_arguments(self.kdir()))
        self.write("output/signing_key.pem", "")
        self.assertNotIn("CONFIG_MODULE_SIG_ALL=", kbuild.install_arguments(self.kdir()))


if __name__ == "__main__":
    unittest.main()
