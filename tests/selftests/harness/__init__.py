# SPDX-License-Identifier: GPL-2.0
"""What the test programs of this directory are made with.

    ktap      the form of the results, written and read
    case      what a test is: a function with a time limit, for some targets
    program   runs the tests of one program and judges each
    env       driver, network, target and sessions, as a test asks for them
    kernlog   which reports in the kernel log fail a test, and which are known
    leftover  what a driver may have left behind
    sgio      SCSI commands through SG_IO, from memory at any offset
    tasks     how much task management a session has sent, and had answered
    data      bytes that are found again only where they belong
    memory    how much of the kernel's memory is in use
    slow      a disk that can be made to stop
    outage    a session over a wire that can be cut, and load meanwhile
    faults    what is broken on purpose in more than one program
    peers     a target in a machine of its own, which dies, hangs and comes back
    probe     how often functions of the kernel were called
    inject    allocations that fail on purpose
    every     the runner: all programs of one machine, one after another

The network, the targets and open-iscsi are handled by `lab.guest`, which the
demo and the benchmarks use too; it is found in scripts/ of the same checkout.
"""

import os
import sys

_SCRIPTS = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../../scripts"))
if os.path.isdir(os.path.join(_SCRIPTS, "lab")) and _SCRIPTS not in sys.path:
    sys.path.insert(0, _SCRIPTS)
