// SPDX-License-Identifier: GPL-2.0

//! What tells a sender that a response to what had its slot before is still on its way up.

use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// The tag of the response that is being delivered. Messages are received one after another.
///
/// A response is accepted, which may free the slot, before the upper layer has it. Who claims the
/// slot behind that sees the tag here until the upper layer is done. In a line of its own: senders
/// hardly ever look at it.
#[repr(align(64))]
pub(crate) struct Delivering(AtomicU32);

impl Delivering {
    /// No response has this tag.
    const NONE: u32 = u32::MAX;

    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(Self::NONE))
    }

    /// A response is about to be accepted: accepting it publishes this.
    #[inline(always)]
    pub(crate) fn begin(&self, tag: u32) {
        self.0.store(tag, Relaxed);
    }

    /// The upper layer is done with the message.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.0.store(Self::NONE, Release);
    }

    /// Whether a response with `tag` may not be delivered yet.
    pub(crate) fn is(&self, tag: u32) -> bool {
        tag != Self::NONE && self.0.load(Acquire) == tag
    }
}
