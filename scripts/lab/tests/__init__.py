# SPDX-License-Identifier: GPL-2.0
"""Tests of the lab that need no virtual machine.

    PYTHONPATH=scripts python3 -m unittest discover -s scripts/lab/tests -t scripts
"""
