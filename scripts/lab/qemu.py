# SPDX-License-Identifier: GPL-2.0
"""QEMU's command line, as data in and a list of strings out.

QEMU runs in the results directory, and unix sockets are named relative to it,
because their paths may be 107 bytes long and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import config, qmp
from lab.report import LabError

# By which a machine knows the disk that it may write to.
DISK_SERIAL = "kept"


@dataclass(frozen=True)
class Link:
    """One end of the cable between two machines, over a unix socket."""

    socket: str          # relative to the results directory: such paths are short
    server: bool
    mac: str


@dataclass(frozen=True)
class Machine:
    """What one virtual machine is made of."""

    kernel: Path
    initramfs: Path
    root: Path
    modules: Path
    source: Path         # the checkout, shared read-only at its own path
    out: Path            # the results directory, shared read-write at its own path
    accel: str = "tcg"
    memory: int = config.GUEST_MEMORY_MIB
    cpus: int = config.GUEST_CPUS
    interactive: bool = False
    link: Link | None = None
    disk: Path | None = None     # an image that the machine may write to
    tsc_khz: int | None = None   # of the host, see lab.tsc
    append: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


# Under icount a string instruction costs one nanosecond for each element. The
# kernel must not be told that copying by bytes is fast: it would take eight
# times as long as copying by words, and drown everything else.
ICOUNT_CPU = "max,erms=off,fsrm=off,fzrm=off,fsrs=off,fsrc=off"


def accel_args(accel: str, cpus: int) -> list[str]:
    """Arguments for a way to run the machine: kvm, tcg, or icount.

    `icount` makes one instruction one virtual nanosecond, so that a timing is
    a count and repeats itself.
    """
    if accel == "kvm":
        return ["-accel", "kvm", "-cpu", "host", "-smp", str(cpus)]
    if accel == "tcg":
        return ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(cpus)]
    if accel == "icount":
        return ["-accel", "tcg,thread=single", "-cpu", ICOUNT_CPU, "-smp", "1",
                "-icount", "shift=0,sleep=off"]
    raise LabError(f"no way to run a machine is called {accel}; use kvm, tcg or icount")


def kernel_arguments(machine: Machine) -> str:
    """The kernel command line. A panic or oops ends the machine at once."""
    for path in (machine.source, machine.out):
        if any(c.isspace() or c in ",\\" for c in str(path)):
            raise LabError(f"{path}: a path with a blank, comma or backslash cannot be shared "
                           "with the machine; move the checkout or set ISER_CACHE")
    words = ["console=ttyS0", "panic=-1", "oops=panic", "loglevel=7", "log_buf_len=8M",
             "random.trust_cpu=on", "no_timer_check", "tsc=reliable", "printk.time=1",
             "mitigations=off", f"iser.src={machine.source}", f"iser.out={machine.out}",
             *machine.append]
    if machine.accel == "tcg" and machine.tsc_khz:
        words.append(f"tsc_early_khz={machine.tsc_khz}")
    return " ".join(words)


def arguments(machine: Machine) -> list[str]:
    """The whole command line of one machine."""
    argv = ["qemu-system-x86_64", "-machine", "q35,usb=off,vmport=off", "-nodefaults",
            "-no-user-config", "-display", "none", "-no-reboot",
            *accel_args(machine.accel, machine.cpus), "-m", f"{machine.memory}M",
            "-kernel", str(machine.kernel), "-initrd", str(machine.initramfs),
            "-append", kernel_arguments(machine),
            "-serial", f"file:{machine.out / 'console.log'}",
            "-monitor", "unix:monitor,server=on,wait=off",
            "-qmp", f"unix:{qmp.NAME},server=on,wait=off",
            "-device", "virtio-rng-pci"]
    for index, image in enumerate((machine.root, machine.modules)):
        argv += ["-drive", f"if=none,id=d{index},format=raw,read-only=on,file={image}",
                 "-device", f"virtio-blk-pci,drive=d{index}"]
    if machine.disk:
        argv += ["-drive", f"if=none,id=kept,format=raw,file={machine.disk}",
                 "-device", f"virtio-blk-pci,drive=kept,serial={DISK_SERIAL}"]
    for tag, path, only in (("src", machine.source, ",readonly=on"), ("out", machine.out, "")):
        argv += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{only}",
                 "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    argv += ["-device", "virtio-serial-pci"]
    if machine.interactive:
        argv += ["-chardev", "stdio,id=port,signal=off", "-device", "virtconsole,chardev=port"]
    else:
        argv += ["-chardev", "stdio,id=port,signal=off",
                 "-device", "virtserialport,chardev=port,name=iser"]
    if machine.link:
        end = machine.link
        # Without merged buffers the pages of packets come from no page pool, which rxe gives them back to with
        # a lock held and interrupts off: on one processor that is a deadlock at times (tests/known-reports).
        argv += ["-netdev", f"stream,id=n0,server={'on' if end.server else 'off'},"
                            f"addr.type=unix,addr.path={end.socket}"
                            + ("" if end.server else ",reconnect-ms=100"),
                 "-device", f"virtio-net-pci,netdev=n0,mac={end.mac},host_mtu=4200,mrg_rxbuf=off"]
    return argv + list(machine.extra)
