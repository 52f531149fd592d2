// SPDX-License-Identifier: GPL-2.0

//! SCSI commands: their data, their response, and the order of the two.

use crate::{
    control::{say, Done},
    disk::{is_read, is_write, sense, Effect},
    patience::slow,
    pdu::{opcode, Remote, Reply, Request},
    rules::{Action, Outside, Point, When},
    session::{outcome, Session},
    verbs::Failure,
};
use std::{thread::sleep, time::Duration};

/// What is written where nothing may be written.
const POISON: u8 = 0xbd;

/// A command whose answer is kept back.
pub struct Held {
    pub done: Done,
    reply: Reply,
}

/// An answer that is sent once more when its tag is used again.
pub struct Again {
    reply: Reply,
    /// How it is spoilt then.
    actions: Vec<Action>,
    done: Done,
    pause: Duration,
}

/// The point of a SCSI command.
pub fn point(request: &Request) -> Point {
    match request.cdb() {
        cdb if is_read(cdb) => Point::Read,
        cdb if is_write(cdb) => Point::Write,
        _ => Point::Command,
    }
}

/// The data of a command on their way.
struct Transfer {
    is_write: bool,
    /// Where they are, or go to, at the initiator.
    remote: Option<Remote>,
    data: Vec<u8>,
    /// What came with a write.
    unsolicited: usize,
}

impl Session {
    pub(crate) fn command(&mut self, request: &Request, actions: &[Action]) -> Result<(), Failure> {
        let effect = self.shared.lock().disk.execute(request);
        let expected = request.word20() as usize;
        let mut reply = Reply::new(opcode::SCSI_RESPONSE, request.itt());
        let mut transfer = Transfer {
            is_write: request.write.is_some() || !request.data.is_empty(),
            remote: request.write.or(request.read),
            data: Vec::new(),
            unsolicited: request.data.len(),
        };
        let mut actual = 0;
        match &effect {
            Effect::Read(data) => {
                actual = data.len();
                transfer.data = data[..actual.min(expected)].to_vec();
            }
            Effect::Write(_, length) => {
                actual = *length;
                transfer.data = request.data.clone();
                transfer.data.resize(actual.min(expected), 0);
            }
            Effect::Done => {}
            Effect::Check(key, code, qualifier) => {
                reply.bhs[3] = 2;
                with_sense(&mut reply, &sense(*key, *code, *qualifier));
            }
        }
        residual(&mut reply, expected, actual);
        for action in actions {
            if let Action::Sense(length, segment) = action {
                reply.bhs[3] = 2;
                let mut data = length.to_be_bytes().to_vec();
                data.extend_from_slice(&sense(0x0b, 0, 0));
                data.resize(*segment, 0x5e);
                reply.set_data(data);
            }
        }
        let done = Done {
            itt: request.itt(),
            key: transfer.remote,
            is_write: transfer.is_write,
            is_io: point(request) != Point::Command,
            length: transfer.data.len(),
        };
        if transfer.data.len() < transfer.unsolicited {
            transfer.unsolicited = transfer.data.len();
        }
        if let Some(again) = self.again.take_if(|again| again.done.itt == done.itt) {
            say("again");
            let result = self
                .answer_again(again)
                .and_then(|()| self.data_and_response(&mut transfer, reply, actions, done));
            say(format_args!("late {}", outcome(&result)));
            result?;
        } else {
            self.data_and_response(&mut transfer, reply, actions, done)?;
        }
        if let Effect::Write(at, _) = effect {
            self.shared.lock().disk.store(at, &transfer.data);
        }
        Ok(())
    }

    /// Sends an answer of an earlier command, and gives the initiator time to take it.
    fn answer_again(&mut self, again: Again) -> Result<(), Failure> {
        self.respond(again.reply, &again.actions, again.done.key)?;
        self.link.flush()?;
        sleep(slow(again.pause));
        Ok(())
    }

    fn data_and_response(
        &mut self,
        transfer: &mut Transfer,
        reply: Reply,
        actions: &[Action],
        done: Done,
    ) -> Result<(), Failure> {
        let has = |action: &Action| actions.contains(action);
        let length = transfer.data.len();
        let half = transfer.unsolicited.max(length / 2).min(length);
        if has(&Action::Hangup(When::Data)) {
            self.transfer(transfer, 0, half)?;
            return Err(Failure::Gone);
        }
        if has(&Action::Early) || has(&Action::Between) {
            let first = if has(&Action::Between) { half } else { 0 };
            self.transfer(transfer, 0, first)?;
            self.finish(reply, actions, done)?;
            self.link.flush()?;
            let result = self.transfer(transfer, first, length);
            say(format_args!("late {}", outcome(&result)));
            return result;
        }
        if !has(&Action::NoData) && !has(&Action::Ignore) {
            self.transfer(transfer, 0, length)?;
        }
        for action in actions {
            if let Action::Outside(place) = action {
                self.trespass(*place, done)?;
            }
        }
        if has(&Action::Hangup(When::Response)) {
            return Err(Failure::Gone);
        }
        if has(&Action::Hold) || has(&Action::Ignore) {
            self.held.push(Held { done, reply });
            say(format_args!("held {}", self.held.len()));
            return Ok(());
        }
        self.finish(reply, actions, done)?;
        for action in actions {
            if let Action::Late(pause) = action {
                self.link.flush()?;
                sleep(slow(Duration::from_millis(*pause)));
                self.use_key("late", done)?;
            }
        }
        Ok(())
    }

