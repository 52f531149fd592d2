#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Commands without data, with odd lengths, with sense data, with residuals."""

import os
import struct
import sys

from harness import program, sgio
from harness.case import BOTH, LIO, case, check, equal
from harness.data import SECTOR, Memory, Pattern, Window, compare
from harness.env import Env
from lab.guest import disk, lio
from lab.guest.system import output, run

PATTERN = Pattern(seed=17, largest=1 << 20)


@case(BOTH)
def no_data(env: Env) -> None:
    """Commands without data, many in a row."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        for _ in range(200):
            reply = device.execute(sgio.test_unit_ready())
            check(reply.good and not reply.sense, f"TEST UNIT READY: {reply}")
        check(device.execute(sgio.synchronize_cache()).good, "SYNCHRONIZE CACHE failed")
        run("sg_turs", "--num=20", session.disks()[0])


@case(BOTH)
def sense_of_unknown_command(env: Env) -> None:
    """A command the target does not know: CHECK CONDITION, with the target's sense data."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        for _ in range(20):
            reply = device.execute(bytes([0xC1]) + bytes(9))
            equal("status", reply.status, sgio.CHECK_CONDITION)
            equal("sense", reply.code(), (sgio.ILLEGAL_REQUEST, 0x20, 0x00))
        done = run("sg_raw", session.disks()[0], *["c1"] + ["00"] * 9, check=False)
        check("Illegal Request" in done.stderr + done.stdout,
              f"sg_raw does not show the sense: {done.stderr}")


@case(BOTH)
def sense_instead_of_data(env: Env) -> None:
    """A read and a write behind the end: sense data, nothing transferred, and all is well after."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        last = disk.size(session.disks()[0]) // SECTOR
        memory = Memory(1 << 18)
        for blocks in (1, 8, 256):
            size = blocks * SECTOR
            window = Window(memory, 0, size)
            window.fill(0x5A)
            reply = device.execute(sgio.read16(last, blocks), sgio.FROM_DEVICE, window.address, size)
            equal("sense of the read", reply.code(), (sgio.ILLEGAL_REQUEST, 0x21, 0x00))
            compare("memory of the refused read", window.view, b"\x5a" * size)
            equal("residual of the read", reply.residual in (0, size), True)
            reply = device.execute(sgio.write16(last - blocks + 1, blocks), sgio.TO_DEVICE,
                                   window.address, size)
            equal("sense of the write", reply.code(), (sgio.ILLEGAL_REQUEST, 0x21, 0x00))
            reply, _ = device.read(sgio.read16(last - blocks, blocks), size)
            check(reply.good, f"a read after the refused ones: {reply}")


@case(BOTH)
def allocation_lengths(env: Env) -> None:
    """INQUIRY with every allocation length: the right bytes, the right residual."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        _, whole = device.read(sgio.inquiry(255), 255)
        check(36 <= len(whole) < 255, f"INQUIRY returns {len(whole)} bytes")
        for length in (*range(1, len(whole) + 4), 128, 200, 252, 255):
            reply, got = device.read(sgio.inquiry(length), length)
            wanted = min(length, len(whole))
            check(reply.good, f"INQUIRY with {length} bytes: {reply}")
            # A target may fill up with zeros and call that data.
            compare(f"INQUIRY with {length} bytes", got[:wanted], whole[:wanted])
            equal(f"INQUIRY with {length} bytes: bytes behind the data", got[wanted:].strip(b"\0"), b"")
        text = output("sg_inq", session.disks()[0])
        check("Vendor identification" in text, f"sg_inq: {text}")


@case(BOTH, each={"vpd-83": sgio.inquiry(252, 0x83), "report-luns": sgio.report_luns(252),
                  "mode-sense": sgio.mode_sense(0x3F, 252)})
def short_answers(env: Env, cdb: bytes) -> None:
    """Answers shorter than the buffer report the rest as residual.

    LIO sends the rest all the same, as zeros.
    """
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        memory = Memory(1 << 16)
        window = Window(memory, 12, 252)
        window.fill(0xEE)
        reply = device.execute(cdb, sgio.FROM_DEVICE, window.address, 252)
        check(reply.good, str(reply))
        check(0 < reply.residual < 252, f"residual {reply.residual} of 252 bytes")
        got = 252 - reply.residual
        behind = bytes(window.view[got:])
        check(behind.strip(b"\xee") == b"" or behind.strip(b"\0") == b"",
              f"memory behind the answer: {behind.hex()}")
        window.check_guards("short answer")


