// SPDX-License-Identifier: GPL-2.0

//! The accounting of the send queue, as pure code.
//!
//! A slot of the send queue is free again only when the completion of its work request, or of a
//! later signalled one, has been polled. Most work requests are not signalled, so the producer
//! remembers, for each signalled one, how many were posted up to it, and counts signalled
//! completions: they come in the order of posting. Two rules keep the queue going:
//!
//! - what is in flight never exceeds the capacity, and leaves the reserve to urgent chains;
//! - the work requests behind the last signalled one are always fewer than a quarter of it, so a
//!   queue that is full has a signalled one in it, whose completion makes room.
//!
//! Local invalidations, at most one for each command and always signalled, have room of their own
//! beyond the capacity and are not counted here.
//!
//! The producer is whoever holds the send queue's lock. The completion side only counts, in
//! [`SqShared`]; it may run before the producer has returned from posting, and on several
//! processors at once. Completions make no noise, so whoever needs one says that he waits.

use crate::send_account::SqShared;
use core::ops::DerefMut;

/// The longest chain of work requests that can be planned.
pub(crate) const MAX_CHAIN: u32 = 64;

/// So many work requests are kept free for urgent chains.
pub(crate) const RESERVE: u32 = 16;

/// A signalled work request comes at least this often.
const MAX_INTERVAL: u32 = 32;

/// The largest capacity; no device comes near.
const MAX_CAPACITY: u32 = 1 << 20;

/// What a chain of work requests is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// Nobody waits for its completion. It is signalled now and then.
    Plain,
    /// The payload of a send is not ours to keep, so its completion is needed. Always signalled.
    Guarded,
}

/// How much of the queue a chain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// All but the reserve.
    Common,
    /// All of it. For what tells whether the peer still takes anything, when it takes nothing.
    Urgent,
}

/// Why a chain cannot be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The chain's share of the queue is full; a completion under way makes room.
    Full,
    /// The chain is empty or longer than [`MAX_CHAIN`].
    Length,
    /// More signalled completions were counted than signalled work requests posted.
    Miscounted,
}

/// The storage and the capacity do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

/// The posting side of a send queue.
///
/// `S` stores one mark for each signalled work request in flight.
#[derive(Debug)]
pub(crate) struct SqProducer<S> {
    marks: S,
    /// Length of `marks` minus one, all bits set.
    mask: u32,
    /// Signalled work requests posted, modulo 2^32 as all counts here.
    head: u32,
    /// Signalled work requests known to be completed.
    tail: u32,
    /// Work requests posted.
    posted: u32,
    /// Work requests posted up to the last signalled one.
    signalled: u32,
    /// Work requests known to be completed.
    retired: u32,
    /// What all chains together may occupy.
    capacity: u32,
    /// At most so many work requests from one signalled one to the next.
    interval: u32,
}

/// How many marks the storage of a queue of this capacity has to hold.
pub(crate) const fn marks_len(capacity: u32) -> usize {
    capacity.next_power_of_two() as usize
}

impl<S: DerefMut<Target = [u32]>> SqProducer<S> {
    /// The posting side of a new queue.
    ///
    /// `capacity` is the number of send work requests that all chains together may occupy; it
    /// has to hold four chains of the greatest length. `marks` has the length that [`marks_len`]
    /// says.
    pub(crate) fn new(marks: S, capacity: u32) -> Result<Self, Misfit> {
        if !(4 * MAX_CHAIN..=MAX_CAPACITY).contains(&capacity) || marks.len() != marks_len(capacity)
        {
            return Err(Misfit);
        }
        Ok(Self {
            marks,
            mask: capacity.next_power_of_two().wrapping_sub(1),
            head: 0,
            tail: 0,
            posted: 0,
            signalled: 0,
            retired: 0,
            capacity,
            interval: MAX_INTERVAL.min(capacity / 4),
        })
    }

