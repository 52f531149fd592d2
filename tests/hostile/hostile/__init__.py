# SPDX-License-Identifier: GPL-2.0
"""What the tests with a hostile target are made with.

    simulator  the target: a process that follows orders
    said       what iscsid, libiscsi and iscsiadm say where the driver is silent
    rows       tests that are a row of a table: what the target does, what must hold

The rest is that of tests/selftests, which is found in the same checkout.
"""

import os
import sys

SELFTESTS = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../selftests"))
if SELFTESTS not in sys.path:
    sys.path.append(SELFTESTS)

import harness  # noqa: E402,F401 - finds `lab`
