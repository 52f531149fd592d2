# SPDX-License-Identifier: GPL-2.0
"""Using a disk: file systems, files with checksums, fio with verification.

Nothing here writes to a disk that holds anything, unless it is told to.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

from lab.guest.system import read, run
from lab.report import LabError

CHUNK = 1 << 20


def size(disk: str) -> int:
    """Bytes of a block device."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def scsi(disk: str) -> Path:
    """The SCSI device of a disk in sysfs."""
    return Path("/sys/block", os.path.basename(disk), "device")


def completed(disk: str) -> int:
    """How many requests a disk has finished."""
    words = read(f"/sys/block/{os.path.basename(disk)}/stat").split()
    return int(words[0]) + int(words[4])


def in_flight(disk: str) -> int:
    """How many requests are under way."""
    return sum(int(word) for word in read(f"/sys/block/{os.path.basename(disk)}/inflight").split())


def used_by(disk: str) -> str:
    """Who uses a disk or a part of it; empty if nobody does."""
    name = os.path.basename(os.path.realpath(disk))
    own = Path("/sys/class/block", name)
    parts = [own, *(p.parent for p in own.glob("*/partition"))]
    for part in parts:
        holders = [h.name for h in (part / "holders").glob("*")]
        if holders:
            return f"{part.name} is held by {', '.join(holders)}"
    names = {f"/dev/{p.name}" for p in parts}
    for table in ("/proc/self/mounts", "/proc/swaps"):
        # A kernel may have no swapping.
        for row in read(table, "").splitlines():
            first = row.split()[:1]
            if first and os.path.realpath(first[0]) in names:
                return f"{first[0]} is in use ({table})"
    return ""


def has_data(disk: str, probe: int = 4 * CHUNK) -> str:
    """What a disk seems to hold; empty if it looks blank.

    A signature known to blkid counts, and so does any byte other than zero in
    the first and last few MiB.
    """
    found = run("blkid", "-p", "-o", "export", disk, check=False).stdout
    for row in found.splitlines():
        if row.startswith(("TYPE=", "PTTYPE=")):
            return row.partition("=")[2]
    total = size(disk)
    with open(disk, "rb", buffering=0) as handle:
        for start in {0, max(0, total - probe)}:
            handle.seek(start)
            left = min(probe, total - start)
            while left > 0:
                block = handle.read(min(CHUNK, left))
                if not block:
                    break
                if block.count(0) != len(block):
                    return "data that is not a known file system"
                left -= len(block)
    return ""


def refuse_if_used(disk: str, overwrite: bool) -> None:
    """Raise unless the disk may be written to."""
    user = used_by(disk)
    if user:
        raise LabError(f"{disk} will not be touched: {user}")
    held = "" if overwrite else has_data(disk)
    if held:
        raise LabError(f"{disk} will not be touched: it holds {held}; "
                       "--overwrite says that this may be destroyed")


def mkfs(disk: str, kind: str = "ext4") -> None:
    """Make a file system."""
    options = {"ext4": ["-q", "-F"], "xfs": ["-q", "-f"]}[kind]
    run(f"mkfs.{kind}", *options, disk, timeout=300)


def mount(disk: str, where: str) -> None:
    """Mount a disk."""
    os.makedirs(where, exist_ok=True)
    run("mount", disk, where)


def unmount(where: str) -> None:
    """Unmount; this writes back everything."""
    run("umount", where, timeout=300)


def drop_caches() -> None:
    """Forget every clean page, so that what is read comes from the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def write_files(where: str, total: int, seed: int = 1) -> dict[str, str]:
    """Write files of many sizes; return the checksum of each."""
    # Not a secret: the same seed must make the same files.
    dice = random.Random(seed)
    sizes = [1, 511, 512, 513, 4095, 4096, 4097, 65536, 100_003, CHUNK + 7]
    left = total - sum(sizes)
    while left > 0:
        step = min(left, dice.randrange(CHUNK, 8 * CHUNK))
        sizes.append(step)
        left -= step
    sums = {}
    for number, length in enumerate(sizes):
        name = f"file{number:03}"
        digest = hashlib.sha256()
        with open(os.path.join(where, name), "wb") as handle:
            while length > 0:
                block = dice.randbytes(min(length, CHUNK))
                digest.update(block)
                handle.write(block)
                length -= len(block)
            handle.flush()
            os.fsync(handle.fileno())
        sums[name] = digest.hexdigest()
    return sums


def check_files(where: str, sums: dict[str, str]) -> None:
    """Read the files back; raise if one differs."""
    for name, wanted in sums.items():
        digest = hashlib.sha256()
        with open(os.path.join(where, name), "rb") as handle:
            while block := handle.read(CHUNK):
                digest.update(block)
        if digest.hexdigest() != wanted:
            raise LabError(f"{name} came back with another checksum than it was written with")


def fio(target: str, timeout: float = 300, **options: object) -> dict[str, object]:
    """Run fio on a disk or file and return its JSON for the one job.

    Options are fio's own, with `_` where fio's name has it; the defaults are
    asynchronous direct I/O.
    """
    wanted: dict[str, object] = {"name": "iser", "filename": target, "ioengine": "libaio",
                                 "direct": 1, "rw": "randrw", "bs": "4k", "iodepth": 16,
                                 "randseed": 7, "group_reporting": 1, **options}
    argv = ["fio", "--output-format=json", "--eta=never"]
    argv += [f"--{k}={v}" if v is not True else f"--{k}" for k, v in wanted.items() if v is not None]
    done = run(*argv, check=False, timeout=timeout)
    start = done.stdout.find("{")
    try:
        job = json.loads(done.stdout[start:])["jobs"][0]
    except (ValueError, LookupError):
        job = {"error": done.returncode or 1}
    if done.returncode != 0 or job.get("error"):
        words = (done.stderr.strip() or done.stdout[:start if start > 0 else 400]).splitlines()
        raise LabError(f"fio failed: {' / '.join(words[-3:])}")
    return dict(job)


def fio_verify(target: str, **options: object) -> dict[str, object]:
    """Write with fio, then read everything back and compare checksums."""
    return fio(target, **{"rw": "randwrite", "verify": "crc32c", "do_verify": 1,
                          "verify_fatal": 1, "verify_backlog": None, **options})


def described(job: dict[str, object]) -> str:
    """One line about a fio job."""
    words = []
    for way in ("read", "write"):
        part = job.get(way)
        if isinstance(part, dict) and part.get("total_ios"):
            words.append(f"{way} {part['io_bytes'] >> 20} MiB in {part['total_ios']} I/Os, "
                         f"{part['iops']:.0f} IOPS")
    return "; ".join(words)
