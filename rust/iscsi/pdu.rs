// SPDX-License-Identifier: GPL-2.0

//! A PDU of the target, and which task libiscsi ends when it gets it.

use crate::bhs::{Bhs, BHS_LEN};
use crate::bindings;

/// The Initiator Task Tag of a PDU that belongs to no task.
const RESERVED_TAG: u32 = u32::MAX;

/// Returns the index of the task that an Initiator Task Tag names. libiscsi uses the other bits to
/// tell one login of a session from the next.
#[inline(always)]
pub const fn itt_index(tag: u32) -> u32 {
    tag & bindings::ISCSI_ITT_MASK
}

/// A PDU of the target.
///
/// # Invariants
///
/// libiscsi ends no task with this PDU but that of `tag`, and none if there is none.
#[derive(Clone, Copy)]
pub struct Pdu<'a> {
    pub(crate) bhs: &'a Bhs,
    pub(crate) data: &'a [u8],
    tag: Option<u32>,
}

impl<'a> Pdu<'a> {
    /// `data` is the data segment without padding.
    #[inline(always)]
    pub fn new(bhs: &'a Bhs, data: &'a [u8]) -> Self {
        let tag = if bhs.is_reject() {
            rejected_ping(bhs.as_bytes(), data)
        } else {
            match itt(bhs.as_bytes()) {
                RESERVED_TAG => None,
                tag => Some(tag),
            }
        };
        // INVARIANT: A Reject of a ping ends the task that its data name, if its own tag is
        // reserved, as it has to be. Anything else ends at most the task of its own tag.
        Self { bhs, data, tag }
    }

    /// The Initiator Task Tag of the task that the PDU ends, if libiscsi finds it good: usually the one in the header, but a
    /// Reject names the task in its data.
    #[inline(always)]
    pub fn ends(&self) -> Option<u32> {
        self.tag
    }
}

/// The task that a Reject ends: of a NOP-Out that the target could not take, libiscsi believes that
/// it has done its duty (`iscsi_handle_reject()`). What else is rejected stays outstanding.
#[cold]
fn rejected_ping(reject: &[u8; BHS_LEN], data: &[u8]) -> Option<u32> {
    if itt(reject) != RESERVED_TAG {
        // It belongs to a task, which libiscsi refuses. Nothing is ended, but it is a response.
        return Some(itt(reject));
    }
    let rejected = data.first_chunk::<BHS_LEN>()?;
    let [_, _, reason, ..] = *reject;
    let [opcode, ..] = *rejected;
    let is_ping = u32::from(reason) == bindings::ISCSI_REASON_IMM_CMD_REJECT
        && u32::from(opcode) & bindings::ISCSI_OPCODE_MASK == bindings::ISCSI_OP_NOOP_OUT;
    (is_ping && itt(rejected) != RESERVED_TAG).then(|| itt(rejected))
}

#[inline(always)]
const fn itt(bhs: &[u8; BHS_LEN]) -> u32 {
    u32::from_ne_bytes([bhs[16], bhs[17], bhs[18], bhs[19]])
}
const _: () = assert!(core::mem::offset_of!(bindings::iscsi_hdr, itt) == 16);
const _: () = assert!(core::mem::offset_of!(bindings::iscsi_reject, reason) == 2);

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::macros::kunit_tests(iscsi_pdu)]
mod tests {
    use super::*;

    /// A header with this opcode, third byte and tag.
    fn header(opcode: u8, third: u8, tag: u32) -> Bhs {
        let mut bhs = Bhs::ZERO;
        bhs.0[0] = opcode;
        bhs.0[2] = third;
        bhs.0[16..20].copy_from_slice(&tag.to_ne_bytes());
        bhs
    }

    #[test]
    fn task_that_ends() {
        const REJECT: u8 = 0x3f;
        const TAG: u32 = 0x3000_0021;
        const OTHER: u32 = 0x3000_0022;
        let nop_out = |tag| header(0x40, 0, tag).0;
        let table = [
            // SCSI Response, NOP-In of the target's own.
            (header(0x21, 0, TAG), nop_out(OTHER), 0, Some(TAG)),
            (header(0x20, 0, RESERVED_TAG), nop_out(OTHER), 48, None),
            // A Reject of our ping, of an answer to the target's, and one that names a task itself.
            (
                header(REJECT, 6, RESERVED_TAG),
                nop_out(OTHER),
                48,
                Some(OTHER),
            ),
            (
                header(REJECT, 6, RESERVED_TAG),
                nop_out(RESERVED_TAG),
                48,
                None,
            ),
            (header(REJECT, 6, TAG), nop_out(OTHER), 48, Some(TAG)),
            // Cut short, for another reason, of another request.
            (header(REJECT, 6, RESERVED_TAG), nop_out(OTHER), 47, None),
            (header(REJECT, 4, RESERVED_TAG), nop_out(OTHER), 48, None),
            (
                header(REJECT, 6, RESERVED_TAG),
                header(0x42, 0, OTHER).0,
                48,
                None,
            ),
        ];
        for (bhs, data, len, tag) in table {
            assert_eq!(Pdu::new(&bhs, &data[..len]).ends(), tag);
        }
        assert_eq!(itt_index(TAG), 0x21);
    }
}
