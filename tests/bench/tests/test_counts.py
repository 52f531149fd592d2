# SPDX-License-Identifier: GPL-2.0
"""Snapshots, their differences, and the functions that they are resolved to."""

from __future__ import annotations

import struct
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import counts, inlines  # noqa: E402

KERNEL, MODULE = 0xffffffff81000000, 0xffffffffc0000000
ROWS = [
    f"{KERNEL:016x} T _text", f"{KERNEL:016x} T startup", f"{KERNEL + 0x100:016x} t __pfx_memcpy",
    f"{KERNEL + 0x100:016x} T memcpy", f"{KERNEL + 0x200:016x} d not_code",
    f"{MODULE:016x} t xmit\t[ib_iser]", f"{MODULE + 0x40:016x} t done\t[ib_iser]",
]


def snapshot(executions: dict[tuple[int, int], int], user: int = 0) -> counts.Snapshot:
    """A snapshot of blocks given as (address, instructions)."""
    return counts.Snapshot({counts.Block(a, n, False): v for (a, n), v in executions.items()}, user)


class Files(unittest.TestCase):
    """What the plugin writes is read, and nothing else is."""

    HEADER = struct.pack("<8s3Q", b"blocks1\0", 1, 70, 2)
    RECORD = struct.pack("<2Q2I", KERNEL, 9, 4, 1)

    def test_good(self) -> None:
        got = counts.parse(self.HEADER + self.RECORD)
        self.assertEqual(got, counts.Snapshot({counts.Block(KERNEL, 4, True): 9}, 70, 2))

    def test_bad(self) -> None:
        for data in (b"", self.HEADER, self.HEADER + self.RECORD + b"\0", b"x" * 64):
            with self.subTest(data=data[:8]), self.assertRaises(counts.Bad):
                counts.parse(data)


class Differences(unittest.TestCase):
    """What both runs do once falls out."""

    def test_fixed_cost(self) -> None:
        # A start costs 1000 executions, each I/O 2; before the first run there was something too.
        before = snapshot({(KERNEL, 5): 17}, user=1)
        middle = snapshot({(KERNEL, 5): 17 + 1000 + 2 * 100}, user=1 + 50 + 300)
        after = snapshot({(KERNEL, 5): 17 + 2000 + 2 * 300}, user=1 + 100 + 900)
        got = counts.second_difference(before, middle, after)
        self.assertEqual(got, snapshot({(KERNEL, 5): 200}, user=300))

    def test_new_block(self) -> None:
        got = counts.second_difference(snapshot({}), snapshot({(KERNEL, 1): 3}),
                                       snapshot({(KERNEL, 1): 6, (MODULE, 2): 4}))
        self.assertEqual(got, snapshot({(MODULE, 2): 4}))


class Resolving(unittest.TestCase):
    """Addresses become functions and modules."""

    def setUp(self) -> None:
        self.symbols = counts.Symbols(ROWS)

    def test_find(self) -> None:
        for address, name, entry in ((KERNEL + 0x100, "memcpy", True), (KERNEL + 0x210, "memcpy", False),
                                     (MODULE + 0x3f, "xmit", False), (MODULE + 0x40, "done", True),
                                     (MODULE + 0x40 + counts.FAR + 1, "(no symbol)", False),
                                     (1, "(no symbol)", False)):
            with self.subTest(address=hex(address)):
                function, first = self.symbols.find(address)
                self.assertEqual((function.name, first), (name, entry))

    def test_hidden(self) -> None:
        with self.assertRaises(counts.Bad):
            counts.Symbols([f"{0:016x} T _text"])

    def test_profile(self) -> None:
        difference = snapshot({(MODULE, 10): 100, (MODULE + 8, 3): 50, (KERNEL + 0x100, 7): 200},
                              user=1000)
        got = counts.resolve(difference, self.symbols, 100)
        self.assertEqual(got.of_module("ib_iser"), {"xmit": counts.Cost(11.5, 1.0)})
        self.assertEqual(got.modules(), {"ib_iser": 11.5, "vmlinux": 14.0, "user space": 10.0})
        self.assertEqual(got.total(), 35.5)

    def test_mean_and_names(self) -> None:
        one, two = (counts.resolve(snapshot({(MODULE, 10): n}), self.symbols, 10) for n in (10, 30))
        got = counts.rename(counts.mean([one, two]), {"xmit": "crate::xmit"})
        self.assertEqual(got.of_module("ib_iser"), {"crate::xmit": counts.Cost(20.0, 2.0)})


class Inlines(unittest.TestCase):
    """Blocks become instructions, and those places of the source."""

    FRAMES = """0x0000000000000010: core::ptr::write::<u8> at /s/rust/library/core/src/ptr/mod.rs:5
 (inlined by) <rdma[0123456789abcdef]::Send>::post at ./rust/rdma/send.rs:7 (discriminator 2)
 (inlined by) outer at ./rust/rdma/send.rs:9
0x0000000000000014: outer at /x/drivers/infiniband/ulp/iser_rs/a.rs:?
0x0000000000000018: ?? ??:0
"""

    def test_frames(self) -> None:
        self.assertEqual(inlines.parse_frames(self.FRAMES), [
            (inlines.Place("<rdma::Send>::post", "rust/rdma/send.rs"), "rust/rdma/send.rs:7"),
            (inlines.Place("outer", "drivers/infiniband/ulp/iser_rs/a.rs"),
             "drivers/infiniband/ulp/iser_rs/a.rs:?"),
            (inlines.Place("?", "?"), "?")])

    def test_instructions(self) -> None:
        starts = [0, 4, 6, 9, 15]
        got = inlines.instruction_counts(
            snapshot({(MODULE, 3): 10, (MODULE + 6, 2): 5, (KERNEL, 9): 99}), starts, MODULE)
        self.assertEqual(got, {0: 10, 4: 10, 6: 15, 9: 5})

    def test_base(self) -> None:
        listed = ("0000000000000000 l    d  .text\t0000000000000000 .text\n"
                  "0000000000000040 l     F .text\t000000000000002d done\n")
        known = inlines.addresses(ROWS, "ib_iser")
        self.assertEqual(known, {"xmit": MODULE, "done": MODULE + 0x40})
        self.assertEqual(inlines.base_of(known, listed), MODULE)
        with self.assertRaises(counts.Bad):
            inlines.base_of({}, listed)


if __name__ == "__main__":
    unittest.main()
