// SPDX-License-Identifier: GPL-2.0

//! Private data of any length and content.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::cm_data::{parse_response, Request};
use crate::models::cm_data::agree;

/// The most that any transport of the connection manager carries.
const MOST: usize = 196;

/// Both sides say what they do not do in the same bit, so what is asked for reads back.
#[test]
fn round_trip() {
    for remote_invalidation in [false, true] {
        let request = Request {
            remote_invalidation,
        };
        let bytes = request.encode();
        let back = parse_response(&bytes);
        assert_eq!(back.remote_invalidation, remote_invalidation);
        for len in 0..=bytes.len() {
            agree(&bytes[..len]);
        }
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            agree(&bytes);
            // One bit decides.
            let flipped = parse_response(&bytes).remote_invalidation;
            assert_eq!(flipped != remote_invalidation, bit == 6);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_truncation(bytes in vec(any::<u8>(), 0..=MOST)) {
        for len in 0..=bytes.len() {
            agree(&bytes[..len]);
        }
    }

    #[test]
    fn every_bit_flip(bytes in vec(any::<u8>(), 0..=MOST)) {
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            agree(&bytes);
        }
    }
}
