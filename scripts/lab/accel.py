# SPDX-License-Identifier: GPL-2.0
"""Whether this host can run the stock kernel under KVM.

/dev/kvm can be there, and open, and still not run a stock kernel. Only a real
boot to the guest's first command, under a time limit, says that it can; the
answer is kept for as long as the host's kernel and QEMU stay the same.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

from lab import config, vm
from lab.cache import Cache, key_of
from lab.report import Reporter


def choose(cache: Cache, report: Reporter, toolchain: Path, kernel: Path,
           boot: Callable[[str, int], vm.Verdict]) -> str:
    """Return `kvm` or `tcg`; `boot` runs `true` in a machine with an accelerator."""
    forced = os.environ.get("ISER_ACCEL")
    if forced:
        return forced
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    key = key_of("accel", platform.release(), platform.machine(), toolchain.name,
                 kernel.parent.name)

    def build(target: Path) -> None:
        verdict = boot("kvm", config.ACCEL_PROBE_SECONDS)
        good = verdict.status == 0
        target.write_text("kvm\n" if good else "tcg\n", encoding="utf-8")
        why = "works" if good else f"does not run this kernel ({verdict.reason or verdict.status})"
        report.line(f"KVM {why}; using {'KVM' if good else 'emulation (TCG)'} "
                    f"({verdict.seconds:.0f} s to find out)")

    return cache.entry("accel", key, build).read_text(encoding="utf-8").strip()