    /// Sends the response of a command.
    fn finish(&mut self, reply: Reply, actions: &[Action], done: Done) -> Result<(), Failure> {
        let spoilt = |action: &&Action| matches!(action, Action::Invalidate(_));
        let mut now: Vec<Action> = actions.to_vec();
        for action in actions {
            if let Action::Again(pause) = action {
                self.again = Some(Again {
                    reply: reply.clone(),
                    actions: actions.iter().filter(spoilt).cloned().collect(),
                    done,
                    pause: Duration::from_millis(*pause),
                });
                // The first time it is good.
                now.retain(|action| !spoilt(&action));
            }
        }
        self.respond(reply, &now, done.key)?;
        self.remember(done);
        Ok(())
    }

    /// Moves a part of the data.
    fn transfer(&mut self, t: &mut Transfer, from: usize, to: usize) -> Result<(), Failure> {
        let from = if t.is_write {
            from.max(t.unsolicited)
        } else {
            from
        };
        let Some(remote) = t.remote.filter(|_| from < to) else {
            return Ok(());
        };
        if t.is_write {
            // What is advertised begins behind the unsolicited data.
            let address = remote.address.wrapping_add((from - t.unsolicited) as u64);
            let data = self.link.read(to - from, remote.key, address)?;
            t.data[from..to].copy_from_slice(&data);
            return Ok(());
        }
        let address = remote.address.wrapping_add(from as u64);
        self.link.write(&t.data[from..to], remote.key, address)
    }

    /// Answers what was held back.
    pub(crate) fn release(&mut self) -> Result<(), Failure> {
        for held in std::mem::take(&mut self.held) {
            self.finish(held.reply, &[], held.done)?;
        }
        Ok(())
    }

    /// Uses memory of the initiator that this command does not give us.
    fn trespass(&mut self, place: Outside, done: Done) -> Result<(), Failure> {
        let Some(remote) = done.key else {
            say("missing key");
            return Ok(());
        };
        let poison = [POISON; 64];
        let end = remote.address.wrapping_add(done.length as u64);
        let result = match place {
            Outside::Before => {
                let address = remote.address.wrapping_sub(64);
                self.link.write(&poison, remote.key, address)
            }
            Outside::Behind => self.link.write(&poison, remote.key, end),
            Outside::Across => self.link.write(&poison, remote.key, end.wrapping_sub(32)),
            Outside::Far => {
                let address = remote.address.wrapping_add(1 << 30);
                self.link.write(&poison, remote.key, address)
            }
            Outside::Key => self
                .link
                .write(&poison, remote.key ^ 0xff00, remote.address),
            Outside::Direction if done.is_write => {
                self.link.write(&poison, remote.key, remote.address)
            }
            Outside::Direction => self.link.read(64, remote.key, remote.address).map(|_| ()),
        };
        say(format_args!("trespass {}", outcome(&result)));
        result
    }

    /// Uses the key of a command that is done, in the way it had allowed.
    fn use_key(&mut self, what: &str, done: Done) -> Result<(), Failure> {
        let Some(remote) = done.key else {
            say("missing key");
            return Ok(());
        };
        let length = done.length.clamp(1, 4096);
        let result = if done.is_write {
            self.link
                .read(length, remote.key, remote.address)
                .map(|_| ())
        } else {
            self.link
                .write(&vec![POISON; length], remote.key, remote.address)
        };
        say(format_args!(
            "{what} {} key={:08x}",
            outcome(&result),
            remote.key
        ));
        result
    }

    /// Uses the key of the last command that was answered, on this connection or before.
    pub(crate) fn probe(&mut self) -> Result<(), Failure> {
        let last = self.shared.lock().last;
        match last {
            Some(done) => self.use_key("probe", done),
            None => {
                say("probe missing");
                Ok(())
            }
        }
    }
}

fn with_sense(reply: &mut Reply, sense: &[u8]) {
    let mut data = (sense.len() as u16).to_be_bytes().to_vec();
    data.extend_from_slice(sense);
    reply.set_data(data);
}

/// What of the expected length was not there, or did not fit.
fn residual(reply: &mut Reply, expected: usize, actual: usize) {
    let (flag, count) = match actual.cmp(&expected) {
        std::cmp::Ordering::Less => (0x02, expected - actual),
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Greater => (0x04, actual - expected),
    };
    reply.bhs[1] |= flag;
    reply.set32(44, count as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals() {
        let table = [(512, 512, 0x80, 0), (512, 36, 0x82, 476), (4, 8, 0x84, 4)];
        for (expected, actual, flags, count) in table {
            let mut reply = Reply::new(opcode::SCSI_RESPONSE, 1);
            residual(&mut reply, expected, actual);
            assert_eq!((reply.bhs[1], reply.get32(44)), (flags, count));
        }
    }

    #[test]
    fn sense_has_its_length_before_it() {
        let mut reply = Reply::new(opcode::SCSI_RESPONSE, 1);
        with_sense(&mut reply, &sense(5, 0x20, 0));
        assert_eq!(reply.data[..4], [0, 18, 0x70, 0]);
        assert_eq!(reply.bhs[7], 20);
    }
}
