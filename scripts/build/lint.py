# SPDX-License-Identifier: GPL-2.0
"""The static checks of `make lint`, reported as KTAP.

Each check is a function that returns the complaints as text, and nothing if there
are none. What is checked is every file of the project, not only what git knows. Best
run in the toolchain root, which has every tool: scripts/iser-lab toolchain exec -- make lint
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path

from build import files, kdir, metadata
from lab.cache import Cache
from lab.config import cache_dir
from lab.report import LabError

TOP = files.TOP
# Where clippy builds: a copy, for objects that clippy makes are not to be linked, and
# Kbuild's MO= refuses a source tree that was built in.
COPY = TOP / ".lint/tree"

LICENCE = "SPDX-License-Identifier: GPL-2.0"
# Written by a tool that would drop the line.
NO_LICENCE = ("Cargo.lock",)
MAX_LINES = 500
CODE = ("*.py", "*.rs", "*.c", "*.h", "*.sh", "*.mk")

CHECKPATCH = ("--no-tree", "--no-signoff", "--quiet", "--terse", "--show-types",
              "--file")


# The checks of this run that failed.
_failed: set[str] = set()


class Skip(Exception):
    """A check that cannot be done here, with the reason."""


def complaints(command: Sequence[str | Path], **kwargs: object) -> str:
    """Run a tool in the top directory; return what it prints if it fails."""
    if not shutil.which(str(command[0])):
        return f"{command[0]}: not found; install it, {kdir.ELSEWHERE}"
    result = subprocess.run(command, cwd=kwargs.pop("cwd", TOP), stdout=subprocess.PIPE,  # type: ignore[call-overload]
                            stderr=subprocess.STDOUT, text=True, errors="replace",
                            check=False, **kwargs)
    return (result.stdout or f"{command[0]}: exit status {result.returncode}") if result.returncode else ""


def is_shell(name: str) -> bool:
    """Whether a file is a script of sh or bash, by its name or its first line."""
    if name.endswith(".sh"):
        return True
    with open(TOP / name, "rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.split()[-1].rsplit(b"/", 1)[-1] in (b"sh", b"bash", b"dash")


def licence_complaint(name: str, text: str) -> str:
    """Return what is wrong with the licence line of a file, or nothing."""
    if name.rsplit("/", 1)[-1] in NO_LICENCE or not text:
        return ""
    head = text.splitlines()[:2]
    if any(LICENCE in line for line in head):
        return ""
    return f"{name}:1: `{LICENCE}` is in neither of the first two lines"


def text_complaints(name: str, text: str) -> list[str]:
    """Return what is wrong with the form of a text file."""
    found = [f"{name}:{number}: white space at the end of the line"
             for number, line in enumerate(text.split("\n"), 1) if line != line.rstrip()]
    if text and not text.endswith("\n"):
        found.append(f"{name}: no newline at the end")
    if text.endswith("\n\n"):
        found.append(f"{name}: empty lines at the end")
    lines = text.count("\n")
    if lines > MAX_LINES and files.matching([name], *CODE):
        found.append(f"{name}: {lines} lines; above {MAX_LINES} a file wants to be two")
    return found


def _texts() -> list[tuple[str, str]]:
    """Return (name, text) of each file that holds text."""
    found = []
    for name in files.project_files():
        data = (TOP / name).read_bytes()
        if b"\0" not in data:
            found.append((name, data.decode(errors="replace")))
    return found


def check_licence() -> str:
    """Every file says its licence."""
    return "\n".join(filter(None, (licence_complaint(*item) for item in _texts())))


def check_text() -> str:
    """White space, and files that grew too long."""
    return "\n".join(line for item in _texts() for line in text_complaints(*item))


def check_rustfmt() -> str:
    """Rust code is formatted as the kernel's is."""
    return complaints([os.environ.get("RUSTFMT") or "rustfmt", "--edition", "2021",
                       "--config-path", TOP / ".rustfmt.toml", "--check",
                       *files.matching(files.project_files(), "*.rs")])


def _copy_tree() -> None:
    """Bring the copy up to date, and keep what was built in it."""
    wanted = files.project_files()
    for name in wanted:
        source, target = TOP / name, COPY / name
        if target.is_file() and target.stat().st_mtime_ns == source.stat().st_mtime_ns:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    for name in set(files.walk(COPY)) - set(wanted):
        (COPY / name).unlink()


