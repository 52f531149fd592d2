#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Connections and logins that go wrong: each fails or succeeds within its time, and leaves nothing."""

import random
import sys
import time

from hostile.rows import LOST, REFUSED, SEED, SILENT, good_login, judge_log, many_losses, ours, scene, simulator, violation
from hostile.said import Witness
from harness import leftover, program
from harness.case import case, check, equal
from harness.env import Env
from lab.guest import initiator, kernlog, orphans
from lab.guest.system import SLOWNESS, run, wait_for
from lab.report import LabError

MOST_PRIVATE_DATA = 196
FILLED = {f"{length}_of_{fill}": f"private={length}:{fill}"
          for length in (0, 1, 3, 4, 5, 56, 148, 195, 196) for fill in ("00", "80", "40", "ff")
          if length or fill == "00"}


@case(limit=90, each=FILLED)
def private_data(env: Env, action: str) -> None:
    """Private data of the CM with any length and any flags: a target that keeps to them works."""
    # A target that says it cannot invalidate must not.
    cannot = action.endswith((":40", ":ff"))
    mode = "none" if cannot or action == "private=0:00" else "own"
    before = kernlog.mark("login")
    with scene(env, f"{mode} {action.partition('=')[2]}") as stage:
        stage.works()
    judge_log(env, kernlog.since(before), SILENT)


@case(limit=900)
def private_data_of_any_length(env: Env) -> None:
    """Private data of each length from 0 to 196, any flags and content: the session comes back each time."""
    print(f"# seed {SEED}", flush=True)
    chance = random.Random(SEED)
    with scene(env) as stage, many_losses():
        for length in range(MOST_PRIVATE_DATA + 1):
            data = chance.randbytes(length)
            # What is too short to be iSER's is not taken for it, where the transport does not fill it up.
            can = length >= 4 and not data[0] & 0x40
            told, before = stage.sim.mark(), kernlog.mark("reconnect")
            stage.sim.order(f"mode {'own' if can else 'none'} {length}:{data.hex() or '00'}")
            stage.sim.order("hangup")
            stage.recovered(told)
            reply = stage.provoke("read", settle=0)
            check(reply.good, f"a read after private data {data.hex()}: {reply}")
            judge_log(env, kernlog.since(before), LOST)
        stage.works()


def judge_logins(env: Env, rows: list[str], pattern: str, connections: int) -> None:
    """One clear message for each connection that ended by what the target did, or none at all."""
    found = len(ours(rows))
    print(f"# {found} messages, {connections} connections", flush=True)
    check(found <= connections, f"{found} messages of the driver about {connections} connections")
    judge_log(env, rows, pattern, max(1, found))


def fails(env: Env, rule: str, pattern: str, said: str = "", *, limit: float = 45) -> None:
    """A login fails within its time; nothing is left; the next one succeeds.

    Where the driver is silent, the login succeeds, or another says what was wrong.
    """
    sim = simulator(env)
    sim.order(f"rules {rule}")
    node = env.node()
    witness = Witness("login")
    told = sim.mark()
    began = time.monotonic()
    done = run("timeout", "-k", "5", f"{limit * SLOWNESS:.0f}", "iscsiadm", *initiator.of(node), "--login", check=False,
               timeout=limit + 20)
    took = time.monotonic() - began
    sim.wait("fired", told)
    print(f"# the login took {took:.1f} s", flush=True)
    sim.order("rules")

    def gone() -> bool:
        # iscsiadm may have given up, and iscsid not: it then logs in after all.
        env.log_out_all()
        return not leftover.of_sessions(env.driver.module)
    wait_for("the end of the login", gone, 60, pause=1)
    equal("references to the module", env.driver.users(), 0)
    judge_logins(env, witness.kernel(), pattern,
                 len(sim.since(told, "up ")) + len(sim.since(told, "fired connect")))
    if said:
        witness.judge(env, said, done.stderr)
    elif pattern == SILENT and env.driver.kind == "rust":
        equal("the status of iscsiadm, where nobody has to say what was wrong", done.returncode, 0)
    good_login(env, sim)


# Devices name it differently.
TOO_LONG = r"receive failed: "
REJECTED = r"the target rejects the connection: consumer defined"
# What iscsid says of a text that it has no room for, and of what it takes for no answer to its request.
NO_ROOM, NO_LOGIN_PDU = r"response buffer too small", r"Login error \(Login status 7\)"
NOBODY_THERE = r"192\.168\.77\.1:9: the target rejects the connection: invalid service ID"
CONNECTIONS: dict[str, tuple[str, ...]] = {
    "refused": ("connect* refuse=0", REJECTED),
    "refused_with_data": ("connect* refuse=148", REJECTED),
    "hangs_up": ("connect* hangup", LOST),
    "no_answer": ("connect* ignore", SILENT, r"connection timed out"),
}


