# SPDX-License-Identifier: GPL-2.0
"""Check that the kernel exports every Rust symbol the module leaves undefined.

A symbol that is missing means that the kernel's Rust crates, which this build
compiled again or was given, are not those inside the kernel: another compiler
or another source. modpost would only say `undefined!`; this says which differs.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from build.kdir import Kdir, tool_version

# Symbols named in the message; they look alike.
SHOWN = 5


def undefined_rust(nm_output: str) -> set[str]:
    """Return the undefined Rust symbols (v0 mangling) of `nm -u` output."""
    names = (line.split()[-1] for line in nm_output.splitlines() if line.strip())
    return {name for name in names if name.startswith("_R")}


def exported(symvers: str) -> set[str]:
    """Return the symbol names of a Module.symvers text."""
    return {line.split("\t")[1] for line in symvers.splitlines() if line.count("\t") >= 3}


def crate_of(symbol: str) -> str:
    """Return the crate a v0 mangled symbol names first, for the message."""
    match = re.search(r"Cs[0-9a-zA-Z]*_(\d+)", symbol)
    if not match:
        return "unknown crate"
    length = int(match[1])
    return symbol[match.end():match.end() + length].lstrip("_") or "unknown crate"


def without_hash(symbol: str) -> str:
    """Return a mangled symbol without the hashes of its crates."""
    return re.sub(r"Cs[0-9a-zA-Z]*_", "C", symbol)


def difference(missing: Iterable[str], available: Iterable[str], built_by: str | None,
               here: str | None, origin: str) -> str:
    """Return what differs, as far as symbols and versions tell."""
    names = {without_hash(name) for name in available}
    # The hash of a crate is made of its name and of the compiler's version.
    if (built_by and here and built_by != here) or all(without_hash(name) in names for name in missing):
        return f"the compiler: the kernel was built by `{built_by}`, here is `{here}`"
    if not origin:
        return "the source: rust/*.rmeta and Module.symvers of this directory are not from one build"
    return f"the source: the crates were compiled here from {origin}"


def message(missing: set[str], needed: int, kdir: Kdir, differs: str) -> str:
    """Return the text that explains `missing`."""
    lines = [f"error: kernel {kdir.release} does not export {len(missing)} of the {needed} "
             "Rust symbols that the module needs, so it would not load:"]
    lines += [f"  {crate_of(name)}: {name}" for name in sorted(missing)[:SHOWN]]
    if len(missing) > SHOWN:
        lines.append(f"  and {len(missing) - SHOWN} more")
    lines.append(f"what differs is {differs};")
    package = kdir.package_version
    lines.append("install kernel, headers, source and compiler of one version"
                 + (f" (the headers are those of {package})" if package else ""))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Check one object; print how many symbols it needs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nm", required=True)
    parser.add_argument("--rustc", required=True)
    parser.add_argument("--objtree", required=True, type=Path)
    parser.add_argument("object")
    args = parser.parse_args(argv)
    listing = subprocess.run([*shlex.split(args.nm), "-u", args.object], check=True,
                             capture_output=True, text=True).stdout
    needed = undefined_rust(listing)
    available = exported((args.objtree / "Module.symvers").read_text(encoding="utf-8"))
    missing = needed - available
    if missing:
        kdir = Kdir(str(args.objtree))
        origin = args.objtree / "rust/origin"
        differs = difference(missing, available, kdir.value("RUSTC_VERSION_TEXT"),
                             tool_version(args.rustc),
                             origin.read_text(encoding="utf-8").strip() if origin.is_file() else "")
        print(message(missing, len(needed), kdir, differs), file=sys.stderr)
        return 1
    print(f"{len(needed)} Rust symbols, all exported")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
