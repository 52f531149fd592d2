# SPDX-License-Identifier: GPL-2.0
"""The hostile target: a process that serves, follows orders, and says what happens."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.case import Failure
from lab.guest import net
from lab.guest.system import SLOWNESS, modprobe
from lab.report import LabError

IQN = "iqn.2026-01.lab.iser:hostile"
CRATE = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("ISER_HOSTILE") or CRATE / "target/release/iser-hostile")
CONF = Path("/etc/iscsi/iscsid.conf")
MARK = "# of the tests with a hostile target"
# Whatever has to give up shall do so soon. Seconds; on an instrumented kernel times its slowness.
TIMEOUTS = {
    "node.session.timeo.replacement_timeout": 60,
    "node.session.err_timeo.abort_timeout": 5,
    "node.session.err_timeo.lu_reset_timeout": 5,
    "node.session.err_timeo.tgt_reset_timeout": 5,
    "node.conn[0].timeo.login_timeout": 6,
    "node.conn[0].timeo.logout_timeout": 5,
    "node.conn[0].timeo.noop_out_interval": 3,
    "node.conn[0].timeo.noop_out_timeout": 6,
}


def settings(slowness: float) -> dict[str, int]:
    """What open-iscsi is told."""
    return {"node.session.initial_login_retry_max": 1, "node.session.iscsi.DefaultTime2Wait": 0,
            **{name: round(seconds * slowness) for name, seconds in TIMEOUTS.items()}}


@dataclass
class Simulator:
    """The target of these tests; the same process serves as long as tests ask for it."""

    iqn: str = IQN
    port: int = 3260
    _process: subprocess.Popen[str] | None = field(default=None, compare=False, repr=False)
    lines: list[str] = field(default_factory=list, compare=False, repr=False)
    _told: threading.Condition = field(default_factory=threading.Condition, compare=False, repr=False)

    def up(self) -> None:
        """Start it, and have open-iscsi be quick."""
        if not BINARY.exists():
            raise LabError(f"{BINARY} does not exist; `make hostile` builds it")
        modprobe("rdma_cm", "rdma_ucm", "ib_uverbs")
        kept = CONF.read_text(encoding="utf-8").partition(MARK)[0]
        rows = "".join(f"{name} = {value}\n" for name, value in settings(SLOWNESS).items())
        CONF.write_text(f"{kept}{MARK}\n{rows}", encoding="utf-8")

        def privileged() -> None:
            infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, infinite)
        self._process = subprocess.Popen(
            [str(BINARY), f"{net.address('target')[0]}:{self.port}"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=privileged)
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        self.wait("listening", 0, 20)

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Collect what it says; a copy goes to the results."""
        assert process.stdout is not None
        os.makedirs("/run/iser", exist_ok=True)
        with open("/run/iser/hostile.log", "a", encoding="utf-8") as log:
            for row in process.stdout:
                log.write(f"[{time.monotonic():10.3f}] {row}")
                log.flush()
                with self._told:
                    self.lines.append(row.rstrip("\n"))
                    self._told.notify_all()
        with self._told:
            self.lines.append("ended")
            self._told.notify_all()

    def mark(self) -> int:
        """How much it has said so far."""
        return len(self.lines)

    def since(self, mark: int, start: str = "") -> list[str]:
        """What it has said after a mark, as far as it begins with `start`."""
        return [row for row in self.lines[mark:] if row.startswith(start)]

    def wait(self, start: str, mark: int, timeout: float = 30) -> str:
        """Wait for a line."""
        timeout *= SLOWNESS
        with self._told:
            self._told.wait_for(lambda: self.since(mark, start) or self.since(mark, "ended"), timeout)
        found = self.since(mark, start)
        if not found:
            raise Failure(f"the target did not say `{start}` within {timeout:.0f} s, but: "
                          f"{'; '.join(self.since(mark)[-12:]) or 'nothing'}")
        return found[0]

    def order(self, text: str) -> str:
        """Tell it something, and return its answer."""
        assert self._process is not None and self._process.stdin is not None
        mark = self.mark()
        log(f"> {text}")
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        with self._told:
            self._told.wait_for(lambda: self.since(mark, "ok") or self.since(mark, "error"), 20 * SLOWNESS)
        for row in self.since(mark):
            if row.startswith("ok"):
                return row[2:].strip()
            if row.startswith("error"):
                raise Failure(f"the target refuses `{text}`: {row}")
        raise Failure(f"the target does not answer to `{text}`: {self.since(mark)}")

    def down(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10 * SLOWNESS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        CONF.write_text(CONF.read_text(encoding="utf-8").partition(MARK)[0], encoding="utf-8")


def log(text: str) -> None:
    """Write a line between those of the target."""
    with open("/run/iser/hostile.log", "a", encoding="utf-8") as out:
        out.write(f"[{time.monotonic():10.3f}] {text}\n")
