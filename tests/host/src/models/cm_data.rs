// SPDX-License-Identifier: GPL-2.0

//! What a target's private data mean, bit by bit.

use crate::cm_data::{parse_response, Request};

/// The meaning of an answer, by the bytes that `encode` makes for the same meaning.
pub(crate) fn agree(bytes: &[u8]) {
    // Four bytes at least; the second highest bit says no.
    let may = bytes.len() >= 4 && (bytes[0] >> 6) % 2 == 0;
    let answer = parse_response(bytes);
    assert_eq!(answer.remote_invalidation, may);
    for asked in [false, true] {
        let request = Request {
            remote_invalidation: asked,
        };
        assert_eq!(request.negotiate(answer), asked && may);
    }
}
