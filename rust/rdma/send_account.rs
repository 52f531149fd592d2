// SPDX-License-Identifier: GPL-2.0

//! The completion side of a send queue's accounting, as pure code: what has completed, and what
//! somebody waits for.
//!
//! It is shared by whoever posts and whoever polls, on any processor.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The completion side of a send queue.
#[derive(Debug)]
pub(crate) struct SqShared {
    /// Signalled completions, modulo 2^32.
    completed: AtomicU32,
    /// Signalled work requests posted, or about to be.
    signalled: AtomicU32,
    /// How many of them somebody waits for.
    awaited: AtomicU32,
    /// Local invalidations under way.
    invalidating: AtomicU32,
    /// Everything is waited for.
    draining: AtomicBool,
}

impl SqShared {
    /// The completion side of a new queue.
    pub(crate) const fn new() -> Self {
        Self {
            completed: AtomicU32::new(0),
            signalled: AtomicU32::new(0),
            awaited: AtomicU32::new(0),
            invalidating: AtomicU32::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Somebody waits for the signalled work requests posted so far.
    pub(crate) fn wait(&self) {
        let signalled = self.signalled.load(Ordering::Acquire);
        // A later one waits for more.
        let _ = self
            .awaited
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |awaited| {
                is_behind(awaited, signalled).then_some(signalled)
            });
    }

    /// A local invalidation is about to be posted, for whose completion somebody waits.
    pub(crate) fn invalidating(&self) {
        self.invalidating.fetch_add(1, Ordering::AcqRel);
    }

    /// A local invalidation has completed, or was not posted.
    pub(crate) fn invalidated(&self) {
        self.invalidating.fetch_sub(1, Ordering::AcqRel);
    }

    /// What is awaited does not stay behind what has completed: it would be ahead some day.
    pub(crate) fn catch_up(&self, completed: u32) {
        let _ = self
            .awaited
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |awaited| {
                is_behind(awaited, completed).then_some(completed)
            });
    }

    /// From here on somebody waits for everything.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Says that so many signalled work requests are posted or about to be.
    #[inline(always)]
    pub(crate) fn announce(&self, signalled: u32) {
        self.signalled.store(signalled, Ordering::Release);
    }

    /// Signalled completions so far, modulo 2^32.
    #[inline]
    pub(crate) fn completed(&self) -> u32 {
        self.completed.load(Ordering::Acquire)
    }

    /// Whether [`Self::drain`] was called.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether somebody waits for a completion that has not been counted.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_draining()
            || self.invalidating.load(Ordering::Acquire) != 0
            || is_behind(self.completed(), self.awaited.load(Ordering::Acquire))
    }

    /// Counts the successful completion of a signalled work request.
    ///
    /// After the first failed completion nothing needs counting: the queue pair is in error, and
    /// then work requests complete that were not signalled.
    #[inline]
    pub(crate) fn retire(&self) {
        self.completed.fetch_add(1, Ordering::Release);
    }
}

/// Whether a count, modulo 2^32, is behind another that is less than half a turn away.
fn is_behind(count: u32, other: u32) -> bool {
    (count.wrapping_sub(other) as i32) < 0
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_send_account))]
mod tests {
    use super::*;

    impl SqShared {
        /// As if so many signalled work requests had gone through the queue.
        pub(crate) fn age(&self, count: u32) {
            for counter in [&self.completed, &self.signalled, &self.awaited] {
                counter.store(count, Ordering::Relaxed);
            }
        }

        /// Up to which signalled work request somebody waits, or has waited.
        pub(crate) fn awaited(&self) -> u32 {
            self.awaited.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn somebody_waits_for_an_invalidation() {
        let shared = SqShared::new();
        shared.invalidating();
        shared.invalidating();
        shared.invalidated();
        assert!(shared.is_awaited());
        shared.invalidated();
        assert!(!shared.is_awaited());
        shared.drain();
        assert!(shared.is_awaited());
    }
}
