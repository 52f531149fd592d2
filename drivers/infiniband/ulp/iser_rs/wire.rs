// SPDX-License-Identifier: GPL-2.0

//! The bytes of an iSER message: the iSER header, and what the driver reads of the iSCSI PDU.
//!
//! A message is an iSER header of 28 bytes (RFC 7145, section 9.2), the basic header segment (BHS)
//! of an iSCSI PDU (RFC 7143, section 11.2.1) and its data segment. Everything else in a PDU is
//! the business of libiscsi.

use crate::{opcode::Opcode, violation::Violation};

/// Length of the iSER header.
pub(crate) const ISER_HEADER_LEN: usize = 28;
/// Length of the basic header segment.
pub(crate) const BHS_LEN: usize = 48;
/// Bytes in front of the data segment.
pub(crate) const HEADERS_LEN: usize = ISER_HEADER_LEN + BHS_LEN;
/// Largest data segment that is received in the full feature phase. iscsid declares what it is
/// configured to (InitiatorRecvDataSegmentLength: RFC 7145, section 6.5), which may be more; what
/// targets send then, sense data and rejected headers, is less.
pub(crate) const RECV_DATA_SEGMENT: usize = 512;
/// Largest data segment before that: the default MaxRecvDataSegmentLength (RFC 7143, 13.12).
pub(crate) const LOGIN_DATA_SEGMENT: usize = 8192;

/// Most padding that can follow a data segment (RFC 7143, section 11.2.3).
const MAX_PADDING: usize = 3;

/// The iSER opcode of an iSCSI control-type PDU, in the upper half of the first byte.
const ISER_CONTROL: u8 = 0x10;
const ISER_OPCODE_MASK: u8 = 0xf0;
/// Write STag valid.
const ISER_WSV: u8 = 0x08;
/// Read STag valid.
const ISER_RSV: u8 = 0x04;

const OPCODE_MASK: u8 = 0x3f;
const OPCODE_LOGIN_REQUEST: u8 = 0x03;
const OPCODE_LOGOUT_REQUEST: u8 = 0x06;

/// Transit bit of a login PDU (RFC 7143, section 11.12.1).
const LOGIN_TRANSIT: u8 = 0x80;
const LOGIN_NSG_MASK: u8 = 0x03;
const LOGIN_FULL_FEATURE_PHASE: u8 = 0x03;

/// The Response field of a SCSI Response: command completed at target.
const SCSI_COMMAND_COMPLETED: u8 = 0x00;
const SCSI_CHECK_CONDITION: u8 = 0x02;

/// The Initiator Task Tag that names no task (RFC 7143, section 11.2.1.8).
pub(crate) const RESERVED_TAG: u32 = u32::MAX;

/// A memory region of ours as the target addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteBuffer {
    /// Remote key; the STag of the standard.
    pub(crate) rkey: u32,
    /// Base offset of the region, that is, its address.
    pub(crate) addr: u64,
}

/// Writes the iSER header of a control-type PDU (RFC 7145, section 9.2).
///
/// `write` is the buffer that the target reads from, `read` the one it writes to.
#[inline(always)]
pub(crate) fn encode_header(
    out: &mut [u8; ISER_HEADER_LEN],
    write: Option<RemoteBuffer>,
    read: Option<RemoteBuffer>,
) {
    const NONE: RemoteBuffer = RemoteBuffer { rkey: 0, addr: 0 };

    let mut flags = ISER_CONTROL;
    if write.is_some() {
        flags |= ISER_WSV;
    }
    if read.is_some() {
        flags |= ISER_RSV;
    }
    let write = write.unwrap_or(NONE);
    let read = read.unwrap_or(NONE);

    // Constant ranges of an array: no check remains in the compiled code.
    out[0..4].copy_from_slice(&[flags, 0, 0, 0]);
    out[4..8].copy_from_slice(&write.rkey.to_be_bytes());
    out[8..16].copy_from_slice(&write.addr.to_be_bytes());
    out[16..20].copy_from_slice(&read.rkey.to_be_bytes());
    out[20..28].copy_from_slice(&read.addr.to_be_bytes());
}

/// A message of the target that has passed every check that needs no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// The basic header segment.
    pub(crate) bhs: &'a [u8; BHS_LEN],
    /// The data segment without padding.
    pub(crate) data: &'a [u8],
    /// What kind of PDU it is.
    pub(crate) opcode: Opcode,
    /// The Initiator Task Tag as libiscsi keeps it: the bytes of the wire in memory order.
    pub(crate) itt: u32,
}

