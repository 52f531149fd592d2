# SPDX-License-Identifier: GPL-2.0
"""What the target and open-iscsi are told."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hostile  # noqa: E402,F401 - finds what follows
from hostile import simulator  # noqa: E402


class SettingsTest(unittest.TestCase):
    """open-iscsi has as much time as everybody else."""

    def test_scaled(self) -> None:
        """Times grow, and what is no time does not."""
        fast, slow = simulator.settings(1), simulator.settings(6)
        self.assertEqual(sorted(fast), sorted(slow))
        for name, value in fast.items():
            self.assertEqual(slow[name], value * 6 if "timeo." in name else value, name)
        self.assertEqual(slow["node.session.initial_login_retry_max"], 1)


if __name__ == "__main__":
    unittest.main()
