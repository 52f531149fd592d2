#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The module: loading, its parameters, refusals, and unloading without a trace."""

import os
import stat
import sys
from pathlib import Path

from harness import leftover, program
from harness.case import BOTH, LIO, Failure, case, check, equal
from harness.env import Env
from lab.guest import disk, kernlog, lio
from lab.guest.system import loaded, read, run, write
from lab.report import LabError

DEFAULTS = {"debug_level": "0", "max_lun": "512", "max_sectors": "1024",
            "always_register": "Y", "pi_enable": "N"}
WRITABLE = {"debug_level", "max_sectors"}
CYCLES = 20


def refused(env: Env, parameter: str, value: str) -> list[str]:
    """Load with a parameter that must be refused; return the kernel's words about it."""
    mark = kernlog.mark(f"{parameter}={value}")
    done = run("modprobe", env.driver.module, f"{parameter}={value}", check=False)
    said = [r for r in kernlog.since(mark) if parameter in r]
    check(not env.driver.is_loaded(), f"the module is loaded in spite of {parameter}={value}")
    check(done.returncode != 0, f"modprobe reports success for {parameter}={value}")
    check("Invalid argument" in done.stderr or "invalid" in done.stderr.lower(),
          f"the error for {parameter}={value} is not EINVAL: {done.stderr.strip()}")
    check(said, f"the kernel log does not say what is wrong with {parameter}={value}")
    return said


@case()
def load_and_unload(env: Env) -> None:
    """The transport appears with its capabilities, nobody uses the module, and all goes again."""
    env.driver.load()
    transport = Path("/sys/class/iscsi_transport/iser")
    equal("capabilities", read(transport / "caps"), "0x89")
    check(read(transport / "handle").isdigit(), "the transport has no handle")
    equal("users of the module", env.driver.users(), 0)
    check(leftover.of_module(env.driver.module), "the search for leftovers finds nothing even now")
    env.driver.unload()
    env.expect_gone(leftover.of_module)


@case(limit=90)
def load_repeatedly(env: Env) -> None:
    """The module loads and unloads many times in a row."""
    for _ in range(CYCLES):
        env.driver.load()
        env.driver.unload()
    env.expect_gone(leftover.of_module)


@case()
def open_iscsi_name(env: Env) -> None:
    """The name that open-iscsi asks for, ib_iser, brings up the driver under test."""
    run("modprobe", "ib_iser")
    check(env.driver.is_loaded(), f"modprobe ib_iser did not load {env.driver.module}")
    if env.driver.kind == "rust":
        check(not loaded("ib_iser"), "modprobe ib_iser loaded the C driver as well")


@case()
def parameter_defaults(env: Env) -> None:
    """Parameters have the names, defaults and permissions of the C driver's."""
    env.driver.load()
    directory = Path(f"/sys/module/{env.driver.module}/parameters")
    equal("parameters", sorted(p.name for p in directory.iterdir()), sorted(DEFAULTS))
    for name, value in DEFAULTS.items():
        equal(name, env.driver.parameter(name), value)
        mode = stat.S_IMODE(os.stat(directory / name).st_mode)
        equal(f"mode of {name}", oct(mode), oct(0o644 if name in WRITABLE else 0o444))


@case()
def parameter_values(env: Env) -> None:
    """Values given at load are taken; the writable ones can be changed, but not to nonsense."""
    given = {"debug_level": "3", "max_lun": "7", "max_sectors": "256", "always_register": "Y",
             "pi_enable": "N"}
    env.driver.load(given)
    for name, value in given.items():
        equal(name, env.driver.parameter(name), value)
    path = Path(f"/sys/module/{env.driver.module}/parameters/max_sectors")
    for value in ("0", "many", "-1", " "):
        try:
            write(path, value)
        except LabError:
            pass
        else:
            raise Failure(f"max_sectors took {value!r}")
        equal("max_sectors after a refused write", read(path), "256")
    path.write_text("512\n", encoding="ascii")
    equal("max_sectors after a write", read(path), "512")


@case(each={f"{n}={v}": (n, v) for n, v in (
    ("max_lun", "0"), ("max_lun", "-1"), ("max_lun", "many"), ("max_lun", "4294967296"),
    ("max_sectors", "0"), ("max_sectors", "1x"), ("always_register", "maybe"), ("pi_enable", "2"))})
def refuses(env: Env, what: tuple[str, str]) -> None:
    """A value that makes no sense is refused at load, with EINVAL and a message."""
    refused(env, *what)


@case(each={"always_register=N": ("always_register", "N"), "pi_enable=Y": ("pi_enable", "Y")},
      differs={"c": "the C driver offers unregistered memory and T10-PI; ours refuses both and says so"})
def refuses_unsupported(env: Env, what: tuple[str, str]) -> None:
    """What this driver cannot do is refused with a reason, and not ignored."""
    refused(env, *what)


@case(LIO)
def max_sectors_limits_commands(env: Env) -> None:
    """A disk's commands are as long as max_sectors says, and no longer."""
    env.driver.load({"max_sectors": 256})
    with env.session() as session:
        name = session.disks()[0].removeprefix("/dev/")
        equal("max_hw_sectors_kb", read(f"/sys/block/{name}/queue/max_hw_sectors_kb"), "128")
        disk.fio_verify(f"/dev/{name}", bs="512k", size="4m", iodepth=4)


@case(LIO)
def max_lun_limits_luns(env: Env) -> None:
    """LUNs above max_lun are not attached (the SCSI layer takes max_lun itself for a LUN)."""
    env.driver.load({"max_lun": 2})
    env.lio(luns=[lio.Ramdisk(f"lun{n}", 8) for n in range(5)])
    with env.session(disks=3) as session:
        luns = sorted(int(a.rsplit(":", 1)[1]) for a in session.devices())
        equal("LUNs", luns, [0, 1, 2])


@case(BOTH)
def unload_is_refused_under_a_session(env: Env) -> None:
    """A session holds the module; after the logout nothing holds it."""
    env.driver.load()
    with env.session() as session:
        check(env.driver.users() > 0, "a session does not count as a user of the module")
        done = run("rmmod", env.driver.module, check=False)
        check(done.returncode != 0, "the module was removed under a session")
        check("in use" in done.stderr, f"rmmod says {done.stderr.strip()!r}")
        held = leftover.rdma(env.driver.module)
        check(held, "the session's RDMA objects are not found")
        # All those of ib_iser are from the core's pool.
        if env.driver.kind == "rust":
            check([row for row in held if row.startswith("RDMA cq:")], f"no completion queue among {held}")
        disk.fio_verify(session.disks()[0], bs="64k", size="2m")
    equal("users of the module after the logout", env.driver.users(), 0)
    env.driver.unload()
    env.expect_gone(leftover.of_module)


@case(BOTH)
def unload_right_after_logout(env: Env) -> None:
    """The logout returns early; the unload has to wait for what is still going on."""
    for _ in range(3):
        env.driver.load()
        with env.session(disks=0):
            pass
        env.driver.unload()
        env.expect_gone(leftover.of_module)


if __name__ == "__main__":
    sys.exit(program.main(__doc__, keep_loaded=False))
