// SPDX-License-Identifier: GPL-2.0

//! Headers a target could send, and the task that libiscsi ends with them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::models::tag::agree;
use crate::tag::{ended, BHS_LEN};

/// Any header, with a tag or none.
fn header() -> impl Strategy<Value = [u8; BHS_LEN]> {
    (vec(any::<u8>(), BHS_LEN), any::<bool>()).prop_map(|(bytes, reserved)| {
        let mut bhs: [u8; BHS_LEN] = bytes.try_into().unwrap();
        if reserved {
            bhs[16..20].fill(0xff);
        }
        bhs
    })
}

/// The Reject of a ping, as libiscsi takes it, and its data.
fn rejected_ping() -> impl Strategy<Value = ([u8; BHS_LEN], Vec<u8>)> {
    (header(), header(), 0usize..30).prop_map(|(mut reject, mut ping, more)| {
        reject[0] = 0x3f;
        reject[2] = 6;
        reject[16..20].fill(0xff);
        ping[0] = 0x40;
        (reject, [&ping[..], &vec![0; more]].concat())
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_header(bhs in header(), data in vec(any::<u8>(), 0..100)) {
        agree(&bhs, &data);
    }

    #[test]
    fn tag_of_a_ping((reject, data) in rejected_ping()) {
        let tag = u32::from_ne_bytes(data[16..20].try_into().unwrap());
        prop_assert_eq!(ended(&reject, &data), (tag != u32::MAX).then_some(tag));
        agree(&reject, &data);
    }

    #[test]
    fn every_truncation((reject, data) in rejected_ping()) {
        for len in 0..data.len() {
            agree(&reject, &data[..len]);
        }
    }

    #[test]
    fn every_bit_flip((reject, data) in rejected_ping()) {
        for bit in 0..8 * BHS_LEN {
            let (mut bhs, mut rejected) = (reject, data.clone());
            bhs[bit / 8] ^= 1 << (bit % 8);
            agree(&bhs, &data);
            rejected[bit / 8] ^= 1 << (bit % 8);
            agree(&reject, &rejected);
        }
    }
}
