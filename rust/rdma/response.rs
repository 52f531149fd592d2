// SPDX-License-Identifier: GPL-2.0

//! What a peer can do wrong when it answers a command, as pure code.

use core::fmt;

/// What the peer did wrong when it answered a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The response names no command that waits for one.
    UnknownCommand,
    /// The response to a command that was never sent.
    ResponseUnsent,
    /// The second response to the same command.
    DuplicateResponse,
    /// A remote invalidation, although none was negotiated.
    InvalidationNotNegotiated {
        /// The key that was invalidated.
        key: u32,
    },
    /// A remote invalidation by the response to a command that advertised no key.
    InvalidationWithoutKey {
        /// The key that was invalidated.
        key: u32,
    },
    /// The remote invalidation of a key that is not the command's own.
    ForeignKey {
        /// The key that was invalidated.
        key: u32,
        /// The key that the command had advertised.
        own: u32,
    },
}

impl Violation {
    /// The name under which violations of this kind are counted.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UnknownCommand => "unknown_command",
            Self::ResponseUnsent => "response_unsent",
            Self::DuplicateResponse => "duplicate_response",
            Self::InvalidationNotNegotiated { .. } => "invalidation_not_negotiated",
            Self::InvalidationWithoutKey { .. } => "invalidation_without_key",
            Self::ForeignKey { .. } => "foreign_key",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownCommand => f.write_str("response to a command that is not outstanding"),
            Self::ResponseUnsent => f.write_str("response to a command that was never sent"),
            Self::DuplicateResponse => f.write_str("second response to the same command"),
            Self::InvalidationNotNegotiated { key } => write!(
                f,
                "remote invalidation of key {key:#010x}, none was negotiated"
            ),
            Self::InvalidationWithoutKey { key } => write!(
                f,
                "remote invalidation of key {key:#010x}, the command has none"
            ),
            Self::ForeignKey { key, own } => write!(
                f,
                "remote invalidation of key {key:#010x}, the command's is {own:#010x}"
            ),
        }
    }
}
