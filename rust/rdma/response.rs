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

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_response))]
mod tests {
    use super::*;

    /// What is expected of a text from here on.
    struct Rest<'a>(&'a str);

    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    #[test]
    fn names_and_texts() {
        use fmt::Write;
        let (key, own) = (0x1201, 0x1200);
        let table = [
            (
                Violation::UnknownCommand,
                "unknown_command",
                "response to a command that is not outstanding",
            ),
            (
                Violation::ResponseUnsent,
                "response_unsent",
                "response to a command that was never sent",
            ),
            (
                Violation::DuplicateResponse,
                "duplicate_response",
                "second response to the same command",
            ),
            (
                Violation::InvalidationNotNegotiated { key },
                "invalidation_not_negotiated",
                "remote invalidation of key 0x00001201, none was negotiated",
            ),
            (
                Violation::InvalidationWithoutKey { key },
                "invalidation_without_key",
                "remote invalidation of key 0x00001201, the command has none",
            ),
            (
                Violation::ForeignKey { key, own },
                "foreign_key",
                "remote invalidation of key 0x00001201, the command's is 0x00001200",
            ),
        ];
        for (violation, name, text) in table {
            assert_eq!(violation.name(), name);
            let mut rest = Rest(text);
            assert!(write!(rest, "{violation}").is_ok());
            assert_eq!(rest.0, "");
        }
    }
}
