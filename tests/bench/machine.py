# SPDX-License-Identifier: GPL-2.0
"""Running one measurement in the lab's machine, and what it takes on the host."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import config, vm
from lab.cache import hash_files, key_of
from lab.core import Lab
from lab.report import LabError

HERE = Path(__file__).resolve().parent
PLUGIN = [HERE / "plugin/blocks.c", HERE / "plugin/qemu_api.h"]
CFLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]


class Bench:
    """A directory for results, and the module they are of."""

    def __init__(self, lab: Lab, out: Path, module: Path) -> None:
        self.lab, self.out = lab, out
        out.mkdir(parents=True, exist_ok=True)
        # A build meanwhile must change neither what runs nor what is read of it.
        self.module = Path(shutil.copy(module, out / "ib_iser_rs.ko"))
        self.complaints: list[str] = []      # of the kernels, in all machines so far

    def run(self, part: str, program: str, plan: Mapping[str, Any], timeout: float,
            **options: Any) -> dict[str, Any]:
        """Run bench.guest.PROGRAM with a plan; return the JSON it left."""
        where = self.out / part
        verdict = self.lab.run_one(self._prepare(where, plan), self._command(program),
                                   self._environment(where), timeout, **options)
        return self._result(where, self._judge(part, verdict))

    def run_two(self, name: str, plan: Mapping[str, Any], timeout: float,
                **options: Any) -> dict[str, Any]:
        """The same in two machines; the initiator's answer is the result."""
        where = self.out / name
        self._prepare(where / "initiator", plan)
        self._prepare(where / "target", plan)
        commands = {role: [*self._command(name), role] for role in ("target", "initiator")}
        verdicts = self.lab.run_two(
            where, commands, self._environment(where / "initiator"), timeout,
            {"target": _silence, "initiator": vm.to_stdout}, **options)
        complaints = [title for role, verdict in verdicts.items() for title in self._judge(role, verdict)]
        return self._result(where / "initiator", complaints)

    def plugin(self) -> Path:
        """The compiled QEMU plugin."""
        root = self.lab.roots.toolchain()
        key = key_of("plugin", root.name, CFLAGS, hash_files(PLUGIN))

        def build(target: Path) -> None:
            self.lab.roots.run(["gcc", *CFLAGS, "-o", str(target), str(PLUGIN[0])])
        return self.lab.cache.entry("plugin", key, build)

    def conditions(self) -> dict[str, str]:
        """What of this host belongs beside the numbers."""
        emulator = self.lab.roots.run(["qemu-system-x86_64", "--version"]).splitlines()[0]
        return {"qemu": emulator, "module sha256": hashlib.sha256(self.module.read_bytes()).hexdigest()[:16],
                "source": revision(), "kernel package": self.lab.versions.kernel}

    def _prepare(self, where: Path, plan: Mapping[str, Any]) -> Path:
        where.mkdir(parents=True, exist_ok=True)
        (where / "plan.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")
        shutil.copy(self.module, where / "measured.ko")
        return where

    @staticmethod
    def _command(name: str) -> list[str]:
        return ["python3", "-m", f"bench.guest.{name}"]

    @staticmethod
    def _environment(where: Path) -> dict[str, str]:
        top = config.checkout()
        return {"PYTHONPATH": f"{top}/scripts:{HERE.parent}", "ISER_MODULE": str(where / "measured.ko")}

    def _judge(self, name: str, verdict: vm.Verdict) -> list[str]:
        """What its kernel complained of: that fails the whole run, which goes on, since hours may be in it."""
        if verdict.status:
            vm.explain(self.lab.report, verdict, name)
            if not verdict.complained:
                raise LabError(f"{name} did not end well; its logs: {verdict.out}")
        titles = [report.title for report in verdict.reports]
        self.complaints += titles
        return titles

    @staticmethod
    def _result(where: Path, complaints: list[str]) -> dict[str, Any]:
        return {**json.loads((where / "result.json").read_text(encoding="utf-8")), "complaints": complaints}


def _silence(chunk: bytes) -> None:
    """Drop the target's output; its log has it."""
    del chunk


def revision() -> str:
    """The commit this is, marked if something differs from it."""
    done = subprocess.run(["git", "-c", f"safe.directory={config.checkout()}", "-C",
                           str(config.checkout()), "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    return done.stdout.strip() or "unknown"
