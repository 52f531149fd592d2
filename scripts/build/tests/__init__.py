# SPDX-License-Identifier: GPL-2.0
"""Tests of the build that need no kernel.

    PYTHONPATH=scripts python3 -m unittest discover -s scripts/build/tests -t scripts
"""
