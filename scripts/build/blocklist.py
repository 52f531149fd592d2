# SPDX-License-Identifier: GPL-2.0
"""Keep one definition of each C type across kernel::bindings and iser_bindings.

`make KERNEL HELPERS` prints bindgen arguments that keep out of our run every
nominal type (struct, union, newtype) which the kernel's generated bindings define
fully, and every function that HELPERS declares. A type that KERNEL only declares
(`ib_device`) is left to us.

`check KERNEL OURS` removes from OURS the declarations of types that both files
only declare, so that they too are one type, and fails if a nominal type is
defined in both.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

# Arguments stay far below what one string of an argument list may hold.
CHUNK = 16000

_ITEM = re.compile(
    r"^(?:#\[[^\n]*\]\n)*"
    r"pub (?P<kind>struct|union|enum) (?P<name>\w+)(?P<rest>[^\n]*)\n"
    r"(?=(?P<next>[^\n]*)\n)",
    re.MULTILINE,
)
_OPAQUE = re.compile(
    r"^(?:#\[[^\n]*\]\n)*"
    r"pub (?:struct|union) (?P<name>\w+) \{\n"
    r"    _unused: \[u8; 0\],\n"
    r"\}\n",
    re.MULTILINE,
)
# bindgen's own support types are private to each generated file.
_SUPPORT = re.compile(r"^__(Bindgen|Incomplete)")


def nominal_types(text: str) -> tuple[set[str], set[str]]:
    """Return the names of the types fully defined, and of those only declared."""
    defined, declared = set(), set()
    for match in _ITEM.finditer(text):
        name = match["name"]
        if _SUPPORT.match(name):
            continue
        if match["next"].strip() == "_unused: [u8; 0],":
            declared.add(name)
        else:
            defined.add(name)
    return defined, declared


def functions(text: str) -> set[str]:
    """Return the names of the functions that generated bindings declare."""
    return set(re.findall(r"^ *pub fn (\w+)\(", text, re.MULTILINE))


def blocklist_args(option: str, names: Iterable[str]) -> list[str]:
    """Return bindgen arguments that block exactly `names`, in pieces of CHUNK."""
    args: list[str] = []
    piece: list[str] = []
    size = 0
    for name in sorted(names):
        if size + len(name) + 1 > CHUNK:
            args += [option, "|".join(piece)]
            piece, size = [], 0
        piece.append(name)
        size += len(name) + 1
    if piece:
        args += [option, "|".join(piece)]
    return args


def drop_declared(text: str, names: set[str]) -> str:
    """Return `text` without the opaque declarations of `names`."""
    return _OPAQUE.sub(lambda m: "" if m["name"] in names else m[0], text)


def reconcile(kernel_text: str, our_text: str) -> tuple[str, list[str]]:
    """Return our text without shared declarations, and the names defined twice."""
    kernel_defined, kernel_declared = nominal_types(kernel_text)
    our_defined, our_declared = nominal_types(our_text)
    shared = our_declared & (kernel_defined | kernel_declared)
    return drop_declared(our_text, shared), sorted(our_defined & kernel_defined)


def main(argv: list[str]) -> int:
    """Run one of the two steps."""
    if len(argv) != 3 or argv[0] not in ("make", "check"):
        print(__doc__, file=sys.stderr)
        return 2
    kernel = Path(argv[1]).read_text(encoding="utf-8")
    other = Path(argv[2])
    text = other.read_text(encoding="utf-8")
    if argv[0] == "make":
        defined, _ = nominal_types(kernel)
        args = blocklist_args("--blocklist-type", defined)
        args += blocklist_args("--blocklist-function", functions(text))
        print("\n".join(args))
        return 0
    text, twice = reconcile(kernel, text)
    if twice:
        print(f"{other}: error: also defined by kernel::bindings: {' '.join(twice)}",
              file=sys.stderr)
        other.unlink()
        return 1
    other.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
