// SPDX-License-Identifier: GPL-2.0

//! What all connections share, and what the test says to them.
//!
//! The test writes a line, and gets one that begins with `ok` or `error`. Everything else
//! that is printed tells what has happened, a line each.

use crate::{
    cm::Hangup,
    disk::Disk,
    pdu::Remote,
    rules::{Action, Key, Point, Rules},
};
use std::{
    collections::HashMap,
    fmt::Display,
    io::Write,
    sync::{
        mpsc::{channel, Receiver, Sender},
        Mutex, MutexGuard, PoisonError,
    },
};

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Use the key of the last command that is done.
    Probe,
    /// Answer what is held.
    Release,
    /// Send NOP-In.
    Nop,
}

/// A command that has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub itt: u32,
    pub key: Option<Remote>,
    pub is_write: bool,
    /// A READ or WRITE, which only the test sends; the kernel asks other things at any time.
    pub is_io: bool,
    pub length: usize,
}

/// State of the whole target.
pub struct State {
    pub rules: Rules,
    pub disk: Disk,
    /// Which key a good response invalidates, on the next connection.
    invalidate: Key,
    /// Private data that go with accepting it.
    private: Vec<u8>,
    /// The last READ or WRITE with a key that was answered, on whichever connection.
    pub last: Option<Done>,
    /// PDUs made by chance that the peer's device has acknowledged.
    pub random: u64,
    /// Bursts of them, also those of which nothing arrived.
    pub bursts: u64,
    links: HashMap<usize, (Hangup, Sender<Order>)>,
    newest: usize,
}

/// The state, and who may use it.
pub struct Shared {
    state: Mutex<State>,
    pub portal: String,
}

/// Prints a line.
pub fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // If nobody reads any more there is nobody to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl State {
    /// What a new connection keeps to: what a good response invalidates, and the private data that
    /// say so.
    pub fn mode(&self) -> (Key, Vec<u8>) {
        (self.invalidate, self.private.clone())
    }
}

impl Shared {
    pub fn new(portal: String) -> Self {
        Self {
            state: Mutex::new(State {
                rules: Rules::default(),
                disk: Disk::default(),
                invalidate: Key::Own,
                private: vec![0x80, 0, 0, 0],
                last: None,
                random: 0,
                bursts: 0,
                links: HashMap::new(),
                newest: 0,
            }),
            portal,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do at a point.
    pub fn at(&self, point: Point) -> Vec<Action> {
        let actions = self.lock().rules.at(point);
        if !actions.is_empty() {
            say(format_args!("fired {}", crate::rules::name(point)));
        }
        actions
    }

    /// A connection is there; returns what it is told.
    pub fn add(&self, number: usize, hangup: Hangup) -> Receiver<Order> {
        let (sender, receiver) = channel();
        let mut state = self.lock();
        state.links.insert(number, (hangup, sender));
        state.newest = number;
        receiver
    }

    /// The peer has ended a connection: flushes its queue pair, by which its thread learns of it.
    ///
    /// A thread that has learnt already removes the connection first, and then destroys the queue pair.
    pub fn gone(&self, number: usize) {
        if let Some((hangup, _)) = self.lock().links.get(&number) {
            hangup.now();
        }
    }

    /// A connection is over.
    pub fn remove(&self, number: usize) {
        self.lock().links.remove(&number);
    }

    fn tell(&self, order: Order) -> Result<String, String> {
        let state = self.lock();
        let (_, sender) = state
            .links
            .get(&state.newest)
            .ok_or("there is no connection")?;
        sender
            .send(order)
            .map(|()| String::new())
            .map_err(|_| "the connection is over".to_owned())
    }

    fn order(&self, line: &str) -> Result<String, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "rules" => {
                let rules = Rules::parse(rest)?;
                self.lock().rules = rules;
                Ok(String::new())
            }
            // How a good target behaves: `mode own|none HEX`.
            "mode" => {
                let text = match rest.split_once(' ') {
                    Some((key, private)) => format!("connect inv={key} private={private}"),
                    None => format!("connect inv={rest}"),
                };
                let mut state = self.lock();
                for action in Rules::parse(&text)?.at(Point::Connect) {
                    match action {
                        Action::Invalidate(key) => state.invalidate = key,
                        Action::Private(data) => state.private = data,
                        _ => return Err(format!("{line}: no such mode")),
                    }
                }
                Ok(String::new())
            }
            "probe" => self.tell(Order::Probe),
            "release" => self.tell(Order::Release),
            "nop" => self.tell(Order::Nop),
            "hangup" => {
                for (hangup, _) in self.lock().links.values() {
                    hangup.now();
                }
                Ok(String::new())
            }
            "count" => {
                let state = self.lock();
                Ok(format!(
                    "links={} random={} bursts={}",
                    state.links.len(),
                    state.random,
                    state.bursts
                ))
            }
            _ => Err(format!("{word}: no such order")),
        }
    }

    /// Follows what is read from standard input until it ends.
    pub fn obey(&self) {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match self.order(line.trim()) {
                Ok(text) => say(format_args!("ok {text}")),
                Err(text) => say(format_args!("error {text}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let shared = Shared::new("portal".into());
        assert!(shared.order("rules read len=1").is_ok());
        assert_eq!(shared.at(Point::Read), [Action::Length(1)]);
        assert!(shared.order("rules read what").is_err());
        assert!(shared.order("mode none 4:c0").is_ok());
        assert_eq!(shared.lock().mode(), (Key::None, vec![0xc0; 4]));
        assert!(shared.order("mode blue").is_err());
        assert!(shared.order("probe").is_err());
        assert_eq!(shared.order("count").unwrap(), "links=0 random=0 bursts=0");
    }
}
