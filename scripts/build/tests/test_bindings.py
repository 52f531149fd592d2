# SPDX-License-Identifier: GPL-2.0
"""Keeping the types of two sets of bindings, and the symbols of two builds, apart."""

from __future__ import annotations

import unittest

from build import blocklist, probe, symbols
from build.tests.fake import RUSTC, KernelCase

KERNEL = """\
#[repr(C)]
#[derive(Default, Copy, Clone)]
pub struct list_head {
    pub next: *mut list_head,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ib_device {
    _unused: [u8; 0],
}
#[repr(transparent)]
pub struct dma_data_direction(pub ffi::c_uint);
pub type gfp_t = ffi::c_uint;
pub struct lock_class_key {}
pub struct net {
    _unused: [u8; 0],
}
"""
OURS = """\
#[repr(C)]
pub struct ib_device {
    pub name: ffi::c_int,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct net {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ib_cm_id {
    _unused: [u8; 0],
}
#[repr(C)]
pub struct __BindgenBitfieldUnit<Storage> {
    storage: Storage,
}
unsafe extern "C" {
    pub fn ib_free_cq(cq: *mut ib_cq);
}
"""


class Blocklist(unittest.TestCase):
    """One definition of each type."""

    def test_nominal_types(self) -> None:
        self.assertEqual(blocklist.nominal_types(KERNEL),
                         ({"list_head", "dma_data_direction", "lock_class_key"}, {"ib_device", "net"}))
        self.assertEqual(blocklist.nominal_types(OURS), ({"ib_device"}, {"net", "ib_cm_id"}))

    def test_functions(self) -> None:
        self.assertEqual(blocklist.functions(OURS), {"ib_free_cq"})

    def test_arguments_in_pieces(self) -> None:
        names = [f"type_{number:05}" for number in range(4000)]
        args = blocklist.blocklist_args("--block", names)
        self.assertTrue(all(len(arg) <= blocklist.CHUNK for arg in args))
        self.assertEqual("|".join(args[1::2]).split("|"), names)

    def test_only_declared_twice_is_one_type(self) -> None:
        text, twice = blocklist.reconcile(KERNEL, OURS)
        self.assertEqual(twice, [])
        self.assertNotIn("pub struct net ", text)
        self.assertIn("pub struct ib_cm_id ", text)
        self.assertIn("pub struct ib_device ", text)

    def test_defined_twice(self) -> None:
        again = OURS + "pub struct list_head {\n    pub prev: *mut list_head,\n}\n"
        self.assertEqual(blocklist.reconcile(KERNEL, again)[1], ["list_head"])


class Probe(unittest.TestCase):
    """The same without the kernel's generated source."""

    ours = OURS + (
        "pub type gfp_t = ffi::c_uint;\npub type dma_data_direction = ffi::c_uint;\n"
        "pub struct list_head {\n    pub next: *mut list_head,\n}\npub struct lock_class_key {}\n\n"
    )
    answers = {
        "ib_device": probe.DECLARED, "net": probe.DECLARED, "ib_cm_id": probe.ABSENT,
        "gfp_t": probe.PRIMITIVE, "dma_data_direction": probe.DEFINED, "list_head": probe.DEFINED,
        "lock_class_key": probe.DEFINED,
    }

    def test_candidates(self) -> None:
        self.assertEqual(probe.candidates(self.ours), sorted(self.answers))

    def test_types(self) -> None:
        section = bytes(self.answers[name] for name in probe.candidates(self.ours))
        stubs = probe.types(self.ours, section)
        self.assertEqual(blocklist.nominal_types(stubs), blocklist.nominal_types(KERNEL))

    def test_wrong_section(self) -> None:
        with self.assertRaises(ValueError):
            probe.types(self.ours, b"\0")

    def test_source(self) -> None:
        text = probe.source(self.ours)
        self.assertIn("    pub type list_head = Absent;\n", text)
        self.assertIn("static SORTED: [u8; 7]", text)
        self.assertNotIn("%(", text)


PRINT = "_RNvNtCsabc_6kernel5print11call_printk"
PRINT_ELSEWHERE = "_RNvNtCsxyz_6kernel5print11call_printk"
OTHER = "_RNvNtCsabc_6kernel3new8function"


class Symbols(KernelCase):
    """The message says which of compiler and source differs."""

    def test_reading(self) -> None:
        listing = f"                 U {PRINT}\n                 U printk\n\n"
        self.assertEqual(symbols.undefined_rust(listing), {PRINT})
        symvers = f"0x0\t{PRINT}\tvmlinux\tEXPORT_SYMBOL_GPL\t\nbroken\n"
        self.assertEqual(symbols.exported(symvers), {PRINT})
        self.assertEqual(symbols.crate_of(PRINT), "kernel")
        self.assertEqual(symbols.crate_of("_Rodd"), "unknown crate")

    def test_compiler(self) -> None:
        text = symbols.difference({OTHER}, {PRINT}, RUSTC, "rustc 1.86.0", "linux-source")
        self.assertRegex(text, r"^the compiler: .*1\.85\.1.*1\.86\.0")

    def test_hash_only(self) -> None:
        text = symbols.difference({PRINT_ELSEWHERE}, {PRINT}, RUSTC, RUSTC, "linux-source")
        self.assertTrue(text.startswith("the compiler"))

    def test_source(self) -> None:
        text = symbols.difference({OTHER}, {PRINT}, RUSTC, RUSTC, "linux-source-7.3 7.3.4-1")
        self.assertIn("compiled here from linux-source-7.3 7.3.4-1", text)
        text = symbols.difference({OTHER}, {PRINT}, RUSTC, RUSTC, "")
        self.assertIn("not from one build", text)

    def test_message(self) -> None:
        missing = {f"_RNvCsabc_6kernel{number:02}" for number in range(9)}
        text = symbols.message(missing, 20, self.kdir(), "the source")
        self.assertIn("does not export 9 of the 20", text)
        self.assertIn("and 4 more", text)
        self.assertIn("7.3.4-1~bpo13+1", text)


if __name__ == "__main__":
    unittest.main()
