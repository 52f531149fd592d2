// SPDX-License-Identifier: GPL-2.0

//! When the memory of a command may be given back.
//!
//! A command owns user memory in two ways: the target may reach it through the command's remote
//! key, and the device may read it as the payload of a send. It is finished only when it has been
//! answered (or is being aborted), every such *guarded* send has completed, and the key is dead:
//! by the target's Send with Invalidate, or by a LOCAL_INV of ours that has completed (RFC 7145,
//! sections 7.3.2 and 8.3.2). These things happen in any order, on any processor.

use crate::response::Violation;

/// What whoever reports an event has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Action {
    /// Post a LOCAL_INV for the command's key; [`SlotState::on_invalidated`] reports its
    /// completion. If it cannot be posted, the connection must fail and drain.
    LocalInvalidate,
    /// The memory may be given back, now. This is said exactly once.
    Release,
    /// The memory is still in use; a later event will say [`Action::Release`].
    Wait,
    /// [`Action::Release`] has been said before; nothing is left to do or to wait for.
    Nothing,
}

/// Nothing may be posted for this command any more: it has been answered, is being aborted, or its
/// queue pair was drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

/// The state of one command between its first work request and the return of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct SlotState(u64);

/// The target may use the key.
const KEY_VALID: u64 = 1 << 0;
/// Our LOCAL_INV is under way.
const KEY_INVALIDATING: u64 = 1 << 1;
/// The target cannot use the key any more.
const KEY_DEAD: u64 = 1 << 2;
/// Something was posted.
const POSTED: u64 = 1 << 3;
/// The response has arrived.
const RESPONSE: u64 = 1 << 4;
/// Error handling asks for the memory.
const ABORTED: u64 = 1 << 5;
/// The queue pair was drained.
const DRAINED: u64 = 1 << 6;
/// [`Action::Release`] was said.
const RELEASED: u64 = 1 << 7;
/// The connection negotiated remote invalidation.
const REMOTE_INVALIDATION: u64 = 1 << 8;
/// What the command owned has been taken out: the slot can be used again.
const VACANT: u64 = 1 << 9;
/// Which of the slot's commands it is. No event changes it, so that what was concluded from one
/// command's state cannot be written into the same state of the next.
const SEQUENCE: u64 = 0xffff_ffff << 16;
const ONE_COMMAND: u64 = 1 << 16;
/// Guarded completions still to come. At the top: one too many, an error of ours, borrows from
/// nothing, and where no other is counted leaves the memory to the drain.
const SENDS: u64 = 0xffff << 48;

const KEY_LIVE: u64 = KEY_VALID | KEY_INVALIDATING;
const KEY_ANY: u64 = KEY_LIVE | KEY_DEAD;
/// Somebody wants the command to finish.
const FINISHING: u64 = RESPONSE | ABORTED;

impl SlotState {
    /// A command of which nothing was posted yet.
    #[inline]
    pub(crate) const fn new(remote_invalidation: bool) -> Self {
        Self(if remote_invalidation {
            REMOTE_INVALIDATION
        } else {
            0
        })
    }

    /// The same as the beginning of the command that follows the one of state `last` in a slot.
    #[inline]
    pub(crate) const fn following(self, last: Self) -> Self {
        Self(self.0 & !SEQUENCE | last.0.wrapping_add(ONE_COMMAND) & SEQUENCE)
    }

