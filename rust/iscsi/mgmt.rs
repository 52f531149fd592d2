// SPDX-License-Identifier: GPL-2.0

//! The tasks of PDUs that carry no SCSI command: login, text, logout, NOP-Out, task management.

use crate::bindings;
use crate::failing;
use crate::lock::BackBh;
use crate::tag::BHS_LEN;
use crate::task::TaskData;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use kernel::ffi::c_int;

/// The Initiator Task Tag of a PDU to which no response is expected.
const RESERVED_TAG: [u8; 4] = [0xff; 4];

/// A PDU without a SCSI command that the driver shall send.
///
/// # Invariants
///
/// `task` is a task of our session without a SCSI command, its connection is valid, and
/// `frwd_lock` is held during `'a`: nobody else prepares, sends or reuses the task.
pub struct MgmtTask<'a> {
    task: NonNull<bindings::iscsi_task>,
    _locked: PhantomData<&'a mut bindings::iscsi_task>,
}

impl MgmtTask<'_> {
    /// Wraps what libiscsi passes to `xmit_task`.
    ///
    /// # Safety
    ///
    /// The type invariant must hold.
    #[inline]
    pub(crate) unsafe fn new(task: NonNull<bindings::iscsi_task>) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            task,
            _locked: PhantomData,
        }
    }

    /// Returns the index of the task, which the Initiator Task Tag contains unless it is
    /// reserved.
    #[inline]
    pub fn itt_index(&self) -> u32 {
        // SAFETY: Valid by the type invariant; constant.
        unsafe { (*self.task.as_ptr()).itt as u32 }
    }

    /// Returns which of all requests with its Initiator Task Tag this is, to be handed back with
    /// the response: see [`ConnRef::complete`](crate::ConnRef::complete).
    #[inline]
    pub fn incarnation(&self) -> u32 {
        // SAFETY: Valid by the type invariant.
        unsafe { TaskData::incarnation(self.task) }
    }

    /// Tells libiscsi that the connection failed, as soon as the callback that this was passed to
    /// has returned. More than one call does no harm.
    pub fn fail_connection(&self) {
        // SAFETY: By the type invariant the lock is held; libiscsi calls with what is bound
        // only, and the task's connection is valid.
        unsafe { failing::fail_soon(NonNull::new_unchecked((*self.task.as_ptr()).conn)) };
    }

    /// Returns the header that has to be sent.
    #[inline]
    pub fn bhs(&self) -> &[u8; BHS_LEN] {
        // SAFETY: By the type invariant the lock is held for longer than `self` is borrowed.
        unsafe { TaskData::bhs(self.task) }
    }

    /// Returns the data segment. Its padding is not part of it.
    ///
    /// It has to be copied: the buffer belongs to libiscsi.
    pub fn data(&self) -> &[u8] {
        // SAFETY: Valid by the type invariant.
        let (data, len) = unsafe {
            let task = self.task.as_ptr();
            ((*task).data, (*task).data_count)
        };
        if data.is_null() || len == 0 {
            return &[];
        }
        // SAFETY: libiscsi copied `data_count` bytes to the buffer, which belongs to the
        // connection and is only written under the lock.
        unsafe { core::slice::from_raw_parts(data.cast(), len as usize) }
    }

    /// Returns whether this is the task of login and text requests.
    #[inline]
    pub fn is_login(&self) -> bool {
        // SAFETY: Task and connection are valid by the type invariant.
        unsafe { (*(*self.task.as_ptr()).conn).login_task == self.task.as_ptr() }
    }

    /// Returns whether the session is a discovery session.
    #[inline]
    pub fn is_discovery(&self) -> bool {
        // SAFETY: Task, connection and session are valid by the type invariant.
        unsafe { (*(*(*self.task.as_ptr()).conn).session).discovery_sess != 0 }
    }

    /// Returns whether the target will answer. If not, see [`MgmtTask::unanswered`].
    #[inline]
    pub fn has_response(&self) -> bool {
        let bhs = self.bhs();
        [bhs[16], bhs[17], bhs[18], bhs[19]] != RESERVED_TAG
    }

    /// Returns what has to be told when the PDU is sent, if the target will not answer it.
    ///
    /// libiscsi frees such a task only when the driver says so.
    pub fn unanswered(&self) -> Option<Unanswered> {
        if self.has_response() {
            return None;
        }
        // SAFETY: The task is valid by the type invariant.
        if !unsafe { bindings::iscsi_get_task(self.task.as_ptr()) } {
            return None;
        }
        // INVARIANT: The reference was just taken.
        Some(Unanswered { task: self.task })
    }
}

const _: () = assert!(core::mem::offset_of!(bindings::iscsi_hdr, itt) == 16);

/// A PDU on its way to which no response is expected.
///
/// To be consumed by [`Unanswered::sent`] when the target has it; to be dropped if that does not
/// happen. Both in process or softirq context, and before [`Transport::stop`] returns.
///
/// [`Transport::stop`]: crate::Transport::stop
///
/// # Invariants
///
/// Owns one reference on `task`. The memory of the task, its connection and its session stays:
/// they are not freed while a task is referenced.
pub struct Unanswered {
    task: NonNull<bindings::iscsi_task>,
}

// SAFETY: References on tasks are counted atomically and may be put by any CPU.
unsafe impl Send for Unanswered {}

// SAFETY: There is nothing that `&self` could do.
unsafe impl Sync for Unanswered {}

impl Unanswered {
    /// Ends the task: nothing more will come for it.
    pub fn sent(self) {
        let this = ManuallyDrop::new(self);
        let task = this.task.as_ptr();

        // SAFETY: By the type invariant the session stays while our reference does, and under
        // the lock for which it is put; it is freed by a thread that took the lock after us. The
        // reference of libiscsi is still there if nothing completed the task, which would happen
        // under the lock too and change the state, as we do.
        unsafe {
            let session = NonNull::new_unchecked((*(*task).conn).session);
            let _back = BackBh::lock(session);
            if (*task).state as u32 == bindings::ISCSI_TASK_RUNNING {
                (*task).state = bindings::ISCSI_TASK_COMPLETED as c_int;
                bindings::__iscsi_put_task(task);
            }
            bindings::__iscsi_put_task(task);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference that `self` owns by the type invariant.
        unsafe { bindings::iscsi_put_task(self.task.as_ptr()) };
    }
}
