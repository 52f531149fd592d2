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
