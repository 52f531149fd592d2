// SPDX-License-Identifier: GPL-2.0

//! SCSI error handling: libiscsi's handlers, and then waiting until memory is let go.
//!
//! When a handler returns, SCSI owns the commands it was about: it finishes them and frees their
//! pages, or sends them once more, no matter what references there are on their tasks. libiscsi
//! counts on a driver that is done with a command when the abort of it succeeds. A driver whose
//! hardware gives memory to the target is not: the target can reach the memory until its key is
//! dead. So each handler here calls the one of libiscsi, has the driver revoke what is left, and
//! returns when the tasks are free.
//!
//! The host reset handler is here for the same reason. It is the last one that SCSI calls before
//! it takes the devices offline and finishes their commands, also where the time limit for error
//! handling (`eh_deadline`) makes it skip the others.

use crate::bindings;
use crate::conn::ConnData;
use crate::lock::Frwd;
use crate::session::{session_of, tasks};
use crate::task::is_completed;
use crate::{ConnError, Transport};
use core::ptr::{addr_of, NonNull};
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::time::{delay::fsleep, Delta, Instant, Monotonic};

/// What a handler returns when it was successful.
const SUCCESS: c_int = bindings::scsi_disposition_SUCCESS as c_int;

/// How often to look.
const POLL: Delta = Delta::from_millis(2);

/// How long the target's access may take to be revoked, before the connection is failed.
const REVOKE_TIMEOUT_MS: i64 = 5_000;

/// How often to say that it still takes longer.
const REPEAT_MS: i64 = 30_000;

/// Which commands a handler is about.
#[derive(Clone, Copy)]
enum Scope {
    /// One, which SCSI lends to the handler.
    Command(*mut bindings::scsi_cmnd),
    /// Those of a logical unit.
    Lun(u64),
    /// All of the session.
    Session,
}

/// Commands to wait for.
struct Wait {
    session: NonNull<bindings::iscsi_session>,
    scope: Scope,
    /// While the session is down, wait for commands too that libiscsi did not complete yet: SCSI
    /// will not wait any longer.
    all_if_down: bool,
}

impl Wait {
    /// Returns whether a task has a command that has to be waited for.
    ///
    /// # Safety
    ///
    /// `task` must be a task of the session, and `back_lock` be held. For the scope of one
    /// command, that must be valid.
    unsafe fn concerns(&self, task: NonNull<bindings::iscsi_task>) -> bool {
        let task = task.as_ptr();
        // SAFETY: The task is valid. Under the lock a task that is not free keeps its command,
        // and a command its device.
        unsafe {
            let sc = (*task).sc;
            if sc.is_null() || (*task).state as u32 == bindings::ISCSI_TASK_FREE {
                return false;
            }
            let in_scope = match self.scope {
                Scope::Command(of) => sc == of,
                Scope::Lun(lun) => (*(*sc).device).lun == lun,
                Scope::Session => true,
            };
            in_scope && (is_completed((*task).state) || self.whatever_state())
        }
    }

    /// Returns whether commands are waited for that libiscsi did not complete.
    ///
    /// No command becomes a new one meanwhile: libiscsi accepts none while the session is down.
    fn whatever_state(&self) -> bool {
        if !self.all_if_down {
            return false;
        }
        // SAFETY: The session is valid while its error handler runs; an old value is good for
        // another round.
        let state = unsafe { addr_of!((*self.session.as_ptr()).state).read_volatile() };
        state as u32 != bindings::ISCSI_STATE_LOGGED_IN
    }

    /// Returns whether the session has tasks that may be looked at, as long as the lock is held.
    ///
    /// A reset may come through a file of a device that was opened before the logout. The file keeps
    /// the session, but its tasks are freed with it: after the teardown of its connection, which
    /// takes the lock to say so. Without a connection no command has a task (nor is one waited for
    /// whose connection had to be leaked, which is an error of the driver and in the log).
    fn has_tasks(&self, _frwd: &Frwd<'_>) -> bool {
        // SAFETY: The session is valid while its error handler runs, and the lock is held.
        unsafe { !(*self.session.as_ptr()).leadconn.is_null() }
    }

    /// Returns how many commands there are to wait for.
    fn count(&self) -> usize {
        // SAFETY: The session is valid while its error handler runs.
        let frwd = unsafe { Frwd::lock(self.session) };
        if !self.has_tasks(&frwd) {
            return 0;
        }
        let _back = frwd.back();
        // SAFETY: Session and tasks are valid, the lock is held, and the command that a scope
        // may name is lent to the handler.
        unsafe {
            tasks(self.session)
                .filter(|task| self.concerns(*task))
                .count()
        }
    }

