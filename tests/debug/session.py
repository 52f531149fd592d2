#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Guest part of `make check-debug`: use the driver in every way that frees something.

Prints KTAP. A step in which a detector has a report that is not known has failed. The whole
is judged on the host: the kernel log is the console's, what kmemleak found is left in the results.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lab.guest import demo, detectors, disk, initiator, kernlog, lio, net, tgt
from lab.guest.driver import Driver
from lab.guest.system import output, read, run, wait_for, write
from lab.report import LabError, Reporter

CYCLES = int(os.environ.get("ISER_CYCLES", "10"))
# Of a report at most so many lines; all are in the kernel log.
SHOWN_LINES = 120
# Too short for a ping to time out, which takes 10 s.
TGT_STOPS_SECONDS = 6
# Recovery is to be tried, and to give up soon.
SETTINGS: dict[str, object] = {"node.session.timeo.replacement_timeout": 20,
                               "node.session.initial_login_retry_max": 2,
                               "node.conn[0].timeo.login_timeout": 30}


class Bench:
    """The driver, the network and the target that the steps use."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.driver = Driver.from_env()
        self.report = Reporter()
        self.network: net.Network
        self.node: initiator.Node

    def up(self) -> None:
        """Module, network, target, iscsid, and a record of the target."""
        self.driver.install()
        self.driver.load()
        self.network = demo.setup_target(self.report, self.kind)
        initiator.start()
        portal = initiator.portal_text(self.network.target_ipv4)
        found = initiator.discover(portal, record=False, attempts=5)
        self.node = demo.choose_node(found, portal, None)
        initiator.new_node(self.node.iqn, self.node.portal)
        initiator.settings(self.node, SETTINGS)

    def login(self) -> tuple[initiator.Session, str]:
        """A session and its disk. tgt hangs up at times, see there."""
        for attempt in range(3):
            try:
                session = initiator.login(self.node, timeout=180)
                return session, session.wait_disks(timeout=60)[0]
            except LabError:
                if attempt == 2:
                    raise
                self.logout()
        raise AssertionError("unreachable")

    def logout(self) -> None:
        """Log out of whatever is there; iscsid refuses while it reconnects."""
        def gone() -> bool:
            for session in initiator.sessions():
                run("iscsiadm", "-m", "session", "-r", str(session.sid), "--logout", check=False,
                    timeout=180)
            return not initiator.sessions()
        wait_for("the end of the sessions", gone, 150, pause=2)

    def use(self) -> None:
        """Files and verified I/O, as the demo does."""
        _, path = self.login()
        demo.use_disk(self.report, path, 24)
        self.logout()

    def cycles(self) -> None:
        """Log in and out, with some I/O each time."""
        for _ in range(CYCLES):
            _, path = self.login()
            disk.fio(path, rw="read", bs="64k", size="2m")
            self.logout()

    def resets(self) -> None:
        """Abort and reset while there is I/O: device, target, host."""
        _, path = self.login()
        for how in ("-d", "-t", "-h"):
            with load(path) as job:
                run("sg_reset", how, path, timeout=180)
                run("sg_reset", how, path, timeout=180)
                wait_for("I/O after a reset", lambda: alive(path), 120)
                assert job.poll() is None, "the load ended early"
        disk.fio_verify(path, bs="4k", size="1m")
        self.logout()

    def abort(self) -> None:
        """Have a command time out: it is aborted, and the session lives on."""
        session, path = self.login()
        name = os.path.basename(path)
        timeout = Path(f"/sys/block/{name}/device/timeout")
        timeout.write_text("1\n", encoding="ascii")
        # LIO has them late because there are too many of them; tgt, which would take none back meanwhile, is stopped.
        with load(path, bs="512k", iodepth=64):
            if self.kind == "tgt":
                run("pkill", "-STOP", "-x", "tgtd")
                time.sleep(TGT_STOPS_SECONDS)
                run("pkill", "-CONT", "-x", "tgtd")
            time.sleep(20)
        timeout.write_text("30\n", encoding="ascii")
        wait_for("I/O after aborts", lambda: alive(path), 120)
        late = int(read(f"/sys/block/{name}/device/iotmo_cnt"), 16)
        print(f"# {late} commands were late; {session.state}", flush=True)
        assert late, "no command was late"
        self.logout()

    def link(self) -> None:
        """Take the RDMA device away during I/O; bring it back."""
        _, path = self.login()
        with load(path):
            began = time.monotonic()
            run("rdma", "link", "delete", self.network.device, timeout=180)
            print(f"# the device went within {time.monotonic() - began:.1f} s", flush=True)
            time.sleep(3)
            run("rdma", "link", "add", self.network.device, "type", self.network.kind,
                "netdev", self.network.netdev)
            time.sleep(10)
        self.logout()
        self.restart_target()

    def restart_target(self) -> None:
        """A target may not come back with its device: make sure it serves."""
        device, ipv4 = self.network.device, self.network.ipv4
        if self.network.kind == "rxe":
            wait_for(f"the RoCE address of {ipv4}", lambda: net.has_gid(device, ipv4), 30)
        if self.kind == "lio":
            target = lio.standard([(ipv4, 3260)])
            target.remove_portal(ipv4, 3260)
            target.add_portal(ipv4, 3260)
        else:
            run("pkill", "-9", "tgtd", check=False)
            wait_for("the end of tgtd", lambda: run("pidof", "tgtd", check=False).returncode, 20)
            tgt.Target(initiators=[initiator.NAME]).up()
        _, path = self.login()
        disk.fio_verify(path, bs="4k", size="1m")
        self.logout()

    def again(self) -> None:
        """Load the module once more: what an earlier life left behind shows now."""
        self.driver.load()
        initiator.start()
        initiator.new_node(self.node.iqn, self.node.portal)
        initiator.settings(self.node, SETTINGS)
        _, path = self.login()
        disk.fio_verify(path, bs="4k", size="1m")
        self.logout()
        self.unload()

    def daemon(self) -> None:
        """Kill iscsid at different points of a login; a new one takes the session over."""
        for pause in (0.05, 0.2, 0.5, 1.0, 2.0):
            login = subprocess.Popen(["iscsiadm", *initiator.of(self.node), "--login"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(pause)
            run("pkill", "-9", "iscsid", check=False)
            login.send_signal(signal.SIGKILL)
            login.wait()
            wait_for("the end of iscsid", lambda: not initiator.iscsid_running(), 20)
            initiator.start()
            time.sleep(1)
            left = [f"session {s.sid} is {s.state}" for s in initiator.sessions()]
            print(f"# killed after {pause} s: {', '.join(left) or 'no session'}", flush=True)
            self.logout()
        _, path = self.login()
        disk.fio_verify(path, bs="4k", size="1m")
        self.logout()

    def unload(self) -> None:
        """Unload the module; nothing may hold it."""
        initiator.forget(self.node)
        initiator.stop()
        wait_for("nobody to use the module", lambda: self.driver.users() == 0, 30)
        self.driver.unload()


def alive(path: str) -> bool:
    """Whether a disk can be read."""
    return run("dd", f"if={path}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct",
               check=False, timeout=120).returncode == 0


class load:  # noqa: N801 - a context manager that reads as a word
    """fio in the background: writes, reads back and compares, over and over.

    It may end by an error, where its disk goes; other bytes than it wrote are a failure in any case.
    """

    def __init__(self, path: str, bs: str = "16k", iodepth: int = 16) -> None:
        self.argv = ["fio", "--name=load", f"--filename={path}", "--allow_file_create=0", "--ioengine=libaio",
                     "--direct=1", "--rw=randwrite", f"--bs={bs}", f"--iodepth={iodepth}", "--size=4m",
                     "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--loops=1000000",
                     "--output=/dev/null"]

    def __enter__(self) -> subprocess.Popen[bytes]:
        self.said = tempfile.TemporaryFile()
        self.job = subprocess.Popen(self.argv, stderr=self.said)
        time.sleep(3)
        return self.job

    def __exit__(self, *exc: object) -> None:
        self.job.terminate()
        try:
            self.job.wait(60)
        except subprocess.TimeoutExpired:
            self.job.kill()
            self.job.wait(120)
        with self.said:
            self.said.seek(0)
            wrong = [row for row in self.said.read().decode(errors="replace").splitlines()
                     if row.startswith("verify:") or "verify failed" in row]
        assert not wrong, f"the load has read other bytes than it wrote: {wrong[0]}"


def main(kind: str) -> int:
    """Run the steps in order; print KTAP."""
    bench = Bench(kind)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("set up", bench.up), ("files and verified I/O", bench.use),
        (f"{CYCLES} logins and logouts", bench.cycles), ("resets during I/O", bench.resets),
        ("commands that time out", bench.abort), ("device removed during I/O", bench.link),
        ("iscsid killed during login", bench.daemon), ("unload", bench.unload),
        ("load again, use, unload", bench.again), ("detectors, scan for leaks", detectors.last_look)]
    only = set(filter(None, os.environ.get("ISER_STEPS", "").split(",")))
    print(f"KTAP version 1\n1..{len(steps)}", flush=True)
    failed = 0
    for number, (name, function) in enumerate(steps, 1):
        needed = function in (bench.up, bench.unload, bench.again, detectors.last_look)
        if only and not needed and function.__name__ not in only:
            print(f"ok {number} {name} # SKIP not asked for", flush=True)
            continue
        mark = kernlog.mark(name)
        began = time.monotonic()
        try:
            function()
            result = "ok"
        except (LabError, AssertionError, OSError, subprocess.SubprocessError):
            result = "not ok"
            for row in traceback.format_exc().splitlines()[-6:]:
                print(f"# {row}")
            # Who is blocked, and where, is in the rest of the log.
            write("/proc/sysrq-trigger", "w")
            for row in output("dmesg").splitlines()[-150:]:
                print(f"#   {row}")
        for found in kernlog.complaints(mark):
            result = "not ok"
            for row in [*found.entry().splitlines(), "in full:", *found.rows][:SHOWN_LINES]:
                print(f"# {row}")
        failed += result == "not ok"
        print(f"{result} {number} {name} # {time.monotonic() - began:.0f} s", flush=True)
        if function == bench.up and result != "ok":
            break
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(os.environ.get("ISER_TARGET", "lio")))
