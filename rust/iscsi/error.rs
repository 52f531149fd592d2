// SPDX-License-Identifier: GPL-2.0

//! Why a connection fails, in the terms of libiscsi and open-iscsi.

use crate::bindings;
use kernel::ffi::c_int;
use kernel::fmt;

/// A reason to fail a connection; also what is wrong with a PDU.
///
/// iscsid prints the number in its log.
///
/// # Invariants
///
/// The number is one of the kernel's `enum iscsi_err`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnError(bindings::iscsi_err);

/// Why libiscsi has not taken a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PduError {
    /// It is the response to a request that libiscsi is done with. Its task may be another's.
    Late,
    /// The connection has ended, or libiscsi says what is wrong with the PDU.
    Conn(ConnError),
}

macro_rules! errors {
    ($($(#[$meta:meta])* $name:ident = $value:ident, $text:literal;)*) => {
        impl ConnError {
            $(
                $(#[$meta])*
                // INVARIANT: A constant of the enumeration.
                pub const $name: Self = Self(bindings::$value);
            )*

            /// What libiscsi means by a number that it returned, which is not zero.
            #[cold]
            #[inline(never)]
            pub(crate) fn from_code(value: c_int) -> Self {
                match value as bindings::iscsi_err {
                    $(bindings::$value => Self::$name,)*
                    _ => Self::CONN_FAILED,
                }
            }

            /// Says in words what this is.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    _ => "unknown error",
                }
            }
        }
    };
}

errors! {
    /// A field of a PDU that only fits another opcode.
    BAD_OPCODE = iscsi_err_ISCSI_ERR_BAD_OPCODE, "invalid opcode";
    /// The data segment does not have the length it should have.
    DATA_LEN = iscsi_err_ISCSI_ERR_DATALEN, "invalid data segment length";
    /// Additional header segments where there can be none.
    AHS_LEN = iscsi_err_ISCSI_ERR_AHSLEN, "invalid additional header length";
    /// Any other violation of the protocol.
    PROTO = iscsi_err_ISCSI_ERR_PROTO, "protocol error";
    /// A task tag that names no task.
    BAD_ITT = iscsi_err_ISCSI_ERR_BAD_ITT, "invalid task tag";
    /// The transport failed.
    CONN_FAILED = iscsi_err_ISCSI_ERR_CONN_FAILED, "connection failed";
    /// A task tag of a command that is gone.
    NO_SCSI_CMD = iscsi_err_ISCSI_ERR_NO_SCSI_CMD, "no such SCSI command";
    /// The host is about to be removed.
    INVALID_HOST = iscsi_err_ISCSI_ERR_INVALID_HOST, "host is being removed";
    /// Sending failed.
    XMIT_FAILED = iscsi_err_ISCSI_ERR_XMIT_FAILED, "transmit failed";
    /// The target closed the connection.
    CLOSED = iscsi_err_ISCSI_ERR_TCP_CONN_CLOSE, "connection closed by the target";
    /// SCSI error handling resets the session.
    SESSION_RESET = iscsi_err_ISCSI_ERR_SCSI_EH_SESSION_RST, "session reset by SCSI error handling";
}

impl ConnError {
    /// Returns the number.
    #[inline]
    pub fn code(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ConnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.0)
    }
}
