// SPDX-License-Identifier: GPL-2.0

//! The bytes of iSER messages: what the initiator sends, and what it gets.
//!
//! A request is read with care, so that the simulator does not fall over its own test. A
//! reply is built correctly first, and can then be spoilt byte by byte.

/// Length of the iSER header (RFC 7145, section 9.2).
pub const ISER_LEN: usize = 28;
/// Length of the basic header segment (RFC 7143, section 11.2.1).
pub const BHS_LEN: usize = 48;
/// Bytes in front of the data segment.
pub const HEADERS_LEN: usize = ISER_LEN + BHS_LEN;
/// The tag that names no task.
pub const RESERVED_TAG: u32 = u32::MAX;

/// Opcodes of PDUs (RFC 7143, section 11.2.1.2).
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// The reason of a Reject (RFC 7143, section 11.17.1): too many immediate commands.
pub const TOO_MANY_IMMEDIATE: u8 = 6;

/// Memory of the initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    pub key: u32,
    pub address: u64,
}

/// What an initiator has sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The buffer that a target reads from: data of a write.
    pub write: Option<Remote>,
    /// The buffer that a target writes to: data of a read.
    pub read: Option<Remote>,
    pub bhs: [u8; BHS_LEN],
    pub data: Vec<u8>,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    (u64::from(be32(bytes, at)) << 32) | u64::from(be32(bytes, at + 4))
}

impl Request {
    /// Reads a message.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEADERS_LEN {
            return Err(format!("{} bytes are no iSER message", bytes.len()));
        }
        let (iser, pdu) = bytes.split_at(ISER_LEN);
        if iser[0] & 0xf0 != 0x10 {
            return Err(format!("iSER opcode {:#x}", iser[0] >> 4));
        }
        let remote = |flag: u8, at: usize| {
            (iser[0] & flag != 0).then(|| Remote {
                key: be32(iser, at),
                address: be64(iser, at + 4),
            })
        };
        let mut bhs = [0; BHS_LEN];
        bhs.copy_from_slice(&pdu[..BHS_LEN]);
        let length = (be32(&bhs, 4) & 0xff_ffff) as usize;
        let data = pdu
            .get(BHS_LEN..BHS_LEN + length)
            .ok_or_else(|| format!("DataSegmentLength {length} of {}", pdu.len() - BHS_LEN))?
            .to_vec();
        Ok(Self {
            write: remote(0x08, 4),
            read: remote(0x04, 16),
            bhs,
            data,
        })
    }

    pub fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    /// Whether it is to be executed at once, and takes no CmdSN.
    pub fn is_immediate(&self) -> bool {
        self.bhs[0] & 0x40 != 0
    }

    pub fn flags(&self) -> u8 {
        self.bhs[1]
    }

    pub fn lun(&self) -> u64 {
        be64(&self.bhs, 8)
    }

    pub fn itt(&self) -> u32 {
        be32(&self.bhs, 16)
    }

    /// Bytes 20 to 23: Expected Data Transfer Length, Target Transfer Tag.
    pub fn word20(&self) -> u32 {
        be32(&self.bhs, 20)
    }

    pub fn cmd_sn(&self) -> u32 {
        be32(&self.bhs, 24)
    }

    pub fn exp_stat_sn(&self) -> u32 {
        be32(&self.bhs, 28)
    }

    pub fn cdb(&self) -> &[u8] {
        &self.bhs[32..48]
    }
}

/// What the target answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub iser: [u8; ISER_LEN],
    pub bhs: [u8; BHS_LEN],
    pub data: Vec<u8>,
    /// Cut or fill the message to this length.
    pub length: Option<usize>,
}

impl Reply {
    /// A PDU of this kind without data.
    pub fn new(opcode: u8, itt: u32) -> Self {
        let mut iser = [0; ISER_LEN];
        iser[0] = 0x10;
        let mut bhs = [0; BHS_LEN];
        bhs[0] = opcode;
        bhs[1] = 0x80;
        let mut reply = Self {
            iser,
            bhs,
            data: Vec::new(),
            length: None,
        };
        reply.set32(16, itt);
        reply
    }

    pub fn set32(&mut self, at: usize, value: u32) {
        self.bhs[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub fn get32(&self, at: usize) -> u32 {
        be32(&self.bhs, at)
    }

    /// Puts a data segment and its length.
    pub fn set_data(&mut self, data: Vec<u8>) {
        self.set_segment_length(data.len() as u32);
        self.data = data;
    }

    /// Claims a length of the data segment.
    pub fn set_segment_length(&mut self, length: u32) {
        self.bhs[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
    }

    /// StatSN, ExpCmdSN and MaxCmdSN, which every PDU of a target carries.
    pub fn set_numbers(&mut self, stat: u32, expected: u32, max: u32) {
        self.set32(24, stat);
        self.set32(28, expected);
        self.set32(32, max);
    }

    /// The message.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADERS_LEN + self.data.len() + 3);
        bytes.extend_from_slice(&self.iser);
        bytes.extend_from_slice(&self.bhs);
        bytes.extend_from_slice(&self.data);
        while bytes.len() % 4 != 0 {
            bytes.push(0);
        }
        if let Some(length) = self.length {
            bytes.resize(length, 0xee);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(edit: impl FnOnce(&mut Vec<u8>)) -> Result<Request, String> {
        let mut bytes = vec![0; HEADERS_LEN + 4];
        bytes[0] = 0x1c;
        bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
        bytes[15] = 5;
        bytes[16..20].copy_from_slice(&[6, 7, 8, 9]);
        bytes[27] = 10;
        bytes[ISER_LEN] = 0x41;
        bytes[ISER_LEN + 7] = 3;
        bytes[HEADERS_LEN..].copy_from_slice(b"abc\0");
        edit(&mut bytes);
        Request::parse(&bytes)
    }

    #[test]
    fn a_request_is_read() {
        let r = request(|_| ()).unwrap();
        assert_eq!(r.opcode(), opcode::SCSI_COMMAND);
        assert!(r.is_immediate());
        assert_eq!(r.data, b"abc");
        let write = Remote {
            key: 0x0102_0304,
            address: 5,
        };
        assert_eq!(r.write, Some(write));
        assert_eq!(r.read.unwrap().address, 10);
        assert!(request(|b| b[0] = 0x10).unwrap().write.is_none());
    }

    #[test]
    fn a_bad_request_is_refused() {
        assert!(request(|b| b.truncate(HEADERS_LEN - 1)).is_err());
        assert!(request(|b| b.clear()).is_err());
        assert!(request(|b| b[0] = 0x20).is_err());
        assert!(request(|b| b[ISER_LEN + 7] = 5).is_err());
    }

    #[test]
    fn a_reply_is_a_message_and_can_be_spoilt() {
        let mut reply = Reply::new(opcode::NOP_IN, 7);
        reply.set_data(b"hello".to_vec());
        reply.set_numbers(1, 2, 3);
        let bytes = reply.bytes();
        assert_eq!(bytes.len(), HEADERS_LEN + 8);
        assert_eq!(bytes[0], 0x10);
        assert_eq!(bytes[ISER_LEN + 7], 5);
        assert_eq!(bytes[ISER_LEN + 35], 3);
        for length in [0, 1, 75, 76, 5000] {
            reply.length = Some(length);
            assert_eq!(reply.bytes().len(), length);
        }
        reply.set_segment_length(0xff_ffff);
        assert_eq!(reply.bhs[5..8], [0xff; 3]);
    }
}
