// SPDX-License-Identifier: GPL-2.0

//! A small RAM disk: what SCSI commands mean.

use crate::pdu::Request;

pub const SECTOR: usize = 512;
const SECTORS: usize = 32768;

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It reads these bytes.
    Read(Vec<u8>),
    /// It writes to this offset, that many bytes.
    Write(usize, usize),
    /// It moves no data.
    Done,
    /// CHECK CONDITION: sense key, additional code and qualifier.
    Check(u8, u8, u8),
}

const INVALID_OPCODE: Effect = Effect::Check(5, 0x20, 0);
const INVALID_FIELD: Effect = Effect::Check(5, 0x24, 0);
const OUT_OF_RANGE: Effect = Effect::Check(5, 0x21, 0);
const NO_LUN: Effect = Effect::Check(5, 0x25, 0);

/// The disk.
pub struct Disk(Vec<u8>);

impl Default for Disk {
    fn default() -> Self {
        Self(vec![0; SECTORS * SECTOR])
    }
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, b| (sum << 8) | usize::from(*b))
}

/// Whether this is a READ or a WRITE of any length.
pub fn is_read(cdb: &[u8]) -> bool {
    matches!(cdb[0], 0x08 | 0x28 | 0xa8 | 0x88)
}

pub fn is_write(cdb: &[u8]) -> bool {
    matches!(cdb[0], 0x0a | 0x2a | 0xaa | 0x8a)
}

/// Address and length of a READ or WRITE, in bytes.
fn extent(cdb: &[u8]) -> (usize, usize) {
    let (lba, count) = match cdb[0] {
        0x08 | 0x0a => (be(&cdb[1..4]) & 0x1f_ffff, usize::from(cdb[4])),
        0x28 | 0x2a => (be(&cdb[2..6]), be(&cdb[7..9])),
        0xa8 | 0xaa => (be(&cdb[2..6]), be(&cdb[6..10])),
        _ => (be(&cdb[2..10]), be(&cdb[10..14])),
    };
    (lba.saturating_mul(SECTOR), count.saturating_mul(SECTOR))
}

impl Disk {
    /// What a command of this request does.
    pub fn execute(&self, request: &Request) -> Effect {
        let cdb = request.cdb();
        if request.lun() != 0 {
            return match cdb[0] {
                0x12 => Effect::Read(vec![0x7f, 0, 5, 2, 31, 0, 0, 0]),
                0xa0 => report_luns(),
                _ => NO_LUN,
            };
        }
        match cdb[0] {
            // TEST UNIT READY, START STOP UNIT, SYNCHRONIZE CACHE, VERIFY
            0x00 | 0x1b | 0x35 | 0x91 | 0x2f => Effect::Done,
            0x03 => Effect::Read(sense(0, 0, 0)),
            0x12 => inquiry(cdb),
            0x1a => Effect::Read(vec![3, 0, 0, 0]),
            0x5a => Effect::Read(vec![0, 6, 0, 0, 0, 0, 0, 0]),
            0x25 => {
                let mut data = (SECTORS as u32 - 1).to_be_bytes().to_vec();
                data.extend_from_slice(&(SECTOR as u32).to_be_bytes());
                Effect::Read(data)
            }
            0x9e if cdb[1] & 0x1f == 0x10 => {
                let mut data = (SECTORS as u64 - 1).to_be_bytes().to_vec();
                data.extend_from_slice(&(SECTOR as u32).to_be_bytes());
                data.resize(32, 0);
                Effect::Read(data)
            }
            0xa0 => report_luns(),
            _ if is_read(cdb) => {
                let (at, length) = extent(cdb);
                match at.checked_add(length).and_then(|end| self.0.get(at..end)) {
                    Some(bytes) => Effect::Read(bytes.to_vec()),
                    None => OUT_OF_RANGE,
                }
            }
            _ if is_write(cdb) => {
                let (at, length) = extent(cdb);
                match at.checked_add(length) {
                    Some(end) if end <= self.0.len() => Effect::Write(at, length),
                    _ => OUT_OF_RANGE,
                }
            }
            _ => INVALID_OPCODE,
        }
    }

    /// Stores what a write has brought.
    pub fn store(&mut self, at: usize, data: &[u8]) {
        if let Some(room) = self.0.get_mut(at..at + data.len()) {
            room.copy_from_slice(data);
        }
    }
}

fn report_luns() -> Effect {
    let mut data = vec![0; 16];
    data[3] = 8;
    Effect::Read(data)
}

fn inquiry(cdb: &[u8]) -> Effect {
    if cdb[1] & 1 == 0 {
        let mut data = vec![0, 0, 6, 2, 31, 0, 0, 2];
        data.extend_from_slice(b"LAB     HOSTILE         1   ");
        return Effect::Read(data);
    }
    let page = |body: &[u8]| {
        let mut data = vec![0, cdb[2], 0, body.len() as u8];
        data.extend_from_slice(body);
        Effect::Read(data)
    };
    match cdb[2] {
        0x00 => page(&[0x00, 0x80, 0x83]),
        0x80 => page(b"hostile-1"),
        // One designator: T10 vendor identification.
        0x83 => page(b"\x02\x01\x00\x11LAB     hostile-1"),
        _ => INVALID_FIELD,
    }
}

/// Fixed format sense data.
pub fn sense(key: u8, code: u8, qualifier: u8) -> Vec<u8> {
    let mut data = vec![0; 18];
    (data[0], data[2], data[7]) = (0x70, key, 10);
    (data[12], data[13]) = (code, qualifier);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::BHS_LEN;

    fn command(cdb: &[u8], lun: u8) -> Request {
        let mut bhs = [0; BHS_LEN];
        bhs[9] = lun;
        bhs[32..32 + cdb.len()].copy_from_slice(cdb);
        Request {
            write: None,
            read: None,
            bhs,
            data: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut disk = Disk::default();
        let write = command(&[0x2a, 0, 0, 0, 0, 2, 0, 0, 1, 0], 0);
        assert_eq!(disk.execute(&write), Effect::Write(1024, 512));
        disk.store(1024, &[7; 512]);
        let read = command(&[0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0], 0);
        let Effect::Read(data) = disk.execute(&read) else {
            panic!("not a read");
        };
        assert_eq!(data, [[0; 512], [7; 512]].concat());
    }

    #[test]
    fn what_is_not_there() {
        let disk = Disk::default();
        let beyond = command(
            &[0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            0,
        );
        assert_eq!(disk.execute(&beyond), OUT_OF_RANGE);
        let end = command(&[0x28, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0], 0);
        assert_eq!(disk.execute(&end), OUT_OF_RANGE);
        assert_eq!(disk.execute(&command(&[0xc1], 0)), INVALID_OPCODE);
        assert_eq!(disk.execute(&command(&[0x00], 3)), NO_LUN);
        assert_eq!(disk.execute(&command(&[0x12, 1, 0xb1], 0)), INVALID_FIELD);
    }
}
