// SPDX-License-Identifier: GPL-2.0

//! When the memory of a command may be given back.
//!
//! A command owns user memory in two ways: the target may reach it through the command's remote
//! key, and the device may read it as the payload of a send. It is finished only when it has been
//! answered (or is being aborted), every such *guarded* send has completed, and the key is dead:
//! by the target's Send with Invalidate, or by a LOCAL_INV of ours that has completed (RFC 7145,
//! sections 7.3.2 and 8.3.2). These things happen in any order, on any processor.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::violation::Violation;

/// What whoever reports an event has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Action {
    /// Post a LOCAL_INV for the command's key; [`CommandState::on_invalidated`] reports its
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

/// What [`CommandState::posted`] has added, to take it back if posting fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Posted {
    flags: u32,
    sends: u32,
}

/// The state of one command between its first work request and the return of its memory.
///
/// It is small and has no invalid value, so that it can live in a [`CommandCell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct CommandState(u32);

/// Guarded completions still to come.
const SENDS: u32 = 0xffff;
/// The target may use the key.
const KEY_VALID: u32 = 1 << 16;
/// Our LOCAL_INV is under way.
const KEY_INVALIDATING: u32 = 1 << 17;
/// The target cannot use the key any more.
const KEY_DEAD: u32 = 1 << 18;
/// Something was posted.
const POSTED: u32 = 1 << 19;
/// The response has arrived.
const RESPONSE: u32 = 1 << 20;
/// Error handling asks for the memory.
const ABORTED: u32 = 1 << 21;
/// The queue pair was drained.
const DRAINED: u32 = 1 << 22;
/// [`Action::Release`] was said.
const RELEASED: u32 = 1 << 23;
/// The connection negotiated remote invalidation.
const REMOTE_INVALIDATION: u32 = 1 << 24;

const KEY_LIVE: u32 = KEY_VALID | KEY_INVALIDATING;
const KEY_ANY: u32 = KEY_LIVE | KEY_DEAD;
/// Somebody wants the command to finish.
const FINISHING: u32 = RESPONSE | ABORTED;

impl CommandState {
    /// A command of which nothing was posted yet.
    #[inline]
    pub(crate) const fn new(remote_invalidation: bool) -> Self {
        Self(if remote_invalidation {
            REMOTE_INVALIDATION
        } else {
            0
        })
    }

    /// Reports that a chain of work requests is about to be posted.
    ///
    /// This comes *before* posting, because completions and even the response may be handled
    /// before the call that posts returns; and it comes under the lock of the send queue, which is
    /// held until the chain is posted. A response may be forged before the command was sent: the
    /// LOCAL_INV that answers it must not overtake the registration in the chain.
    ///
    /// `key_valid` says that the chain makes the command's key valid; `guarded_sends` is the number
    /// of completions that [`CommandState::on_send_done`] will be told of. If posting fails,
    /// [`CommandState::not_posted`] takes it back.
    #[inline]
    pub(crate) fn posted(&mut self, key_valid: bool, guarded_sends: u16) -> Result<Posted, Late> {
        let sends = u32::from(guarded_sends);
        if self.0 & (FINISHING | DRAINED | RELEASED) != 0
            || (self.0 & SENDS).wrapping_add(sends) > SENDS
        {
            return Err(Late);
        }
        let flags = if key_valid {
            POSTED | KEY_VALID
        } else {
            POSTED
        };
        let flags = flags & !self.0;
        self.0 = (self.0 | flags).wrapping_add(sends);
        Ok(Posted { flags, sends })
    }

    /// Takes back what [`CommandState::posted`] added for a chain of which nothing was posted.
    #[inline]
    pub(crate) fn not_posted(&mut self, posted: Posted) -> Action {
        self.complete_sends(posted.sends);
        self.0 &= !posted.flags;
        self.settle()
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
        if self.0 & (POSTED | RESPONSE) != POSTED {
            return Err(if self.0 & RESPONSE != 0 {
                Violation::DuplicateResponse
            } else {
                Violation::ResponseUnsent
            });
        }
        if let Some(key) = remote_invalidated {
            if self.0 & REMOTE_INVALIDATION == 0 {
                return Err(Violation::InvalidationNotNegotiated { key });
            }
            if self.0 & KEY_ANY == 0 {
                return Err(Violation::InvalidationWithoutKey { key });
            }
            if key != rkey {
                return Err(Violation::ForeignKey { key, own: rkey });
            }
            // A LOCAL_INV of an abort may have crossed it; then its completion still counts.
            if self.0 & KEY_VALID != 0 {
                self.0 ^= KEY_VALID | KEY_DEAD;
            }
        }
        self.0 |= RESPONSE;
        Ok(self.finish())
    }

    /// Reports the completion of a guarded send, successful or flushed.
    #[inline]
    pub(crate) fn on_send_done(&mut self) -> Action {
        self.complete_sends(1);
        self.settle()
    }

    /// Reports the successful completion of the LOCAL_INV. One that failed or was flushed leaves the
    /// key to [`CommandState::on_drained`].
    #[inline]
    pub(crate) fn on_invalidated(&mut self) -> Action {
        if self.0 & KEY_INVALIDATING != 0 {
            self.0 ^= KEY_INVALIDATING | KEY_DEAD;
        }
        self.settle()
    }

    /// Reports that error handling wants the memory back without a response.
    ///
    /// The response may still come; it does no harm then.
    #[inline]
    pub(crate) fn on_abort(&mut self) -> Action {
        self.0 |= ABORTED;
        self.finish()
    }

