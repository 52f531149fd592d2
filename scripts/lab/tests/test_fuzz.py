# SPDX-License-Identifier: GPL-2.0
"""The fuzzer's targets and the files of its corpus."""

import unittest

from lab import config, fuzzverb

MANIFEST = '''\
[package]
name = "fuzz"

[[bin]]
name = "wire"
path = "targets/wire.rs"

[[bin]]
name = "slot_state"
path = "targets/slot_state.rs"
'''


class FuzzTest(unittest.TestCase):
    """What is read from files and written to them."""

    def test_targets(self) -> None:
        """The programs, and not the package."""
        self.assertEqual(fuzzverb.targets(MANIFEST), ["wire", "slot_state"])

    def test_a_corpus_is_the_same_whatever_the_order(self) -> None:
        """Short inputs first; none twice, and not the empty one."""
        text = fuzzverb.corpus_text([b"\x10\x00", b"", b"\xff", b"\x01", b"\xff"])
        self.assertEqual(text, f"{fuzzverb.HEADER}01\nff\n1000\n")
        self.assertEqual(fuzzverb.inputs(text), [b"\x01", b"\xff", b"\x10\x00"])

    def test_each_target_has_a_corpus_and_a_source(self) -> None:
        """What is in the checkout fits together."""
        crate = config.checkout() / fuzzverb.CRATE
        names = fuzzverb.targets((crate / "Cargo.toml").read_text(encoding="utf-8"))
        self.assertTrue(names)
        self.assertEqual(sorted(names), sorted(p.stem for p in (crate / "targets").iterdir()))
        found = sorted(p.name for p in (config.checkout() / fuzzverb.CORPUS).iterdir())
        self.assertEqual(sorted(names), found)


if __name__ == "__main__":
    unittest.main()