    /// Whether these are states of one command of a slot.
    #[inline]
    pub(crate) const fn is_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & SEQUENCE == 0
    }

    /// Reports that a chain of work requests is about to be posted.
    ///
    /// This comes *before* posting, because completions and even the response may be handled
    /// before the call that posts returns. A response may be forged before the command was sent: the
    /// LOCAL_INV that answers it must not overtake the registration in the chain. So posting may
    /// count as one more send, which has completed when the call has returned.
    ///
    /// `key_valid` says that the chain makes the command's key valid; `guarded_sends` is the number
    /// of completions of sends that will be reported, posting included.
    #[inline]
    pub(crate) fn posted(&mut self, key_valid: bool, guarded_sends: u16) -> Result<(), Late> {
        let sends = u64::from(guarded_sends).wrapping_mul(Self::ONE_SEND);
        // Nearly always the first chain.
        let first = self.0 & !(SEQUENCE | REMOTE_INVALIDATION) == 0;
        if !first
            && (self.0 & (FINISHING | DRAINED | RELEASED) != 0
                || self.0.checked_add(sends).is_none())
        {
            return Err(Late);
        }
        let flags = if key_valid {
            POSTED | KEY_VALID
        } else {
            POSTED
        };
        self.0 = self.0.wrapping_add(sends) | flags;
        Ok(())
    }

    /// Reports the response.
    ///
    /// `remote_invalidated` is the key that it invalidated, `rkey` the command's own. After a
    /// violation the state is unchanged.
    #[inline]
    pub(crate) fn on_response(
        &mut self,
        remote_invalidated: Option<u32>,
        rkey: u32,
    ) -> Result<Action, Violation> {
        if self.0 & (POSTED | RESPONSE | RELEASED) != POSTED {
            return Err(if self.0 & RESPONSE != 0 {
                Violation::DuplicateResponse
            } else if self.0 & POSTED == 0 {
                Violation::ResponseUnsent
            } else {
                // It was given up: its task may be another command's by now.
                Violation::UnknownCommand
            });
        }
        if let Some(key) = remote_invalidated {
            const EXPECTED: u64 = REMOTE_INVALIDATION | KEY_VALID;
            if key == rkey && self.0 & EXPECTED == EXPECTED {
                self.0 ^= KEY_VALID | KEY_DEAD;
            } else {
                self.check_invalidation(key, rkey)?;
            }
        }
        self.0 |= RESPONSE;
        Ok(self.settle())
    }

    /// Says what is wrong with the invalidation of a key that is not valid, or not ours.
    #[cold]
    fn check_invalidation(self, key: u32, own: u32) -> Result<(), Violation> {
        if self.0 & REMOTE_INVALIDATION == 0 {
            return Err(Violation::InvalidationNotNegotiated { key });
        }
        if self.0 & KEY_ANY == 0 {
            return Err(Violation::InvalidationWithoutKey { key });
        }
        if key != own {
            return Err(Violation::ForeignKey { key, own });
        }
        // A LOCAL_INV of an abort has crossed it; its completion still counts.
        Ok(())
    }

    /// What to subtract from the raw state when a guarded send has completed, successful or
    /// flushed. [`SlotState::settle`] has to follow if [`SlotState::is_finishing`] says so of what
    /// it was subtracted from.
    pub(crate) const ONE_SEND: u64 = 1 << 48;

    /// Whether somebody wants the command to finish.
    #[inline]
    pub(crate) const fn is_finishing(self) -> bool {
        self.0 & FINISHING != 0
    }

    /// Whether a response was accepted.
    #[inline]
    pub(crate) const fn is_answered(self) -> bool {
        self.0 & RESPONSE != 0
    }

    /// Whether guarded sends are not known to have completed.
    #[inline]
    pub(crate) const fn is_sending(self) -> bool {
        self.0 & SENDS != 0
    }

    /// Reports the successful completion of the LOCAL_INV. One that failed or was flushed leaves the
    /// key to [`SlotState::on_drained`].
    #[inline]
    pub(crate) fn on_invalidated(&mut self) -> Action {
        if self.0 & KEY_INVALIDATING != 0 {
            self.0 ^= KEY_INVALIDATING | KEY_DEAD;
        }
        self.settle()
    }

    /// Reports that error handling wants the memory back without a response.
    ///
    /// The response may still come until the memory is released.
    #[inline]
    pub(crate) fn on_abort(&mut self) -> Action {
        self.0 |= ABORTED;
        self.settle()
    }

    /// Reports that the queue pair was drained and cannot be reached any more: no work request
    /// is in flight and no key can be used (RFC 7145, section 5.2.3.2).
    ///
    /// For a command that nobody waits for, the answer is [`Action::Wait`]: the release is left to
    /// [`SlotState::on_abort`].
    #[inline]
    pub(crate) fn on_drained(&mut self) -> Action {
        if self.0 & KEY_LIVE != 0 {
            self.0 |= KEY_DEAD;
        }
        self.0 &= !(KEY_LIVE | SENDS);
        self.0 |= DRAINED;
        self.settle()
    }

    /// Whether the command is over, and what it owned has been taken out.
    #[inline]
    pub(crate) const fn is_vacant(self) -> bool {
        self.0 & VACANT != 0
    }

    /// Whether a new command may begin: nothing of this one is in flight, and nobody is about to
    /// settle it or to take out what it owned. A command that waits for a response only is given up.
    #[inline]
    pub(crate) const fn is_free(self) -> bool {
        if self.0 & RELEASED != 0 {
            self.0 & VACANT != 0
        } else {
            self.0 & (KEY_LIVE | SENDS | FINISHING) == 0
        }
    }

    /// Reports that what the command owned has been taken out, after [`Action::Release`].
    #[inline]
    pub(crate) fn vacate(&mut self) {
        self.0 |= VACANT;
    }

    /// The state as a number without structure, to be kept in an atomic variable.
    #[inline]
    pub(crate) const fn to_raw(self) -> u64 {
        self.0
    }

    /// The state that [`SlotState::to_raw`] was called on.
    #[inline]
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Goes on when somebody wants the command to finish. Doing so once too often is harmless.
    ///
    /// A send may name the memory by the region's key, so the key is not invalidated while one
    /// could still be repeated.
    #[inline]
    pub(crate) fn settle(&mut self) -> Action {
        if self.0 & FINISHING != 0 && self.0 & (RELEASED | KEY_LIVE | SENDS) == 0 {
            self.0 |= RELEASED;
            return Action::Release;
        }
        self.settle_later()
    }

    fn settle_later(&mut self) -> Action {
        if self.0 & RELEASED != 0 {
            return Action::Nothing;
        }
        if self.0 & FINISHING == 0 || self.0 & SENDS != 0 || self.0 & KEY_INVALIDATING != 0 {
            return Action::Wait;
        }
        self.0 ^= KEY_VALID | KEY_INVALIDATING;
        Action::LocalInvalidate
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_slot_state))]
mod tests {
    use super::*;