    /// Plans to post a chain of `wrs` work requests. While the queue is more than half full,
    /// `collect` is called to have completions counted, now or soon.
    ///
    /// Nothing changes until the plan is [committed](Plan::commit), which is to be done when the
    /// chain has been posted. If posting fails, drop the plan. If it fails behind the first work
    /// request of the chain, the connection must fail too: the count is wrong from then on.
    #[inline(always)]
    pub(crate) fn plan(
        &mut self,
        shared: &SqShared,
        wrs: u32,
        chain: Chain,
        share: Share,
        collect: impl FnOnce(),
    ) -> Result<Plan<'_, S>, Refusal> {
        if wrs == 0 || wrs > MAX_CHAIN {
            return Err(Refusal::Length);
        }
        // Half of the queue is more than the longest chain and the reserve.
        if self.in_flight() > self.capacity / 2 {
            self.reclaim(shared)?;
            if self.in_flight() > self.capacity / 2 {
                collect();
                self.reclaim(shared)?;
            }
            let kept = match share {
                Share::Common => RESERVE,
                Share::Urgent => 0,
            };
            if self.capacity.saturating_sub(self.in_flight()) < wrs + kept {
                return Err(Refusal::Full);
            }
        }
        let posted = self.posted.wrapping_add(wrs);
        let signalled = match chain {
            Chain::Plain => posted.wrapping_sub(self.signalled) >= self.interval,
            Chain::Guarded => true,
        };
        if signalled {
            // Before posting: the completion may be waited for before that returns. If nothing is
            // posted after all, the next plan says the same again.
            shared.announce(self.head.wrapping_add(1));
        }
        Ok(Plan {
            producer: self,
            posted,
            signalled,
        })
    }

    /// Work requests that are not known to be completed. It never exceeds the capacity.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.posted.wrapping_sub(self.retired)
    }

    /// Takes note of the completions counted meanwhile.
    #[cold]
    fn reclaim(&mut self, shared: &SqShared) -> Result<(), Refusal> {
        let completed = shared.completed();
        let new = completed.wrapping_sub(self.tail);
        if new == 0 {
            return Ok(());
        }
        if new > self.head.wrapping_sub(self.tail) {
            return Err(Refusal::Miscounted);
        }
        // The last one vouches for all before it.
        let last = completed.wrapping_sub(1) & self.mask;
        let mark = self.marks.get(last as usize).ok_or(Refusal::Miscounted)?;
        self.retired = *mark;
        self.tail = completed;
        shared.catch_up(completed);
        Ok(())
    }
}

/// Room in the send queue for one chain.
///
/// It borrows the producer, so no two plans can count on the same room.
#[derive(Debug)]
#[must_use = "what was posted must be committed"]
pub(crate) struct Plan<'a, S> {
    producer: &'a mut SqProducer<S>,
    posted: u32,
    signalled: bool,
}

impl<S: DerefMut<Target = [u32]>> Plan<'_, S> {
    /// Whether the last work request of the chain must be signalled, and it alone.
    #[inline]
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled
    }

    /// Counts the chain as posted.
    #[inline(always)]
    pub(crate) fn commit(self) {
        let producer = self.producer;
        producer.posted = self.posted;
        if self.signalled {
            producer.signalled = self.posted;
            let next = producer.head & producer.mask;
            if let Some(mark) = producer.marks.get_mut(next as usize) {
                *mark = self.posted;
            }
            producer.head = producer.head.wrapping_add(1);
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_send_queue))]
mod tests {
    use super::*;

    impl<S> SqProducer<S> {
        /// Makes a new queue look as if `count` work requests, all signalled, had gone through it.
        pub(crate) fn age(&mut self, shared: &SqShared, count: u32) {
            shared.age(count);
            (self.head, self.tail) = (count, count);
            (self.posted, self.signalled, self.retired) = (count, count, count);
        }
    }

    /// Posts one chain, and says whether it was signalled.
    fn post(
        producer: &mut SqProducer<&mut [u32]>,
        shared: &SqShared,
        wrs: u32,
        chain: Chain,
    ) -> Result<bool, Refusal> {
        let plan = producer.plan(shared, wrs, chain, Share::Urgent, || ())?;
        let signalled = plan.is_signalled();
        plan.commit();
        Ok(signalled)
    }

