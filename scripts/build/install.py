# SPDX-License-Identifier: GPL-2.0
"""What `make install` does beside Kbuild's modules_install, and how it is undone.

    check KO     fail unless KO was built, for this kernel, and can be installed
    depmod       let modprobe find the module
    configure    write the modprobe.d file; --default makes ib_iser mean ours
    uninstall    remove the module and that file, and nothing else
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from build.kdir import Kdir
from build.progress import BuildError, say
from lab.report import LabError

MODULE = "ib_iser_rs"
SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
# The first line says whose the file is; only such a file is replaced or removed.
MARK = f"# {MODULE}: written by `make install`, removed by `make uninstall`."
# open-iscsi and rdma-core ask for ib_iser by that name, which neither an alias nor a
# blacklist changes. Where this kernel has no ib_iser_rs the C driver is loaded.
REDIRECT = (
    f"install ib_iser if /sbin/modprobe -n -q {MODULE}; "
    f"then /sbin/modprobe {MODULE} $CMDLINE_OPTS; "
    "else /sbin/modprobe -i ib_iser $CMDLINE_OPTS; fi"
)


def configuration(default: bool) -> str:
    """Return the text of the modprobe.d file."""
    return "\n".join([
        MARK,
        "#",
        "# Userspace loads the iSER transport by the name of the C driver, ib_iser. The",
        "# line below loads ib_iser_rs in its place, for `iscsiadm -I iser` and at boot.",
        "# `make install DEFAULT=1` switches it on, `make install` off.",
        ("" if default else "#") + REDIRECT,
    ]) + "\n"


def vermagic_release(module: bytes) -> str | None:
    """Return the kernel release that an uncompressed module was built for."""
    match = re.search(rb"\0vermagic=([^ \0]+)", module)
    return match[1].decode(errors="replace") if match else None


class Installer:
    """The places of one kernel's modules and of modprobe's configuration."""

    def __init__(self, kdir: str, root: str, etc: str, directory: str) -> None:
        self.root = root
        try:
            self.release = Kdir(kdir).release
        except BuildError:
            # The headers may be gone before the module is.
            link = re.search(r"/lib/modules/([^/]+)/build/?$", kdir)
            if not link:
                raise
            self.release = link[1]
        self.modules = Path(f"{root}/lib/modules/{self.release}")
        self.directory = self.modules / directory
        self.conf = Path(etc) / "modprobe.d" / f"{MODULE}.conf"

    def check(self, module: Path) -> None:
        """Raise BuildError unless `module` can be installed."""
        if not module.is_file():
            raise BuildError(f"{module.name} is not built; run `make` first, as the user who builds")
        built_for = vermagic_release(module.read_bytes())
        if built_for != self.release:
            raise BuildError(
                f"{module.name} was built for kernel {built_for}, not for {self.release}; "
                f"run `make` with the same KDIR= first"
            )
        self._writable()

    def _writable(self) -> None:
        if not self.root and os.geteuid() != 0:
            raise BuildError("this writes to /lib/modules and /etc: run it as root, or give DESTDIR=")

    def depmod(self) -> None:
        """Renew modprobe's index, where there is a kernel's module tree."""
        if not (self.modules / "modules.builtin").is_file():
            say(f"DEPMOD  skipped: kernel {self.release} itself is not below {self.root or '/'}")
            return
        path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
        depmod = shutil.which(os.environ.get("DEPMOD", "depmod"), path=path)
        if not depmod:
            raise BuildError("depmod: not found; apt install kmod")
        say(f"DEPMOD  {self.modules}")
        subprocess.run([depmod, "-b", self.root or "/", self.release], check=True)

    def owns_conf(self) -> bool:
        """Whether the modprobe.d file is there and `make install` wrote it."""
        try:
            return self.conf.read_text(encoding="utf-8").startswith(MARK)
        except OSError:
            return False

    def configure(self, default: bool) -> None:
        """Write the modprobe.d file."""
        if self.conf.exists() and not self.owns_conf():
            raise BuildError(f"{self.conf} is not from `make install`; move it away first")
        self.conf.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.conf.with_name(f".{self.conf.name}.new")
        temporary.write_text(configuration(default), encoding="utf-8")
        temporary.replace(self.conf)
        say(f"INSTALL {self.conf}")
        if default:
            print(f"{MODULE} is loaded from now on where ib_iser is asked for (`iscsiadm -I iser`).")
            if not self.root and Path("/sys/module/ib_iser").exists():
                print("ib_iser is loaded now: log out of its sessions, then `modprobe -r ib_iser`.")
        else:
            print(f"`modprobe {MODULE}` loads it; `make install DEFAULT=1` makes "
                  "`iscsiadm -I iser` use it where ib_iser is not loaded.")

    def uninstall(self) -> None:
        """Remove what install put there; leave everything else."""
        self._writable()
        removed = found = False
        for suffix in SUFFIXES:
            path = self.directory / f"{MODULE}{suffix}"
            if path.is_file():
                path.unlink()
                say(f"REMOVE  {path}")
                removed = found = True
        if removed:
            if not any(self.directory.iterdir()):
                self.directory.rmdir()
            self.depmod()
        if self.owns_conf():
            found = True
            self.conf.unlink()
            say(f"REMOVE  {self.conf}")
        elif self.conf.exists():
            say(f"KEEP    {self.conf}: not from `make install`")
        if not found:
            say(f"nothing of {MODULE} is installed for kernel {self.release}")
        if Path(f"/sys/module/{MODULE}").exists() and not self.root:
            print(f"{MODULE} is still loaded: log out of its sessions, then `modprobe -r {MODULE}`.")


def main(argv: list[str]) -> int:
    """Run one step; a BuildError becomes one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("kdir", "root", "etc", "directory"):
        parser.add_argument(f"--{name}", required=True)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("check").add_argument("module", type=Path)
    steps.add_parser("depmod")
    steps.add_parser("configure").add_argument("--default", action="store_true")
    steps.add_parser("uninstall")
    args = parser.parse_args(argv)
    try:
        installer = Installer(args.kdir, args.root, args.etc, args.directory)
        if args.step == "check":
            installer.check(args.module)
        elif args.step == "depmod":
            installer.depmod()
        elif args.step == "configure":
            installer.configure(args.default)
        else:
            installer.uninstall()
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or args.step}: {error.strerror}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
