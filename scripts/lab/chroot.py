# SPDX-License-Identifier: GPL-2.0
"""Run a command inside a root that stays as it was built.

The root is the lower layer of an overlay whose upper layer is a tmpfs, all in
a private mount namespace: the command may write where it likes, nothing of it
lasts, and no mount outlives the command, however it ends. What is to last is
bound in at its own path: the checkout and the cache.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
from pathlib import Path

from lab.report import LabError

MARKER = "/etc/iser-lab-root"

# Arguments: root, mountpoint for the overlay, working directory, then the
# paths to bind, then "--" and the command.
ENTER = r"""
set -eu
root=$1 point=$2 cwd=$3; shift 3
mount -t tmpfs -o mode=0755 iser-lab "$point"
mkdir "$point/upper" "$point/work" "$point/root"
chmod 0755 "$point/upper"
if ! mount -t overlay -o "lowerdir=$root,upperdir=$point/upper,workdir=$point/work" \
        iser-lab "$point/root" 2>/dev/null; then
    mount --bind "$root" "$point/root"
fi
new=$point/root
mount --rbind /dev "$new/dev"
mount --rbind /proc "$new/proc"
mount --rbind /sys "$new/sys"
mount -t tmpfs -o mode=1777 iser-lab "$new/tmp"
rm -f "$new/etc/resolv.conf"
if [ -e /etc/resolv.conf ]; then cat /etc/resolv.conf > "$new/etc/resolv.conf"; fi
# Whom the host trusts: cargo fetches through the same network.
trust=/etc/ssl/certs/ca-certificates.crt
if [ -e $trust ] && [ -e "$new$trust" ]; then cat $trust > "$new$trust"; fi
while [ "$1" != -- ]; do
    mkdir -p "$new$1"
    mount --rbind "$1" "$new$1"
    shift
done
shift
exec chroot "$new" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$cwd" "$@"
"""

PASSED_PREFIXES = ("LC_", "ISER_", "CARGO_", "GIT_")
PASSED = {"TERM", "LANG", "CI", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY",
          "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SOURCE_DATE_EPOCH", "COLUMNS",
          "KDIR", "CLIPPY", "V", "W", "KTAP"}


def environment(cache: Path, host: dict[str, str]) -> dict[str, str]:
    """The environment inside a root: little of the host's, nothing by chance."""
    env = {k: v for k, v in host.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}
    env.setdefault("LANG", "C.UTF-8")
    env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    env["HOME"] = str(cache / "home")
    env["ISER_CACHE"] = str(cache)
    return env


def enclosing(path: Path, others: list[Path]) -> bool:
    """Whether one of the others already contains this path."""
    return any(path != o and path.is_relative_to(o) for o in others)


def command(root: Path, cache: Path, argv: list[str], cwd: Path,
            binds: list[Path]) -> list[str]:
    """The argv that runs `argv` in `root`; it execs, so it keeps its pid."""
    if os.geteuid() != 0:
        raise LabError("the lab mounts and chroots, so it needs root; run it as root or by sudo")
    for tool in ("unshare", "mount", "chroot"):
        if not shutil.which(tool):
            raise LabError(f"{tool} is not in PATH; add /sbin and /usr/sbin to it")
    point = cache / "mnt"
    point.mkdir(exist_ok=True)
    (cache / "home").mkdir(exist_ok=True)
    wanted = list(dict.fromkeys([*binds, cache]))
    kept = [str(p) for p in wanted if not enclosing(p, wanted)]
    return ["unshare", "--mount", "--propagation", "private", "--",
            "/bin/sh", "-c", ENTER, "enter", str(root), str(point), str(cwd),
            *kept, "--", *argv]


def die_with_parent() -> None:
    """Between fork and exec: have the kernel end this process with its parent."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def inside() -> bool:
    """Whether this process already runs in a root of the lab."""
    return Path(MARKER).exists()
