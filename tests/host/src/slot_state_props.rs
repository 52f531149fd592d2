// SPDX-License-Identifier: GPL-2.0

//! Every order of events of a command, and any others, against a model.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::response::Violation;
use crate::slot_state::{Action, SlotState};

const OWN: u32 = 0x0a00_0001;
const FOREIGN: u32 = 0x0a00_0002;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    None,
    Valid,
    Invalidating,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A chain: whether it makes the key valid, and how many guarded sends it has.
    Post(bool, u16),
    Response(Option<u32>),
    /// The subtraction; what follows it may come much later.
    SendDone,
    /// What follows: once for each [`Event::SendDone`] that asks for it, and more does no harm.
    Settle,
    Invalidated,
    Abort,
    Drained,
}

/// The rules in words of their own: what is in flight, and who has said what.
#[derive(Clone, Copy, Debug)]
struct Model {
    negotiated: bool,
    key: Key,
    sends: u32,
    posted: bool,
    response: bool,
    aborted: bool,
    drained: bool,
    releases: u32,
}

impl Model {
    fn new(negotiated: bool) -> Self {
        Self {
            negotiated,
            key: Key::None,
            sends: 0,
            posted: false,
            response: false,
            aborted: false,
            drained: false,
            releases: 0,
        }
    }

    fn memory_in_use(&self) -> bool {
        self.sends > 0 || matches!(self.key, Key::Valid | Key::Invalidating)
    }

    fn wanted(&self) -> bool {
        self.response || self.aborted
    }

    fn invalidate_or_answer(&mut self) -> Action {
        if self.wanted() && self.sends == 0 && self.key == Key::Valid {
            self.key = Key::Invalidating;
            return Action::LocalInvalidate;
        }
        if self.releases > 0 {
            Action::Nothing
        } else if self.memory_in_use() || !self.wanted() {
            Action::Wait
        } else {
            self.releases += 1;
            Action::Release
        }
    }

    /// `None` is the answer to a chain that may be posted.
    fn event(&mut self, event: Event) -> Result<Option<Action>, &'static str> {
        match event {
            Event::Post(key, sends) => {
                if self.wanted() || self.drained {
                    return Err("late");
                }
                self.posted = true;
                self.sends += u32::from(sends);
                if key {
                    self.key = Key::Valid;
                }
                return Ok(None);
            }
            Event::Response(invalidated) => {
                if self.response {
                    return Err("duplicate_response");
                }
                if !self.posted {
                    return Err("response_unsent");
                }
                match invalidated {
                    Some(_) if !self.negotiated => return Err("invalidation_not_negotiated"),
                    Some(_) if self.key == Key::None => return Err("invalidation_without_key"),
                    Some(key) if key != OWN => return Err("foreign_key"),
                    Some(_) if self.key == Key::Valid => self.key = Key::Dead,
                    _ => (),
                }
                self.response = true;
            }
            Event::SendDone => {
                self.sends -= 1;
                return Ok(Some(Action::Wait));
            }
            Event::Settle => (),
            Event::Invalidated if self.key == Key::Invalidating => self.key = Key::Dead,
            Event::Invalidated => (),
            Event::Abort => self.aborted = true,
            Event::Drained => {
                self.drained = true;
                self.sends = 0;
                if self.memory_in_use() {
                    self.key = Key::Dead;
                }
            }
        }
        Ok(Some(self.invalidate_or_answer()))
    }
}

fn report(state: &mut SlotState, event: Event) -> Result<Option<Action>, &'static str> {
    let name = |violation: Violation| violation.name();
    match event {
        Event::Post(key, sends) => state.posted(key, sends).map(|()| None).map_err(|_| "late"),
        Event::Response(key) => state.on_response(key, OWN).map(Some).map_err(name),
        Event::SendDone => {
            *state = SlotState::from_raw(state.to_raw().wrapping_sub(SlotState::ONE_SEND));
            Ok(Some(Action::Wait))
        }
        Event::Settle => Ok(Some(state.settle())),
        Event::Invalidated => Ok(Some(state.on_invalidated())),
        Event::Abort => Ok(Some(state.on_abort())),
        Event::Drained => Ok(Some(state.on_drained())),
    }
}

/// Reports the event to both, and compares all that can be seen. No more sends complete than were
/// posted, and none behind the drain.
fn step(state: &mut SlotState, model: &mut Model, event: Event) {
    if matches!(event, Event::SendDone) && model.sends == 0 {
        return;
    }
    let before = *state;
    let answer = report(state, event);
    assert_eq!(answer, model.event(event), "{event:?} in {model:?}");
    if answer.is_err() {
        assert_eq!(*state, before, "{event:?} changed a refused state");
    }
    assert_eq!(state.sends_in_flight(), model.sends);
    assert_eq!(state.is_released(), model.releases > 0);
    assert_eq!(
        state.key_is_live(),
        matches!(model.key, Key::Valid | Key::Invalidating)
    );
    assert!(!state.is_released() || !model.memory_in_use());
}

