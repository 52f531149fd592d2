# SPDX-License-Identifier: GPL-2.0
"""The test suite behind `make check`: stages, and the counting of what they report.

    results   what a test can come to, and how other programs say so
    tally     printing and counting results as they come
    process   running programs, with a log and a time limit
    stages    the stages, in order
    guest     the stage that runs tests/selftests in virtual machines

KTAP is read by the module that the tests write it with, in tests/selftests.
"""

import sys
from pathlib import Path

_SELFTESTS = str(Path(__file__).resolve().parents[2] / "tests/selftests")
if _SELFTESTS not in sys.path:
    sys.path.append(_SELFTESTS)
