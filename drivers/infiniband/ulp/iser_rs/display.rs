// SPDX-License-Identifier: GPL-2.0

//! Lets the kernel print what the pure code describes with `core::fmt` alone.

use crate::{state, violation};

macro_rules! forward_display {
    ($($type:ty),* $(,)?) => {
        $(impl kernel::fmt::Display for $type {
            fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        })*
    };
}

forward_display!(state::ConnState, state::Refused, violation::Violation,);
