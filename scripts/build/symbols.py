# SPDX-License-Identifier: GPL-2.0
"""Check that the kernel exports every Rust symbol the module leaves undefined.

A symbol that is missing means that the kernel's Rust crates, which this build
compiled again or was given, are not those inside the kernel: another compiler
or another source. modpost would only say `undefined!`; this says which differs.
"""

import argparse
import re
import subprocess
import sys


def undefined_rust(nm_output):
    """Return the undefined Rust symbols (v0 mangling) of `nm -u` output."""
    names = (line.split()[-1] for line in nm_output.splitlines() if line.strip())
    return {name for name in names if name.startswith("_R")}


def exported(symvers):
    """Return the symbol names of a Module.symvers text."""
    return {line.split("\t")[1] for line in symvers.splitlines() if line.count("\t") >= 3}


def crate_of(symbol):
    """Return the crate a v0 mangled symbol names first, for the message."""
    match = re.search(r"Cs[0-9a-zA-Z]*_(\d+)", symbol)
    if not match:
        return "unknown crate"
    length = int(match[1])
    return symbol[match.end():match.end() + length].lstrip("_") or "unknown crate"


def message(missing, facts):
    """Return the text that explains `missing`."""
    lines = [
        f"error: {len(missing)} Rust symbols are not exported by this kernel, so its Rust crates",
        "differ from those the module was compiled against:",
    ]
    lines += [f"  {crate_of(name)}: {name}" for name in sorted(missing)[:8]]
    if len(missing) > 8:
        lines.append(f"  … and {len(missing) - 8} more")
    lines += [f"{key}: {value}" for key, value in facts]
    return "\n".join(lines)


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def _facts(objtree):
    """Return what is known of the kernel's compiler and source, and of ours."""
    facts = []
    match = re.search(r'^CONFIG_RUSTC_VERSION_TEXT="(.*)"', _read(f"{objtree}/.config"), re.M)
    facts.append(("kernel was built by", match[1] if match else "unknown"))
    try:
        facts.append(("crates were built as", _read(f"{objtree}/rust/origin").strip()))
    except OSError:
        facts.append(("crates came with", f"{objtree}/rust"))
    return facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nm", required=True)
    parser.add_argument("--objtree", required=True)
    parser.add_argument("object")
    args = parser.parse_args()
    output = subprocess.run(
        [args.nm, "-u", args.object], check=True, capture_output=True, text=True
    ).stdout
    needed = undefined_rust(output)
    missing = needed - exported(_read(f"{args.objtree}/Module.symvers"))
    if missing:
        print(message(missing, _facts(args.objtree)), file=sys.stderr)
        return 1
    print(f"{len(needed)} Rust symbols, all exported")
    return 0


if __name__ == "__main__":
    sys.exit(main())