    #[test]
    fn sizes() {
        // Length of the storage and capacity; whether they fit.
        let table = [
            (256, 256, true),
            (512, 257, true),
            (512, 512, true),
            (256, 255, false),
            (256, 257, false),
            (512, 256, false),
            (256, 0, false),
            (0, u32::MAX, false),
        ];
        for (len, capacity, fits) in table {
            let mut marks = [0; 512];
            let producer = SqProducer::new(&mut marks[..len], capacity);
            assert_eq!(producer.is_ok(), fits);
        }
    }

    #[test]
    fn signalled_now_and_then() -> Result<(), Misfit> {
        let (shared, mut marks) = (SqShared::new(), [0; 256]);
        let mut producer = SqProducer::new(&mut marks[..], 256)?;
        // Every fourth chain of eight.
        for _ in 0..3 {
            for _ in 0..3 {
                assert_eq!(post(&mut producer, &shared, 8, Chain::Plain), Ok(false));
            }
            assert_eq!(post(&mut producer, &shared, 8, Chain::Plain), Ok(true));
        }
        // A guarded chain begins a new count, and so does a long one.
        assert_eq!(post(&mut producer, &shared, 8, Chain::Plain), Ok(false));
        assert_eq!(post(&mut producer, &shared, 1, Chain::Guarded), Ok(true));
        assert_eq!(post(&mut producer, &shared, 31, Chain::Plain), Ok(false));
        assert_eq!(post(&mut producer, &shared, 64, Chain::Plain), Ok(true));
        assert_eq!(post(&mut producer, &shared, 31, Chain::Plain), Ok(false));
        assert_eq!(post(&mut producer, &shared, 20, Chain::Plain), Ok(true));
        assert_eq!(producer.in_flight(), 251);
        // Full but for five; the first two completions bring back 64.
        let full = Err(Refusal::Full);
        assert_eq!(post(&mut producer, &shared, 6, Chain::Plain), full);
        assert_eq!(post(&mut producer, &shared, 6, Chain::Guarded), full);
        shared.retire();
        shared.retire();
        assert_eq!(post(&mut producer, &shared, 6, Chain::Plain), Ok(false));
        assert_eq!(producer.in_flight(), 193);
        Ok(())
    }

    #[test]
    fn the_reserve_is_for_the_urgent() -> Result<(), Misfit> {
        // Posted before; a chain's length and share; whether there is room.
        let table = [
            (0, 64, Share::Common, true),
            (128, 64, Share::Common, true),
            (176, 64, Share::Common, true),
            (177, 64, Share::Common, false),
            (239, 1, Share::Common, true),
            (240, 1, Share::Common, false),
            (240, 16, Share::Urgent, true),
            (240, 17, Share::Urgent, false),
            (255, 1, Share::Urgent, true),
            (256, 1, Share::Urgent, false),
        ];
        for (before, wrs, share, room) in table {
            let (shared, mut marks) = (SqShared::new(), [0; 256]);
            let mut producer = SqProducer::new(&mut marks[..], 256)?;
            for _ in 0..before {
                assert!(post(&mut producer, &shared, 1, Chain::Plain).is_ok());
            }
            let plan = producer.plan(&shared, wrs, Chain::Plain, share, || ());
            assert_eq!(plan.is_ok(), room);
        }
        Ok(())
    }

