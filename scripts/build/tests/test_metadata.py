# SPDX-License-Identifier: GPL-2.0
"""Where the metadata of the kernel's crates comes from, and what it is kept under."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from build import metadata, source
from build.progress import BuildError
from build.tests.fake import KernelCase
from lab.cache import Cache


class Keys(KernelCase):
    """An entry is used again only for what it was made from."""

    def key(self) -> str:
        with mock.patch("build.metadata.tool_version", self.tools.get):
            return metadata.key(self.kdir())

    def test_key(self) -> None:
        first = self.key()
        self.assertTrue(first.startswith("7.3.4+deb13-amd64-"))
        self.assertEqual(first, self.key())

    def test_everything_counts(self) -> None:
        keys = {self.key()}
        self.replace("CONFIG_INFINIBAND=m", "CONFIG_INFINIBAND=y")
        keys.add(self.key())
        self.replace("7.3.4-1", "7.3.4-2", "include/generated/package.h")
        keys.add(self.key())
        self.tools["rustc"] = "rustc 1.86.0"
        keys.add(self.key())
        self.tools["bindgen"] = "bindgen 0.72.1"
        keys.add(self.key())
        os.environ["KSRC"] = "/usr/src/linux"
        keys.add(self.key())
        self.assertEqual(len(keys), 6)


class Shadow(KernelCase):
    """The directory that stands for the headers, with the metadata added."""

    def setUp(self) -> None:
        super().setUp()
        self.entry = self.top / "entry"
        (self.entry / "rust").mkdir(parents=True)
        (self.entry / "rust/libkernel.rmeta").write_text("", encoding="utf-8")
        (self.entry / "scripts").mkdir()
        (self.entry / "scripts/target.json").write_text("{}", encoding="utf-8")

    def lay(self) -> Path:
        with mock.patch("build.metadata.tool_version", self.tools.get), \
             mock.patch("build.metadata._build") as build:
            build.side_effect = lambda kdir, cache, target: self.entry.rename(target)
            return metadata.build_directory(self.kdir(), Cache(self.top / "cache"))

    def test_holds_both(self) -> None:
        shadow = self.lay()
        for name in (".config", "Module.symvers", "include/config/kernel.release", "scripts/Makefile.build",
                     "rust/libkernel.rmeta", "scripts/target.json"):
            self.assertTrue((shadow / name).exists(), name)
        self.assertEqual((shadow / "Makefile").read_text(encoding="utf-8"),
                         f"KBUILD_OUTPUT={shadow}\ninclude /usr/src/linux-headers-common/Makefile\n")
        self.assertEqual(self.lay(), shadow)

    def test_headers_stay_as_they_were(self) -> None:
        before = sorted(p for p in self.kernel.rglob("*"))
        self.lay()
        self.assertEqual(before, sorted(p for p in self.kernel.rglob("*")))

    def test_whole_makefile(self) -> None:
        self.write("Makefile", "VERSION = 7\nPATCHLEVEL = 3\n")
        plan = metadata.shadow_plan(self.kdir(), self.entry)
        self.assertEqual(plan["Makefile"][1],
                         f"KBUILD_OUTPUT={{shadow}}\ninclude {self.kernel}/Makefile\n")

    def test_failure_leaves_nothing(self) -> None:
        def fail(_kdir: object, _cache: object, target: Path) -> None:
            target.mkdir()
            raise BuildError("no")

        with mock.patch("build.metadata.tool_version", self.tools.get), \
             mock.patch("build.metadata._build", fail), self.assertRaises(BuildError):
            metadata.build_directory(self.kdir(), Cache(self.top / "cache"))
        self.assertEqual(list((self.top / "cache/rust-metadata").iterdir()), [])


class Needs(KernelCase):
    """What compiling the crates needs."""

    def test_missing_packages(self) -> None:
        self.found |= set(metadata.HOST_TOOLS) - {"flex", "xz"}
        (self.top / "include/openssl").mkdir(parents=True)
        (self.top / "include/openssl/opensslv.h").write_text("", encoding="utf-8")
        with mock.patch("build.metadata.has_rust_source", return_value=False):
            self.assertEqual(metadata.missing_packages(self.top / "include"),
                             ["flex", "xz-utils", "rust-src", "libelf-dev"])

    def test_rust_unavailable(self) -> None:
        output = ("***\n*** Rust bindings generator 'bindgen' is too old.\n"
                  "***   Your version:    0.60.1\n***   Minimum version: 0.71.1\n***\n"
                  "***\n*** Please see Documentation/rust/quick-start.rst for details\n"
                  "*** on how to set up the Rust support.\n***\nmake: Error 1\n")
        self.assertEqual(metadata.rust_unavailable(output),
                         "Rust bindings generator 'bindgen' is too old. Your version:    0.60.1 "
                         "Minimum version: 0.71.1")

    def test_own_make(self) -> None:
        os.environ.update(MAKEFLAGS="-j3 -- W=1 RUSTC=/opt/rustc KDIR=/x", W="1", KDIR="/x", HOME="/h")
        command, environment = metadata.make_command(self.kdir(), Path("/src"))
        self.assertIn("RUSTC=/opt/rustc", command)
        self.assertFalse({"MAKEFLAGS", "W", "KDIR"} & set(environment))
        self.assertEqual(environment["HOME"], "/h")


class Source(KernelCase):
    """Only the source of exactly that version will do."""

    def find(self) -> tuple[Path, str]:
        return source.find(self.kdir(), self.top, self.top / "log", ())

    def test_versions(self) -> None:
        self.assertEqual(source.series("7.3.4"), "7.3")
        self.assertEqual(source.tree_version("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nNAME = x\n"), "7.3.4")
        self.assertEqual(self.kdir().version, "7.3.4")

    def test_given(self) -> None:
        os.environ["KSRC"] = str(self.kernel)
        self.assertEqual(self.find()[0], self.kernel)
        os.environ["KSRC"] = "/nonexistent"
        with self.assertRaisesRegex(BuildError, "KSRC=/nonexistent"):
            self.find()

    def test_installed(self) -> None:
        tarball = self.top / "linux-source-7.3.tar.xz"
        tarball.write_bytes(b"")
        with mock.patch("build.source.INSTALLED", self.top), \
             mock.patch("build.source._installed_version", return_value="7.3.4-1~bpo13+1"):
            self.assertEqual(self.find(), (tarball, "linux-source-7.3 7.3.4-1~bpo13+1"))

    def test_other_version_installed(self) -> None:
        with mock.patch("build.source._installed_version", return_value="7.3.5-1"), \
             self.assertRaisesRegex(BuildError, r"apt install linux-source-7\.3=7\.3\.4-1~bpo13\+1 "
                                                r"\(installed is 7\.3\.5-1\)"):
            self.find()

    def test_not_a_package(self) -> None:
        (self.kernel / "include/generated/package.h").unlink()
        with self.assertRaisesRegex(BuildError, "give KSRC="):
            self.find()

    def test_lists_are_renewed(self) -> None:
        self.found |= {"apt-get"}
        commands = []

        def run(_title: str, command: list[str], _log: Path, _locks: object, **_: object) -> None:
            commands.append(command[-1] if command[-1] == "update" else command[-2])
            if commands == ["download"]:
                raise BuildError("no such version")
            if command[0] == "dpkg-deb":
                (self.top / "package/usr/src").mkdir(parents=True)
                (self.top / "package/usr/src/linux-source-7.3.tar.xz").write_bytes(b"")
            else:
                (self.top / "linux-source.deb").write_bytes(b"")

        with mock.patch("build.source.run", run), mock.patch("os.geteuid", return_value=0), \
             contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(self.find()[0].name, "linux-source-7.3.tar.xz")
        self.assertEqual(commands[:3], ["download", "update", "download"])
