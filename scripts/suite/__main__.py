# SPDX-License-Identifier: GPL-2.0
"""Run the test suite: `python3 -m suite`."""

import sys

from suite.stages import main

sys.exit(main(sys.argv[1:]))
