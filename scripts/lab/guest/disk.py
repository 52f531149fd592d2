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
    words = _stat(disk)
    return words[0] + words[4]


def _stat(disk: str) -> list[int]:
    """Its row of numbers, see the kernel's Documentation/block/stat.rst."""
    try:
        number = os.stat(disk).st_rdev
    except OSError as exc:
        raise LabError(f"{disk}: {exc.strerror}") from exc
    # By number: a device of dm has another name there than in /dev.
    row = read(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    return [int(word) for word in row.split()]


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


def seed() -> int:
    """A seed for fio that no other load has."""
    return int.from_bytes(os.urandom(4), "little")


def fio_argv(target: str, **options: object) -> list[str]:
    """fio on a disk or file, with JSON about its one job.

    Options are fio's own, with `_` where fio's name has it; the defaults are
    asynchronous direct I/O. Of two jobs with one seed the second could lose a write, and the first one's would
    be found; so each has another.
    """
    wanted: dict[str, object] = {"name": "iser", "filename": target, "ioengine": "libaio",
                                 "direct": 1, "rw": "randrw", "bs": "4k", "iodepth": 16,
                                 "randseed": seed(), "verify_state_save": 0,
                                 "group_reporting": 1, **options}
    argv = ["fio", "--output-format=json", "--eta=never"]
    return argv + [f"--{k}={v}" if v is not True else f"--{k}" for k, v in wanted.items() if v is not None]


def fio_json(said: str) -> dict[str, object]:
    """The job in the last whole account of what fio has said; nothing if there is none."""
    end = len(said)
    while (start := f"\n{said}".rfind("\n{", 0, end)) >= 0:
        try:
            return dict(json.JSONDecoder().raw_decode(said[start:])[0]["jobs"][0])
        except (ValueError, LookupError):
            end = start
    return {}


def fio_job(said: str, status: int, errors: str = "") -> dict[str, object]:
    """The job in what fio has said; an error of it, or its end with another status than 0, is raised."""
    start, job = said.find("{"), fio_json(said)
    if status != 0 or job.get("error", 1):
        words = (errors.strip() or said[:start if start > 0 else 400]).splitlines()
        raise LabError(f"fio failed: {' / '.join(words[-3:])}")
    return job


def fio(target: str, timeout: float = 300, **options: object) -> dict[str, object]:
    """Run fio with the options of `fio_argv` and return its JSON for the one job."""
    done = run(*fio_argv(target, **options), check=False, timeout=timeout)
    return fio_job(done.stdout, done.returncode, done.stderr)


def checksum(disk: str, start: int, length: int) -> str:
    """The SHA-256 of a part of a disk, as it is there and not in memory."""
    digest = hashlib.sha256()
    with open(disk, "rb", buffering=0) as handle:
        os.posix_fadvise(handle.fileno(), start, length, os.POSIX_FADV_DONTNEED)
        handle.seek(start)
        while length > 0:
            block = handle.read(min(length, CHUNK))
            if not block:
                raise LabError(f"{disk} ends early")
            digest.update(block)
            length -= len(block)
    return digest.hexdigest()


def moved(job: dict[str, object], way: str) -> int:
    """Bytes that a job has read, or written."""
    part = job.get(way)
    return int(part["io_bytes"]) if isinstance(part, dict) else 0


def fio_verify(target: str, **options: object) -> dict[str, object]:
    """Write with fio, then read everything back and compare: checksums, and which write it was.

    fio does not read where it was told how long to write: that is an error here.
    """
    job = fio(target, **{"rw": "randwrite", "verify": "crc32c", "do_verify": 1, "verify_fatal": 1,
                         "verify_backlog": None, **options})
    wrote, back = moved(job, "write"), moved(job, "read")
    if not wrote or back < wrote:
        raise LabError(f"fio has read {back} bytes back of {wrote} that it wrote to {target}")
    return job


def described(job: dict[str, object]) -> str:
    """One line about a fio job."""
    words = []
    for way in ("read", "write"):
        part = job.get(way)
        if isinstance(part, dict) and part.get("total_ios"):
            words.append(f"{way} {part['io_bytes'] >> 20} MiB in {part['total_ios']} I/Os, "
                         f"{part['iops']:.0f} IOPS")
    return "; ".join(words)