/// Checks a message of the target, in the order in which its parts may be relied on.
///
/// `bytes` is what the completion says was received, no more. A target sets neither of the STag
/// flags: they advertise buffers for a command or for a TASK REASSIGN, and only an initiator sends
/// these. The other bits and fields of the iSER header are ignored on receipt, as RFC 7145,
/// section 9.2, demands; an error in what remains is a format error of its section 10.1.3.3.
///
/// Nearly all messages are SCSI Responses without data: only what those need is inlined.
#[inline(always)]
pub(crate) fn parse(bytes: &[u8]) -> Result<Received<'_>, Violation> {
    let Some((headers, payload)) = bytes.split_first_chunk::<HEADERS_LEN>() else {
        return Err(too_short(bytes));
    };
    let (iser, rest) = headers.split_at(ISER_HEADER_LEN);
    let Some(bhs) = rest.first_chunk::<BHS_LEN>() else {
        return Err(too_short(bytes));
    };

    if iser[0] & (ISER_OPCODE_MASK | ISER_WSV | ISER_RSV) != ISER_CONTROL {
        return Err(bad_iser_header(iser[0]));
    }
    let lengths = lengths(bhs);
    let data = if lengths == 0 && payload.is_empty() {
        payload
    } else {
        data_segment(bhs, lengths, payload)?
    };
    let opcode = if bhs[0] & OPCODE_MASK == Opcode::ScsiResponse as u8 {
        Opcode::ScsiResponse
    } else {
        Opcode::parse(bhs[0] & OPCODE_MASK)?
    };
    let itt = initiator_task_tag(bhs);

    if itt == RESERVED_TAG && opcode.answers_a_task() {
        return Err(Violation::ReservedTag {
            opcode: bhs[0] & OPCODE_MASK,
        });
    }
    Ok(Received {
        bhs,
        data,
        opcode,
        itt,
    })
}

#[cold]
fn too_short(bytes: &[u8]) -> Violation {
    Violation::TooShort {
        received: saturate(bytes.len()),
    }
}

#[cold]
fn bad_iser_header(flags: u8) -> Violation {
    if flags & ISER_OPCODE_MASK != ISER_CONTROL {
        Violation::IserOpcode { opcode: flags >> 4 }
    } else {
        Violation::IserFlags { flags }
    }
}

/// Cuts the data segment out of what follows the headers, by the word of [`lengths`], and checks
/// sense data in it.
fn data_segment<'a>(
    bhs: &[u8; BHS_LEN],
    lengths: u32,
    payload: &'a [u8],
) -> Result<&'a [u8], Violation> {
    let [words, ..] = lengths.to_be_bytes();
    if words != 0 {
        return Err(Violation::AdditionalHeader { words });
    }
    let announced = lengths;
    let received = saturate(payload.len());
    let split = usize::try_from(announced)
        .ok()
        .and_then(|len| payload.split_at_checked(len));
    let data = match split {
        None => {
            return Err(Violation::SegmentTooLong {
                announced,
                received,
            })
        }
        Some((_, rest)) if rest.len() > MAX_PADDING => {
            return Err(Violation::TrailingBytes {
                announced,
                received,
            })
        }
        Some((data, _)) => data,
    };
    if bhs[0] & OPCODE_MASK == Opcode::ScsiResponse as u8
        && bhs[2] == SCSI_COMMAND_COMPLETED
        && bhs[3] == SCSI_CHECK_CONDITION
    {
        check_sense(data)?;
    }
    Ok(data)
}

/// Checks that the sense data of a CHECK CONDITION lie within the data segment.
///
/// The segment is SenseLength, the sense data, and what else the target has to say (RFC 7143,
/// section 11.4.7). It may be absent: libiscsi then fails the one command.
fn check_sense(data: &[u8]) -> Result<(), Violation> {
    if data.is_empty() {
        return Ok(());
    }
    let segment = saturate(data.len());
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return Err(Violation::SenseHeader { segment });
    };
    let sense = u16::from_be_bytes(*length);
    if usize::from(sense) > rest.len() {
        return Err(Violation::SenseLength { sense, segment });
    }
    Ok(())
}

