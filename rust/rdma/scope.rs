// SPDX-License-Identifier: GPL-2.0

//! The scope without bottom halves, for locks that completions take.

use crate::bindings;
use core::marker::PhantomData;

/// While it lives, no softirq runs on this processor: the locks that completions
/// take may be taken.
///
/// # Invariants
///
/// Bottom halves were disabled once by this task, which cannot migrate meanwhile.
pub(crate) struct NoBh(PhantomData<*mut ()>);

impl NoBh {
    /// Opens a scope. Process context or softirq, not with interrupts off.
    pub(crate) fn new() -> Self {
        // SAFETY: May be called in any context but with interrupts off; `drop` is
        // its counterpart.
        unsafe { bindings::local_bh_disable() };
        // INVARIANT: Just disabled.
        Self(PhantomData)
    }
}

impl Drop for NoBh {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::local_bh_enable() };
    }
}
