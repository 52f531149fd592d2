// SPDX-License-Identifier: GPL-2.0

//! The kinds of PDUs that a target sends, as pure code.

use crate::violation::Violation;

const OPCODE_SCSI_DATA_IN: u8 = 0x25;
const OPCODE_R2T: u8 = 0x31;

/// The opcodes that a target sends in control-type PDUs (RFC 7145, section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// NOP-In.
    NopIn = 0x20,
    /// SCSI Response.
    ScsiResponse = 0x21,
    /// Task Management Function Response.
    TaskManagementResponse = 0x22,
    /// Login Response.
    LoginResponse = 0x23,
    /// Text Response.
    TextResponse = 0x24,
    /// Logout Response.
    LogoutResponse = 0x26,
    /// Asynchronous Message.
    AsyncMessage = 0x32,
    /// Reject.
    Reject = 0x3f,
}

impl Opcode {
    /// The opcode of a PDU's first byte, without its other bits.
    pub(crate) const fn parse(opcode: u8) -> Result<Self, Violation> {
        Ok(match opcode {
            0x20 => Self::NopIn,
            0x21 => Self::ScsiResponse,
            0x22 => Self::TaskManagementResponse,
            0x23 => Self::LoginResponse,
            0x24 => Self::TextResponse,
            0x26 => Self::LogoutResponse,
            0x32 => Self::AsyncMessage,
            0x3f => Self::Reject,
            OPCODE_SCSI_DATA_IN | OPCODE_R2T => return Err(Violation::DataTypePdu { opcode }),
            _ => return Err(Violation::Opcode { opcode }),
        })
    }

    /// Whether a PDU of this kind always answers a request and so names its task.
    #[inline]
    pub(crate) const fn answers_a_task(self) -> bool {
        !matches!(self, Self::NopIn | Self::AsyncMessage | Self::Reject)
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_opcode))]
mod tests {
    use super::*;

    #[test]
    fn opcodes() {
        let table = [
            (0x20, Ok(Opcode::NopIn)),
            (0x21, Ok(Opcode::ScsiResponse)),
            (0x22, Ok(Opcode::TaskManagementResponse)),
            (0x23, Ok(Opcode::LoginResponse)),
            (0x24, Ok(Opcode::TextResponse)),
            (0x26, Ok(Opcode::LogoutResponse)),
            (0x32, Ok(Opcode::AsyncMessage)),
            (0x3f, Ok(Opcode::Reject)),
            (0x25, Err(Violation::DataTypePdu { opcode: 0x25 })),
            (0x31, Err(Violation::DataTypePdu { opcode: 0x31 })),
            (0x27, Err(Violation::Opcode { opcode: 0x27 })),
        ];
        for (byte, parsed) in table {
            assert_eq!(Opcode::parse(byte), parsed);
            if let Ok(opcode) = parsed {
                assert_eq!(opcode as u8, byte);
            }
        }
    }
}