    /// Has the driver revoke the target's access to the memory of these commands.
    fn invalidate<T: Transport>(&self) {
        // SAFETY: The session is valid while its error handler runs.
        let frwd = unsafe { Frwd::lock(self.session) };
        if !self.has_tasks(&frwd) {
            return;
        }

        // SAFETY: Session and tasks are valid while the lock is held.
        for task in unsafe { tasks(self.session) } {
            let back = frwd.back();
            // SAFETY: As in `count`.
            let concerned = unsafe { self.concerns(task) };
            drop(back);
            if !concerned {
                continue;
            }

            // The driver may put the last reference meanwhile, but while `frwd_lock` is held no
            // new command gets the task, and no connection is freed.
            // SAFETY: A task that is not free has a connection; it stays, see above. The lock
            // is held, and the borrow ends with this iteration.
            unsafe {
                let conn = NonNull::new_unchecked((*task.as_ptr()).conn);
                if let Some((conn, tx)) = ConnData::<T>::locked(conn) {
                    T::invalidate(conn, tx, (*task.as_ptr()).itt as u32);
                }
            }
        }
    }

    /// Waits until there is none left.
    fn settle<T: Transport>(&self) {
        if self.count() == 0 {
            return;
        }
        self.invalidate::<T>();

        let start = Instant::<Monotonic>::now();
        let mut next_message = REVOKE_TIMEOUT_MS;
        loop {
            let left = self.count();
            if left == 0 {
                return;
            }
            let waited = start.elapsed().as_millis();
            if waited >= next_message {
                // SAFETY: Session and class session are valid while an error handler runs.
                let sid = unsafe { (*(*self.session.as_ptr()).cls_session).sid };
                let seconds = waited / 1000;
                pr_err!("iscsi: session{sid}: {left} commands still in use after {seconds} s\n");
                if next_message == REVOKE_TIMEOUT_MS {
                    // Recovery drains the queues of the connection.
                    // SAFETY: The session is valid, and no lock is held.
                    unsafe {
                        bindings::iscsi_session_failure(
                            self.session.as_ptr(),
                            ConnError::SESSION_RESET.code(),
                        )
                    };
                }
                next_message = waited + REPEAT_MS;
            }
            fsleep(POLL);
        }
    }
}

/// Returns the session that a command was sent on.
///
/// # Safety
///
/// `sc` must be a command that SCSI passed to a handler of a host of ours.
unsafe fn session_of_command(sc: *mut bindings::scsi_cmnd) -> NonNull<bindings::iscsi_session> {
    // SAFETY: The parent of a target is the session it belongs to, for hosts of the transport
    // class.
    unsafe {
        let starget = bindings::scsi_target((*sc).device);
        session_of(NonNull::new_unchecked(bindings::starget_to_session(
            starget,
        )))
    }
}

/// Aborts one command. Process context, no locks, sleeps.
///
/// # Safety
///
/// To be called by the SCSI core only, with a command of a host of the transport `T` that timed
/// out or that it sent itself while handling errors.
pub(crate) unsafe extern "C" fn abort<T: Transport>(sc: *mut bindings::scsi_cmnd) -> c_int {
    // SAFETY: By the safety requirements.
    let ret = unsafe { bindings::iscsi_eh_abort(sc) };
    Wait {
        // SAFETY: By the safety requirements.
        session: unsafe { session_of_command(sc) },
        scope: Scope::Command(sc),
        all_if_down: false,
    }
    .settle::<T>();
    ret
}

/// Resets a logical unit. Process context, no locks, sleeps.
///
/// # Safety
///
/// To be called by the SCSI core only, with a command for a device of a host of the transport
/// `T`; the command itself may never have been sent.
pub(crate) unsafe extern "C" fn device_reset<T: Transport>(sc: *mut bindings::scsi_cmnd) -> c_int {
    // SAFETY: By the safety requirements.
    let ret = unsafe { bindings::iscsi_eh_device_reset(sc) };
    Wait {
        // SAFETY: By the safety requirements.
        session: unsafe { session_of_command(sc) },
        // SAFETY: The command has a device.
        scope: Scope::Lun(unsafe { (*(*sc).device).lun }),
        all_if_down: false,
    }
    .settle::<T>();
    ret
}

/// Resets the target, or else the session. Process context, no locks, sleeps.
///
/// # Safety
///
/// As for [`device_reset`].
pub(crate) unsafe extern "C" fn target_reset<T: Transport>(sc: *mut bindings::scsi_cmnd) -> c_int {
    // SAFETY: By the safety requirements.
    let ret = unsafe { bindings::iscsi_eh_recover_target(sc) };
    // SAFETY: By the safety requirements.
    unsafe { settle_session::<T>(sc, ret) };
    ret
}

/// Resets the session. Process context, no locks, sleeps.
///
/// # Safety
///
/// As for [`device_reset`].
pub(crate) unsafe extern "C" fn host_reset<T: Transport>(sc: *mut bindings::scsi_cmnd) -> c_int {
    // SAFETY: By the safety requirements.
    let ret = unsafe { bindings::iscsi_eh_session_reset(sc) };
    // SAFETY: By the safety requirements.
    unsafe { settle_session::<T>(sc, ret) };
    ret
}

/// Waits for all commands of the session that SCSI may take back after a reset.
///
/// # Safety
///
/// As for [`device_reset`].
unsafe fn settle_session<T: Transport>(sc: *mut bindings::scsi_cmnd, ret: c_int) {
    Wait {
        // SAFETY: By the safety requirements.
        session: unsafe { session_of_command(sc) },
        scope: Scope::Session,
        all_if_down: ret != SUCCESS,
    }
    .settle::<T>();
}
