# SPDX-License-Identifier: GPL-2.0
"""Which tasks are taken for stuck, told by files as /proc has them."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import stuck  # noqa: E402

OURS = ("[<0>] wait_for_completion+0x1/0x2\n[<0>] _RNvEndpoint7release+0x3/0x4 [ib_iser_rs]\n"
        "[<0>] process_one_work+0x5/0x6")
# A load that waits for its data, and LIO for a command of its own.
LOAD = "[<0>] io_schedule+0x1/0x2\n[<0>] blkdev_direct_IO+0x3/0x4"
TARGET = "[<0>] target_wait_for_cmds+0x1/0x2 [target_core_mod]\n[<0>] isert_wait_conn+0x3/0x4 [ib_isert]"


class StuckTest(unittest.TestCase):
    """State, and whose function is on the stack."""

    def found(self, *tasks: tuple[str, str, str], function: str = "") -> list[str]:
        """What is found among tasks of which name, state and stack are given."""
        with tempfile.TemporaryDirectory() as name:
            for number, (comm, state, stack) in enumerate(tasks, 7):
                path = Path(name) / str(number) / "task" / str(number)
                path.mkdir(parents=True)
                (path / "comm").write_text(comm + "\n", encoding="ascii")
                (path / "stat").write_text(f"{number} ({comm}) {state} 2 0 0", encoding="ascii")
                (path / "stack").write_text(stack, encoding="ascii")
            return stuck.tasks("ib_iser_rs", Path(name), function)

    def test_ours(self) -> None:
        """It is named, with where it waits."""
        self.assertEqual(self.found(("kworker/0:1", "D", OURS), ("fio", "D", LOAD)), [
            "task 7 (kworker/0:1) waits: wait_for_completion+0x1/0x2; "
            "_RNvEndpoint7release+0x3/0x4 [ib_iser_rs]; process_one_work+0x5/0x6"])

    def test_the_class(self) -> None:
        """libiscsi and the transport class are looked at, too; a name may have parentheses."""
        self.assertEqual(len(self.found(("a) R (b", "D", "[<0>] iscsi_host_remove+0x1/0x2 [libiscsi]"))), 1)

    def test_others(self) -> None:
        """Whoever can be woken is not stuck, and what others wait for is not ours."""
        self.assertEqual(self.found(("iscsid", "S", OURS), ("fio", "D", LOAD), ("iscsi_np", "D", TARGET)), [])

    def test_a_function(self) -> None:
        """By its whole name, whoever waits below it is found, too."""
        task = ("fio", "D", LOAD)
        self.assertEqual(len(self.found(task, function="blkdev_direct_IO")), 1)
        self.assertEqual(self.found(task, function="direct_IO"), [])


if __name__ == "__main__":
    unittest.main()
