// SPDX-License-Identifier: GPL-2.0

//! Any bytes a target could send, against the rules written down a second time.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::models::wire::{agree, header};
use crate::wire::{parse, BHS_LEN, HEADERS_LEN, ISER_HEADER_LEN};

/// What an honest target sends.
fn honest() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![0x20, 0x21, 0x22, 0x23, 0x24, 0x26, 0x32, 0x3f]);
    let bhs = vec(any::<u8>(), BHS_LEN);
    let data = vec(any::<u8>(), 0..120);
    (opcode, 0u8..3, bhs, data, 0usize..=3).prop_map(|(opcode, status, bhs, mut data, padding)| {
        let len = data.len();
        if let Some(rest) = len.checked_sub(2) {
            data[..2].copy_from_slice(&u16::try_from(rest).unwrap().to_be_bytes());
        } else {
            data.clear();
        }
        let mut bytes = vec![0; ISER_HEADER_LEN];
        bytes[0] = 0x10;
        bytes.extend(bhs);
        bytes[28] = opcode;
        bytes[30] = 0;
        bytes[31] = status;
        bytes[32..36].copy_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes[44] &= 0x0f;
        bytes.extend(data);
        bytes.extend(vec![0; padding]);
        bytes
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn honest_messages_pass(bytes in honest()) {
        prop_assert!(parse(&bytes).is_ok());
        agree(&bytes);
    }

    #[test]
    fn every_truncation(bytes in honest()) {
        for len in 0..bytes.len() {
            agree(&bytes[..len]);
        }
    }

    #[test]
    fn every_bit_flip(bytes in honest()) {
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            agree(&bytes);
        }
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        agree(&bytes);
    }

    /// Random bytes rarely get past the first rules, so the later ones get a better start.
    #[test]
    fn any_header(
        mut bytes in vec(any::<u8>(), HEADERS_LEN..100),
        opcode in 0u8..0x40,
        status in prop::array::uniform2(0u8..3),
        len in 0u8..32,
    ) {
        bytes[0] = 0x10;
        bytes[28] = opcode;
        bytes[30..32].copy_from_slice(&status);
        bytes[32..36].copy_from_slice(&[0, 0, 0, len]);
        agree(&bytes);
        if bytes.len() > 77 {
            bytes[76] = 0;
            bytes[77] %= 32;
        }
        agree(&bytes);
    }

    #[test]
    fn header_round_trip(
        write in prop::option::of((any::<u32>(), any::<u64>())),
        read in prop::option::of((any::<u32>(), any::<u64>())),
        old in prop::array::uniform28(any::<u8>()),
    ) {
        header(old, write, read);
    }
}
