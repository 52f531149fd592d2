// SPDX-License-Identifier: GPL-2.0

//! One connection: login, the PDUs without a SCSI command, and how a reply is spoilt.

use crate::{
    command::{Again, Held},
    control::{say, Done, Order, Shared},
    login,
    patience::slow,
    pdu::{opcode, Remote, Reply, Request, RESERVED_TAG, TOO_MANY_IMMEDIATE},
    random,
    rules::{Action, Key, Point, Tag, Unsolicited, When},
    verbs::{Failure, Link, REFUSED},
};
use std::{
    collections::VecDeque,
    sync::{mpsc::Receiver, Arc},
    thread::sleep,
    time::Duration,
};

/// How often orders are looked for.
const TICK: Duration = Duration::from_millis(20);
/// How many commands the initiator may have sent.
const WINDOW: i32 = 64;
/// Answered commands that are remembered.
const REMEMBERED: usize = 64;
/// Text in one login response.
const PART: usize = 8192;

/// A connection that has been accepted.
pub struct Session {
    pub(crate) link: Link,
    pub(crate) shared: Arc<Shared>,
    /// Which key a good response invalidates: what the connection was accepted with.
    invalidate: Key,
    orders: Receiver<Order>,
    stat_sn: u32,
    exp_cmd_sn: u32,
    window: i32,
    frozen: Option<u32>,
    started: bool,
    full_feature: bool,
    /// Of an answer in parts: bytes to come.
    long: usize,
    pub(crate) held: Vec<Held>,
    pub(crate) again: Option<Again>,
    pub(crate) done: VecDeque<Done>,
}

/// How an operation on the initiator's memory ended, in a word.
pub fn outcome<T>(result: &Result<T, Failure>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(Failure::Status(REFUSED)) => "refused".to_owned(),
        Err(Failure::Status(code)) => format!("status-{code}"),
        Err(Failure::Gone) => "gone".to_owned(),
    }
}

impl Session {
    pub fn new(link: Link, shared: Arc<Shared>, invalidate: Key, orders: Receiver<Order>) -> Self {
        Self {
            link,
            shared,
            invalidate,
            orders,
            stat_sn: 0,
            exp_cmd_sn: 0,
            window: WINDOW,
            frozen: None,
            started: false,
            full_feature: false,
            long: 0,
            held: Vec::new(),
            again: None,
            done: VecDeque::new(),
        }
    }

    /// Serves until the connection ends.
    pub fn run(mut self) {
        let end = loop {
            if let Err(failure) = self.turn() {
                break failure;
            }
        };
        let number = self.link.number();
        self.shared.remove(number);
        let status = match end {
            Failure::Gone => "gone".to_owned(),
            failure => outcome::<()>(&Err(failure)),
        };
        say(format_args!("down {number:x} {status}"));
    }

    fn turn(&mut self) -> Result<(), Failure> {
        while let Ok(order) = self.orders.try_recv() {
            self.follow(order)?;
        }
        let Some(message) = self.link.receive(TICK)? else {
            return Ok(());
        };
        match Request::parse(&message) {
            Ok(request) => self.serve(&request),
            Err(why) => {
                say(format_args!("initiator: {why}"));
                Err(Failure::Gone)
            }
        }
    }

