# SPDX-License-Identifier: GPL-2.0
"""What `make soak` is made of: hours of verified load, and one fault after another meanwhile.

    plan      from a seed the sequence of faults; pure
    rig       target, wire, session and load; what must hold after each fault
    load      what writes, reads back and compares
    line      faults of the network
    ends      faults of target, daemon, machine and session
    tasks     faults of commands and of memory
    record    what was injected and survived, and the table of it; pure
    program   runs the plan, and reports in KTAP

The rest is that of tests/selftests, which is found in the same checkout.
"""

import os
import sys

SELFTESTS = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../selftests"))
if SELFTESTS not in sys.path:
    sys.path.append(SELFTESTS)

import harness  # noqa: E402,F401 - finds `lab`