@case(LIO)
def underflow_of_a_read(env: Env) -> None:
    """A buffer larger than the blocks asked for: their bytes, and the rest as residual."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        content = PATTERN.content(64, 8 * SECTOR)
        check(device.write(sgio.write10(64, 8), content).good, "write failed")
        for asked, room in ((1, 2), (1, 8), (3, 8), (7, 8)):
            reply, got = device.read(sgio.read10(64, asked), room * SECTOR)
            check(reply.good, f"READ of {asked} blocks with room for {room}: {reply}")
            equal("residual", reply.residual, (room - asked) * SECTOR)
            compare("data", got, content[:asked * SECTOR])


@case(LIO)
def overflow_of_a_read(env: Env) -> None:
    """A buffer smaller than the blocks asked for: not a byte beyond it is written."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        content = PATTERN.content(128, 8 * SECTOR)
        check(device.write(sgio.write10(128, 8), content).good, "write failed")
        memory = Memory(1 << 16)
        for asked, room in ((2, 1), (8, 1), (8, 7)):
            window = Window(memory, 0, room * SECTOR)
            window.fill(0)
            reply = device.execute(sgio.read10(128, asked), sgio.FROM_DEVICE, window.address,
                                   room * SECTOR)
            window.check_guards(f"READ of {asked} blocks into {room}")
            if reply.good:
                compare("data", window.view, content[:room * SECTOR])


@case(LIO)
def wrong_length_of_a_write(env: Env) -> None:
    """A write whose data is not as long as its blocks is refused with sense, data or not."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        content = PATTERN.content(256, 64 * SECTOR)
        check(device.write(sgio.write10(256, 64), content).good, "write failed")
        for blocks, given in ((1, 2), (1, 64), (2, 1), (64, 1), (64, 63)):
            device.write(sgio.write10(256, blocks), content[:given * SECTOR])
            reply, got = device.read(sgio.read10(256, 64), 64 * SECTOR)
            check(reply.good, f"a read after WRITE of {blocks} blocks with data for {given}: {reply}")
            compare("the disk", got, content)


@case(LIO)
def compare_and_write(env: Env) -> None:
    """COMPARE AND WRITE writes when the data is as expected, and has sense data when not."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        old, new = PATTERN.content(500, SECTOR), PATTERN.content(501, SECTOR)
        check(device.write(sgio.write16(500, 1), old).good, "write failed")
        reply = device.write(sgio.compare_and_write(500, 1), old + new)
        check(reply.good, f"COMPARE AND WRITE: {reply}")
        reply = device.write(sgio.compare_and_write(500, 1), old + old)
        equal("sense key of a miscompare", reply.code()[0], sgio.MISCOMPARE)
        _, got = device.read(sgio.read16(500, 1), SECTOR)
        compare("the block", got, new)


@case(LIO)
def reservations(env: Env) -> None:
    """Persistent reservations: small parameter lists out, small answers in."""
    for directory in ("/etc/target/pr", "/var/target/pr"):   # where LIO keeps them
        os.makedirs(directory, exist_ok=True)
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        key = 0x123456789ABCDEF0
        register = struct.pack(">QQ8x", 0, key)
        equal("length of the list", len(register), 24)
        check(device.write(sgio.reserve_out(0, 0, 24), register).good, "REGISTER failed")
        reply, got = device.read(sgio.reserve_in(0, 255), 255)
        check(reply.good and key in struct.unpack_from(">Q", got, 8), f"READ KEYS: {got.hex()}")
        check(device.write(sgio.reserve_out(1, 1, 24), struct.pack(">QQ8x", key, 0)).good, "RESERVE failed")
        text = output("sg_persist", "--in", "--read-reservation", session.disks()[0])
        check("Write Exclusive" in text, f"sg_persist: {text}")
        check(device.write(sgio.reserve_out(3, 0, 24), struct.pack(">QQ8x", key, 0)).good, "CLEAR failed")


@case(LIO)
def many_errors_under_load(env: Env) -> None:
    """Commands that fail with sense data do not disturb those beside them."""
    env.lio(luns=[lio.Ramdisk("lun0", 32)])
    with env.session() as session, sgio.Device(session.disks()[0]) as device:
        device.settle()
        content = PATTERN.content(9, 64 * SECTOR)
        for turn in range(60):
            reply = device.write(sgio.write10(turn * 64, 64), content)
            check(reply.good, f"write {turn}: {reply}")
            check(device.execute(bytes([0xC1]) + bytes(9)).status == sgio.CHECK_CONDITION, "no error")
            reply, got = device.read(sgio.read10(turn * 64, 64), 64 * SECTOR)
            check(reply.good, f"read {turn}: {reply}")
            compare(f"round {turn}", got, content)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
