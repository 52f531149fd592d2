# SPDX-License-Identifier: GPL-2.0
"""The lab as one object: cache, versions, roots, kernel, and machines."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lab import accel, apt, config, debugkernel, judge, kernel, qemu, tsc, vm
from lab.cache import Cache
from lab.report import LabError, Reporter
from lab.roots import Roots


def stage_module(built: Path, out: Path) -> dict[str, str]:
    """Copy the module into the results: a build meanwhile must not change it."""
    if not built.is_file():
        return {}
    out.mkdir(parents=True, exist_ok=True)
    return {"ISER_MODULE": shutil.copy(built, out)}


class Lab:
    """What every verb needs, made when it is first asked for."""

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.cache = Cache(config.cache_dir())
        self._versions: apt.Versions | None = None
        self._accel: str | None = None
        self._debug_module: Path | None = None

    @property
    def versions(self) -> apt.Versions:
        """Apt's answer, asked for once per process."""
        if self._versions is None:
            self._versions = apt.versions(self.cache, self.report)
        return self._versions

    def refresh(self) -> None:
        """Ask apt again, however fresh the last answer is."""
        self._versions = apt.versions(self.cache, self.report, refresh=True)

    @property
    def roots(self) -> Roots:
        """The roots for those versions."""
        return Roots(self.cache, self.versions, self.report)

    def kernel(self, choice: str | None = None) -> kernel.Kernel:
        """The stock kernel, the instrumented one, or that in a directory with its parts."""
        if choice in (None, "", "stock"):
            return kernel.stock(self.roots)
        if choice == "debug":
            return debugkernel.kernel(self.roots)
        where = Path(str(choice)).absolute()
        found = kernel.Kernel(where.name, where / "vmlinuz", where / "modules.img",
                              where / "initramfs.gz")
        for path in (found.image, found.modules, found.initramfs):
            if not path.exists():
                raise LabError(f"{path} does not exist; a kernel directory holds vmlinuz, "
                               "modules.img and initramfs.gz")
        return found

    def module(self, choice: str | None = None) -> Path:
        """The module for that kernel; that for the instrumented one is built, once a process."""
        if choice != "debug":
            return config.checkout() / "ib_iser_rs.ko"
        if self._debug_module is None:
            self._debug_module = debugkernel.build_module(self.roots)
        return self._debug_module

    def machine(self, out: Path, choice: str | None = None, **kwargs: object) -> qemu.Machine:
        """A machine with that kernel, whose results go to `out`."""
        k = self.kernel(choice)
        if choice == "debug":
            kwargs.setdefault("memory", debugkernel.MEMORY_MIB)
            kwargs["append"] = (*debugkernel.APPEND, *kwargs.get("append", ()))  # type: ignore[misc]
        made = qemu.Machine(kernel=k.image, initramfs=k.initramfs, modules=k.modules,
                            root=self.roots.guest_image(), source=config.checkout(), out=out,
                            tsc_khz=tsc.host_khz())
        return replace(made, **kwargs)  # type: ignore[arg-type]

    def accel(self) -> str:
        """The accelerator to use here."""
        if self._accel is None:
            stock = self.kernel()

            def probe(name: str, seconds: int) -> vm.Verdict:
                out = vm.results_dir(self.cache, "accel-probe")
                return self._run_one(out, ["true"], {}, seconds, accel=name, sink=None)
            self._accel = accel.choose(self.cache, self.report, self.roots.toolchain(),
                                       stock.image, probe)
        return self._accel

    def start(self, out: Path, command: list[str], env: Mapping[str, str], *,
              hostname: str = "iser", kernel_choice: str | None = None,
              sink: Callable[[bytes], None] | None = vm.to_stdout,
              **kwargs: object) -> vm.Running:
        """Start a machine that runs `command`."""
        if "accel" not in kwargs:
            kwargs["accel"] = self.accel()
        interactive = bool(kwargs.get("interactive"))
        env = {"TERM": os.environ.get("TERM", "dumb"),
               **stage_module(self.module(kernel_choice), out), **env}
        vm.prepare(out, command, env, hostname, interactive)
        machine = self.machine(out, kernel_choice, **kwargs)
        return vm.Running(self.cache, self.roots.toolchain(), machine, sink)

    def judged(self, verdict: vm.Verdict, others: Iterable[Path] = ()) -> vm.Verdict:
        """Judge the kernel log of a run, and of other machines that took part; say what it has."""
        judge.judge(verdict, others)
        judge.tell(self.report, verdict)
        return verdict

    def run_one(self, out: Path, command: list[str], env: Mapping[str, str],
                timeout: float | None, **kwargs: object) -> vm.Verdict:
        """Run one machine to its end, and judge it."""
        return self.judged(self._run_one(out, command, env, timeout, **kwargs))

    def _run_one(self, out: Path, command: list[str], env: Mapping[str, str],
                 timeout: float | None, **kwargs: object) -> vm.Verdict:
        """Run one machine to its end.

        Seldom, QEMU fails an assertion of its own while a guest on several emulated
        processors looks for its devices (iotlb_to_section, seen once with QEMU
        10.0.13). Nothing has run then, and the machine is started once more.
        """
        verdict = self.start(out, command, env, **kwargs).wait(timeout)  # type: ignore[arg-type]
        if verdict.emulator:
            self.report.line(f"machine: once more, since {verdict.emulator}")
            verdict = self.start(out, command, env, **kwargs).wait(timeout)  # type: ignore[arg-type]
        return verdict

    def run_two(self, out: Path, commands: Mapping[str, list[str]], env: Mapping[str, str],
                timeout: float, sinks: Mapping[str, Callable[[bytes], None]],
                **kwargs: object) -> dict[str, vm.Verdict]:
        """Run a target and an initiator joined by a cable.

        The run ends when the initiator ends, and the target is ended then; or
        when the target fails, which the initiator could only wait out.
        """
        started: dict[str, vm.Running] = {}
        try:
            for index, role in enumerate(("target", "initiator")):
                link = qemu.Link("../link", index == 0, f"52:54:00:12:34:{index + 1:02x}")
                started[role] = self.start(
                    out / role, commands[role], {**env, "ISER_ROLE": role}, hostname=role,
                    sink=sinks[role], link=link, **kwargs)  # type: ignore[arg-type]
            target, initiator = started["target"], started["initiator"]
            while initiator.process.poll() is None and initiator.age() < timeout:
                time.sleep(0.2)
                if target.process.poll() is not None and target.wait(None).status:
                    initiator.kill()
            # A target that serves for ever has not failed.
            served = target.process.poll() is None
            verdicts = {"initiator": initiator.wait(timeout)}
            target.kill()
            verdicts["target"] = target.wait(None)
            if served:
                verdicts["target"].status, verdicts["target"].reason = 0, ""
            return {role: self.judged(verdict) for role, verdict in verdicts.items()}
        finally:
            for running in started.values():
                running.kill()
