// SPDX-License-Identifier: GPL-2.0

//! PDUs made by chance: some sound, some wrong in a place or two, some all noise.
//!
//! Most mistakes end a connection, and a new one takes a second. So in one burst of two
//! nearly all PDUs are tame: noise wherever an initiator has no reason to object. In the
//! others about every second one is wrong, and the initiator looks at those that come before
//! its connection has ended.

use crate::pdu::{opcode, Reply, BHS_LEN, HEADERS_LEN, RESERVED_TAG, TOO_MANY_IMMEDIATE};
use fastrand::Rng;

/// What sound PDUs are made with.
pub struct Context {
    /// Tags that mean, or meant, something.
    pub itts: Vec<u32>,
    pub key: Option<u32>,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
}

/// Opcodes of a target, the one kind more often that a connection survives.
const OPCODES: [u8; 12] = [
    opcode::NOP_IN,
    opcode::NOP_IN,
    opcode::NOP_IN,
    opcode::SCSI_RESPONSE,
    opcode::SCSI_RESPONSE,
    opcode::TASK_MANAGEMENT_RESPONSE,
    opcode::LOGIN_RESPONSE,
    opcode::TEXT_RESPONSE,
    opcode::LOGOUT_RESPONSE,
    opcode::ASYNC_MESSAGE,
    opcode::REJECT,
    opcode::REJECT,
];

/// Most bytes of a data segment: more than the initiator has room for, at times.
const MOST_DATA: usize = 600;

/// In a tame burst one PDU of so many is not.
const TAME: u32 = 300;

/// Of so many PDUs three invalidate a key: nearly always a dead one, by which the device ends
/// the connection at once, and the driver sees nothing of what follows.
const INVALIDATIONS: u8 = 128;

/// One in so many of the Asyncs that would be: iscsid has room for 32 messages.
const ASYNCS: u32 = 4;

/// A source of PDUs.
pub struct Chance {
    rng: Rng,
    tame: bool,
}

impl Chance {
    /// The same seed and position always make the same PDUs.
    pub fn new(seed: u64, position: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ position.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let tame = rng.bool();
        Self { rng, tame }
    }