def make_in_copy(goal: str) -> str:
    """Run our Makefile on the copy, with clippy and each warning an error."""
    given = kdir.overrides()
    own = {*given, *metadata.DROPPED, "ARGS"} - {"KDIR"}
    arguments = [f"{name}={value}" for name, value in given.items() if name not in metadata.DROPPED
                 and name not in ("KDIR", "ARGS")]
    _copy_tree()
    return complaints(
        ["make", "--silent", "CLIPPY=1", "W=1", "KRUSTFLAGS=-Dwarnings", "KCFLAGS=-Werror",
         *arguments, goal],
        cwd=COPY, env={k: v for k, v in os.environ.items() if k not in own},
    )


def check_clippy() -> str:
    """The module builds under clippy and W=1 without a warning."""
    return make_in_copy("all")


def check_rustdoc() -> str:
    """The documentation builds without a warning."""
    return "the crates do not build, see clippy" if "clippy" in _failed else make_in_copy("rustdoc")


def checkpatch_script() -> Path:
    """Return the kernel's checkpatch.pl, or raise Skip."""
    default = f"/lib/modules/{os.environ.get('ISER_RELEASE') or os.uname().release}/build"
    try:
        kernel = kdir.Kdir(os.environ.get("KDIR") or default)
    except LabError as error:
        raise Skip(str(error)) from error
    entry = Cache(cache_dir()).path("rust-metadata", metadata.key(kernel))
    for directory in (kernel.path, entry / "lint"):
        if (directory / "scripts/checkpatch.pl").is_file():
            return directory / "scripts/checkpatch.pl"
    raise Skip(f"no source of kernel {kernel.release} here, so no scripts/checkpatch.pl")


def check_checkpatch() -> str:
    """C code is in the kernel's style."""
    script = checkpatch_script()
    if complaints(["perl", "-MTerm::ANSIColor", "-e", "0"]):
        raise Skip("perl is not installed, or only perl-base is")
    names = files.matching(files.project_files(), "*.c", "*.h")
    text = complaints(["perl", script, *CHECKPATCH, *names])
    # It asks git for more than it needs, and counts.
    kept = [line for line in text.splitlines() if not line.startswith(("fatal:", "total:"))]
    return "\n".join(kept) or text


def check_shellcheck() -> str:
    """Shell scripts."""
    return complaints(["shellcheck", *filter(is_shell, files.project_files())])


def check_python() -> str:
    """Python compiles, and its unit tests pass."""
    names = files.matching(files.project_files(), "*.py")
    for name in names:
        try:
            with tokenize.open(TOP / name) as file:
                compile(file.read(), name, "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{name}:{error.lineno}: {error.msg}"
    found = []
    environment = {**os.environ, "PYTHONPATH": str(TOP / "scripts")}
    for directory in sorted({os.path.dirname(n) for n in files.matching(names, "test_*.py")}):
        # Tests of a package of scripts/ are part of it.
        top = "scripts" if directory.startswith("scripts/") else directory
        found.append(complaints([sys.executable, "-m", "unittest", "discover", "-b",
                                 "-s", directory, "-t", top], env=environment))
    return "\n".join(filter(None, found))


CHECKS: dict[str, Callable[[], str]] = {
    "licence": check_licence,
    "text": check_text,
    "python": check_python,
    "shellcheck": check_shellcheck,
    "rustfmt": check_rustfmt,
    "clippy": check_clippy,
    "rustdoc": check_rustdoc,
    "checkpatch": check_checkpatch,
}


def report(names: Sequence[str]) -> int:
    """Run the checks `names`; print KTAP; return the exit status."""
    passed = skipped = 0
    print(f"KTAP version 1\n1..{len(names)}", flush=True)
    for number, name in enumerate(names, 1):
        start = time.monotonic()
        try:
            text = CHECKS[name]().strip()
        except Skip as reason:
            skipped += 1
            print(f"ok {number} {name} # SKIP {reason}", flush=True)
            continue
        for line in text.splitlines():
            print(f"# {line}")
        if text:
            _failed.add(name)
        passed += not text
        took = time.monotonic() - start
        if took >= 1:
            print(f"# {name} took {took:.1f} s")
        print(f"{'not ok' if text else 'ok'} {number} {name}", flush=True)
    print(f"# lint: {passed} passed, {len(_failed)} failed, {skipped} skipped")
    return 0 if passed and not _failed else 1


def main(argv: list[str]) -> int:
    """Run the checks that are named, or all."""
    parser = argparse.ArgumentParser(
        prog="lint", description=(__doc__ or "").splitlines()[0],
        epilog="checks: " + "; ".join(f"{n}: {f.__doc__}" for n, f in CHECKS.items()))
    parser.add_argument("check", nargs="*", help="one of those below; all if none is given")
    args = parser.parse_args(argv)
    unknown = [name for name in args.check if name not in CHECKS]
    if unknown:
        parser.error(f"no such check: {' '.join(unknown)}")
    return report(args.check or list(CHECKS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