    fn follow(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Probe => self.probe(),
            Order::Release => self.release(),
            Order::Nop => {
                let reply = Reply::new(opcode::NOP_IN, RESERVED_TAG);
                self.unsolicited(reply)
            }
        }
    }

    fn serve(&mut self, request: &Request) -> Result<(), Failure> {
        let point = match request.opcode() {
            opcode::LOGIN => Point::Login,
            opcode::TEXT => Point::Text,
            opcode::LOGOUT => Point::Logout,
            opcode::NOP_OUT => Point::Nop,
            opcode::TASK_MANAGEMENT => Point::TaskManagement,
            opcode::SCSI_COMMAND => crate::command::point(request),
            other => {
                say(format_args!("initiator: opcode {other:#x}"));
                return Ok(());
            }
        };
        if !self.started {
            self.started = true;
            self.stat_sn = request.exp_stat_sn();
            self.exp_cmd_sn = request.cmd_sn();
        } else if !request.is_immediate() {
            self.exp_cmd_sn = request.cmd_sn().wrapping_add(1);
        }
        let actions = self.shared.at(point);
        if actions.contains(&Action::Hangup(When::Before)) {
            return Err(Failure::Gone);
        }
        match point {
            Point::Login => self.login(request, &actions)?,
            Point::Text => self.text(request, &actions)?,
            Point::Logout => {
                let reply = Reply::new(opcode::LOGOUT_RESPONSE, request.itt());
                self.respond(reply, &actions, None)?;
                self.link.flush()?;
            }
            Point::Nop if request.itt() == RESERVED_TAG => {}
            Point::Nop => {
                let mut reply = Reply::new(opcode::NOP_IN, request.itt());
                reply.set32(20, RESERVED_TAG);
                reply.set_data(request.data.clone());
                if actions.contains(&Action::Rejected) {
                    reply = Reply::new(opcode::REJECT, RESERVED_TAG);
                    reply.bhs[2] = TOO_MANY_IMMEDIATE;
                    reply.set_data(request.bhs.to_vec());
                }
                self.respond(reply, &actions, None)?;
            }
            Point::TaskManagement => {
                let reply = Reply::new(opcode::TASK_MANAGEMENT_RESPONSE, request.itt());
                self.respond(reply, &actions, None)?;
                for action in &actions {
                    if let Action::LateAnswer(pause) = action {
                        self.link.flush()?;
                        sleep(slow(Duration::from_millis(*pause)));
                        self.release()?;
                    }
                }
                self.held.retain(|held| held.done.itt != request.word20());
            }
            _ => self.command(request, &actions)?,
        }
        let last = point == Point::Login && self.full_feature;
        if actions.contains(&Action::Hangup(When::After))
            || last && actions.contains(&Action::Hangup(When::Last))
        {
            self.link.flush()?;
            return Err(Failure::Gone);
        }
        Ok(())
    }

    fn login(&mut self, request: &Request, actions: &[Action]) -> Result<(), Failure> {
        let (flags, stage) = (request.flags(), request.flags() & 0x0c);
        let mut reply = Reply::new(opcode::LOGIN_RESPONSE, request.itt());
        // ISID and TSIH.
        reply.bhs[8..16].copy_from_slice(&request.bhs[8..16]);
        reply.bhs[1] = stage;
        let mut answers = Vec::new();
        for action in actions {
            if let Action::Long(bytes) = action {
                self.long = *bytes;
            }
        }
        if actions.contains(&Action::Endless) {
            // Not yet, not yet.
        } else if self.long > 0 {
            let part = self.long.min(PART);
            self.long -= part;
            reply.bhs[1] |= 0x40;
            reply.set_data(vec![b'x'; part]);
            return self.respond(reply, actions, None);
        } else {
            answers = login::answer(&login::pairs(&request.data), stage == 0);
            if flags & 0x80 != 0 {
                reply.bhs[1] = flags & 0x8f;
            }
            if reply.bhs[1] & 0x83 == 0x83 {
                reply.bhs[15] |= 1;
                self.full_feature = true;
            }
        }
        for action in actions {
            match action {
                Action::Text(pair) => login::replace(&mut answers, pair),
                Action::Status(status) => reply.bhs[36..38].copy_from_slice(&status.to_be_bytes()),
                _ => {}
            }
        }
        reply.set_data(login::text(&answers));
        self.respond(reply, actions, None)?;
        if self.full_feature {
            say("login");
        }
        Ok(())
    }

    fn text(&mut self, request: &Request, actions: &[Action]) -> Result<(), Failure> {
        let mut reply = Reply::new(opcode::TEXT_RESPONSE, request.itt());
        reply.set32(20, RESERVED_TAG);
        for action in actions {
            if let Action::Long(bytes) = action {
                self.long = *bytes;
            }
        }
        if self.long > 0 {
            let part = self.long.min(PART);
            self.long -= part;
            reply.bhs[1] = 0x40;
            reply.set32(20, 1);
            reply.set_data(vec![b'x'; part]);
        } else {
            let asked = login::pairs(&request.data);
            if asked.iter().any(|(key, _)| key == "SendTargets") {
                reply.set_data(login::targets(&self.shared.portal));
            }
        }
        self.respond(reply, actions, None)
    }

    /// Sends a PDU that answers nothing.
    fn unsolicited(&mut self, mut reply: Reply) -> Result<(), Failure> {
        let max = self.max_cmd_sn();
        reply.set_numbers(self.stat_sn, self.exp_cmd_sn, max);
        self.link.send(&reply.bytes(), None)
    }

    fn max_cmd_sn(&self) -> u32 {
        self.frozen.unwrap_or_else(|| {
            self.exp_cmd_sn
                .wrapping_add_signed(self.window)
                .wrapping_sub(1)
        })
    }

    fn flood(&mut self, what: Unsolicited, code: u8, count: u32) -> Result<(), Failure> {
        for turn in 0..count {
            let mut reply = match what {
                Unsolicited::Nop | Unsolicited::Ping => {
                    let mut reply = Reply::new(opcode::NOP_IN, RESERVED_TAG);
                    let ping = what == Unsolicited::Ping;
                    reply.set32(20, if ping { turn + 1 } else { RESERVED_TAG });
                    reply
                }
                Unsolicited::Async => {
                    let mut reply = Reply::new(opcode::ASYNC_MESSAGE, RESERVED_TAG);
                    reply.bhs[36] = code;
                    reply
                }
                Unsolicited::Reject => {
                    let mut reply = Reply::new(opcode::REJECT, RESERVED_TAG);
                    reply.bhs[2] = code;
                    // The header that is refused: a NOP-Out that nobody has sent.
                    let mut header = vec![0; 48];
                    header[0] = 0x40;
                    header[16..20].copy_from_slice(&turn.to_be_bytes());
                    reply.set_data(header);
                    reply
                }
            };
            reply.set32(40, 0);
            self.unsolicited(reply)?;
            if what != Unsolicited::Nop && what != Unsolicited::Ping {
                self.stat_sn = self.stat_sn.wrapping_add(1);
            }
        }
        self.link.flush()?;
        say(format_args!("flooded {count}"));
        Ok(())
    }

    fn other_itt(&self, tag: Tag, own: u32) -> Option<u32> {
        // libiscsi numbers its tasks in the bytes' own order.
        let native = own.swap_bytes();
        Some(match tag {
            Tag::Reserved => RESERVED_TAG,
            Tag::Random => native.wrapping_mul(0x9e37_79b9) | 1,
            Tag::Freed => return self.done.iter().rev().map(|d| d.itt).find(|i| *i != own),
            Tag::Other => return self.held.last().map(|held| held.done.itt),
            Tag::Unused => ((native & !0x1fff) | 100).swap_bytes(),
            Tag::Beyond => (native | 0x1fff).swap_bytes(),
            Tag::Age => (native ^ (1 << 28)).swap_bytes(),
        })
    }

    fn other_key(&self, key: Key, own: Option<Remote>) -> Option<u32> {
        let differs = |r: &Remote| Some(r.key) != own.map(|o| o.key);
        match key {
            Key::None => None,
            Key::Own => own.map(|remote| remote.key),
            Key::Random => Some(0x5bad_c0de),
            Key::Other => self.held.last().and_then(|h| h.done.key).map(|r| r.key),
            Key::Stale => {
                let mut keys = self.done.iter().rev().filter_map(|d| d.key);
                keys.find(differs).map(|r| r.key)
            }
        }
    }

    /// Remembers a command that has been answered.
    pub(crate) fn remember(&mut self, done: Done) {
        self.done.push_back(done);
        if self.done.len() > REMEMBERED {
            self.done.pop_front();
        }
        if done.is_io && done.key.is_some() {
            self.shared.lock().last = Some(done);
        }
    }

    /// Sends an answer, spoilt as told.
    pub(crate) fn respond(
        &mut self,
        mut reply: Reply,
        actions: &[Action],
        own: Option<Remote>,
    ) -> Result<(), Failure> {
        let mut key = self.invalidate;
        for action in actions {
            match action {
                Action::Flood(what, code, count) => self.flood(*what, *code, *count)?,
                Action::Random(seed, count) => return self.random(*seed, *count, &reply, own),
                Action::StatSn(by) => self.stat_sn = self.stat_sn.wrapping_add_signed(*by),
                Action::Freeze => self.frozen = Some(self.max_cmd_sn()),
                Action::Window(size) => (self.window, self.frozen) = (*size, None),
                Action::Invalidate(other) => key = *other,
                _ => {}
            }
        }
        let max = self.max_cmd_sn();
        reply.set_numbers(self.stat_sn, self.exp_cmd_sn, max);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        for action in actions {
            match action {
                Action::Ignore => return Ok(()),
                Action::ExpCmdSn(by) => reply.set32(28, reply.get32(28).wrapping_add_signed(*by)),
                Action::Length(length) => reply.length = Some(*length),
                Action::Data(data) => reply.set_data(data.clone()),
                Action::SegmentLength(length) => reply.set_segment_length(*length),
                Action::Iser(at, bytes) => overwrite(&mut reply.iser, *at, bytes),
                Action::Bhs(at, bytes) => overwrite(&mut reply.bhs, *at, bytes),
                Action::Itt(tag) => match self.other_itt(*tag, reply.get32(16)) {
                    Some(itt) => reply.set32(16, itt),
                    None => say("missing task"),
                },
                _ => {}
            }
        }
        let invalidate = self.other_key(key, own);
        if invalidate.is_none() && !matches!(key, Key::None | Key::Own) {
            say("missing key");
        }
        let bytes = reply.bytes();
        self.link.send(&bytes, invalidate)?;
        if actions.contains(&Action::Twice) {
            self.link.send(&bytes, None)?;
        }
        Ok(())
    }

    /// Sends PDUs made by chance in the place of an answer; ends the connection if it lasts.
    fn random(
        &mut self,
        seed: u64,
        count: u32,
        reply: &Reply,
        own: Option<Remote>,
    ) -> Result<(), Failure> {
        let before = self.link.delivered;
        // Each burst is another, whatever came of the one before, and the same again with the
        // same seed.
        let burst = {
            let mut state = self.shared.lock();
            state.bursts += 1;
            state.bursts
        };
        let mut chance = random::Chance::new(seed, burst);
        let context = random::Context {
            itts: vec![
                reply.get32(16),
                self.other_itt(Tag::Freed, reply.get32(16)).unwrap_or(0),
                RESERVED_TAG,
            ],
            key: own.map(|remote| remote.key),
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.exp_cmd_sn,
            max_cmd_sn: self.max_cmd_sn(),
        };
        let result = (0..count).try_for_each(|_| {
            let (bytes, invalidate) = chance.message(&context);
            self.link.send(&bytes, invalidate)
        });
        let result = result.and_then(|()| self.link.flush());
        let sent = self.link.delivered - before;
        self.shared.lock().random += sent;
        say(format_args!(
            "random burst={burst} sent={sent} {}",
            outcome(&result)
        ));
        // What the initiator now thinks of the numbers nobody knows: begin anew.
        Err(Failure::Gone)
    }
}

fn overwrite(header: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in header.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