    /// Reports that the queue pair was drained and cannot be reached any more: no work request
    /// is in flight and no key can be used (RFC 7145, section 5.2.3.2).
    ///
    /// For a command that nobody waits for, the answer is [`Action::Wait`]: the release is left to
    /// [`CommandState::on_abort`].
    #[inline]
    pub(crate) fn on_drained(&mut self) -> Action {
        if self.0 & KEY_LIVE != 0 {
            self.0 |= KEY_DEAD;
        }
        self.0 &= !(KEY_LIVE | SENDS);
        self.0 |= DRAINED;
        self.settle()
    }

    /// Whether the target may still be able to use the command's key.
    #[inline]
    pub(crate) const fn key_is_live(self) -> bool {
        self.0 & KEY_LIVE != 0
    }

    /// Whether [`Action::Release`] was said.
    #[inline]
    pub(crate) const fn is_released(self) -> bool {
        self.0 & RELEASED != 0
    }

    /// Guarded completions still to come.
    #[inline]
    pub(crate) const fn sends_in_flight(self) -> u32 {
        self.0 & SENDS
    }

    /// More completions than sends are an error of ours; they must not borrow from the flags.
    #[inline]
    fn complete_sends(&mut self, sends: u32) {
        self.0 = self.0.wrapping_sub(sends.min(self.0 & SENDS));
    }

    /// Goes on when somebody wants the command to finish.
    #[inline]
    fn finish(&mut self) -> Action {
        if self.0 & KEY_VALID != 0 {
            self.0 ^= KEY_VALID | KEY_INVALIDATING;
            return Action::LocalInvalidate;
        }
        self.settle()
    }

    #[inline]
    fn settle(&mut self) -> Action {
        if self.0 & RELEASED != 0 {
            return Action::Nothing;
        }
        if self.0 & FINISHING == 0 || self.0 & (KEY_LIVE | SENDS) != 0 {
            return Action::Wait;
        }
        self.0 |= RELEASED;
        Action::Release
    }
}

/// A [`CommandState`] that events of several processors change without a lock.
#[derive(Debug)]
pub(crate) struct CommandCell(AtomicU32);

impl CommandCell {
    /// A cell with this state in it.
    #[inline]
    pub(crate) const fn new(state: CommandState) -> Self {
        Self(AtomicU32::new(state.0))
    }

    /// The state at this moment.
    #[inline]
    pub(crate) fn get(&self) -> CommandState {
        CommandState(self.0.load(Ordering::Acquire))
    }

    /// Begins a new command. Nothing of the previous one may be in flight.
    #[inline]
    pub(crate) fn reset(&self, state: CommandState) {
        self.0.store(state.0, Ordering::Release);
    }

    /// Reports an event, which is one of the methods of [`CommandState`].
    ///
    /// `event` runs again if another processor was faster; only its last run counts.
    #[inline]
    pub(crate) fn update<R>(&self, event: impl Fn(&mut CommandState) -> R) -> R {
        let mut old = self.0.load(Ordering::Acquire);
        loop {
            let mut state = CommandState(old);
            let result = event(&mut state);
            match self
                .0
                .compare_exchange_weak(old, state.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return result,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_command))]
mod tests {
    use super::*;

    const OWN: u32 = 0x1200;
    const OTHER: u32 = 0x1201;

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

    fn report(state: &mut CommandState, event: Event) -> Result<Action, Violation> {
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
                    (Response(None), LocalInvalidate),
                    (Invalidated, Wait),
                    (SendDone, Release),
                ],
            ),
            // An abort without a response, and with one that crosses or follows it.
            (
                true,
                0,
                &[
                    (Abort, LocalInvalidate),
                    (Abort, Wait),
                    (Invalidated, Release),
                    (Response(None), Nothing),
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
            (
                true,
                1,
                &[
                    (Response(None), LocalInvalidate),
                    (Drained, Release),
                    (SendDone, Nothing),
                ],
            ),
            (
                true,
                0,
                &[(Response(Some(OWN)), Release), (Drained, Nothing)],
            ),
        ];
        for (key, sends, events) in table {
            let mut state = CommandState::new(true);
            assert!(state.posted(key, sends).is_ok());
            for &(event, action) in events {
                assert_eq!(report(&mut state, event), Ok(action));
            }
            assert!(state.is_released());
            assert!(!state.key_is_live());
            assert_eq!(state.sends_in_flight(), 0);
            assert_eq!(state.posted(false, 0), Err(Late));
        }
    }

    #[test]
    fn violations_change_nothing() {
        let fresh = CommandState::new(true);
        let mut with_key = fresh;
        assert!(with_key.posted(true, 1).is_ok());
        let mut without_key = fresh;
        assert!(without_key.posted(false, 1).is_ok());
        let mut not_negotiated = CommandState::new(false);
        assert!(not_negotiated.posted(true, 1).is_ok());
        let mut answered = with_key;
        assert_eq!(answered.on_response(None, OWN), Ok(Action::LocalInvalidate));

        let table = [
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
    fn failed_posts_leave_no_trace() {
        let mut state = CommandState::new(true);
        let fresh = state;
        if let Ok(posted) = state.posted(true, 2) {
            assert_eq!(state.not_posted(posted), Action::Wait);
        }
        assert_eq!(state, fresh);

        // Unsolicited data that cannot be posted after the response has come.
        assert!(state.posted(true, 1).is_ok());
        let second = state.posted(false, 1);
        assert_eq!(state.on_send_done(), Action::Wait);
        assert_eq!(state.on_response(Some(OWN), OWN), Ok(Action::Wait));
        if let Ok(second) = second {
            assert_eq!(state.not_posted(second), Action::Release);
        }
        assert!(state.is_released());
        // The count of sends has an end.
        let mut state = CommandState::new(false);
        assert!(state.posted(false, u16::MAX).is_ok());
        assert_eq!(state.posted(false, 1), Err(Late));
    }
}
