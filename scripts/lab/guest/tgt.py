# SPDX-License-Identifier: GPL-2.0
"""The user-space target tgt over iSER.

tgtd listens on every address at the default port (its own `port` option for
iSER does not work), so it cannot run beside LIO on the same addresses. It
refuses an iSER login unless an initiator's name is bound besides ALL. And it
hangs up on an initiator whose first request comes before it has seen the
completion of its own login response ("non-login pdu during login phase"):
discover with `attempts`, since neither driver can help that. In the several
rounds of a login with CHAP the same may crash it: a segmentation fault at the same
instruction with either driver, the more often the busier the machine is; see
initiator.in_idle_time(). So it may where a connection ends under load. Another is started then,
as the service of the distribution does (Restart=on-failure of its unit).
"""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.guest import net
from lab.guest.lio import Chap
from lab.guest.system import modprobe, run, wait_for
from lab.report import LabError

IQN = "iqn.2026-01.lab.iser:tgt"
# tgt registers one pool of memory with the device when the first initiator
# comes. Its default of 1 GiB takes an emulated machine longer than a login may.
POOL_MIB = 64
ELSEWHERE = "127.0.0.1:3261"
DIRECTORY = "/run/iser/tgt"
RUN = "/run/tgtd"                        # of its control socket
LOG = "/run/iser/tgtd.log"
BUSY = "this logical unit is still active"
RESTART_SECONDS = 0.1                    # systemd's, where a unit does not say


def _admin(op: str, mode: str, *rest: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run("tgtadm", "--lld", "iser", "--op", op, "--mode", mode, *rest, check=check)


def privileged() -> None:
    """What tgtd may, before it starts."""
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, infinite)
    # The sooner it looks at completions, the rarer the race above.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@dataclass
class Target:
    """One target with LUNs in files of a tmpfs, or on block devices; tgt's first disk is LUN 1."""

    mib: Sequence[int] = (256,)
    iqn: str = IQN
    initiators: Sequence[str] = ()
    chap: Chap | None = None
    devices: Sequence[str] = ()          # LUNs after those in files; written through
    threads: int = 16                    # of each LUN, for its I/O; 16 are tgt's default
    environment: Mapping[str, str] = field(default_factory=dict)    # of tgtd, beside what there is
    crashes: int = field(default=0, init=False, compare=False)      # how often tgtd has ended by itself
    _wanted: bool = field(default=False, init=False, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, compare=False, repr=False)

    def up(self) -> None:
        """Start tgtd, whose log goes to the results, and make the target; again whenever it crashes."""
        modprobe("rdma_cm", "rdma_ucm", "ib_uverbs")
        os.makedirs(RUN, exist_ok=True)
        os.makedirs(DIRECTORY, exist_ok=True)
        self._serve()
        self._wanted = True
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        """Start tgtd again as often as it fails."""
        while True:
            status = self._process.wait()
            time.sleep(RESTART_SECONDS)
            with self._lock:
                if not self._wanted:
                    return
                if status == 0:
                    print("# tgtd has ended by itself, without an error: no other is started", flush=True)
                    return
                self.crashes += 1
                print(f"# tgtd has ended by itself, with status {status}; another is started", flush=True)
                try:
                    self._serve()
                except LabError as exc:
                    print(f"# and it does not serve: {exc}", flush=True)
                    self._process.kill()

    def _serve(self) -> None:
        """Start one tgtd, and make the target."""
        command = ["tgtd", "-f", "--nr_iothreads", str(self.threads), "--iser", f"pool_sz_mb={POOL_MIB}"]
        if net.chosen() == "siw":
            # A port of iWARP is one of TCP, which tgtd's plain iSCSI would have first.
            command += ["--iscsi", f"portal={ELSEWHERE}"]
        with open(LOG, "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, env={**os.environ, **self.environment}, preexec_fn=privileged)
        wait_for("tgtd", lambda: _admin("show", "sys", check=False).returncode == 0, 10)
        _admin("new", "target", "--tid", "1", "-T", self.iqn)
        for number, mib in enumerate(self.mib, 1):
            path = f"{DIRECTORY}/disk{number}"
            with open(path, "ab") as handle:
                handle.truncate(mib << 20)
            _admin("new", "logicalunit", "--tid", "1", "--lun", str(number), "-b", path)
        for number, path in enumerate(self.devices, len(self.mib) + 1):
            _admin("new", "logicalunit", "--tid", "1", "--lun", str(number), "-b", path, "--bsoflags", "sync")
        if self.chap:
            self._account(self.chap.user, self.chap.password)
            if self.chap.mutual_user:
                self._account(self.chap.mutual_user, self.chap.mutual_password, "--outgoing")
        _admin("bind", "target", "--tid", "1", "-I", "ALL")
        for name in self.initiators:
            _admin("bind", "target", "--tid", "1", "-Q", name)

    def remove_last_lun(self, seconds: float = 30) -> None:
        """Take the last of the LUNs in files away, also under a session.

        tgt refuses that while a command of the LUN is under way, so there must be moments without one.
        """
        number, self.mib = len(self.mib), self.mib[:-1]

        def removed() -> bool:
            done = _admin("delete", "logicalunit", "--tid", "1", "--lun", str(number), check=False)
            if done.returncode and BUSY not in done.stderr:
                raise LabError(f"tgt does not remove LUN {number}: {done.stderr.strip()}")
            return done.returncode == 0
        wait_for(f"a moment to remove LUN {number}", removed, seconds, pause=0.01)

    def resize_lun(self, mib: int) -> None:
        """Give the last of the LUNs in files another size.

        tgt closes the file and opens it again meanwhile, whatever its threads do with it, so no
        command may be under way.
        """
        number = len(self.mib)
        self.mib = (*self.mib[:-1], mib)
        path = f"{DIRECTORY}/disk{number}"
        os.truncate(path, mib << 20)
        for what in ("online=0", f"path={path}", "online=1"):
            _admin("update", "logicalunit", "--tid", "1", "--lun", str(number), "--params", what)

    @staticmethod
    def _account(user: str, password: str, *how: str) -> None:
        _admin("new", "account", "--user", user, "--password", password)
        _admin("bind", "account", "--tid", "1", "--user", user, *how)

    def serves(self) -> None:
        """Wait until there is a tgtd, where one has crashed."""
        with self._lock:
            pass

    def show(self) -> str:
        """What tgt says about its targets and their sessions."""
        return _admin("show", "target").stdout

    def connections(self) -> list[tuple[int, int]]:
        """Session and connection number of each connection with the target."""
        found, session = [], 0
        for row in _admin("show", "conn", "--tid", "1").stdout.splitlines():
            words = row.split()
            if words[:1] == ["Session:"]:
                session = int(words[1])
            elif words[:1] == ["Connection:"]:
                found.append((session, int(words[1])))
        return found

    def disconnect(self, session: int, connection: int) -> None:
        """Close one of them."""
        _admin("delete", "conn", "--tid", "1", "--sid", str(session), "--cid", str(connection))

    def kill(self) -> None:
        """End tgtd as a crash would, and start no other; `up()` finds the disks as they are then."""
        with self._lock:
            self._wanted = False
        self._process.kill()
        self._keeper.join()

    def down(self) -> None:
        """End tgtd; sessions are dropped."""
        with self._lock:
            self._wanted = False
        _admin("delete", "target", "--force", "--tid", "1", check=False)
        _admin("delete", "system", check=False)
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._keeper.join()
        for name in os.listdir(DIRECTORY):
            os.unlink(os.path.join(DIRECTORY, name))