    #[test]
    fn counts_may_wrap() -> Result<(), Misfit> {
        let (shared, mut marks) = (SqShared::new(), [0; 256]);
        let mut producer = SqProducer::new(&mut marks[..], 256)?;
        producer.age(&shared, u32::MAX - 20);
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(post(&mut producer, &shared, 64, Chain::Guarded), Ok(true));
            }
            let full = Err(Refusal::Full);
            assert_eq!(post(&mut producer, &shared, 64, Chain::Guarded), full);
            assert_eq!(producer.in_flight(), 256);
            for _ in 0..4 {
                shared.retire();
            }
        }
        Ok(())
    }

    #[test]
    fn collected_when_half_full() -> Result<(), Misfit> {
        let (shared, mut marks) = (SqShared::new(), [0; 256]);
        let mut producer = SqProducer::new(&mut marks[..], 256)?;
        // Chains posted before; how often completions are collected for the next one.
        for (before, expected) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)] {
            while producer.in_flight() < 64 * before {
                assert_eq!(post(&mut producer, &shared, 64, Chain::Guarded), Ok(true));
            }
            let mut calls = 0;
            let _ = producer.plan(&shared, 1, Chain::Plain, Share::Urgent, || calls += 1);
            assert_eq!(calls, expected);
        }
        // What is collected counts at once.
        let collect = || (0..4).for_each(|_| shared.retire());
        assert!(producer
            .plan(&shared, 64, Chain::Plain, Share::Urgent, collect)
            .is_ok());
        assert_eq!(producer.in_flight(), 0);
        Ok(())
    }

    #[test]
    fn somebody_waits() -> Result<(), Misfit> {
        // Also where counts wrap.
        for age in [0, u32::MAX - 1] {
            let (shared, mut marks) = (SqShared::new(), [0; 256]);
            let mut producer = SqProducer::new(&mut marks[..], 256)?;
            producer.age(&shared, age);
            assert!(!shared.is_awaited());
            for _ in 0..3 {
                assert_eq!(post(&mut producer, &shared, 1, Chain::Guarded), Ok(true));
            }
            assert!(!shared.is_awaited());
            shared.retire();
            // For two more; a send that comes later is not waited for.
            shared.wait();
            assert_eq!(post(&mut producer, &shared, 1, Chain::Guarded), Ok(true));
            assert!(shared.is_awaited());
            shared.retire();
            assert!(shared.is_awaited());
            shared.retire();
            assert!(!shared.is_awaited());
            shared.retire();
            // Nothing is posted: nothing to wait for.
            shared.wait();
            assert!(!shared.is_awaited());
            // A plan counts before it is committed.
            let plan = producer.plan(&shared, 1, Chain::Guarded, Share::Urgent, || ());
            shared.wait();
            assert!(shared.is_awaited());
            assert!(plan.is_ok());
            shared.retire();
            assert!(!shared.is_awaited());
        }
        Ok(())
    }

    #[test]
    fn awaited_keeps_up() -> Result<(), Misfit> {
        let (shared, mut marks) = (SqShared::new(), [0; 256]);
        let mut producer = SqProducer::new(&mut marks[..], 256)?;
        for round in 1..10 {
            for _ in 0..3 {
                assert_eq!(post(&mut producer, &shared, 64, Chain::Guarded), Ok(true));
            }
            // Nobody has waited for these, or somebody for all but none of the next.
            if round % 2 == 0 {
                shared.wait();
            }
            (0..3).for_each(|_| shared.retire());
            assert!(!shared.is_awaited());
            assert!(producer
                .plan(&shared, 1, Chain::Plain, Share::Urgent, || ())
                .is_ok());
            assert_eq!(shared.awaited(), 3 * round);
        }
        // A waiter is not forgotten.
        for _ in 0..3 {
            assert_eq!(post(&mut producer, &shared, 64, Chain::Guarded), Ok(true));
        }
        shared.wait();
        shared.retire();
        assert!(producer
            .plan(&shared, 1, Chain::Plain, Share::Urgent, || ())
            .is_ok());
        assert!(shared.is_awaited());
        Ok(())
    }

    #[test]
    fn refusals_change_nothing() -> Result<(), Misfit> {
        let (shared, mut marks) = (SqShared::new(), [0; 256]);
        let mut producer = SqProducer::new(&mut marks[..], 256)?;
        let length = Err(Refusal::Length);
        assert_eq!(post(&mut producer, &shared, 0, Chain::Plain), length);
        assert_eq!(post(&mut producer, &shared, 65, Chain::Plain), length);
        // A plan that is dropped.
        assert!(producer
            .plan(&shared, 64, Chain::Plain, Share::Urgent, || ())
            .is_ok());
        assert_eq!(producer.in_flight(), 0);

        // A completion too many shows when room is needed.
        while post(&mut producer, &shared, 64, Chain::Guarded).is_ok() {}
        for _ in 0..5 {
            shared.retire();
        }
        let miscounted = Err(Refusal::Miscounted);
        assert_eq!(post(&mut producer, &shared, 64, Chain::Plain), miscounted);
        assert_eq!(producer.in_flight(), 256);
        Ok(())
    }
}
