# SPDX-License-Identifier: GPL-2.0
"""What is run again, and what counts as failed, when a machine ends early."""

import unittest

from lab import resume

TESTS = {"pdus": ["pdus/a", "pdus/b", "pdus/c"], "keys": ["keys/x"]}
HEAD = "KTAP version 1\n1..2\n"
PDUS = "  KTAP version 1\n  # Subtest: pdus\n  1..5\n  ok 1 setup\n"
KEYS = ("  KTAP version 1\n  # Subtest: keys\n  1..3\n  ok 1 setup\n  ok 2 x\n  ok 3 end\n"
        "ok 2 keys\n")


class ResumeTest(unittest.TestCase):
    """The output of machines, and what follows from it."""

    def setUp(self) -> None:
        """A run that has not begun."""
        self.tests = resume.Tests(TESTS)
        self.shown = b""

    def feed(self, text: str, size: int = 7) -> None:
        """Output comes in pieces of any size."""
        def keep(chunk: bytes) -> None:
            self.shown += chunk
        sink = self.tests.sink(keep)
        data = text.encode()
        for at in range(0, len(data), size):
            sink(data[at:at + size])
        self.assertEqual(self.shown, data)

    def test_all_is_well(self) -> None:
        """One machine runs everything."""
        self.feed(HEAD + PDUS + "  ok 2 a\n  ok 3 b\n  ok 4 c\n  ok 5 end\nok 1 pdus\n" + KEYS)
        self.assertFalse(self.tests.ended(""))
        self.assertEqual(self.tests.programs(), [])
        self.assertEqual(self.tests.summary(), "8 passed, 0 failed")

    def test_a_machine_dies(self) -> None:
        """The test that ran has failed; the next machine does the rest."""
        self.feed(HEAD + PDUS + "  ok 2 a\n  # half of b\n")
        self.assertTrue(self.tests.ended("the guest kernel panicked"))
        self.assertEqual(self.tests.failed, ["pdus/b: the guest kernel panicked"])
        self.assertEqual(self.tests.done, ["pdus/a", "pdus/b"])
        self.assertEqual(self.tests.programs(), ["pdus.py", "keys.py"])

    def test_it_dies_at_the_end_of_a_program(self) -> None:
        """That is the program's own failure."""
        self.feed(HEAD + PDUS + "  ok 2 a\n  ok 3 b\n  ok 4 c\n")
        self.assertTrue(self.tests.ended("died"))
        self.assertEqual(self.tests.failed, ["pdus/end: died"])
        self.assertEqual(self.tests.programs(), ["keys.py"])

    def test_it_bails_out(self) -> None:
        """A state that nobody can clean up: the test has a result, the rest gets a machine."""
        self.feed(HEAD + PDUS + "  not ok 2 a # TIMEOUT\n  # Bail out! pdus/a cannot be ended\n"
                  "not ok 1 pdus\nBail out! pdus/a cannot be ended\n")
        self.assertTrue(self.tests.ended(""))
        self.assertEqual(self.tests.failed, ["pdus/a"])
        self.assertEqual(self.tests.programs(), ["pdus.py", "keys.py"])

    def test_lockdep_goes_off(self) -> None:
        """The rest gets a machine, and nothing has failed."""
        self.feed(HEAD + PDUS + "  ok 2 a\n  ok 3 b\n  ok 4 c\n  ok 5 end\nok 1 pdus\n"
                  "Bail out! to be continued: lockdep went off in pdus\n")
        self.assertTrue(self.tests.ended(""))
        self.assertEqual((self.tests.failed, self.tests.programs()), ([], ["keys.py"]))

    def test_nothing_begins(self) -> None:
        """A machine that never gets to a test is not tried again."""
        self.feed("no KTAP here\n")
        self.assertFalse(self.tests.ended("the time limit"))
        self.assertEqual(self.tests.failed[0], "the time limit")
        self.assertEqual(len(self.tests.failed), 5)

    def test_a_program_breaks_off(self) -> None:
        """What it did not come to has failed."""
        self.feed(HEAD + PDUS + "  ok 2 a\nnot ok 1 pdus\n" + KEYS)
        self.assertFalse(self.tests.ended(""))
        self.assertEqual(self.tests.failed, ["pdus/b: never ran", "pdus/c: never ran"])

    def test_tests_that_fail(self) -> None:
        """They are no reason for another machine."""
        self.feed(HEAD + PDUS + "  not ok 2 a\n  ok 3 b # XFAIL known\n  ok 4 c\n  ok 5 end\nnot ok 1 pdus\n" + KEYS)
        self.assertFalse(self.tests.ended(""))
        self.assertEqual(self.tests.failed, ["pdus/a"])
        self.assertEqual(self.tests.summary(), "6 passed, 1 failed, 1 differ")


if __name__ == "__main__":
    unittest.main()