    const OWN: u32 = 0x1200;
    const OTHER: u32 = 0x1201;

    impl SlotState {
        /// Whether [`Action::Release`] was said.
        pub(crate) const fn is_released(self) -> bool {
            self.0 & RELEASED != 0
        }

        /// Whether the target may still be able to use the command's key.
        pub(crate) const fn key_is_live(self) -> bool {
            self.0 & KEY_LIVE != 0
        }

        /// Guarded completions still to come.
        pub(crate) const fn sends_in_flight(self) -> u64 {
            (self.0 & SENDS) / Self::ONE_SEND
        }

        /// A guarded send has completed.
        pub(crate) fn on_send_done(&mut self) -> Action {
            let settles = self.is_finishing();
            self.0 = self.0.wrapping_sub(Self::ONE_SEND);
            if settles {
                self.settle()
            } else {
                Action::Wait
            }
        }
    }

    /// Events in their order, each with its answer.
    type Script = &'static [(Event, Action)];

    #[derive(Clone, Copy)]
    enum Event {
        Response(Option<u32>),
        SendDone,
        Invalidated,
        Abort,
        Drained,
    }

    fn report(state: &mut SlotState, event: Event) -> Result<Action, Violation> {
        match event {
            Event::Response(key) => state.on_response(key, OWN),
            Event::SendDone => Ok(state.on_send_done()),
            Event::Invalidated => Ok(state.on_invalidated()),
            Event::Abort => Ok(state.on_abort()),
            Event::Drained => Ok(state.on_drained()),
        }
    }

