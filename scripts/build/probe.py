# SPDX-License-Identifier: GPL-2.0
"""Find out what kernel::bindings defines where its generated source is not at hand.

Some distributions ship the metadata of the kernel's crates without the source of
the bindings (rust/bindings/bindings_generated.rs). Then the compiler is asked:

`source OURS` prints a Rust file that sorts the types of OURS, bindings made without a
blocklist, by what the kernel's crate says of each, into bytes in a section of its own.

`types OURS SECTION` reads those bytes and prints stubs in bindgen's form, defined or
only declared, of which blocklist.py can read all it needs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from build.blocklist import nominal_types

# What a byte of the section says of a type.
ABSENT, DECLARED, PRIMITIVE, DEFINED = range(4)
KINDS = {"ABSENT": ABSENT, "DECLARED": DECLARED, "PRIMITIVE": PRIMITIVE, "DEFINED": DEFINED}

# A name that the kernel lacks is looked up further outside, and finds `Absent`. An
# inherent constant goes before that of a trait: so `Is<T>` tells what T is. bindgen
# gives every type of size 0 a Default, but those that are only declared.
HEAD = """\
// SPDX-License-Identifier: GPL-2.0

//! Sorts types by what `kernel::bindings` says of each; made by scripts/build/probe.py.

#![allow(warnings, clippy::all, non_camel_case_types)]

/// Of a size that no type of the kernel has.
pub struct Absent([u8; 0x5eed_1234]);

struct Is<T: ?Sized>(core::marker::PhantomData<T>);

trait Otherwise {
    const PRIMITIVE: bool = false;
    const DEFAULT: bool = false;
}

impl<T: ?Sized> Otherwise for Is<T> {}

impl<T: Default> Is<T> {
    const DEFAULT: bool = true;
}

macro_rules! primitive {
    ($($type:ty)*) => { $(impl Is<$type> { const PRIMITIVE: bool = true; })* };
}
primitive!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool);

impl<T: ?Sized> Is<*const T> {
    const PRIMITIVE: bool = true;
}
impl<T: ?Sized> Is<*mut T> {
    const PRIMITIVE: bool = true;
}
impl<T> Is<Option<T>> {
    const PRIMITIVE: bool = true;
}
impl<T, const N: usize> Is<[T; N]> {
    const PRIMITIVE: bool = true;
}

const fn sort(size: usize, primitive: bool, default: bool) -> u8 {
    if size == size_of::<Absent>() {
        %(ABSENT)d
    } else if primitive {
        %(PRIMITIVE)d
    } else if size == 0 && !default {
        %(DECLARED)d
    } else {
        %(DEFINED)d
    }
}

mod absent {
    use super::Absent;

%(absent)s}
use absent::*;

#[used]
#[link_section = ".iser_probe"]
static SORTED: [u8; %(count)d] = {
    use kernel::bindings::*;
    [
%(sorted)s    ]
};
"""

_ALIAS = re.compile(r"^pub type (\w+) = ", re.MULTILINE)


def candidates(ours: str) -> list[str]:
    """Return the names in `ours` that may be types of the kernel's bindings too."""
    defined, declared = nominal_types(ours)
    return sorted(defined | declared | set(_ALIAS.findall(ours)))


def source(ours: str) -> str:
    """Return the Rust file that sorts the types of `ours`."""
    names = candidates(ours)
    return HEAD % {
        **KINDS,
        "count": len(names),
        "absent": "".join(f"    pub type {name} = Absent;\n" for name in names),
        "sorted": "".join(
            f"        sort(size_of::<{name}>(), <Is<{name}>>::PRIMITIVE, <Is<{name}>>::DEFAULT),\n"
            for name in names),
    }


def types(ours: str, section: bytes) -> str:
    """Return stubs of the nominal types that the kernel's bindings hold."""
    names = candidates(ours)
    if len(section) != len(names):
        raise ValueError(f"{len(section)} bytes for {len(names)} types")
    nominal = set().union(*nominal_types(ours))
    stubs = []
    for name, kind in zip(names, section):
        # An enumeration is an alias of an integer here, and may be a type there.
        if kind == DEFINED:
            stubs.append(f"pub struct {name} {{\n    defined: (),\n}}\n")
        elif kind == DECLARED and name in nominal:
            stubs.append(f"pub struct {name} {{\n    _unused: [u8; 0],\n}}\n")
    return "".join(stubs)


def main(argv: list[str]) -> int:
    """Run one of the two steps."""
    if len(argv) == 2 and argv[0] == "source":
        print(source(Path(argv[1]).read_text(encoding="utf-8")), end="")
        return 0
    if len(argv) == 3 and argv[0] == "types":
        ours = Path(argv[1]).read_text(encoding="utf-8")
        print(types(ours, Path(argv[2]).read_bytes()), end="")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
