// SPDX-License-Identifier: GPL-2.0

//! Scopes of a task: without I/O from allocations, and without bottom halves.
//!
//! A block device that recovers must not wait for memory that is freed by
//! writing to that same device. Everything that connects, binds or tears down
//! runs inside a [`NoIo`] scope.

use crate::bindings;
use core::marker::PhantomData;

/// While it lives, allocations of this task do not enter I/O, whatever flags
/// they name (`memalloc_noio_save()`).
///
/// # Invariants
///
/// `flags` is what `memalloc_noio_save()` returned on this very task.
pub struct NoIo {
    flags: kernel::ffi::c_uint,
    // The scope belongs to the task that opened it.
    _not_send: PhantomData<*mut ()>,
}

impl NoIo {
    /// Opens a scope. Any context.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: Only touches flags of the current task.
        let flags = unsafe { bindings::memalloc_noio_save() };
        // INVARIANT: As returned, and `NoIo` cannot leave this task.
        Self {
            flags,
            _not_send: PhantomData,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and scopes that are dropped out of order
        // leave only the flag of an outer scope, which is harmless.
        unsafe { bindings::memalloc_noio_restore(self.flags) };
    }
}

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
