# SPDX-License-Identifier: GPL-2.0
"""What apt knows: the mirror this host uses, and the versions on it today.

A private apt state directory under the cache is asked, never the host's own,
so that a Debian of any age can look into the suite of the lab. Mirrors drop
old kernels, therefore no version is written down anywhere: the newest kernel
with CONFIG_RUST is found at run time, and everything is keyed by it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import config
from lab.cache import Cache, key_of
from lab.report import LabError, Reporter

KERNEL_RE = re.compile(r"^linux-headers-(\d+\.\d+[^-]*(?:-\d+)?)-amd64$")


@dataclass(frozen=True)
class Versions:
    """One consistent answer of apt: a kernel, and the packages beside it."""

    mirror: str
    release: str         # uname -r, e.g. 7.3.4+deb13-amd64
    kernel: str          # package version of headers, image and source
    source: str          # name of the source package, e.g. linux-source-7.3
    packages: dict[str, str]

    def key_for(self, names: tuple[str, ...]) -> str:
        """A hash over the versions of these packages."""
        return key_of([(n, self.packages.get(n)) for n in names])


def run(argv: list[str], **kwargs: object) -> str:
    """Run a command and return its output, or say in one line why not."""
    done = subprocess.run(  # type: ignore[call-overload]
        argv, capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LabError(f"{' '.join(argv[:2])} failed: {lines[-1] if lines else 'no message'}")
    return str(done.stdout)


def pick_mirror(table: str) -> str:
    """Choose the mirror from `apt-get indextargets` rows of SITE|ORIGIN|CODENAME.

    The archive itself is wanted, not its security or updates sections.
    """
    plain, other = [], []
    for row in table.splitlines():
        site, origin, codename = (row.split("|") + ["", ""])[:3]
        if origin != "Debian" or not site:
            continue
        (other if "-" in codename or "security" in site else plain).append(site)
    for site in plain + other:
        return site.rstrip("/")
    raise LabError("apt on this host knows no Debian mirror; "
                   "set ISER_MIRROR=http://<mirror>/debian")


def mirror() -> str:
    """The Debian mirror of this host, or $ISER_MIRROR."""
    explicit = os.environ.get("ISER_MIRROR")
    if explicit:
        return explicit.rstrip("/")
    if not shutil.which("apt-get"):
        raise LabError("apt-get is not on this host; the lab needs a Debian host")
    return pick_mirror(run(["apt-get", "indextargets", "--format",
                            "$(REPO_URI)|$(ORIGIN)|$(CODENAME)"]))


def keyring() -> str:
    """The archive keyring of this host."""
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"):
        path = Path("/usr/share/keyrings") / name
        if path.exists():
            return str(path)
    raise LabError("no Debian archive keyring; run: apt-get install debian-archive-keyring")


def sources(url: str) -> str:
    """A sources.list for the suite and its backports."""
    signed = f"[signed-by={keyring()}]"
    return "".join(f"deb {signed} {url} {suite} main\n"
                   for suite in (config.SUITE, config.BACKPORTS))


class PrivateApt:
    """apt with its own state, lists and cache under one directory."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        for name in ("lists/partial", "archives/partial", "etc/preferences.d"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        (home / "sources.list").write_text(sources(url), encoding="utf-8")

    def options(self) -> list[str]:
        """Options that turn apt away from the host's state."""
        home = self.home
        pairs = {
            "Dir::State": home, "Dir::State::lists": home / "lists",
            "Dir::State::status": home / "status", "Dir::Cache": home,
            "Dir::Cache::archives": home / "archives",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": home / "etc/preferences",
            "Dir::Etc::preferencesparts": home / "etc/preferences.d",
            "APT::Architecture": config.ARCH, "APT::Architectures": config.ARCH,
            "APT::Sandbox::User": "root", "Acquire::Languages": "none",
            "Acquire::Retries": "3", "APT::Update::Error-Mode": "any",
        }
        return [arg for name, value in pairs.items() for arg in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Fetch the package lists."""
        run(["apt-get", *self.options(), "-q", "update"])

    def candidates(self, names: list[str]) -> dict[str, str]:
        """The version apt would install of each package."""
        table = run(["apt-cache", *self.options(), "policy", *names])
        return parse_policy(table)

    def kernels(self) -> list[str]:
        """Names of kernel header packages of this architecture."""
        text = run(["apt-cache", *self.options(), "pkgnames", "linux-headers-"])
        return [n for n in text.split() if KERNEL_RE.match(n)]

    def download(self, spec: str, into: Path) -> Path:
        """Download one package file."""
        run(["apt-get", *self.options(), "-q", "download", spec], cwd=into)
        found = sorted(into.glob(spec.split("=", maxsplit=1)[0] + "_*.deb"))
        if not found:
            raise LabError(f"apt downloaded nothing for {spec}")
        return found[-1]


def parse_policy(table: str) -> dict[str, str]:
    """Read `apt-cache policy`: package name to candidate version."""
    found: dict[str, str] = {}
    name = ""
    for row in table.splitlines():
        if row and not row.startswith(" ") and row.endswith(":"):
            name = row[:-1]
        elif row.startswith("  Candidate: "):
            version = row.removeprefix("  Candidate: ")
            if version != "(none)":
                found[name] = version
    return found


def newest_first(versions: dict[str, str]) -> list[str]:
    """Package names by version as dpkg orders it, newest first."""
    from functools import cmp_to_key

    def compare(left: str, right: str) -> int:
        a, b = versions[left], versions[right]
        if a == b:
            return 0
        newer = subprocess.run(["dpkg", "--compare-versions", a, "gt", b], check=False)
        return -1 if newer.returncode == 0 else 1

    return sorted(versions, key=cmp_to_key(compare))


def config_has_rust(text: str) -> bool:
    """Whether a kernel .config has Rust switched on."""
    return "CONFIG_RUST=y" in text.splitlines()


def _has_rust(apt: PrivateApt, name: str, version: str) -> bool:
    with TemporaryDirectory() as scratch:
        deb = apt.download(f"{name}={version}", Path(scratch))
        release = name.removeprefix("linux-headers-")
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)],
                             stdout=subprocess.PIPE, check=True).stdout
        member = f"./usr/src/linux-headers-{release}/.config"
        text = subprocess.run(["tar", "-xO", member], input=tar,
                              capture_output=True, check=False).stdout
    return config_has_rust(text.decode(errors="replace"))


def ask(apt: PrivateApt, url: str) -> Versions:
    """Ask apt for the newest kernel with Rust, and all versions beside it."""
    versions = apt.candidates(apt.kernels())
    for name in newest_first(versions):
        if _has_rust(apt, name, versions[name]):
            break
    else:
        raise LabError(f"no kernel in {config.BACKPORTS} has CONFIG_RUST=y")
    release = name.removeprefix("linux-headers-")
    series = re.match(r"\d+\.\d+", release)
    assert series is not None
    wanted = sorted({*config.TOOLCHAIN_PACKAGES, *config.GUEST_PACKAGES})
    packages = apt.candidates(wanted)
    missing = [n for n in wanted if n not in packages]
    if missing:
        raise LabError(f"{config.SUITE} has no package {', '.join(missing)}")
    return Versions(mirror=url, release=release, kernel=versions[name],
                    source=f"linux-source-{series[0]}", packages=packages)


def versions(cache: Cache, report: Reporter, refresh: bool = False) -> Versions:
    """The versions to use: asked now, or a short while ago, or the last known."""
    home = cache.root / "apt"
    home.mkdir(exist_ok=True)
    saved = home / "versions.json"
    with cache.mutex("apt"):
        known: Versions | None = None
        asked_for = key_of(config.TOOLCHAIN_PACKAGES, config.GUEST_PACKAGES, config.SUITE)
        if saved.exists():
            held = json.loads(saved.read_text(encoding="utf-8"))
            known = Versions(**held["versions"])
            age = time.time() - saved.stat().st_mtime
            if not refresh and 0 <= age < config.VERSIONS_TTL and held["asked"] == asked_for:
                return known
        try:
            url = mirror()
            apt = PrivateApt(home, url)
            apt.update()
            answer = ask(apt, url)
        except LabError as exc:
            if known is None:
                raise
            report.line(f"apt cannot be asked ({exc}); "
                        f"going on with the last known kernel, {known.release}")
            return known
        temporary = saved.with_suffix(".tmp")
        temporary.write_text(json.dumps({"asked": asked_for, "versions": asdict(answer)}, indent=1),
                             encoding="utf-8")
        os.replace(temporary, saved)
        if known is None or known.release != answer.release:
            report.line(f"newest kernel with Rust in {config.BACKPORTS}: {answer.release}")
        return answer


def download_image(cache: Cache, v: Versions, into: Path) -> list[Path]:
    """Download the packages that make up the kernel image and its modules.

    Debian has split them: linux-image-* may be a shell that depends on others.
    """
    with cache.mutex("apt"):
        private = PrivateApt(cache.root / "apt", v.mirror)
        name = f"linux-image-{v.release}"
        record = run(["apt-cache", *private.options(), "show", f"{name}={v.kernel}"])
        return [private.download(f"{n}={v.kernel}", into)
                for n in (name, *same_version(record, v.release, v.kernel))]


def same_version(record: str, release: str, version: str) -> list[str]:
    """Packages of this kernel that a package record depends on at its own version."""
    found: list[str] = []
    for row in record.splitlines():
        if row.startswith("Depends: "):
            found += re.findall(rf"(linux-[a-z-]+-{re.escape(release)}) "
                                rf"\(= {re.escape(version)}\)", row)
    return found
