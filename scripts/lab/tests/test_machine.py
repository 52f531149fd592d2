# SPDX-License-Identifier: GPL-2.0
"""QEMU's arguments, module order, verdicts and the judgement of kernel logs."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from lab import chroot, core, kernel, qemu, vm
from lab.report import LabError

MACHINE = qemu.Machine(kernel=Path("/c/vmlinuz"), initramfs=Path("/c/initramfs.gz"),
                       root=Path("/c/root"), modules=Path("/c/modules.img"),
                       source=Path("/src"), out=Path("/out"))


class QemuTest(unittest.TestCase):
    """The command line says what the machine is."""

    def test_disks_are_read_only(self) -> None:
        drives = [a for a in qemu.arguments(MACHINE) if a.startswith("if=none")]
        self.assertEqual(len(drives), 2)
        self.assertTrue(all("read-only=on" in d for d in drives))

    def test_checkout_is_read_only(self) -> None:
        shares = [a for a in qemu.arguments(MACHINE) if a.startswith("local,")]
        self.assertIn("readonly=on", shares[0])
        self.assertNotIn("readonly", shares[1])

    def test_cable(self) -> None:
        for server, word in ((True, "server=on"), (False, "server=off")):
            text = " ".join(qemu.arguments(replace(MACHINE, link=qemu.Link("../l", server, "m"))))
            self.assertIn(word, text)
            self.assertEqual("reconnect" in text, not server)

    def test_path_with_blank(self) -> None:
        with self.assertRaisesRegex(LabError, "cannot be shared"):
            qemu.arguments(replace(MACHINE, source=Path("/my src")))

    def test_accelerators(self) -> None:
        self.assertIn("kvm", qemu.accel_args("kvm", 2))
        self.assertIn("shift=0,sleep=off", qemu.accel_args("icount", 2))
        with self.assertRaises(LabError):
            qemu.accel_args("hvf", 2)

    def test_time_stamp_counter(self) -> None:
        """Under emulation the host's counter shows through; under icount there is another."""
        for accel, told in (("tcg", True), ("kvm", False), ("icount", False)):
            words = qemu.kernel_arguments(replace(MACHINE, accel=accel, tsc_khz=2596121)).split()
            self.assertEqual("tsc_early_khz=2596121" in words, told, accel)
        self.assertNotIn("tsc_early_khz", qemu.kernel_arguments(MACHINE))


class ModuleTest(unittest.TestCase):
    """Dependencies of modules."""

    DEP = kernel.parse_dep("kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs.ko.xz\n"
                           "kernel/net/9p/9pnet.ko.xz: kernel/fs/netfs.ko.xz\n"
                           "kernel/fs/netfs.ko.xz:\n"
                           "kernel/drivers/virtio/virtio-pci.ko:\n")

    def test_order(self) -> None:
        order = kernel.load_order(self.DEP, {"ext4"}, ("virtio_pci", "ext4", "9p"))
        self.assertEqual([kernel.module_name(p) for p in order],
                         ["virtio_pci", "netfs", "9pnet", "9p"])

    def test_missing(self) -> None:
        with self.assertRaisesRegex(LabError, "no module ext4"):
            kernel.load_order(self.DEP, set(), ("ext4",))


class VerdictTest(unittest.TestCase):
    """How a machine is said to have ended."""

    def verdict(self, status: str | None, console: str, timed_out: bool = False) -> vm.Verdict:
        """Judge results without a machine."""
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory)
            (out / "console.log").write_text(console, encoding="utf-8")
            (out / "qemu.log").write_text("", encoding="utf-8")
            if status is not None:
                (out / "status").write_text(status, encoding="utf-8")
            running = vm.Running.__new__(vm.Running)
            running.machine = replace(MACHINE, out=out)
            running.began = 0.0
            return running._verdict(timed_out, 10)

    def test_passed(self) -> None:
        self.assertEqual(self.verdict("0\n", "").status, 0)

    def test_failed(self) -> None:
        verdict = self.verdict("3\n", "")
        self.assertEqual((verdict.status, verdict.reason), (3, ""))

    def test_panic_wins(self) -> None:
        verdict = self.verdict("0\n", "Kernel panic - not syncing: hard luck")
        self.assertEqual(verdict.status, vm.DIED)
        self.assertIn("hard luck", verdict.reason)

    def test_time_limit(self) -> None:
        self.assertEqual(self.verdict(None, "", timed_out=True).status, vm.TIMED_OUT)

    def test_no_result(self) -> None:
        self.assertEqual(self.verdict(None, "").status, vm.DIED)


    def test_emulator_failed(self) -> None:
        said = "qemu-system-x86_64: x.c:1: f: Assertion `i < n' failed."
        for output, expected in (("", said), ("KTAP version 1\n", "")):
            with tempfile.TemporaryDirectory() as where:
                out = Path(where)
                (out / "qemu.log").write_text(f"{said}\n", encoding="utf-8")
                (out / "output.log").write_text(output, encoding="utf-8")
                running = vm.Running.__new__(vm.Running)
                running.machine, running.began = replace(MACHINE, out=out), 0.0
                verdict = running._verdict(False, None)
                self.assertEqual((verdict.status, verdict.emulator), (vm.DIED, expected))


    def test_once_more(self) -> None:
        for first, starts in (("QEMU: Assertion `x' failed.", 2), ("", 1)):
            ended = [vm.Verdict(vm.DIED, "", Path("o"), 1, first), vm.Verdict(0, "", Path("o"), 1)]
            given = iter(ended)
            lab = SimpleNamespace(report=SimpleNamespace(line=str), start=lambda *a, g=given, **k:
                                  SimpleNamespace(wait=lambda seconds: next(g)))
            verdict = core.Lab._run_one(lab, Path("o"), [], {}, None)  # type: ignore[arg-type]
            self.assertIs(verdict, ended[starts - 1])


class ChrootTest(unittest.TestCase):
    """What a root sees of the host."""

    def test_environment(self) -> None:
        env = chroot.environment(Path("/c"), {"LD_PRELOAD": "x", "CARGO_HOME": "/h", "PATH": "/bad",
                                              "MAKEFLAGS": "-j"})
        self.assertEqual(env["CARGO_HOME"], "/h")
        self.assertNotIn("LD_PRELOAD", env)
        self.assertNotIn("MAKEFLAGS", env)
        self.assertTrue(env["PATH"].startswith("/usr/local"))

    def test_nested_binds(self) -> None:
        outer, inner = Path("/a"), Path("/a/b")
        self.assertTrue(chroot.enclosing(inner, [outer, inner]))
        self.assertFalse(chroot.enclosing(outer, [outer, inner]))


if __name__ == "__main__":
    unittest.main()
