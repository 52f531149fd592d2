# SPDX-License-Identifier: GPL-2.0
"""The lab: roots, kernels and virtual machines, made from apt alone.

`python3 -m lab` (with `scripts/` in PYTHONPATH) or `scripts/iser-lab` is the
entry point; `lab.guest` is the part that runs inside the virtual machine, or
on a real one.
"""
