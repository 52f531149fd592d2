// SPDX-License-Identifier: GPL-2.0

//! Telling libiscsi that a connection failed, from where its locks are held.
//!
//! In a softirq: recovery must not wait for a thread that may itself wait for memory, and so for
//! this very disk.

use crate::bindings;
use crate::conn::session_of;
use crate::error::ConnError;
use crate::lock::Frwd;
use core::ptr::{addr_of_mut, NonNull};

/// What tells libiscsi that a connection failed.
///
/// # Invariants
///
/// - `work` is initialised and `conn` the connection that this is behind, from [`create`] on.
/// - `pins` is accessed under `frwd_lock`. While it is not zero, the connection is not torn down.
///
/// [`create`]: crate::control::create
#[repr(C)]
pub(crate) struct Failing {
    work: bindings::work_struct,
    conn: *mut bindings::iscsi_conn,
    /// How many threads are in libiscsi with the connection, and one if `work` is queued.
    pub(crate) pins: u32,
}

impl Failing {
    /// Completes what is all zeroes.
    ///
    /// # Safety
    ///
    /// `this` must be behind `conn`, and nobody else know it yet.
    pub(crate) unsafe fn init(this: *mut Self, conn: NonNull<bindings::iscsi_conn>) {
        // SAFETY: By the safety requirements.
        unsafe {
            (*this).conn = conn.as_ptr();
            bindings::init_work(addr_of_mut!((*this).work), Some(fail_now));
        }
    }

    /// Waits until the workqueue does not know `this` any more. Sleeps.
    ///
    /// # Safety
    ///
    /// [`Failing::init`] was called, and [`fail_soon`] is not called any more.
    pub(crate) unsafe fn flush(this: *mut Self) {
        // SAFETY: The work item is initialised.
        unsafe { bindings::cancel_work_sync(addr_of_mut!((*this).work)) };
    }
}

/// Tells libiscsi that the connection of a task failed, soon: the caller holds the lock that
/// is needed for that.
///
/// # Safety
///
/// `conn` must be a valid connection with something bound; `frwd_lock` must be held.
pub(crate) unsafe fn fail_soon(conn: NonNull<bindings::iscsi_conn>) {
    // SAFETY: The data of a valid connection of ours begins so. The lock is held; as something is
    // bound, teardown has not begun, and then waits for the pin.
    unsafe {
        let failing = (*conn.as_ptr()).dd_data.cast::<Failing>();
        if bindings::schedule_bh_work(addr_of_mut!((*failing).work)) {
            (*failing).pins = (*failing).pins.wrapping_add(1);
        }
    }
}

/// Does what [`fail_soon`] has announced. In a softirq.
///
/// # Safety
///
/// To be called by the workqueue only, with the work item of a [`Failing`] that is pinned.
unsafe extern "C" fn fail_now(work: *mut bindings::work_struct) {
    let failing = work.cast::<Failing>();
    // SAFETY: The work item is the first member; the pin keeps the connection and its session.
    unsafe {
        let conn = NonNull::new_unchecked((*failing).conn);
        bindings::iscsi_conn_failure(conn.as_ptr(), ConnError::CONN_FAILED.code());
        let _frwd = Frwd::lock(session_of(conn));
        (*failing).pins = (*failing).pins.wrapping_sub(1);
    }
}
