# SPDX-License-Identifier: GPL-2.0
"""The verb `peers`: a target in a machine of its own, which dies, hangs and comes back."""

from __future__ import annotations

import argparse

from lab import config, debugkernel, resume, verbs, vm
from lab.core import Lab
from lab.pair import Pair
from lab.resume import every  # which knows where it is

DIRECTORY = "tests/selftests"
# Each test has a limit of its own; this one is for a machine that has stopped.
SECONDS = 2400
# Two at once; none of them holds much.
MEMORY_MIB = 1536


def run_target(lab: Lab, args: argparse.Namespace, target: str) -> tuple[resume.Tests, int]:
    """The tests with one target, in as many pairs of machines as it takes."""
    programs = every.programs(variable="TEST_PROGS_EXTENDED")
    tests = resume.Tests(resume.listed(config.checkout() / DIRECTORY, programs, args.only, target))
    debug = args.kernel == "debug"
    slowness = debugkernel.SLOWNESS if debug else 1
    options: dict[str, object] = {"kernel_choice": args.kernel, "accel": lab.accel()}
    if not debug:
        options["memory"] = MEMORY_MIB
    command = [str(config.checkout() / DIRECTORY / "run")]
    for pattern in args.only:
        command += ["--only", pattern]
    status, more = 0, True
    while more:
        out = vm.results_dir(lab.cache, f"peers-{target}")
        lab.report.line(f"{target}: machines: starting ({str(options['accel']).upper()}); logs: {out}")
        tests.begin()
        env = {"ISER_DRIVER": args.driver, "ISER_TARGET": target, "ISER_DONE": " ".join(tests.done),
               "ISER_SLOWNESS": str(slowness), "ISER_RDMA": args.rdma}
        pair = Pair(lab, out, env, options)
        verdict = pair.run([*command, *tests.programs()], SECONDS * slowness, tests.sink(vm.to_stdout))
        more = tests.ended(verdict.reason)
        if verdict.status:
            status = verdict.status
            vm.explain(lab.report, verdict)
    return tests, status or int(bool(tests.failed))


def cmd_peers(lab: Lab, args: argparse.Namespace) -> int:
    """Verb `peers`: run these tests with each target."""
    verbs.prepare(lab, args.driver)
    if args.rdma == "siw":
        args.kernel = "debug"       # no other has siw
    if args.kernel == "debug":
        debugkernel.kernel(lab.roots)
        lab.module("debug")
    failed = 0
    for target in (args.target,) if args.target else ("lio", "tgt"):
        tests, status = run_target(lab, args, target)
        failed = failed or status
        for name in tests.failed:
            lab.report.line(f"failed: {name}")
        lab.report.line(f"peers on {target}: {'FAILED' if status else 'OK'}: {tests.summary()}")
    return failed


def add_verbs(add: object) -> None:
    """Add the verb to the command line."""
    verb = add("peers", help="a target in a machine of its own dies, hangs and comes back")  # type: ignore[operator]
    verb.add_argument("--kernel", choices=("stock", "debug"), default="stock")
    verb.add_argument("--driver", choices=("rust", "c"), default="rust")
    verb.add_argument("--rdma", choices=("rxe", "siw"), default="rxe",
                      help="the RDMA device: RoCE or iWARP, in software; siw is for the instrumented kernel")
    verb.add_argument("--target", choices=("lio", "tgt"), default="", help="only with this one")
    verb.add_argument("--only", action="append", default=[], metavar="PATTERN",
                      help="only tests whose name (program/target.test) has this part")
    verb.set_defaults(run=cmd_peers)
