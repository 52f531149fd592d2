// SPDX-License-Identifier: GPL-2.0

//! Every order of events of a command, and any others, against a model.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::models::slot_state::{end, step, Event, Key, Model, FOREIGN, OWN};
use crate::slot_state::{Action, SlotState};

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
#[cfg_attr(miri, ignore = "takes Miri minutes; the corpus does the same")]
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
    #![proptest_config(cases(4096))]

    /// Honest or not, in order or not: as the model says, and never twice.
    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes; the corpus does the same")]
    fn any_events(negotiated in any::<bool>(), last in any::<u64>(), events in vec(any_event(), 0..24)) {
        // What the slot's last command has left says nothing about this one.
        let mut state = SlotState::new(negotiated).following(SlotState::from_raw(last));
        let mut model = Model::new(negotiated);
        for event in events {
            step(&mut state, &mut model, event);
        }
        end(&mut state, &mut model);
    }
}

#[test]
fn a_completion_too_many_leaves_the_memory_to_the_drain() {
    let claimed = SlotState::new(true);
    let mut state = claimed;
    assert!(state.posted(true, 1).is_ok());
    for _ in 0..2 {
        assert!(!state.is_finishing());
        state = SlotState::from_raw(state.to_raw().wrapping_sub(SlotState::ONE_SEND));
        assert!(state.is_of(claimed));
    }
    assert_eq!(state.on_response(Some(OWN), OWN), Ok(Action::Wait));
    assert_eq!(state.settle(), Action::Wait);
    assert_eq!(state.on_abort(), Action::Wait);
    assert_eq!(state.on_drained(), Action::Release);
}