@case(limit=240, each=CONNECTIONS)
def connection(env: Env, how: tuple[str, ...]) -> None:
    """The target does not let us connect, or hangs up at once."""
    fails(env, *how, limit=100)


LOGINS: dict[str, tuple[str, ...]] = {
    "hangs_up_at_once": ("login* hangup", LOST),
    "hangs_up_after_the_first_answer": ("login#1 hangup=after", LOST),
    "hangs_up_after_the_last_answer": ("login* hangup=last", LOST),
    "hangs_up_before_the_last_answer": ("login#1 endless; login#2 hangup", LOST),
    "never_answers": ("login* ignore", SILENT, r"iSCSI PDU timed out"),
    "never_ends": ("login* endless", SILENT, r"iSCSI PDU timed out"),
    "1_mebibyte_of_text": ("login#1 long=1048576", SILENT, NO_ROOM),
    "1_mebibyte_in_one_pdu": ("login* len=1048576 dsl=0xfffb4", TOO_LONG),
    "redirects_to_nowhere": ("login* status=0x0101 text=TargetAddress=192.168.77.1:9,1", NOBODY_THERE),
    # All that iscsid says of redirects, and only if it is asked for more than errors.
    "redirects_to_itself": ("login* status=0x0101 text=TargetAddress=192.168.77.1:3260,1",
                            SILENT, r"login response status 0101"),
    "redirects_without_an_address": ("login* status=0x0102", SILENT, r"login response status 0102"),
    "initiator_error": ("login* status=0x0200", SILENT, r"initiator error \(02/00\)"),
    "authentication_failed": ("login* status=0x0201", SILENT, r"failed to authenticate with target"),
    "too_many_connections": ("login* status=0x0206", SILENT, r"initiator error \(02/06\)"),
    "target_error": ("login* status=0x0300", SILENT, r"target error \(03/00\)"),
    "no_such_status": ("login* status=0x7f7f", SILENT, r"unknown status class 0x7f"),
    "rejected": ("login* bhs.0=3f", REFUSED),
    "a_scsi_response": ("login* bhs.0=21", REFUSED),
    "a_nop_in": ("login* bhs.0=20 itt=reserved", REFUSED),
    "async_message": ("login* bhs.0=32 itt=reserved", SILENT, NO_LOGIN_PDU),
    "wrong_task": ("login* itt=random", violation("unknown_command")),
    "reserved_task": ("login* itt=reserved", violation("reserved_tag")),
    "too_short": ("login* len=40", violation("too_short")),
    "empty": ("login* len=0", violation("too_short")),
    "wrong_iser_opcode": ("login* iser=20", violation("iser_opcode")),
    "wrong_version": ("login* bhs.2=ffff", SILENT, r"Login version mismatch"),
    "wrong_stage": ("login* bhs.1=8e", SILENT, r"current stage mismatch"),
    "stage_back": ("login* bhs.1=84", SILENT, NO_LOGIN_PDU),
    "transit_and_continue": ("login* bhs.1=c7", SILENT),
    "text_without_an_end": ("login* data=8192:41", SILENT, NO_ROOM),
    "text_of_zeroes": ("login* data=8192:00", SILENT, NO_ROOM),
    "text_of_equal_signs": ("login* data=8192:3d", SILENT, NO_ROOM),
    "unknown_authentication": ("login* text=AuthMethod=KRB5", SILENT, r"recognize text AuthMethod=KRB5"),
    "header_digest": ("login* text=HeaderDigest=CRC32C text=DataDigest=CRC32C", SILENT, r"accept HeaderDigest=CRC32C"),
    "segment_of_zero": ("login* text=InitiatorRecvDataSegmentLength=0 text=TargetRecvDataSegmentLength=0", SILENT),
    "invalidates_a_key": ("login* inv=random", f"{violation('invalidation_without_key')}|{LOST}"),
}


@case(limit=240, each=LOGINS)
def login(env: Env, how: tuple[str, ...]) -> None:
    """The login goes wrong, and the next one does not."""
    fails(env, *how)


ODD: dict[str, tuple[str, ...]] = {
    "bursts_of_zero": ("login* text=MaxBurstLength=0 text=FirstBurstLength=0", SILENT),
    "negative_bursts": ("login* text=MaxBurstLength=-1 text=FirstBurstLength=-1", SILENT),
    "first_burst_above_all": ("login* text=FirstBurstLength=16777215 text=MaxBurstLength=512",
                              SILENT, r"invalid burst lengths: first_burst 16777215 "),
    "huge_r2t": ("login* text=MaxOutstandingR2T=65535", SILENT),
    "unsolicited_data": ("login* text=InitialR2T=No text=FirstBurstLength=262144", SILENT),
    "tiny_segments": ("login* text=TargetRecvDataSegmentLength=512", SILENT),
    "unknown_keys": ("login* text=X-lab=1 text=nonsense text==", SILENT, r"recognize text X-lab=1"),
    "last_answer_twice": ("login* twice", violation("(unknown_command|duplicate_response)")),
    "time2wait_of_an_hour": ("login* text=DefaultTime2Wait=3600", SILENT),
}


