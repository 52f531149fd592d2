# SPDX-License-Identifier: GPL-2.0
"""The command line of the lab: one verb each for what a person may want."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lab import apt, chroot, config
from lab.cache import Cache
from lab.report import LabError, Reporter
from lab.roots import Roots


class Lab:
    """What every verb needs, made when it is first asked for."""

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.cache = Cache(config.cache_dir())
        self._versions: apt.Versions | None = None

    @property
    def versions(self) -> apt.Versions:
        """Apt's answer, asked for once per process."""
        if self._versions is None:
            self._versions = apt.versions(self.cache, self.report)
        return self._versions

    @property
    def roots(self) -> Roots:
        """The roots for those versions."""
        return Roots(self.cache, self.versions, self.report)


def toolchain_exec(lab: Lab, argv: list[str]) -> int:
    """Replace this process by a command in the toolchain root."""
    if not argv:
        argv = ["/bin/bash"]
    cwd = Path.cwd()
    if chroot.inside():
        os.execvp(argv[0], argv)
    root = lab.roots.toolchain()
    binds = [config.checkout()]
    if not any(cwd.is_relative_to(b) for b in (*binds, lab.cache.root)):
        cwd = config.checkout()
    full = chroot.command(root, lab.cache.root, argv, cwd, binds)
    env = chroot.environment(lab.cache.root, dict(os.environ))
    env.setdefault("ISER_RELEASE", lab.versions.release)
    lab.cache.inherit()
    sys.stdout.flush()
    os.execvpe(full[0], full, env)


def cmd_toolchain(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `toolchain`: build the root, print things about it, run in it."""
    what = args.what
    if what == "exec":
        rest = args.rest[1:] if args.rest[:1] == ["--"] else args.rest
        return toolchain_exec(lab, rest)
    if what == "release":
        print(lab.versions.release)
    elif what == "kdir":
        print(f"/usr/src/linux-headers-{lab.versions.release}")
    elif what == "path":
        print(lab.roots.toolchain())
    elif what == "update":
        lab._versions = apt.versions(lab.cache, lab.report, refresh=True)
        lab.roots.toolchain()
    else:
        lab.report.line(f"toolchain root for {lab.versions.release}: {lab.roots.toolchain()}")
        lab.report.line("next: iser-lab toolchain exec -- make")
    return 0


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="iser-lab", description="Roots and virtual machines for ib_iser_rs.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    tool = verbs.add_parser("toolchain", help="the root that builds: build, exec -- CMD, "
                            "release, kdir, path, update")
    tool.add_argument("what", nargs="?", default="build",
                      choices=("build", "exec", "release", "kdir", "path", "update"))
    tool.add_argument("rest", nargs=argparse.REMAINDER)
    tool.set_defaults(run=cmd_toolchain)
    return top


def main(argv: list[str]) -> int:
    """Run one verb; a LabError becomes one line and exit status 2."""
    args = parser().parse_args(argv)
    # Answers of the toolchain verb are for scripts: progress goes to stderr.
    quiet = args.verb == "toolchain"
    report = Reporter(sys.stderr if quiet else sys.stdout)
    try:
        return int(args.run(Lab(report), args))
    except LabError as exc:
        print(f"iser-lab: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("iser-lab: interrupted", file=sys.stderr)
        return 130