/// Walks through every order in which the pending events can happen, and returns how many there
/// are. What comes of an event, such as a LOCAL_INV to be completed, becomes pending in turn.
fn explore(state: SlotState, model: Model, pending: &[Event]) -> u64 {
    if pending.is_empty() {
        assert_eq!(model.releases, 1, "{model:?}");
        return 1;
    }
    let mut orders = 0;
    for (at, &event) in pending.iter().enumerate() {
        // A refused chain has no completions, so posting comes first.
        if matches!(event, Event::SendDone) && model.sends == 0 {
            if !model.drained && pending.iter().any(|e| matches!(e, Event::Post(..))) {
                continue;
            }
        }
        let (mut state, mut model) = (state, model);
        let inv_before = model.key == Key::Invalidating;
        let settles = matches!(event, Event::SendDone) && state.is_finishing();
        step(&mut state, &mut model, event);
        let mut rest = pending.to_vec();
        rest.swap_remove(at);
        if settles {
            rest.push(Event::Settle);
        }
        if model.key == Key::Invalidating && !inv_before {
            rest.push(Event::Invalidated);
        }
        orders += explore(state, model, &rest);
    }
    orders
}

#[test]
fn every_order_releases_once() {
    use Event::{Abort, Drained, Post, Response, SendDone};

    let mut orders = 0;
    for negotiated in [false, true] {
        let answers: &[Option<u32>] = if negotiated {
            &[None, Some(OWN)]
        } else {
            &[None]
        };
        for key in [false, true] {
            for &answer in answers {
                if answer.is_some() && !key {
                    continue;
                }
                for sends in 0..=2u16 {
                    let mut state = SlotState::new(negotiated);
                    let mut model = Model::new(negotiated);
                    step(&mut state, &mut model, Post(key, sends));

                    let mut events = vec![Response(answer)];
                    events.extend((0..sends).map(|_| SendDone));
                    orders += explore(state, model, &events);
                    // More unsolicited data, posted while the rest happens.
                    events.extend([Post(false, 1), SendDone]);
                    orders += explore(state, model, &events);
                    // Error handling, with the response and without.
                    events.push(Abort);
                    orders += explore(state, model, &events);
                    orders += explore(state, model, &events[1..]);
                    // And the connection fails as well.
                    events.push(Drained);
                    orders += explore(state, model, &events);
                    orders += explore(state, model, &events[1..]);
                }
            }
        }
    }
    assert!(orders > 10_000, "only {orders} orders");
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (any::<bool>(), 0u16..4).prop_map(|(key, sends)| Event::Post(key, sends)),
        1 => Just(Event::Response(None)),
        1 => Just(Event::Response(Some(OWN))),
        1 => Just(Event::Response(Some(FOREIGN))),
        3 => Just(Event::SendDone),
        1 => Just(Event::Settle),
        2 => Just(Event::Invalidated),
        1 => Just(Event::Abort),
        1 => Just(Event::Drained),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096, failure_persistence: None, ..Default::default()
    })]

    /// Honest or not, in order or not: as the model says, and never twice.
    #[test]
    fn any_events(negotiated in any::<bool>(), events in vec(any_event(), 0..24)) {
        let mut state = SlotState::new(negotiated);
        let mut model = Model::new(negotiated);
        for event in events {
            step(&mut state, &mut model, event);
        }
        prop_assert!(model.releases <= 1);
        // The end that always comes.
        step(&mut state, &mut model, Event::Drained);
        step(&mut state, &mut model, Event::Abort);
        prop_assert_eq!(model.releases, 1);
    }
}

#[test]
fn a_completion_too_many_leaves_the_memory_to_the_drain() {
    let mut state = SlotState::new(true);
    assert!(state.posted(true, 1).is_ok());
    for _ in 0..2 {
        assert!(!state.is_finishing());
        state = SlotState::from_raw(state.to_raw().wrapping_sub(SlotState::ONE_SEND));
    }
    assert_eq!(state.on_response(Some(OWN), OWN), Ok(Action::Wait));
    assert_eq!(state.settle(), Action::Wait);
    assert_eq!(state.on_abort(), Action::Wait);
    assert_eq!(state.on_drained(), Action::Release);
}

#[test]
fn messages_name_the_values() {
    let table = [
        (
            Violation::UnknownCommand,
            "unknown_command",
            "response to a command that is not outstanding",
        ),
        (
            Violation::InvalidationNotNegotiated { key: 0x1201 },
            "invalidation_not_negotiated",
            "remote invalidation of key 0x00001201, none was negotiated",
        ),
        (
            Violation::ForeignKey {
                key: 0x1201,
                own: 0x1200,
            },
            "foreign_key",
            "remote invalidation of key 0x00001201, the command's is 0x00001200",
        ),
    ];
    for (violation, name, text) in table {
        assert_eq!(violation.name(), name);
        assert_eq!(violation.to_string(), text);
    }
}
