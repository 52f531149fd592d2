// SPDX-License-Identifier: GPL-2.0

//! The rules for a message, written down a second time.

use crate::wire::{
    encode_header, initiator_task_tag, is_final_login_request, parse, RemoteBuffer, ISER_HEADER_LEN,
};

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
pub(crate) fn agree(bytes: &[u8]) {
    match (parse(bytes), rules(bytes)) {
        (Err(violation), Err(name)) => {
            assert_eq!(violation.name(), name);
            assert!(!violation.to_string().is_empty());
        }
        (Ok(received), Ok(data)) => {
            assert_eq!(received.data, data);
            assert_eq!(&received.bhs[..], &bytes[28..76]);
            assert_eq!(&received.itt.to_ne_bytes()[..], &bytes[44..48]);
            // A Login Request (0x03) is ours, so what is received stands for what is sent here.
            let mut sent = *received.bhs;
            sent[0] = sent[0] & 0xc0 | 0x03;
            assert_eq!(is_final_login_request(&sent), sent[1] & 0x83 == 0x83);
            assert!(!is_final_login_request(received.bhs));
            assert_eq!(initiator_task_tag(received.bhs), received.itt);
        }
        (parsed, ruled) => panic!("parsed {parsed:?}, by the rules {ruled:?}"),
    }
}

/// Checks what is sent in the place of `old`: a header that says what it was made from.
pub(crate) fn header(
    old: [u8; ISER_HEADER_LEN],
    write: Option<(u32, u64)>,
    read: Option<(u32, u64)>,
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
    assert_eq!(out[0] & 0xf3, 0x10);
    assert_eq!(&out[1..4], &[0, 0, 0]);
    assert_eq!(decoded(0x08, 4), write);
    assert_eq!(decoded(0x04, 16), read);
}
