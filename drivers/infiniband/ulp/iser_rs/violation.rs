// SPDX-License-Identifier: GPL-2.0

//! What a target can do wrong in a PDU.
//!
//! Nothing that arrives from the remote machine is trusted. Whoever finds that a rule is broken
//! returns a [`Violation`]; the connection then ends with one message and one counter
//! (RFC 7145, section 10.1.3), and the iSCSI layer recovers. What a target can do wrong in
//! answering a command, with its keys, is found by the crate `rdma`, which has a type of its own.

use core::fmt;

/// A rule that the target has broken, with the values that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The message ends within the headers.
    TooShort {
        /// Bytes received.
        received: u32,
    },
    /// The iSER header announces something else than an iSCSI control-type PDU.
    IserOpcode {
        /// The opcode, four bits.
        opcode: u8,
    },
    /// The iSER header advertises a buffer, which only an initiator does.
    IserFlags {
        /// The first byte of the header.
        flags: u8,
    },
    /// The PDU has additional header segments, which no target PDU has.
    AdditionalHeader {
        /// TotalAHSLength, in words of four bytes.
        words: u8,
    },
    /// The data segment ends behind the last byte received.
    SegmentTooLong {
        /// DataSegmentLength.
        announced: u32,
        /// Bytes received behind the headers.
        received: u32,
    },
    /// More bytes follow the data segment than padding takes.
    TrailingBytes {
        /// DataSegmentLength.
        announced: u32,
        /// Bytes received behind the headers.
        received: u32,
    },
    /// A SCSI Data-In or R2T PDU, which iSER replaces by RDMA.
    DataTypePdu {
        /// The iSCSI opcode.
        opcode: u8,
    },
    /// No target sends this opcode.
    Opcode {
        /// The iSCSI opcode.
        opcode: u8,
    },
    /// The answer to a request carries the reserved Initiator Task Tag.
    ReservedTag {
        /// The iSCSI opcode.
        opcode: u8,
    },
    /// The response to a request that libiscsi is done with, as one that was aborted.
    LateResponse,
    /// The data segment of a CHECK CONDITION ends within the sense length.
    SenseHeader {
        /// DataSegmentLength.
        segment: u32,
    },
    /// The sense data end behind the data segment.
    SenseLength {
        /// SenseLength.
        sense: u16,
        /// DataSegmentLength.
        segment: u32,
    },
}

impl Violation {
    /// The name under which violations of this kind are counted.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too_short",
            Self::IserOpcode { .. } => "iser_opcode",
            Self::IserFlags { .. } => "iser_flags",
            Self::AdditionalHeader { .. } => "additional_header",
            Self::SegmentTooLong { .. } => "segment_too_long",
            Self::TrailingBytes { .. } => "trailing_bytes",
            Self::DataTypePdu { .. } => "data_type_pdu",
            Self::Opcode { .. } => "opcode",
            Self::ReservedTag { .. } => "reserved_tag",
            Self::LateResponse => "late_response",
            Self::SenseHeader { .. } => "sense_header",
            Self::SenseLength { .. } => "sense_length",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { received } => {
                write!(f, "received {received} bytes, the headers alone take 76")
            }
            Self::IserOpcode { opcode } => {
                write!(f, "iSER opcode {opcode:#x}, a control-type PDU has 0x1")
            }
            Self::IserFlags { flags } => {
                write!(
                    f,
                    "iSER flags {flags:#04x} advertise a buffer of the target"
                )
            }
            Self::AdditionalHeader { words } => {
                write!(f, "TotalAHSLength {words}, a target sends no AHS")
            }
            Self::SegmentTooLong {
                announced,
                received,
            } => {
                write!(
                    f,
                    "DataSegmentLength {announced}, but {received} bytes of it received"
                )
            }
            Self::TrailingBytes {
                announced,
                received,
            } => {
                write!(
                    f,
                    "DataSegmentLength {announced}, but {received} bytes received for it"
                )
            }
            Self::DataTypePdu { opcode } => {
                write!(f, "data-type PDU (opcode {opcode:#04x}) in an iSER message")
            }
            Self::Opcode { opcode } => {
                write!(f, "opcode {opcode:#04x} is none of a target's")
            }
            Self::ReservedTag { opcode } => {
                write!(
                    f,
                    "reserved Initiator Task Tag in an answer (opcode {opcode:#04x})"
                )
            }
            Self::LateResponse => f.write_str("response to a request that was given up"),
            Self::SenseHeader { segment } => {
                write!(
                    f,
                    "CHECK CONDITION with {segment} byte of data, SenseLength takes 2"
                )
            }
            Self::SenseLength { sense, segment } => {
                write!(
                    f,
                    "SenseLength {sense} in a data segment of {segment} bytes"
                )
            }
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_violation))]
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
        let table = [
            (
                Violation::TooShort { received: 12 },
                "too_short",
                "received 12 bytes, the headers alone take 76",
            ),
            (
                Violation::IserOpcode { opcode: 0xf },
                "iser_opcode",
                "iSER opcode 0xf, a control-type PDU has 0x1",
            ),
            (
                Violation::IserFlags { flags: 0x14 },
                "iser_flags",
                "iSER flags 0x14 advertise a buffer of the target",
            ),
            (
                Violation::AdditionalHeader { words: 3 },
                "additional_header",
                "TotalAHSLength 3, a target sends no AHS",
            ),
            (
                Violation::SegmentTooLong {
                    announced: 99,
                    received: 7,
                },
                "segment_too_long",
                "DataSegmentLength 99, but 7 bytes of it received",
            ),
            (
                Violation::TrailingBytes {
                    announced: 7,
                    received: 99,
                },
                "trailing_bytes",
                "DataSegmentLength 7, but 99 bytes received for it",
            ),
            (
                Violation::DataTypePdu { opcode: 0x31 },
                "data_type_pdu",
                "data-type PDU (opcode 0x31) in an iSER message",
            ),
            (
                Violation::Opcode { opcode: 7 },
                "opcode",
                "opcode 0x07 is none of a target's",
            ),
            (
                Violation::ReservedTag { opcode: 0x21 },
                "reserved_tag",
                "reserved Initiator Task Tag in an answer (opcode 0x21)",
            ),
            (
                Violation::LateResponse,
                "late_response",
                "response to a request that was given up",
            ),
            (
                Violation::SenseHeader { segment: 1 },
                "sense_header",
                "CHECK CONDITION with 1 byte of data, SenseLength takes 2",
            ),
            (
                Violation::SenseLength {
                    sense: 300,
                    segment: 20,
                },
                "sense_length",
                "SenseLength 300 in a data segment of 20 bytes",
            ),
        ];
        for (violation, name, text) in table {
            assert_eq!(violation.name(), name);
            let mut rest = Rest(text);
            assert!(write!(rest, "{violation}").is_ok());
            assert_eq!(rest.0, "");
        }
        // It is handed on by value, for each PDU.
        assert!(size_of::<Violation>() <= 12);
    }
}