@case(limit=240, each=ODD)
def odd_login(env: Env, how: tuple[str, ...]) -> None:
    """A login that is odd but may pass: it ends either way, and the next one is good."""
    fails(env, *how)


# What iscsid says at the end of a logout, whatever the answer was.
SHUT_DOWN = r"Connection\d+:0 to \[target: .*\] through \[iface: iser\] is shutdown"
LOGOUTS: dict[str, tuple[str, ...]] = {
    "never_answered": ("logout* ignore", SILENT, SHUT_DOWN),
    "refused": ("logout* bhs.2=01", SILENT, SHUT_DOWN),
    "no_such_reason": ("logout* bhs.2=ff", SILENT, SHUT_DOWN),
    "twice": ("logout* twice", violation("(unknown_command|duplicate_response)")),
    "wrong_task": ("logout* itt=random", violation("unknown_command")),
    "by_a_reject": ("logout* bhs.0=3f", REFUSED),
    "by_a_scsi_response": ("logout* bhs.0=21", REFUSED),
    "hangs_up": ("logout* hangup", LOST),
    "hangs_up_after": ("logout* hangup=after", SILENT, SHUT_DOWN),
    "too_short": ("logout* len=75", violation("too_short")),
    "after_300_pdus": ("logout* flood=nop:0:300", SILENT, SHUT_DOWN),
}


@case(limit=180, each=LOGOUTS)
def logout(env: Env, how: tuple[str, ...]) -> None:
    """A logout that is answered oddly or not at all ends the session all the same."""
    rule, pattern, *said = how
    sim = simulator(env)
    node = env.node()
    session = initiator.login(node)
    session.wait_disks()
    told, witness, report = sim.mark(), Witness("logout"), ""
    sim.order(f"rules {rule}")
    began = time.monotonic()
    try:
        initiator.logout(node, timeout=60)
    except LabError as exc:
        # iscsid may report an error, and try again; the session must go.
        report = str(exc)
        print(f"# {report}", flush=True)
        sim.order("rules")
        run("iscsiadm", *initiator.of(node), "--logout", check=False, timeout=60)
    print(f"# the logout took {time.monotonic() - began:.1f} s", flush=True)
    env.expect_gone(leftover.of_sessions)
    equal("references to the module", env.driver.users(), 0)
    # The connection that was there, and others if iscsid has tried again.
    judge_logins(env, witness.kernel(), pattern, 1 + len(sim.since(told, "up ")))
    for words in said:
        witness.judge(env, words, report)
    good_login(env, sim)


# Of timeout(1); what is above is a signal.
TIMED_OUT = 124
DISCOVERIES: dict[str, tuple[str, ...]] = {
    "never_ends": ("text* long=100000000", SILENT),
    "1_mebibyte": ("text#1 long=1048576", SILENT, r"No portals found"),
    "never_answers": ("text* ignore", SILENT, r"Discovery session to .* timed out"),
    "hangs_up": ("text* hangup", LOST),
    "garbage": ("text* data=8192:41", SILENT, r"No portals found"),
    "too_long": ("text* len=20000", TOO_LONG),
    "too_short": ("text* len=75", violation("too_short")),
    "wrong_task": ("text* itt=random", violation("unknown_command")),
    "a_reject": ("text* bhs.0=3f", REFUSED),
    "data_in": ("text* bhs.0=25", violation("data_type_pdu")),
}


@case(limit=240, each=DISCOVERIES)
def discovery(env: Env, how: tuple[str, ...]) -> None:
    """A discovery that goes wrong ends, and a good one finds the target."""
    rule, pattern, *said = how
    sim = simulator(env)
    told, witness = sim.mark(), Witness("discovery")
    sim.order(f"rules {rule}")
    done = run("timeout", "-k", "5", f"{40 * SLOWNESS:.0f}", "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p",
               env.portal(), "-I", "iser", "-o", "nonpersistent", check=False, timeout=60)
    sim.order("rules")
    if done.returncode < 0 or done.returncode >= TIMED_OUT:
        # open-iscsi's own; whether the driver can end the session is ours.
        print(f"# iscsiadm was ended or has crashed: status {done.returncode}", flush=True)
        orphans.end_all()
    env.expect_gone(leftover.of_sessions)
    judge_logins(env, witness.kernel(), pattern, len(sim.since(told, "up ")))
    for words in said:
        witness.judge(env, words, done.stderr)
    found = initiator.discover(env.portal(), record=False)
    equal("targets found", [node.iqn for node in found], [sim.iqn])
    equal("references to the module", env.driver.users(), 0)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
