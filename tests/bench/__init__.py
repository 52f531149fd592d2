# SPDX-License-Identifier: GPL-2.0
"""Measuring ib_iser_rs against the C driver; `tests/bench/run --help` tells how."""
