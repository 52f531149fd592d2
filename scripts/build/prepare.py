#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Print the kernel build directory to use for KDIR, made ready for Rust modules.

Called by the Makefile. Checks what is installed, and rebuilds the metadata of the
kernel's Rust crates where the kernel's packages lack it.
"""

import signal
import sys

import kdir
import metadata
from progress import BuildError


def main(argv):
    if len(argv) != 2:
        print("usage: prepare.py KDIR", file=sys.stderr)
        return 2
    # An ended build cleans up after itself: let `finally` run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        directory = kdir.Kdir(argv[1])
        kdir.check(directory)
        print(metadata.build_directory(directory))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
