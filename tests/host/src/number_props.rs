// SPDX-License-Identifier: GPL-2.0

//! Numbers as text: those that are, those that nearly are, and anything.

use proptest::prelude::*;

use crate::cases;
use crate::models::number::agree;
use crate::number::parse;

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn round_trip(unsigned in any::<u32>(), signed in any::<i32>()) {
        prop_assert_eq!(parse(&unsigned.to_string(), 0), Some(unsigned));
        prop_assert_eq!(parse(&signed.to_string(), i32::MIN), Some(signed));
        prop_assert_eq!(parse(&unsigned.to_string(), u32::MAX), (unsigned == u32::MAX).then_some(unsigned));
    }

    #[test]
    fn every_truncation_and_bit_flip(value in any::<i64>(), min in any::<i32>()) {
        let text = value.to_string();
        for len in 0..=text.len() {
            agree(&text[..len], min);
        }
        for bit in 0..8 * text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // sysfs and the command line hand on what is text.
            if let Ok(text) = std::str::from_utf8(&bytes) {
                agree(text, min);
            }
        }
    }

    #[test]
    fn any_text(text in "[+-]?[0-9]{0,12}|\\PC{0,8}", min in any::<i32>()) {
        agree(&text, min);
    }
}
