#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The proof that keys are dead: after each command the target uses the old one.

A command is done when SG_IO has returned. Then the target tries to write to the
buffer of a read, or to read the buffer of a write, by the key that the command had
given it. The device of the initiator has to refuse that. What a device refuses ends
the connection, so each command has a connection of its own; none of it is a probe
that could fail for another reason, because only a remote access error counts.
"""

import sys
from collections.abc import Callable
from functools import partial

from hostile import oldkeys
from hostile.rows import GOOD, LOST, PATTERN, ended, judge_log, many_losses, pause, scene
from harness import kernlog as judge
from harness import program, sgio
from harness.case import case, check, equal
from harness.data import ALL, SECTOR, Memory, Window
from harness.env import Env
from lab.guest import kernlog
from lab.guest.system import wait_for

WITHOUT = "none 4:c0000000"
COMMANDS = 24
NEXT = 4                 # connections, and at most so many answers that are lost
LARGE = 16384 + 512      # a write that does not go with its command, so that it has a key
QUICK = {"node.session.iscsi.DefaultTime2Wait": 0}
# Others do not read so much at a time.
SIZES = (1536, 4608, 16384 + 512, 65536 + 512)
C_KEEPS = "the C driver leaves a key valid until its region is used again"


def one(device: sgio.Device, length: int, is_write: bool, use: Callable[[], str]) -> tuple[str, bool]:
    """Run one command and use its key: what the device said, and whether memory changed."""
    window = Window(Memory(4 * 4096 + length), 512, length, guard=ALL)
    window.view[:] = PATTERN.content(0, length)
    lba, blocks = 2048, length // SECTOR
    if is_write:
        reply = device.execute(sgio.write10(lba, blocks), sgio.TO_DEVICE, window.address, length)
    else:
        reply = device.execute(sgio.read10(lba, blocks), sgio.FROM_DEVICE, window.address, length)
    check(reply.good, f"a command of {length} bytes: {reply}")
    kept = bytes(window.view)
    said = use()
    pause(0.1)
    changed = bytes(window.view) != kept
    window.check_guards(f"a command of {length} bytes")
    return said, changed


def proof(env: Env, device: sgio.Device, use: Callable[[int, bool], str], back: Callable[[], None]) -> None:
    """As many refusals as attempts, and no byte changed."""
    found: list[tuple[str, bool]] = []
    lost = 0
    before = kernlog.mark("proof")
    while len(found) < COMMANDS:
        size, is_write = SIZES[len(found) // 2 % len(SIZES)], len(found) % 2 == 1
        length = max(size, LARGE) if is_write else size
        said, change = one(device, length, is_write, partial(use, length, is_write))
        if said != "accepted":
            back()
            device.settle()
        if said == "gone" and lost < COMMANDS:
            # The initiator has hung up before its device's answer was seen.
            lost += 1
            check(not change, "a buffer changed although its key was not accepted")
            continue
        found.append((said, change))
    words = [word for word, _ in found]
    changed = sum(change for _, change in found)
    print(f"# {len(words)} keys used after their command: "
          f"{words.count('refused')} refused, {words.count('accepted')} accepted; "
          f"{changed} buffers changed; {lost} more answers were lost", flush=True)
    equal("keys refused", words.count("refused"), COMMANDS)
    equal("buffers that changed", changed, 0)
    rows = kernlog.since(before)
    connections = ended(rows)
    check(connections >= COMMANDS + lost, f"{connections} connections have ended")
    judge_log(env, rows, LOST, connections)


def with_simulator(env: Env, mode: str) -> None:
    """The proof with the simulator."""
    with scene(env, mode) as stage:
        told = stage.sim.mark()

        def use(_length: int, _is_write: bool) -> str:
            nonlocal told
            told = stage.sim.mark()
            stage.sim.order("probe")
            return stage.sim.wait("probe", told, 40).split()[1]
        with many_losses():
            proof(env, stage.device, use, lambda: stage.recovered(told))


@case(limit=400)
def dead_by_the_target(env: Env) -> None:
    """The target invalidates the key with its response."""
    with_simulator(env, GOOD)


@case(limit=400, differs={"c": C_KEEPS})
def dead_by_the_initiator(env: Env) -> None:
    """The target invalidates nothing, as tgt."""
    with_simulator(env, WITHOUT)


@case(limit=400, differs={"c": C_KEEPS})
def dead_although_it_was_to_be_invalidated(env: Env) -> None:
    """The target has said that it invalidates, and does not."""
    with_simulator(env, "none 4:80000000")


@case(limit=400, differs={"c": C_KEEPS})
def dead_with_tgt(env: Env) -> None:
    """The target is tgt, with a library in it that uses the key of each command again."""
    env.tgt(environment=oldkeys.environment())
    with env.session(QUICK, may_drop=True) as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        used = ""

        def use(length: int, is_write: bool) -> str:
            nonlocal used
            used = kernlog.mark("use of an old key")
            # The target reads what the initiator writes.
            return oldkeys.use("read" if is_write else "write", length)

        def back() -> None:
            wait_for("the loss of the connection", lambda: judge.connection_errors(kernlog.since(used)), 30)
            wait_for("the session's return", lambda: session.state == "LOGGED_IN", 60)
        with many_losses():
            proof(env, device, use, back)


@case(limit=200)
def dead_on_the_next_connection(env: Env) -> None:
    """A key of the last connection is worth nothing on the next one."""
    with scene(env) as stage:
        before = kernlog.mark("probes")
        refused = lost = 0
        while refused < NEXT:
            reply = stage.provoke("read")
            check(reply.good, f"a read: {reply}")
            told = stage.sim.mark()
            # The command is answered, and so its key is remembered; then the connection goes.
            stage.sim.order("hangup")
            stage.sim.wait("login", told, 60)
            stage.recovered(told)
            stage.sim.order("probe")
            said = stage.sim.wait("probe", told, 40).split()[1]
            if said == "gone" and lost < NEXT:
                # The initiator has hung up before its device's answer was seen.
                lost += 1
            else:
                equal("a key of the last connection", said, "refused")
                refused += 1
            stage.sim.wait("down", told)
            stage.usable()
        stage.works()
        # By the order to hang up, and by the refusal.
        judge_log(env, kernlog.since(before), LOST, 2 * (refused + lost))


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
