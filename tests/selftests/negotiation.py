#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""How written data travels: immediate, unsolicited and solicited, as negotiated.

What LIO received is counted by kprobes on its functions, so that data which
took another way than it should have is seen although it arrived.
"""

import concurrent.futures
import sys
from dataclasses import dataclass

from harness import program, sgio, slow
from harness.case import BOTH, LIO, TGT, Skip, case, check, equal
from harness.data import SECTOR, Memory, Pattern, Window, compare
from harness.env import Env
from harness.probe import Probes
from lab.guest.initiator import Session
from lab.guest.system import read, run, wait_for

DATA_OUT = "iscsit_check_dataout_hdr"
RDMA_READ = "isert_get_dataout"
RDMA_WRITE = "isert_put_datain"
# Sizes around every border that the settings below draw.
SIZES = (512, 1024, 4096, 7680, 8192, 8704, 16384, 24576, 65024, 65536, 66048, 131072, 262144, 524288)


@dataclass(frozen=True)
class Ways:
    """What target and initiator offer, and the first burst they agree on."""

    immediate: bool
    initial_r2t: bool
    first_burst: int = 65536
    segment: int = 8192          # the target's MaxRecvDataSegmentLength

    def target(self) -> dict[str, object]:
        """Parameters of a LIO target."""
        return {"ImmediateData": yes(self.immediate), "InitialR2T": yes(self.initial_r2t),
                "FirstBurstLength": self.first_burst, "MaxRecvDataSegmentLength": self.segment}

    def initiator(self) -> dict[str, object]:
        """Settings of open-iscsi."""
        return {"node.session.iscsi.ImmediateData": yes(self.immediate),
                "node.session.iscsi.InitialR2T": yes(self.initial_r2t),
                "node.session.iscsi.FirstBurstLength": self.first_burst}

    def expected(self, size: int, segment: int) -> dict[str, int]:
        """How often LIO's functions are called for one write: RFC 7143, 13.10 to 13.14."""
        burst = min(size, self.first_burst)
        immediate = min(burst, segment) if self.immediate else 0
        unsolicited = 0 if self.initial_r2t else burst - immediate
        return {DATA_OUT: -(-unsolicited // segment),
                RDMA_READ: int(size > immediate + unsolicited), RDMA_WRITE: 0}


def yes(value: bool) -> str:
    """As iSCSI writes it."""
    return "Yes" if value else "No"


WAYS = {
    "immediate": Ways(True, True),
    "immediate-unsolicited": Ways(True, False),
    "unsolicited": Ways(False, False),
    "solicited": Ways(False, True),
    "small-burst": Ways(True, False, first_burst=4096),
    "large-segment": Ways(True, False, first_burst=262144, segment=65536),
    "many-pdus": Ways(True, False, first_burst=65536, segment=1024),
}
TGT_UNSOLICITED = ("tgt mishandles unsolicited Data-Out, as its own source says (iser_data_out_rx in "
                   "usr/iscsi/iser.c): the data comes back wrong with the C driver too")
WRITES = 8               # more than the driver has room for Data-Outs at once
PATTERN = Pattern(seed=11, largest=1 << 20)


def attributes(session: Session) -> tuple[Ways, int]:
    """What was agreed on, as the session shows it; the second is the segment's length."""
    def number(name: str) -> int:
        return int(read(session.directory / name))
    segment = int(read(session.connection / "max_xmit_dlength"))
    return Ways(bool(number("immediate_data")), bool(number("initial_r2t")),
                number("first_burst_len")), segment


def write_and_read(device: sgio.Device, size: int, lba: int, probes: Probes | None) -> dict[str, int]:
    """Write, read back, compare; return what the target did for the write."""
    memory = Memory(2 * size + (1 << 16))
    content = PATTERN.content(lba, size, generation=size)
    # What is as long as a command may be has to start with a page.
    out = Window(memory, 0 if size > 262144 else 4 * (size // SECTOR), size)
    out.view[:] = content
    before = probes.counts() if probes else {}
    reply = device.execute(sgio.write10(lba, size // SECTOR), sgio.TO_DEVICE, out.address, size)
    done = probes.since(before) if probes else {}
    equal(f"write of {size} bytes", (reply.good, reply.residual), (True, 0))
    back = Window(Memory(size + (1 << 16)), 0 if size > 262144 else 8, size)
    reply = device.execute(sgio.read10(lba, size // SECTOR), sgio.FROM_DEVICE, back.address, size)
    equal(f"read of {size} bytes", (reply.good, reply.residual), (True, 0))
    compare(f"{size} bytes", back.view, content)
    back.check_guards(f"read of {size} bytes")
    return done


@case(LIO, limit=90, each=WAYS)
def write(env: Env, ways: Ways) -> None:
    """Each size takes the way that was agreed on, and arrives."""
    env.lio(parameters=ways.target())
    with env.session(ways.initiator()) as session, sgio.Device(session.disks()[0]) as device, \
            Probes(f"iscsi_target_mod:{DATA_OUT}", f"ib_isert:{RDMA_READ}",
                   f"ib_isert:{RDMA_WRITE}") as probes:
        agreed, segment = attributes(session)
        equal("ImmediateData", agreed.immediate, ways.immediate)
        equal("InitialR2T", agreed.initial_r2t, ways.initial_r2t)
        equal("FirstBurstLength", agreed.first_burst, ways.first_burst)
        device.settle()
        for index, size in enumerate(SIZES):
            done = write_and_read(device, size, 1000 + 2048 * index, probes)
            equal(f"what the target did for {size} bytes (segment {segment})", done,
                  ways.expected(size, segment))


@case(LIO, limit=90)
def unsolicited_writes_at_once(env: Env) -> None:
    """Writes whose data go unasked do not wait for each other, however long their commands take."""
    ways, size = WAYS["immediate-unsolicited"], 65536
    with slow.device() as backing:
        env.lio(luns=[backing.lun()], parameters=ways.target())
        try:
            with env.session(ways.initiator()) as session, sgio.Device(session.disks()[0]) as device, \
                    Probes(f"iscsi_target_mod:{DATA_OUT}") as probes, \
                    concurrent.futures.ThreadPoolExecutor(WRITES) as pool:
                segment = attributes(session)[1]
                device.settle()
                backing.suspend()
                try:
                    jobs = [pool.submit(device.write, sgio.write10(128 * n, size // SECTOR),
                                        PATTERN.content(128 * n, size)) for n in range(WRITES)]
                    wait_for("the data of all writes", lambda: probes.counts()[DATA_OUT]
                             == WRITES * ways.expected(size, segment)[DATA_OUT], 10)
                finally:
                    backing.resume()
                check(all(job.result().good for job in jobs), "a write has failed")
        finally:
            env.drop_target()


@case(LIO)
def read_is_one_rdma_write(env: Env) -> None:
    """A read is answered by one RDMA transfer, however long it is."""
    with env.session() as session, sgio.Device(session.disks()[0]) as device, \
            Probes(f"ib_isert:{RDMA_WRITE}", f"ib_isert:{RDMA_READ}") as probes:
        device.settle()
        for size in (512, 4096, 65536, 262144, 524288):
            before = probes.counts()
            reply, _ = device.read(sgio.read10(0, size // SECTOR), size)
            equal(f"read of {size} bytes", reply.good, True)
            equal(f"what the target did for {size} bytes", probes.since(before),
                  {RDMA_WRITE: 1, RDMA_READ: 0})


@case(TGT, limit=90, each=WAYS)
def arrives(env: Env, ways: Ways) -> None:
    """The same with tgt, which can do only some of it."""
    if not ways.initial_r2t:
        raise Skip(TGT_UNSOLICITED)
    env.tgt()
    for name, value in ways.target().items():
        run("tgtadm", "--lld", "iser", "--op", "update", "--mode", "target", "--tid", "1",
            "--name", name, "--value", str(value), check=False)
    try:
        with env.session(ways.initiator()) as session, sgio.Device(session.disks()[0]) as device:
            device.settle()
            for index, size in enumerate(SIZES):
                write_and_read(device, size, 1000 + 2048 * index, None)
    finally:
        env.drop_target()


@case(BOTH)
def digests_end_up_none(env: Env) -> None:
    """Digests that open-iscsi prefers are not agreed on: RFC 7145, 6.1."""
    with env.session({"node.conn[0].iscsi.HeaderDigest": "CRC32C,None",
                      "node.conn[0].iscsi.DataDigest": "CRC32C,None"}) as session:
        for name in ("header_digest", "data_digest"):
            equal(name, read(session.connection / name), "0")


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