/// A length for a message to the administrator.
#[inline]
fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// TotalAHSLength and DataSegmentLength of a PDU (RFC 7143, sections 11.2.1.5 and 11.2.1.6): one
/// byte and three.
#[inline]
fn lengths(bhs: &[u8; BHS_LEN]) -> u32 {
    u32::from_be_bytes(word(bhs, 4))
}

/// Initiator Task Tag of a PDU (RFC 7143, section 11.2.1.8), its bytes in memory order.
#[inline]
pub(crate) fn initiator_task_tag(bhs: &[u8; BHS_LEN]) -> u32 {
    u32::from_ne_bytes(word(bhs, 16))
}

/// The four bytes at `offset`, a constant: no check remains in the compiled code, and one load.
#[inline(always)]
fn word(bhs: &[u8; BHS_LEN], offset: usize) -> [u8; 4] {
    let rest = bhs.get(offset..).unwrap_or(&[]);
    *rest.first_chunk().unwrap_or(&[0; 4])
}

/// Whether a PDU of ours is a Login Request that asks for the full feature phase: the target's
/// agreement may be the last thing that goes to a login buffer (RFC 7143, section 11.12.1).
#[inline]
pub(crate) const fn is_final_login_request(bhs: &[u8; BHS_LEN]) -> bool {
    bhs[0] & OPCODE_MASK == OPCODE_LOGIN_REQUEST
        && bhs[1] & LOGIN_TRANSIT != 0
        && bhs[1] & LOGIN_NSG_MASK == LOGIN_FULL_FEATURE_PHASE
}

/// Whether a PDU of ours is a Logout Request.
#[inline]
pub(crate) const fn is_logout_request(bhs: &[u8; BHS_LEN]) -> bool {
    bhs[0] & OPCODE_MASK == OPCODE_LOGOUT_REQUEST
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_wire))]
mod tests {
    use super::*;

    const ROOM: usize = 24;

    /// Offsets in a message, and the bytes to put there.
    type Edits = &'static [(usize, u8)];

    /// A NOP-In for a task, with `edits` made to it, of which `len` bytes were received:
    /// the length of the data segment.
    fn check(len: usize, edits: Edits) -> Result<usize, Violation> {
        let mut bytes = [0u8; HEADERS_LEN + ROOM];
        bytes[0] = 0x10;
        bytes[ISER_HEADER_LEN] = 0x20;
        for &(at, value) in edits {
            bytes[at] = value;
        }
        parse(&bytes[..len]).map(|received| received.data.len())
    }

    /// The offset of a byte of the BHS in a message.
    const fn bhs(at: usize) -> usize {
        ISER_HEADER_LEN + at
    }