    /// Noise in a PDU that an initiator has to put up with.
    fn tame(&mut self) -> Reply {
        // iscsid has room for 32 messages; when it is busy, what comes above that is lost to it,
        // even that the connection has failed. So not many are for iscsid.
        let code = match self.rng.u8(..64) {
            0 => opcode::ASYNC_MESSAGE,
            1..=16 => opcode::REJECT,
            _ => opcode::NOP_IN,
        };
        let mut reply = Reply::new(code, RESERVED_TAG);
        let noise = self.bytes(BHS_LEN);
        reply.bhs[1..4].copy_from_slice(&noise[1..4]);
        reply.bhs[8..16].copy_from_slice(&noise[8..16]);
        reply.bhs[20..].copy_from_slice(&noise[20..]);
        reply.iser[0] |= self.rng.u8(..4);
        let rest = self.bytes(reply.iser.len() - 1);
        reply.iser[1..].copy_from_slice(&rest);
        // A Reject brings the header that it is about, and maybe more.
        let length = BHS_LEN + self.rng.usize(..400);
        let mut data = self.bytes(length);
        match code {
            // The kind that asks to go away is for the other bursts.
            opcode::ASYNC_MESSAGE => {
                reply.bhs[36] = reply.bhs[36].max(4);
                data.clear();
            }
            // What was refused is no request that is under way.
            opcode::REJECT => data[16..20].fill(0xff),
            // Without a task there is nothing to bring back; one in sixteen wants an answer.
            _ => {
                data.clear();
                if !self.one_in(16) {
                    reply.set32(20, RESERVED_TAG);
                }
            }
        }
        reply.set_data(data);
        reply
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.rng.u8(..)).collect()
    }

    fn sound(&mut self, context: &Context) -> Reply {
        let code = match OPCODES[self.rng.usize(..OPCODES.len())] {
            opcode::ASYNC_MESSAGE if !self.one_in(ASYNCS) => opcode::NOP_IN,
            code => code,
        };
        let itt = match code {
            opcode::ASYNC_MESSAGE | opcode::REJECT => RESERVED_TAG,
            opcode::NOP_IN if !self.one_in(4) => RESERVED_TAG,
            _ => context.itts[self.rng.usize(..context.itts.len())],
        };
        let mut reply = Reply::new(code, itt);
        reply.set_numbers(context.stat_sn, context.exp_cmd_sn, context.max_cmd_sn);
        match code {
            opcode::NOP_IN => {
                let wants_answer = self.one_in(8);
                reply.set32(
                    20,
                    if wants_answer {
                        self.rng.u32(..)
                    } else {
                        RESERVED_TAG
                    },
                );
            }
            opcode::REJECT => {
                reply.bhs[2] = self.rng.u8(..16);
                let mut header = self.bytes(BHS_LEN);
                header[0] = self.rng.u8(..7);
                if self.one_in(2) {
                    // Of a ping, which libiscsi ends.
                    (reply.bhs[2], header[0]) = (TOO_MANY_IMMEDIATE, opcode::NOP_OUT);
                    let itt = context.itts[self.rng.usize(..context.itts.len())];
                    header[16..20].copy_from_slice(&itt.to_be_bytes());
                }
                reply.set_data(header);
            }
            opcode::SCSI_RESPONSE if self.one_in(2) => {
                reply.bhs[3] = 2;
                let length = self.rng.usize(..96);
                let mut data = self.bytes(length + 2);
                data[..2].copy_from_slice(&(length as u16).to_be_bytes());
                reply.set_data(data);
            }
            _ => {}
        }
        reply
    }

    fn spoil(&mut self, reply: &mut Reply) {
        match self.rng.u8(..10) {
            0..=3 => {
                let at = self.rng.usize(..BHS_LEN);
                reply.bhs[at] = self.rng.u8(..);
            }
            4 => {
                let at = self.rng.usize(..reply.iser.len());
                reply.iser[at] = self.rng.u8(..);
            }
            5 => {
                let length = self.rng.usize(..MOST_DATA);
                let data = self.bytes(length);
                reply.set_data(data);
            }
            6 => reply.set_segment_length(self.rng.u32(..1024)),
            7 => reply.length = Some(self.rng.usize(..HEADERS_LEN + MOST_DATA)),
            8 => reply.set32(16, self.rng.u32(..)),
            _ => {
                let header = self.bytes(BHS_LEN);
                reply.bhs.copy_from_slice(&header);
            }
        }
    }

    /// The next message, and the key it invalidates.
    pub fn message(&mut self, context: &Context) -> (Vec<u8>, Option<u32>) {
        if self.tame && !self.one_in(TAME) {
            return (self.tame().bytes(), None);
        }
        let mut reply = self.sound(context);
        while self.one_in(3) {
            self.spoil(&mut reply);
        }
        if reply.bhs[0] & 0x3f == opcode::ASYNC_MESSAGE {
            // A target may tell an initiator to stay away for 18 hours. Not here.
            reply.bhs[38..42].fill(0);
        }
        let invalidate = match self.rng.u8(..INVALIDATIONS) {
            0 => Some(self.rng.u32(..)),
            1..=2 => context.key,
            _ => None,
        };
        (reply.bytes(), invalidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            itts: vec![1, 2, RESERVED_TAG],
            key: Some(7),
            stat_sn: 1,
            exp_cmd_sn: 2,
            max_cmd_sn: 3,
        }
    }

    #[test]
    fn a_seed_can_be_played_again() {
        let play = |seed, position| {
            let mut chance = Chance::new(seed, position);
            (0..50)
                .map(|_| chance.message(&context()))
                .collect::<Vec<_>>()
        };
        assert_eq!(play(1, 0), play(1, 0));
        assert_ne!(play(1, 0), play(2, 0));
        assert_ne!(play(1, 0), play(1, 1));
    }

    #[test]
    fn a_tame_burst_is_nearly_all_sound() {
        let mut chance = Chance::new(4, 0);
        chance.tame = true;
        for _ in 0..1000 {
            let bytes = chance.tame().bytes();
            assert_eq!(bytes[0] & 0xfc, 0x10);
            let length = (usize::from(bytes[28 + 6]) << 8) | usize::from(bytes[28 + 7]);
            assert_eq!(bytes[28 + 4], 0);
            assert_eq!(bytes.len(), (HEADERS_LEN + length).next_multiple_of(4));
            assert!(length <= 512);
            assert_eq!(length > 0, bytes[28] == opcode::REJECT);
        }
    }

    #[test]
    fn messages_differ_and_are_of_any_kind() {
        let mut chance = Chance::new(3, 0);
        chance.tame = false;
        let mut seen = std::collections::HashSet::new();
        let (mut short, mut invalidated) = (0, 0);
        for _ in 0..20_000 {
            let (bytes, key) = chance.message(&context());
            assert!(bytes.len() <= HEADERS_LEN + MOST_DATA + 4);
            short += u32::from(bytes.len() < HEADERS_LEN);
            invalidated += u32::from(key.is_some());
            if let Some(code) = bytes.get(28) {
                seen.insert(code & 0x3f);
            }
        }
        assert!(short > 50 && invalidated > 300);
        assert_eq!(seen.len(), 64);
    }
}
