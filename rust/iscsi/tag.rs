// SPDX-License-Identifier: GPL-2.0

//! Initiator Task Tags: which task a PDU of the target is about, and which one libiscsi ends when it gets it.
//!
//! Reads bytes of the target and nothing else, so it runs on the host, too.

use crate::bindings;

/// The length of a basic header segment in bytes (RFC 7143, section 11.2).
pub const BHS_LEN: usize = 48;

/// The Initiator Task Tag of a PDU that belongs to no task.
const RESERVED_TAG: u32 = u32::MAX;

/// Returns the index of the task that an Initiator Task Tag names. libiscsi uses the other bits to
/// tell one login of a session from the next.
#[inline(always)]
pub const fn itt_index(tag: u32) -> u32 {
    tag & bindings::ISCSI_ITT_MASK
}

/// Returns the tag of the task that libiscsi ends at most, and [`None`] if it ends none.
///
/// `data` is the data segment without padding. Usually the tag is the one in the header, but a Reject names the task in its data.
#[inline(always)]
pub(crate) fn ended(bhs: &[u8; BHS_LEN], data: &[u8]) -> Option<u32> {
    if opcode(bhs) == bindings::ISCSI_OP_REJECT {
        return rejected_ping(bhs, data);
    }
    match itt(bhs) {
        RESERVED_TAG => None,
        tag => Some(tag),
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
    let is_ping = u32::from(reason) == bindings::ISCSI_REASON_IMM_CMD_REJECT
        && opcode(rejected) == bindings::ISCSI_OP_NOOP_OUT;
    (is_ping && itt(rejected) != RESERVED_TAG).then(|| itt(rejected))
}

#[inline(always)]
fn opcode(bhs: &[u8; BHS_LEN]) -> u32 {
    let [opcode, ..] = *bhs;
    u32::from(opcode) & bindings::ISCSI_OPCODE_MASK
}

#[inline(always)]
const fn itt(bhs: &[u8; BHS_LEN]) -> u32 {
    u32::from_ne_bytes([bhs[16], bhs[17], bhs[18], bhs[19]])
}
const _: () = assert!(core::mem::offset_of!(bindings::iscsi_hdr, itt) == 16);
const _: () = assert!(core::mem::offset_of!(bindings::iscsi_reject, reason) == 2);

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(iscsi_tag))]
mod tests {
    use super::*;

    const REJECT: u8 = 0x3f;
    const TAG: u32 = 0x3000_0021;
    const OTHER: u32 = 0x3000_0022;

    /// A header with this opcode, third byte and tag.
    fn header(opcode: u8, third: u8, tag: u32) -> [u8; BHS_LEN] {
        let mut bhs = [0; BHS_LEN];
        bhs[0] = opcode;
        bhs[2] = third;
        bhs[16..20].copy_from_slice(&tag.to_ne_bytes());
        bhs
    }

    #[test]
    fn index() {
        assert_eq!(itt_index(TAG), 0x21);
        assert_eq!(itt_index(RESERVED_TAG), 0x1fff);
    }

    #[test]
    fn task_that_ends() {
        let ping = header(0x40, 0, OTHER);
        let answer = header(0x40, 0, RESERVED_TAG);
        let text = header(0x44, 0, OTHER);
        let table = [
            // SCSI Response, NOP-In of the target's own.
            (header(0x21, 0, TAG), ping, 0, Some(TAG)),
            (header(0x20, 0, RESERVED_TAG), ping, 48, None),
            // A Reject of our ping, of an answer to the target's, and one that names a task itself.
            (header(REJECT, 6, RESERVED_TAG), ping, 48, Some(OTHER)),
            (header(REJECT, 6, RESERVED_TAG), answer, 48, None),
            (header(REJECT, 6, TAG), ping, 48, Some(TAG)),
            // Cut short, for another reason, of another request.
            (header(REJECT, 6, RESERVED_TAG), ping, 47, None),
            (header(REJECT, 4, RESERVED_TAG), ping, 48, None),
            (header(REJECT, 6, RESERVED_TAG), text, 48, None),
        ];
        for (bhs, data, len, tag) in table {
            assert_eq!(ended(&bhs, &data[..len]), tag);
        }
    }
}
