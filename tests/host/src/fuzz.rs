// SPDX-License-Identifier: GPL-2.0

//! What the fuzzer calls: bytes become input of the models, which panic where code and rules disagree.
//!
//! The inputs in `corpus/` are known to reach all of the code. They are tests here, too.

// Small numbers, of its own making.
#![allow(clippy::arithmetic_side_effects)]

use crate::models::send_queue::{play, Step};
use crate::models::slot_state::{end, step, Event, Model, FOREIGN, OWN};
use crate::models::{cm_data, number, receives, tag, wire};
use crate::send_queue::{Chain, Share, MAX_CHAIN};
use crate::slot_state::SlotState;

/// A function for the fuzzer.
pub type Target = fn(&[u8]);

/// All of them; each has a program in `fuzz/` and a file in `corpus/` of its name.
pub const TARGETS: [(&str, Target); 8] = [
    ("wire", wire),
    ("header", header),
    ("cm_data", cm_data),
    ("number", number),
    ("slot_state", slot_state),
    ("send_queue", send_queue),
    ("receives", receives),
    ("tag", tag),
];

/// A message of the target.
pub fn wire(data: &[u8]) {
    wire::agree(data);
}

/// What goes into the header of a message of ours, and what was there before.
pub fn header(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else {
        return;
    };
    let Some((old, data)) = data.split_first_chunk() else {
        return;
    };
    let Some((write, data)) = data.split_first_chunk() else {
        return;
    };
    let Some((read, _)) = data.split_first_chunk() else {
        return;
    };
    let split = |bytes: [u8; 12]| {
        let [a, b, c, d, address @ ..] = bytes;
        (
            u32::from_be_bytes([a, b, c, d]),
            u64::from_be_bytes(address),
        )
    };
    wire::header(
        *old,
        (which & 1 != 0).then(|| split(*write)),
        (which & 2 != 0).then(|| split(*read)),
    );
}

/// The header of a PDU of the target, and its data.
pub fn tag(data: &[u8]) {
    if let Some((bhs, data)) = data.split_first_chunk() {
        tag::agree(bhs, data);
    }
}

/// Private data of the target's answer.
pub fn cm_data(data: &[u8]) {
    cm_data::agree(data);
}

/// A parameter, and the least value that it may have.
pub fn number(data: &[u8]) {
    if let Some((min, text)) = data.split_first_chunk() {
        if let Ok(text) = std::str::from_utf8(text) {
            number::agree(text, i32::from_be_bytes(*min));
        }
    }
}

/// A command: whether remote invalidation was negotiated, then an event a byte.
pub fn slot_state(data: &[u8]) {
    let Some((first, events)) = data.split_first() else {
        return;
    };
    let negotiated = first & 1 != 0;
    let mut state = SlotState::new(negotiated);
    let mut model = Model::new(negotiated);
    for event in events {
        let more = event >> 4;
        let event = match event & 0xf {
            0..=2 => Event::Post(more & 1 != 0, u16::from(more >> 1)),
            3 => Event::Response(None),
            4 => Event::Response(Some(OWN)),
            5 => Event::Response(Some(FOREIGN)),
            6..=8 => Event::SendDone,
            9 => Event::Settle,
            10..=12 => Event::Invalidated,
            13 | 14 => Event::Abort,
            _ => Event::Drained,
        };
        step(&mut state, &mut model, event);
    }
    end(&mut state, &mut model);
}

/// A send queue: two bytes of capacity, then two for each step.
pub fn send_queue(data: &[u8]) {
    let Some((capacity, steps)) = data.split_first_chunk() else {
        return;
    };
    let least = 4 * MAX_CHAIN;
    let capacity = u32::from(u16::from_be_bytes(*capacity)) % 344 + least;
    let steps = steps.chunks_exact(2).map(|bytes| {
        let (what, count) = match *bytes {
            [what, count] => (what, count),
            _ => (0, 0),
        };
        let wrs = u32::from(count) % MAX_CHAIN + 1;
        let chain = if what & 4 != 0 {
            Chain::Guarded
        } else {
            Chain::Plain
        };
        match what & 3 {
            0 | 1 => Step::Post {
                wrs,
                chain,
                share: if what & 0x80 != 0 {
                    Share::Urgent
                } else {
                    Share::Common
                },
                early: usize::from(what >> 3 & 0xf) % 10,
            },
            2 => Step::Complete(usize::from(count)),
            _ => Step::Drop { wrs, chain },
        }
    });
    play(capacity, |_, _| (), steps);
}

/// Receive buffers: how many are wanted, then two bytes for each step.
pub fn receives(data: &[u8]) {
    let Some((count, steps)) = data.split_first() else {
        return;
    };
    let steps = steps.chunks_exact(2).map(|bytes| {
        let (what, number) = match *bytes {
            [what, number] => (what, usize::from(number)),
            _ => (0, 0),
        };
        match what & 7 {
            0 | 1 => receives::Step::Post {
                buffer: number,
                taken: what & 8 != 0,
            },
            2 => receives::Step::Flush { request: number },
            _ => receives::Step::Complete {
                request: number,
                keep: what & 8 != 0,
            },
        }
    });
    receives::play(usize::from(*count) % 40, steps);
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    fn input(line: &str) -> Vec<u8> {
        (0..line.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
            .collect()
    }

    /// Inputs that the fuzzer has found before.
    #[test]
    fn corpus() {
        for (name, target) in TARGETS {
            let path = format!("{}/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let inputs: Vec<_> = lines.map(input).collect();
            assert!(!inputs.is_empty(), "{path} has no input");
            for bytes in inputs {
                target(&bytes);
            }
        }
    }
}