    #[test]
    fn headers_on_the_wire() {
        let write = RemoteBuffer {
            rkey: 0x0102_0304,
            addr: 0x1112_1314_1516_1718,
        };
        let read = RemoteBuffer {
            rkey: 0x2122_2324,
            addr: 0x3132_3334_3536_3738,
        };
        let table = [
            (None, None, 0x10, 0, 0),
            (Some(write), None, 0x18, 0x04, 0),
            (None, Some(read), 0x14, 0, 0x38),
            (Some(write), Some(read), 0x1c, 0x04, 0x38),
        ];
        for (write, read, flags, write_stag_end, read_offset_end) in table {
            let mut out = [0xa5; ISER_HEADER_LEN];
            encode_header(&mut out, write, read);
            assert_eq!(out[0], flags);
            assert_eq!(out[1..4], [0, 0, 0]);
            assert_eq!(out[7], write_stag_end);
            assert_eq!(out[27], read_offset_end);
        }
        let mut out = [0; ISER_HEADER_LEN];
        encode_header(&mut out, Some(write), Some(read));
        assert_eq!(out[4..8], [0x01, 0x02, 0x03, 0x04]);
        assert_eq!(out[8..16], [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        assert_eq!(out[16..20], [0x21, 0x22, 0x23, 0x24]);
        assert_eq!(
            out[20..28],
            [0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38]
        );
    }

    #[test]
    fn messages_accepted() {
        const TABLE: &[(usize, Edits, usize)] = &[
            (76, &[], 0),
            // Padding, and fields that a receiver has to ignore.
            (79, &[], 0),
            (81, &[(bhs(7), 5)], 5),
            (84, &[(bhs(7), 5)], 5),
            (76, &[(0, 0x13), (1, 0xff), (4, 0xff)], 0),
            (76, &[(bhs(0), 0xe0)], 0),
            (76, &[(bhs(0), 0x23)], 0),
            // A CHECK CONDITION with sense data, with less, without.
            (
                86,
                &[(bhs(0), 0x21), (bhs(3), 2), (bhs(7), 10), (77, 8)],
                10,
            ),
            (
                86,
                &[(bhs(0), 0x21), (bhs(3), 2), (bhs(7), 10), (77, 7)],
                10,
            ),
            (76, &[(bhs(0), 0x21), (bhs(3), 2)], 0),
            // No sense data is read of a command that did not complete, or that did well.
            (
                86,
                &[
                    (bhs(0), 0x21),
                    (bhs(2), 1),
                    (bhs(3), 2),
                    (bhs(7), 10),
                    (77, 9),
                ],
                10,
            ),
            (86, &[(bhs(0), 0x21), (bhs(7), 10), (77, 9)], 10),
        ];
        for &(len, edits, data) in TABLE {
            assert_eq!(check(len, edits), Ok(data));
        }
    }

    #[test]
    fn messages_refused() {
        const NO_TAG: Edits = &[
            (bhs(0), 0x22),
            (bhs(16), 0xff),
            (bhs(17), 0xff),
            (bhs(18), 0xff),
            (bhs(19), 0xff),
        ];
        const TABLE: &[(usize, Edits, Violation)] = &[
            (0, &[], Violation::TooShort { received: 0 }),
            (12, &[], Violation::TooShort { received: 12 }),
            (75, &[], Violation::TooShort { received: 75 }),
            (76, &[(0, 0x20)], Violation::IserOpcode { opcode: 2 }),
            (76, &[(0, 0x00)], Violation::IserOpcode { opcode: 0 }),
            (76, &[(0, 0x18)], Violation::IserFlags { flags: 0x18 }),
            (76, &[(0, 0x14)], Violation::IserFlags { flags: 0x14 }),
            (76, &[(bhs(4), 1)], Violation::AdditionalHeader { words: 1 }),
            (
                80,
                &[(bhs(7), 5)],
                Violation::SegmentTooLong {
                    announced: 5,
                    received: 4,
                },
            ),
            (
                100,
                &[(bhs(5), 0xff), (bhs(6), 0xff), (bhs(7), 0xff)],
                Violation::SegmentTooLong {
                    announced: 0xff_ffff,
                    received: 24,
                },
            ),
            (
                80,
                &[],
                Violation::TrailingBytes {
                    announced: 0,
                    received: 4,
                },
            ),
            (
                76,
                &[(bhs(0), 0x25)],
                Violation::DataTypePdu { opcode: 0x25 },
            ),
            (76, &[(bhs(0), 0x01)], Violation::Opcode { opcode: 1 }),
            (76, NO_TAG, Violation::ReservedTag { opcode: 0x22 }),
            (
                77,
                &[(bhs(0), 0x21), (bhs(3), 2), (bhs(7), 1)],
                Violation::SenseHeader { segment: 1 },
            ),
            (
                86,
                &[(bhs(0), 0x21), (bhs(3), 2), (bhs(7), 10), (77, 9)],
                Violation::SenseLength {
                    sense: 9,
                    segment: 10,
                },
            ),
        ];
        for &(len, edits, violation) in TABLE {
            assert_eq!(check(len, edits), Err(violation));
        }
    }

    #[test]
    fn login_phase_ends() {
        // Opcode and flags; whether it is the final request.
        let table = [
            (0x43, 0x87, true),
            (0x03, 0x83, true),
            (0x43, 0x07, false),
            (0x43, 0x81, false),
            (0x44, 0x87, false),
            (0x23, 0x87, false),
        ];
        for (opcode, flags, last) in table {
            let mut bhs = [0; BHS_LEN];
            bhs[0] = opcode;
            bhs[1] = flags;
            assert_eq!(is_final_login_request(&bhs), last);
        }
    }

    #[test]
    fn logout_requests() {
        // The bits above the opcode say how a request is delivered.
        for (opcode, logout) in [
            (0x06, true),
            (0x46, true),
            (0x26, false),
            (0x00, false),
            (0x03, false),
        ] {
            let mut bhs = [0; BHS_LEN];
            bhs[0] = opcode;
            assert_eq!(is_logout_request(&bhs), logout);
        }
    }
}
