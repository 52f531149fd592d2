// SPDX-License-Identifier: GPL-2.0

//! Why a connection must end, for the log.

use crate::bindings;
use kernel::prelude::*;

/// Why a connection must end.
#[derive(Clone, Copy)]
pub enum Failure {
    /// A work request completed with an error.
    Completion {
        /// Which kind of request.
        what: &'static str,
        /// `enum ib_wc_status`.
        status: u32,
        /// The device's own code.
        vendor: u32,
    },
    /// Work requests are flushed although nobody has disconnected: the queue pair has
    /// failed.
    Flushed,
    /// A work request could not be posted.
    Post {
        /// Which kind of request.
        what: &'static str,
        /// Why.
        error: Error,
    },
}

impl kernel::fmt::Display for Failure {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        match self {
            Self::Completion {
                what,
                status,
                vendor,
            } => {
                // SAFETY: Returns a string constant for every value.
                let text = unsafe { CStr::from_char_ptr(bindings::ib_wc_status_msg(*status)) };
                f.write_fmt(fmt!(
                    "{what} failed: {text} ({status}), vendor code {vendor:#x}"
                ))
            }
            Self::Flushed => f.write_str("the queue pair has failed"),
            Self::Post { what, error } => {
                write!(f, "{what} could not be posted: error {}", error.to_errno())
            }
        }
    }
}
