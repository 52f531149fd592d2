// SPDX-License-Identifier: GPL-2.0

//! The accounting of receive buffers, as pure code: who has each, and which wait to be posted
//! together.
//!
//! A buffer is idle, or its receive request is posted or about to be, or the completion handler
//! reads it. Whoever posts an idle buffer may run on any processor, also several at once.
//! Completions, which come one at a time, take a buffer back and post it again or leave it idle.
//!
//! A call of the provider for each buffer would cost as much as the posting. So completions
//! collect the buffers of the ring, and post a batch of them at once; the ring has so many more
//! that what was asked for stays posted meanwhile.

use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// How many large buffers there are. Two, because the next request can leave
/// while the completion handler still reads the last response; the one after that
/// cannot, as handlers run one at a time.
pub(crate) const LARGE: usize = 2;

/// How many buffers of the ring are posted at once. Up to one less wait for the others.
const BATCH: u32 = 8;

/// How many requests the receive queue must hold besides those that are asked for.
pub(crate) const EXTRA: u32 = LARGE as u32 + BATCH - 1;

/// The buffers of a ring of which `count` are always posted.
pub(crate) const fn ring_len(count: usize) -> usize {
    count.saturating_add(BATCH as usize - 1)
}

const IDLE: u32 = 0;
const POSTED: u32 = 1;
const READING: u32 = 2;

/// Who has a receive buffer.
///
/// The device writes a buffer only while it is posted, and the CPU reads it only
/// in the completion handler, before it is posted again.
#[derive(Debug)]
pub(crate) struct Holder(AtomicU32);

impl Holder {
    /// Of a new buffer, which is idle.
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    /// Takes an idle buffer to post it. Returns whether it is the caller's to post: not if
    /// somebody else has just done so, or reads it.
    #[inline]
    pub(crate) fn post(&self) -> bool {
        self.0
            .compare_exchange(IDLE, POSTED, AcqRel, Relaxed)
            .is_ok()
    }

    /// The request that [`Self::post`] has allowed was refused.
    #[inline]
    pub(crate) fn refused(&self) {
        self.0.store(IDLE, Relaxed);
    }

    /// The request has completed, and the handler reads the buffer.
    #[inline]
    pub(crate) fn reading(&self) {
        self.0.store(READING, Relaxed);
    }

    /// The completion handler posts the buffer again, or has it wait for others.
    #[inline]
    pub(crate) fn again(&self) {
        self.0.store(POSTED, Relaxed);
    }

    /// The buffer, whose request has completed, may be posted when it is needed.
    #[inline]
    pub(crate) fn idle(&self) {
        self.0.store(IDLE, Release);
    }

    /// Whether the buffer is with the queue pair, or waits for that.
    #[inline]
    pub(crate) fn is_posted(&self) -> bool {
        self.0.load(Relaxed) == POSTED
    }

    /// Whether the buffer can be posted.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Acquire) == IDLE
    }
}

/// Requests that wait to be posted together: a chain, the last one first.
#[derive(Debug)]
pub(crate) struct Batch<R> {
    first: Option<R>,
    count: u32,
}

impl<R> Batch<R> {
    /// None wait.
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            count: 0,
        }
    }

    /// Adds a request. Returns which one its link must name.
    #[inline(always)]
    pub(crate) fn add(&mut self, request: R) -> Option<R> {
        self.count = self.count.wrapping_add(1);
        self.first.replace(request)
    }

    /// Returns whether the chain, of which the request added last is the first, is to be posted
    /// now. Then none wait any more.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> bool {
        if self.count < BATCH {
            return false;
        }
        self.first = None;
        self.count = 0;
        true
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_recv_account))]
mod tests {
    use super::*;

    impl<R> Batch<R> {
        /// How many wait.
        pub(crate) fn waiting(&self) -> usize {
            self.count as usize
        }
    }

    #[test]
    fn who_has_a_buffer() {
        /// What is done to a buffer.
        type Event = fn(&Holder);
        let post: Event = |holder| assert!(holder.post());
        let refused: Event = Holder::refused;
        let reading: Event = Holder::reading;
        let again: Event = Holder::again;
        let idle: Event = Holder::idle;

        // What happens to a new buffer; whether it is idle, or posted.
        let table: [(&[Event], bool, bool); 9] = [
            (&[], true, false),
            (&[post], false, true),
            (&[post, refused], true, false),
            (&[post, refused, post], false, true),
            (&[post, reading], false, false),
            (&[post, reading, again], false, true),
            (&[post, reading, idle], true, false),
            (&[post, reading, idle, post], false, true),
            // A flushed request, of which nothing is read.
            (&[post, idle], true, false),
        ];
        for (events, is_idle, is_posted) in table {
            let holder = Holder::new();
            events.iter().for_each(|event| event(&holder));
            assert_eq!(holder.is_idle(), is_idle);
            assert_eq!(holder.is_posted(), is_posted);
            // Who is told to post it, is told so once.
            assert_eq!(holder.post(), is_idle);
            assert!(!holder.post());
        }
    }

    #[test]
    fn posted_in_batches() {
        let mut batch = Batch::new();
        for round in 0..3 {
            for at in 0..BATCH {
                let request = BATCH * round + at;
                assert_eq!(batch.waiting(), at as usize);
                // Each names the one before; the first of a chain names none.
                let next = (at > 0).then(|| request - 1);
                assert_eq!(batch.add(request), next);
                assert_eq!(batch.take(), at == BATCH - 1);
            }
        }
        assert_eq!(batch.waiting(), 0);
        assert!(!batch.take());
    }

    #[test]
    fn what_waits_is_extra() {
        // Asked for; buffers of the ring.
        for (count, ring) in [(0, 7), (1, 8), (528, 535), (usize::MAX, usize::MAX)] {
            assert_eq!(ring_len(count), ring);
        }
        // The queue has room for the ring and the large buffers.
        assert_eq!(ring_len(528) + LARGE, 528 + EXTRA as usize);
    }
}
