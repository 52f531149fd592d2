# SPDX-License-Identifier: GPL-2.0
"""What the build needs beyond Kbuild; called by the Makefile and by Kbuild rules.

Python's standard library only. `kbuild` finds the kernel to build for and runs
make there, `metadata` makes the metadata of the kernel's crates where it lacks,
`blocklist`, `probe` and `symbols` are steps of Kbuild rules, `install` and `lint`
are verbs of the Makefile.
"""
