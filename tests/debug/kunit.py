#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Guest part of `make kunit`: load the module, pass on what its suites say.

KUnit runs a module's suites when it is loaded, and keeps each one's KTAP in
debugfs. A suite that the sources have and the kernel did not run is a failure,
and so is a DMA mapping that a suite has left. At the end the module is unloaded, and the
detectors that do not speak up by themselves are asked.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from lab.guest import detectors
from lab.guest.driver import Driver
from lab.guest.system import read
from lab.report import LabError

DEBUGFS = Path("/sys/kernel/debug/kunit")
MAPPINGS = Path("/sys/kernel/debug/dma-api")
SUITE = re.compile(r"kunit_tests\((\w+)\)")
RESULT = re.compile(r"^ *(not ok|ok) (\d+) ([^#]*?)(?: # (.*))?$")


def declared(top: Path) -> list[str]:
    """Names of the suites in the sources."""
    found = set()
    for base in ("rust", "drivers"):
        for path in (top / base).rglob("*.rs"):
            found.update(SUITE.findall(path.read_text(encoding="utf-8")))
    return sorted(found)


def cases(ktap: str) -> tuple[int, list[str]]:
    """How many cases of a suite's KTAP passed, and the names of those that did not."""
    good, bad = 0, []
    for row in ktap.splitlines():
        match = RESULT.match(row)
        if not match or not row.startswith("    "):
            continue
        if match[1] == "ok" and not (match[4] or "").startswith("SKIP"):
            good += 1
        else:
            bad.append(match[3])
    return good, bad


def mapped() -> int:
    """How many DMA mappings there are; nothing else in this machine makes any meanwhile."""
    if read(MAPPINGS / "disabled") != "N":
        raise LabError("the kernel does not count DMA mappings")
    return int(read(MAPPINGS / "nr_total_entries")) - int(read(MAPPINGS / "num_free_entries"))


def main() -> int:
    """Print KTAP of all suites; the status says whether all passed."""
    suites = declared(Path(os.environ["ISER_SRC"]))
    driver = Driver.from_env()
    driver.install()
    before = mapped()
    driver.load()
    left = mapped() - before
    print(f"KTAP version 1\n1..{len(suites) + 2}")
    failed = total = 0
    for number, name in enumerate(suites, 1):
        text = read(DEBUGFS / name / "results", "")
        good, bad = cases(text)
        for row in text.splitlines():
            if row.startswith("    "):
                print(row)
        total += good + len(bad)
        wrong = bool(bad) or not good
        failed += wrong
        why = "" if text else " # the kernel did not run it"
        print(f"{'not ok' if wrong else 'ok'} {number} {name}{why}", flush=True)
    print(f"{'not ok' if left else 'ok'} {len(suites) + 1} no DMA mapping is left # {left}, and {before} before")
    failed += bool(left)
    print(f"# {total} cases in {len(suites)} suites, {failed} suites failed")
    why = ""
    try:
        driver.unload()
        detectors.last_look()
    except LabError as exc:
        why = f" # {exc}"
        failed += 1
    print(f"{'not ok' if why else 'ok'} {len(suites) + 2} unload and scan for leaks{why}", flush=True)
    return 1 if failed or not suites else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as exc:
        print(f"Bail out! {exc}")
        sys.exit(1)
