# SPDX-License-Identifier: GPL-2.0
"""The part of the benchmark that runs in the virtual machine."""
