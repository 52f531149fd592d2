# SPDX-License-Identifier: GPL-2.0
"""Installing and uninstalling, below a directory of the test's own."""

from __future__ import annotations

import contextlib
import io
import unittest
from pathlib import Path

from build import install
from build.progress import BuildError
from build.tests.fake import KernelCase

RELEASE = "7.3.4+deb13-amd64"


class Installing(KernelCase):
    """The steps of install.py."""

    def setUp(self) -> None:
        super().setUp()
        self.root = self.top / "root"
        self.installer = self.make()
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        self.said = self.enterContext(contextlib.redirect_stderr(io.StringIO()))

    def make(self, kdir: Path | str | None = None) -> install.Installer:
        return install.Installer(str(kdir or self.kernel), str(self.root),
                                 str(self.root / "etc"), "updates")

    def put_module(self, suffix: str = ".ko.xz") -> Path:
        path = self.installer.directory / f"ib_iser_rs{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())

    def test_check(self) -> None:
        module = self.top / "ib_iser_rs.ko"
        with self.assertRaisesRegex(BuildError, "not built"):
            self.installer.check(module)
        module.write_bytes(b"\x7fELF\0vermagic=6.1.0 SMP \0")
        with self.assertRaisesRegex(BuildError, rf"kernel 6\.1\.0, not for {RELEASE[:5]}"):
            self.installer.check(module)
        module.write_bytes(b"\x7fELF\0vermagic=" + RELEASE.encode() + b" SMP \0")
        self.installer.check(module)

    def test_off_unless_asked_for(self) -> None:
        self.installer.configure(default=False)
        self.assertNotRegex(self.installer.conf.read_text(encoding="utf-8"), "(?m)^install")
        self.installer.configure(default=True)
        self.assertRegex(self.installer.conf.read_text(encoding="utf-8"), "(?m)^install ib_iser ")
        self.installer.configure(default=False)
        self.assertNotRegex(self.installer.conf.read_text(encoding="utf-8"), "(?m)^install")
        self.assertEqual(self.files(), ["etc/modprobe.d/ib_iser_rs.conf"])

    def test_uninstall_undoes(self) -> None:
        self.put_module()
        self.installer.configure(default=True)
        self.installer.uninstall()
        self.assertEqual(self.files(), [])
        self.assertFalse(self.installer.directory.exists())

    def test_uninstall_keeps_the_rest(self) -> None:
        self.put_module(".ko")
        other = self.installer.directory / "other.ko"
        other.write_bytes(b"")
        self.installer.conf.parent.mkdir(parents=True)
        self.installer.conf.write_text("options ib_iser_rs debug_level=1\n", encoding="utf-8")
        self.installer.uninstall()
        self.assertTrue(other.exists())
        self.assertTrue(self.installer.conf.exists())
        self.assertIn("KEEP", self.said.getvalue())
        with self.assertRaisesRegex(BuildError, "not from `make install`"):
            self.installer.configure(default=False)

    def test_uninstall_of_nothing(self) -> None:
        self.installer.uninstall()
        self.assertIn("nothing of ib_iser_rs", self.said.getvalue())

    def test_uninstall_without_headers(self) -> None:
        self.put_module()
        gone = self.top / "lib/modules" / RELEASE / "build"
        self.make(gone).uninstall()
        self.assertEqual(self.files(), [])

    def test_no_depmod_without_a_kernel(self) -> None:
        self.installer.depmod()
        self.assertIn("skipped", self.said.getvalue())


if __name__ == "__main__":
    unittest.main()
