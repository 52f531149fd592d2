// SPDX-License-Identifier: GPL-2.0

//! The rules that the pure code has to keep, in other words than its own.
//!
//! Each function panics where the two disagree. The property tests call them with input from
//! proptest, the fuzzer with its own.

// A model may panic: that is how it says so.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub(crate) mod cm_data;
pub(crate) mod number;
pub(crate) mod receives;
pub(crate) mod send_queue;
pub(crate) mod slot_state;
pub(crate) mod tag;
pub(crate) mod wire;
