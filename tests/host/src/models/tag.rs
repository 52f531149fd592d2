// SPDX-License-Identifier: GPL-2.0

//! The rules for the task that a PDU ends, written down a second time.

use crate::tag::{ended, itt_index, BHS_LEN};

/// The tag, as it is in bytes 16 to 19 of any header; one of all ones is none.
fn named(bhs: &[u8]) -> Option<u32> {
    let bytes: [u8; 4] = bhs[16..20].try_into().unwrap();
    (bytes != [0xff; 4]).then(|| u32::from_ne_bytes(bytes))
}

/// The task that is over for libiscsi when it has read this, if it takes it.
fn rules(bhs: &[u8; BHS_LEN], data: &[u8]) -> Option<u32> {
    let own = named(bhs);
    let is_reject = bhs[0] % 64 == 63;
    // RFC 7143, section 11.17: the data begin with the header of what was rejected. Reason 6 is "immediate
    // command reject", and a ping is such a command.
    if own.is_none() && is_reject && bhs[2] == 6 && data.len() >= 48 && data[0] % 64 == 0 {
        return named(data);
    }
    own
}

/// Checks one header with its data.
pub(crate) fn agree(bhs: &[u8; BHS_LEN], data: &[u8]) {
    let found = ended(bhs, data);
    assert_eq!(found, rules(bhs, data));
    if let Some(tag) = found {
        assert_ne!(tag, u32::MAX);
        assert_eq!(itt_index(tag), tag % 8192);
    }
}
