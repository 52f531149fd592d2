// SPDX-License-Identifier: GPL-2.0

//! The two spinlocks of a libiscsi session.
//!
//! The order is `frwd_lock`, then `back_lock`. Both are taken in softirqs, so process context
//! disables those.

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::{addr_of_mut, NonNull};
use kernel::types::NotThreadSafe;

/// Holds `frwd_lock` of a session, with softirqs disabled.
///
/// # Invariants
///
/// The lock is held by this CPU, through this guard.
pub(crate) struct Frwd<'a> {
    session: NonNull<bindings::iscsi_session>,
    _session: PhantomData<&'a bindings::iscsi_session>,
    _not_send: NotThreadSafe,
}

impl<'a> Frwd<'a> {
    /// Takes the lock.
    ///
    /// # Safety
    ///
    /// `session` must be an initialised session that stays allocated during `'a`.
    #[inline]
    pub(crate) unsafe fn lock(session: NonNull<bindings::iscsi_session>) -> Self {
        // SAFETY: The session is alive and its locks initialised.
        unsafe { bindings::spin_lock_bh(addr_of_mut!((*session.as_ptr()).frwd_lock)) };
        // INVARIANT: The lock was just taken.
        Self {
            session,
            _session: PhantomData,
            _not_send: PhantomData,
        }
    }

    /// Takes `back_lock` too.
    #[inline]
    pub(crate) fn back(&self) -> Back<'_> {
        // SAFETY: The session outlives `self`, and the guard implies that softirqs are disabled.
        unsafe { Back::lock(self.session) }
    }
}

impl Drop for Frwd<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held, and the session is alive.
        unsafe { bindings::spin_unlock_bh(addr_of_mut!((*self.session.as_ptr()).frwd_lock)) };
    }
}

/// Holds `back_lock` of a session; softirqs are disabled by something else.
///
/// # Invariants
///
/// The lock is held by this CPU, through this guard.
pub(crate) struct Back<'a> {
    session: NonNull<bindings::iscsi_session>,
    _session: PhantomData<&'a bindings::iscsi_session>,
    _not_send: NotThreadSafe,
}

impl Back<'_> {
    /// Takes the lock.
    ///
    /// In process context with softirqs enabled this can deadlock; [`BackBh`] is for that.
    ///
    /// # Safety
    ///
    /// `session` must be an initialised session that stays allocated while the guard lives.
    #[inline]
    pub(crate) unsafe fn lock(session: NonNull<bindings::iscsi_session>) -> Self {
        // SAFETY: The session is alive and its locks initialised.
        unsafe { bindings::spin_lock(addr_of_mut!((*session.as_ptr()).back_lock)) };
        // INVARIANT: The lock was just taken.
        Self {
            session,
            _session: PhantomData,
            _not_send: PhantomData,
        }
    }
}

impl Drop for Back<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held, and the session is alive.
        unsafe { bindings::spin_unlock(addr_of_mut!((*self.session.as_ptr()).back_lock)) };
    }
}

/// Holds `back_lock` of a session, with softirqs disabled.
///
/// # Invariants
///
/// The lock is held by this CPU, through this guard.
pub(crate) struct BackBh<'a> {
    session: NonNull<bindings::iscsi_session>,
    _session: PhantomData<&'a bindings::iscsi_session>,
    _not_send: NotThreadSafe,
}

impl BackBh<'_> {
    /// Takes the lock.
    ///
    /// # Safety
    ///
    /// `session` must be an initialised session that stays allocated while the guard lives.
    #[inline]
    pub(crate) unsafe fn lock(session: NonNull<bindings::iscsi_session>) -> Self {
        // SAFETY: The session is alive and its locks initialised.
        unsafe { bindings::spin_lock_bh(addr_of_mut!((*session.as_ptr()).back_lock)) };
        // INVARIANT: The lock was just taken.
        Self {
            session,
            _session: PhantomData,
            _not_send: PhantomData,
        }
    }
}

impl Drop for BackBh<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held, and the session is alive.
        unsafe { bindings::spin_unlock_bh(addr_of_mut!((*self.session.as_ptr()).back_lock)) };
    }
}
