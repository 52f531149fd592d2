// SPDX-License-Identifier: GPL-2.0

//! The rate limit of messages that a remote machine or a retrying daemon can cause.

/// Whether one more message may be printed now. What is left out is counted, and said
/// with the next one that is not. Any context.
pub fn message_allowed() -> bool {
    // SAFETY: Takes only a lock of its own, and may be called in any context.
    unsafe { crate::bindings_raw::message_allowed() != 0 }
}
