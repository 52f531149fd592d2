// SPDX-License-Identifier: GPL-2.0

//! Any bytes a target could send, against the rules written down a second time.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::violation::Violation;
use crate::wire::{encode_header, parse, RemoteBuffer, BHS_LEN, HEADERS_LEN, ISER_HEADER_LEN};

/// The rules of design and standard in the plainest words: the name of the one that is broken
/// first, or the data segment.
fn rules(bytes: &[u8]) -> Result<&[u8], &'static str> {
    if bytes.len() < 76 {
        return Err("too_short");
    }
    match bytes[0] {
        0x10..=0x13 => (),
        0x14..=0x1f => return Err("iser_flags"),
        _ => return Err("iser_opcode"),
    }
    let (bhs, payload) = (&bytes[28..76], &bytes[76..]);
    if bhs[4] > 0 {
        return Err("additional_header");
    }
    let len = usize::from(bhs[5]) * 65536 + usize::from(bhs[6]) * 256 + usize::from(bhs[7]);
    if len > payload.len() {
        return Err("segment_too_long");
    }
    if len + 3 < payload.len() {
        return Err("trailing_bytes");
    }
    let opcode = bhs[0] % 64;
    if opcode == 0x21 && bhs[2] == 0 && bhs[3] == 2 && len > 0 {
        if len == 1 {
            return Err("sense_header");
        }
        if usize::from(payload[0]) * 256 + usize::from(payload[1]) + 2 > len {
            return Err("sense_length");
        }
    }
    match opcode {
        0x20 | 0x32 | 0x3f => (),
        0x21 | 0x22 | 0x23 | 0x24 | 0x26 if bhs[16..20] == [0xff; 4] => return Err("reserved_tag"),
        0x21 | 0x22 | 0x23 | 0x24 | 0x26 => (),
        0x25 | 0x31 => return Err("data_type_pdu"),
        _ => return Err("opcode"),
    }
    Ok(&payload[..len])
}

/// Checks one message, and what is handed on of it.
fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (parse(bytes), rules(bytes)) {
        (Err(violation), Err(name)) => {
            prop_assert_eq!(violation.name(), name);
            prop_assert!(!violation.to_string().is_empty());
        }
        (Ok(received), Ok(data)) => {
            prop_assert_eq!(received.data, data);
            prop_assert_eq!(&received.bhs[..], &bytes[28..76]);
            prop_assert_eq!(&received.itt.to_ne_bytes()[..], &bytes[44..48]);
            prop_assert_eq!(received.itt_is_reserved(), bytes[44..48] == [0xff; 4]);
        }
        (parsed, ruled) => prop_assert!(false, "parsed {:?}, by the rules {:?}", parsed, ruled),
    }
    Ok(())
}

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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn honest_messages_pass(bytes in honest()) {
        prop_assert!(parse(&bytes).is_ok());
        agree(&bytes)?;
    }

    #[test]
    fn every_truncation(bytes in honest()) {
        for len in 0..bytes.len() {
            agree(&bytes[..len])?;
        }
    }

    #[test]
    fn every_bit_flip(bytes in honest()) {
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            agree(&bytes)?;
        }
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        agree(&bytes)?;
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
        agree(&bytes)?;
        if bytes.len() > 77 {
            bytes[76] = 0;
            bytes[77] %= 32;
        }
        agree(&bytes)?;
    }

    #[test]
    fn header_round_trip(
        write in prop::option::of((any::<u32>(), any::<u64>())),
        read in prop::option::of((any::<u32>(), any::<u64>())),
        old in prop::array::uniform28(any::<u8>()),
    ) {
        let buffer = |(rkey, addr)| RemoteBuffer { rkey, addr };
        let mut out = old;
        encode_header(&mut out, write.map(buffer), read.map(buffer));

        let decoded = |valid: u8, at: usize| {
            let rkey = u32::from_be_bytes(out[at..at + 4].try_into().unwrap());
            let addr = u64::from_be_bytes(out[at + 4..at + 12].try_into().unwrap());
            if out[0] & valid == 0 {
                assert_eq!((rkey, addr), (0, 0));
                return None;
            }
            Some((rkey, addr))
        };
        prop_assert_eq!(out[0] & 0xf3, 0x10);
        prop_assert_eq!(&out[1..4], &[0, 0, 0]);
        prop_assert_eq!(decoded(0x08, 4), write);
        prop_assert_eq!(decoded(0x04, 16), read);
    }
}

#[test]
fn messages_name_the_values() {
    let table = [
        (
            Violation::TooShort { received: 12 },
            "received 12 bytes, the headers alone take 76",
        ),
        (
            Violation::SegmentTooLong {
                announced: 99,
                received: 7,
            },
            "DataSegmentLength 99, but 7 bytes of it received",
        ),
        (
            Violation::DataTypePdu { opcode: 0x31 },
            "data-type PDU (opcode 0x31) in an iSER message",
        ),
    ];
    for (violation, text) in table {
        assert_eq!(violation.to_string(), text);
    }
    assert!(std::mem::size_of::<Violation>() <= 12);
}
