// SPDX-License-Identifier: GPL-2.0

//! A command, in words of its own: what is in flight, and who has said what.

use crate::response::Violation;
use crate::slot_state::{Action, SlotState};

/// The key of the command.
pub(crate) const OWN: u32 = 0x0a00_0001;
/// Another one's.
pub(crate) const FOREIGN: u32 = 0x0a00_0002;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    None,
    Valid,
    Invalidating,
    Dead,
}

/// What can happen to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
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
pub(crate) struct Model {
    negotiated: bool,
    pub(crate) key: Key,
    pub(crate) sends: u64,
    posted: bool,
    response: bool,
    aborted: bool,
    pub(crate) drained: bool,
    pub(crate) releases: u32,
}

impl Model {
    pub(crate) fn new(negotiated: bool) -> Self {
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
                self.sends += u64::from(sends);
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
                if self.releases > 0 {
                    return Err("unknown_command");
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
pub(crate) fn step(state: &mut SlotState, model: &mut Model, event: Event) {
    if matches!(event, Event::SendDone) && model.sends == 0 {
        return;
    }
    let before = *state;
    let answer = report(state, event);
    assert_eq!(answer, model.event(event), "{event:?} in {model:?}");
    if answer.is_err() {
        assert_eq!(*state, before, "{event:?} changed a refused state");
    }
    let key_is_live = matches!(model.key, Key::Valid | Key::Invalidating);
    let released = state.clone().settle() == Action::Nothing;
    assert!(state.is_of(before), "{event:?} is of another command");
    let without_sends = SlotState::from_raw(state.to_raw() % SlotState::ONE_SEND);
    assert_eq!(state.to_raw() / SlotState::ONE_SEND, model.sends);
    assert_eq!(released, model.releases > 0);
    // What is released waits to be vacated, and nobody does so here.
    // Who wants a command to finish may be about to settle it.
    assert_eq!(!without_sends.is_free(), key_is_live || model.wanted());
    assert!(!released || model.wanted());
    assert!(!released || !model.memory_in_use());
    #[cfg(test)]
    assert_eq!(state.key_is_live(), key_is_live);
}

/// The end that always comes: by then the memory was given back, once.
pub(crate) fn end(state: &mut SlotState, model: &mut Model) {
    assert!(model.releases <= 1);
    step(state, model, Event::Drained);
    step(state, model, Event::Abort);
    assert_eq!(model.releases, 1);
}
