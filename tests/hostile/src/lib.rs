// SPDX-License-Identifier: GPL-2.0

//! An iSER target that is correct until it is told to break a rule.
//!
//! Everything but [`cm`] and [`verbs`] is plain code, which is tested by `cargo test`.

pub mod cm;
pub mod command;
pub mod control;
pub mod disk;
pub mod login;
pub mod patience;
pub mod pdu;
pub mod random;
pub mod rules;
pub mod session;
pub mod verbs;
