#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""PDUs that are too short, too long, of no kind, or not what they say."""

import sys

from hostile.rows import LIVES, REFUSED, SILENT, Row, attempt, judge_log, run, scene, violation
from harness import program
from harness.case import case, equal
from harness.env import Env
from lab.guest import kernlog

# Devices name it differently; rxe calls it a local QP operation error.
TOO_LONG = r"receive failed: "

LENGTHS = {f"{n}_bytes": Row(f"read len={n}", violation("too_short"))
           for n in (0, 1, 27, 28, 75)} | {
    "100_bytes_for_none": Row("read len=100", violation("trailing_bytes")),
    "588_bytes_for_none": Row("read len=588", violation("trailing_bytes")),
    # One byte more than the largest buffer that is posted.
    "589_bytes": Row("read len=589", TOO_LONG),
    "8000_bytes": Row("read len=8000", TOO_LONG),
    "1_mebibyte": Row("read len=1048576", TOO_LONG),
    "the_most_that_is_allowed": Row("read data={most}:00", SILENT, end=LIVES, good=True),
}


@case(limit=120, each=LENGTHS)
def length(env: Env, row: Row) -> None:
    """A message of that length."""
    run(env, row)


HEADERS = {
    "opcode_0": Row("read iser=00", violation("iser_opcode")),
    "hello": Row("read iser=20", violation("iser_opcode")),
    "hello_reply": Row("read iser=30", violation("iser_opcode")),
    "opcode_f": Row("read iser=f0", violation("iser_opcode")),
    "write_buffer": Row("read iser=18", violation("iser_flags")),
    "read_buffer": Row("read iser=14", violation("iser_flags")),
    "both_buffers": Row("read iser=1cffffffffffffffffffffffff", violation("iser_flags")),
    # Reserved bits and fields are to be ignored (RFC 7145, 9.2).
    "reserved_bits": Row("read iser=13", SILENT, end=LIVES, good=True),
    "reserved_fields": Row("read iser.1=ffffffdeadbeefffffffffffffffffdeadbeefffffffffffffffff", SILENT,
                           end=LIVES, good=True),
}


@case(limit=120, each=HEADERS)
def iser_header(env: Env, row: Row) -> None:
    """The iSER header is not that of a control-type PDU."""
    run(env, row)


def wrong_headers() -> list[Row]:
    """Each first byte of an iSER header that differs in its opcode, or in flags that matter."""
    # Of a Hello and a HelloReply the other bits are versions, and that it rejects.
    opcodes = [opcode << 4 | flags for opcode in range(16) for flags in (0, 1, 0xf) if opcode != 1]
    flags = [0x10 | flags for flags in range(16) if flags & 0xc]
    return [Row(f"read iser={first:02x}", rf"{violation('iser_opcode')}iSER opcode {first >> 4:#x}, ")
            for first in opcodes] + [
        Row(f"read iser={first:02x}", rf"{violation('iser_flags')}iSER flags {first:#04x} ") for first in flags]


@case(limit=900)
def every_iser_header(env: Env) -> None:
    """Every wrong opcode and every wrong combination of flags (RFC 7145, 9.2), in one session."""
    with scene(env) as stage:
        for row in wrong_headers():
            attempt(stage, row)
        # All that is reserved, once more: it means nothing.
        for flags in range(4):
            attempt(stage, Row(f"read iser=1{flags}", SILENT, end=LIVES, good=True))


SEGMENTS = {
    "without_a_byte": Row("read dsl=513", violation("segment_too_long")),
    "one_byte_short": Row("read data=20:00 dsl=21", violation("segment_too_long")),
    "cut_off": Row("read data=20:00 len=95", violation("segment_too_long")),
    "16_mebibytes": Row("read dsl=0xffffff", violation("segment_too_long")),
    "behind_the_segment": Row("read data=20:00 dsl=3", violation("trailing_bytes")),
    "additional_header": Row("read bhs.4=01", violation("additional_header")),
    "255_additional_words": Row("read bhs.4=ff", violation("additional_header")),
}


@case(limit=120, each=SEGMENTS)
def segment(env: Env, row: Row) -> None:
    """Lengths in the header that do not fit what was received."""
    run(env, row)