    #[test]
    fn orders_of_events() {
        use Action::{LocalInvalidate, Nothing, Release, Wait};
        use Event::{Abort, Drained, Invalidated, Response, SendDone};

        // Whether there is a key, how many guarded sends, and what the events answer.
        let table: [(bool, u16, Script); 11] = [
            // No data; a late abort finds nothing to do.
            (false, 0, &[(Response(None), Release), (Abort, Nothing)]),
            // The target invalidates, or we do.
            (true, 0, &[(Response(Some(OWN)), Release)]),
            (
                true,
                0,
                &[(Response(None), LocalInvalidate), (Invalidated, Release)],
            ),
            // Immediate data: the send may complete before the response or behind it.
            (true, 1, &[(SendDone, Wait), (Response(Some(OWN)), Release)]),
            (
                true,
                2,
                &[
                    (Response(Some(OWN)), Wait),
                    (SendDone, Wait),
                    (SendDone, Release),
                ],
            ),
            (
                true,
                1,
                &[
                    (Response(None), Wait),
                    (SendDone, LocalInvalidate),
                    (Invalidated, Release),
                ],
            ),
            // An abort without a response, and with one that crosses it.
            (
                true,
                0,
                &[
                    (Abort, LocalInvalidate),
                    (Abort, Wait),
                    (Invalidated, Release),
                    (Drained, Nothing),
                ],
            ),
            (
                true,
                0,
                &[
                    (Abort, LocalInvalidate),
                    (Response(Some(OWN)), Wait),
                    (Invalidated, Release),
                ],
            ),
            // The connection fails at every stage.
            (true, 3, &[(Drained, Wait), (Abort, Release)]),
            (true, 1, &[(Response(None), Wait), (Drained, Release)]),
            (
                true,
                0,
                &[(Response(Some(OWN)), Release), (Drained, Nothing)],
            ),
        ];
        for (key, sends, events) in table {
            let mut state = SlotState::new(true);
            assert!(state.posted(key, sends).is_ok());
            for &(event, action) in events {
                assert_eq!(report(&mut state, event), Ok(action));
            }
            assert!(state.is_released());
            assert!(!state.key_is_live());
            assert_eq!(state.sends_in_flight(), 0);
            assert_eq!(state.posted(false, 0), Err(Late));
            // The slot is free when what the command owned has been taken out.
            assert!(!state.is_free());
            state.vacate();
            assert!(state.is_free());
            assert_eq!(SlotState::from_raw(state.to_raw()), state);
        }
    }

    #[test]
    fn violations_change_nothing() {
        let fresh = SlotState::new(true);
        let mut with_key = fresh;
        assert!(with_key.posted(true, 1).is_ok());
        let mut without_key = fresh;
        assert!(without_key.posted(false, 1).is_ok());
        let mut not_negotiated = SlotState::new(false);
        assert!(not_negotiated.posted(true, 1).is_ok());
        let mut answered = with_key;
        assert_eq!(answered.on_response(None, OWN), Ok(Action::Wait));
        let mut given_up = fresh;
        assert!(given_up.posted(false, 0).is_ok());
        assert_eq!(given_up.on_abort(), Action::Release);

        let table = [
            (given_up, None, Violation::UnknownCommand),
            (fresh, None, Violation::ResponseUnsent),
            (answered, None, Violation::DuplicateResponse),
            (answered, Some(OWN), Violation::DuplicateResponse),
            (
                not_negotiated,
                Some(OWN),
                Violation::InvalidationNotNegotiated { key: OWN },
            ),
            (
                without_key,
                Some(OWN),
                Violation::InvalidationWithoutKey { key: OWN },
            ),
            (
                with_key,
                Some(OTHER),
                Violation::ForeignKey {
                    key: OTHER,
                    own: OWN,
                },
            ),
        ];
        for (state, key, violation) in table {
            let mut after = state;
            assert_eq!(after.on_response(key, OWN), Err(violation));
            assert_eq!(after, state);
        }
    }

    #[test]
    fn sends_have_an_end() {
        let mut state = SlotState::new(false);
        assert!(state.posted(false, u16::MAX).is_ok());
        assert_eq!(state.posted(false, 1), Err(Late));
    }

    #[test]
    fn no_command_has_the_state_of_another() {
        let first = SlotState::new(true);
        let mut last = first;
        for number in 1..4 {
            let fresh = first.following(last);
            assert_eq!(fresh.to_raw(), first.to_raw() + number * ONE_COMMAND);
            let mut state = fresh;
            assert!(state.posted(true, 1).is_ok());
            assert_eq!(state.on_response(Some(OWN), OWN), Ok(Action::Wait));
            assert_eq!(state.on_send_done(), Action::Release);
            state.vacate();
            assert_eq!(first.following(state), first.following(fresh));
            last = state;
        }
        // Their number begins again behind 2^32.
        assert_eq!(first.following(SlotState::from_raw(u64::MAX)), first);
    }
}
