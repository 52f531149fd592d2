// SPDX-License-Identifier: GPL-2.0

//! The scope without I/O for allocations.
//!
//! A block device that recovers must not wait for memory that is freed by writing to
//! that same device. Everything that connects, binds or tears down runs in such a
//! scope.

use core::marker::PhantomData;
use kernel::types::NotThreadSafe;

/// While it lives, allocations of this task do not enter I/O, whatever flags they
/// name (`memalloc_noio_save()`). Scopes nest.
///
/// # Invariants
///
/// `flags` is what `memalloc_noio_save()` returned on this very task.
pub struct NoIo {
    flags: kernel::ffi::c_uint,
    _not_send: NotThreadSafe,
}

impl NoIo {
    /// Enters the scope. Any context.
    pub fn enter() -> Self {
        // SAFETY: Only touches flags of the current task.
        let flags = unsafe { crate::memalloc_noio_save() };
        // INVARIANT: As returned, and `NoIo` cannot leave this task.
        Self {
            flags,
            _not_send: PhantomData,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; a scope that is dropped out of order only
        // leaves the flag of an outer one.
        unsafe { crate::memalloc_noio_restore(self.flags) };
    }
}