SENSE = {
    "longer_than_the_segment": Row("read sense=100:20", violation("sense_length")),
    "by_one_byte": Row("read sense=19:20", violation("sense_length")),
    "65535": Row("read sense=65535:512", violation("sense_length")),
    "half_a_length": Row("read sense=0:1", violation("sense_header")),
    "exactly": Row("read sense=18:20", SILENT, end=LIVES, good=False),
    "the_most_there_can_be": Row("read sense={sense}:{most}", SILENT, end=LIVES, good=False),
    "of_no_bytes": Row("read sense=0:2", SILENT, end=LIVES, good=False),
    "none": Row("read bhs.3=02", SILENT, end=LIVES, good=False),
}


@case(limit=120, each=SENSE)
def sense(env: Env, row: Row) -> None:
    """Sense data that are not where they should be, or just are."""
    run(env, row)


OPCODES = {
    "data_in": Row("read bhs.0=25", violation("data_type_pdu")),
    "data_in_with_status": Row("read bhs.0=2581", violation("data_type_pdu")),
    "r2t": Row("read bhs.0=31", violation("data_type_pdu")),
    "r2t_for_a_write": Row("write bhs.0=31", violation("data_type_pdu"), io="write"),
    "nop_out": Row("read bhs.0=00", violation("opcode")),
    "scsi_command": Row("read bhs.0=01", violation("opcode")),
    "snack": Row("read bhs.0=10", violation("opcode")),
    "vendor": Row("read bhs.0=3c", violation("opcode")),
    "reserved": Row("read bhs.0=27", violation("opcode")),
    # The I bit means nothing in a response.
    "immediate_bit": Row("read bhs.0=61", SILENT, end=LIVES, good=True),
}


@case(limit=120, each=OPCODES)
def opcode(env: Env, row: Row) -> None:
    """A PDU that no target sends over iSER."""
    run(env, row)


ANSWERS = {
    "task_management": Row("read bhs.0=22", REFUSED),
    "login": Row("read bhs.0=23", REFUSED),
    "text": Row("read bhs.0=24", REFUSED),
    "logout": Row("read bhs.0=26", REFUSED),
    "nop_in": Row("read bhs.0=20", REFUSED),
    "reject": Row("read bhs.0=3f", REFUSED),
    "async": Row("read bhs.0=32", REFUSED),
}


@case(limit=120, each=ANSWERS)
def answer(env: Env, row: Row) -> None:
    """A SCSI command is answered by a PDU of another kind."""
    run(env, row)


STATUS = {
    "target_failure": Row("read bhs.2=01", SILENT, end=LIVES, good=False),
    "vendor_response": Row("read bhs.2=ff", SILENT, end=LIVES, good=False),
    "status_of_no_meaning": Row("read bhs.3=fe", SILENT, end=LIVES, good=False),
    "residual_larger_than_the_command": Row("read bhs.1=8200 bhs.44=ffffffff", SILENT, end=LIVES, good=False),
    "overflow_of_4_gib": Row("read bhs.1=8400 bhs.44=ffffffff", SILENT, end=LIVES),
    "both_residuals": Row("read bhs.1=8600 bhs.44=00000200", SILENT, end=LIVES),
    "bidirectional_residual": Row("read bhs.1=9800 bhs.40=ffffffff", SILENT, end=LIVES),
    "all_flags": Row("read bhs.1=ff00", SILENT, end=LIVES),
}


@case(limit=120, each=STATUS)
def status(env: Env, row: Row) -> None:
    """A response that says something odd of its command."""
    run(env, row)


@case(limit=120, differs={"c": "it has no such counter"})
def counted(env: Env) -> None:
    """What the target does wrong is counted, and the count outlives the connection."""
    with scene(env) as stage:
        before = kernlog.mark("provoke")
        equal("violations before", stage.violations(), 0)
        for count in (1, 2):
            told = stage.sim.mark()
            stage.sim.order("rules read len=75")
            stage.provoke("read")
            stage.recovered(told)
            stage.works()
            equal("violations", stage.violations(), count)
        judge_log(env, kernlog.since(before), violation("too_short"), 2)


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
