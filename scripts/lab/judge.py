# SPDX-License-Identifier: GPL-2.0
"""The host's judgement of a machine: whatever ran in it, no kernel may have complained.

Every run ends here: the kernel log from the start of the machine's command to its end,
without what is said of allocations that were to fail, and what kmemleak found, if the run
left it in its results. A report that is not on the list (`lab.kreport`) fails the run. A
test in the machine may have failed for it already: then it is named here, and not told again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lab import kmsg, kreport, vm
from lab.guest import detectors
from lab.kreport import Report
from lab.report import Reporter
from lab.resume import ktap  # which knows where it is

# Of a report with more lines than this, the first ones are printed, and of more reports their titles.
SHOWN_LINES, SHOWN_REPORTS = 120, 3


def found_in(out: Path) -> list[Report]:
    """The reports of the machine whose results these are."""
    console, kmemleak = out / "console.log", out / detectors.FOUND
    rows: list[str] = []
    if console.exists():
        rows = console.read_text(encoding="utf-8", errors="replace").splitlines()
    found = kreport.of_log(kmsg.without_dumps(kmsg.after_boot(rows)))
    if kmemleak.is_file():
        found += kreport.leaks(kmemleak.read_text(encoding="utf-8", errors="replace"))
    return found


def judge(verdict: vm.Verdict, others: Iterable[Path] = ()) -> vm.Verdict:
    """Add to a verdict what its kernel has said, and kernels whose results are in `others`."""
    found = [report for out in (verdict.out, *others) for report in found_in(out)]
    verdict.reports, verdict.known = kreport.judge(found, kreport.known())
    if verdict.reports and not verdict.status:
        verdict.status = vm.COMPLAINED
    return verdict


def failures(output: str) -> set[str]:
    """The tests that failed in a machine, as marks in the kernel log name them."""
    reader = ktap.Reader()
    return {result.name for row in output.splitlines() for result in reader.feed(row) if result.outcome == ktap.FAIL}


def told(report: Report, output: str, failed: set[str]) -> bool:
    """Whether a test has failed meanwhile, or what ran in the machine has printed the report."""
    return (report.mark in failed or report.entry().splitlines()[0] in output
            or kreport.text_of(report.rows[0]).strip() in output)


def tell(say: Reporter, verdict: vm.Verdict) -> None:
    """Print the reports of a run: in full those that nobody has failed for."""
    for (title, _), count in Counter(report.identity for report in verdict.known).items():
        say.line(f"kernel: known report, {count} times, see {kreport.LIST}: {title}")
    output = verdict.out / "output.log"
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    failed = failures(text)
    shown = 0
    counts = Counter(report.identity for report in verdict.reports)
    for report in verdict.reports:
        if not (times := counts.pop(report.identity, 0)):
            continue
        where = f" (in {report.mark})" if report.mark else ""
        where += f", {times} times" if times > 1 else ""
        if not verdict.complained and told(report, text, failed):
            say.line(f"kernel: a test has failed for it, see above: {report.title}{where}")
            continue
        say.line(f"{vm.UNTOLD}{report.title}{where}")
        shown += 1
        if shown <= SHOWN_REPORTS:
            say.text("\n".join(report.rows[:SHOWN_LINES]))
            say.line(f"as an entry of {kreport.LIST}, if it is proven to be another's:")
            say.text(report.entry())
