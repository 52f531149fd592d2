// SPDX-License-Identifier: GPL-2.0

//! The tasks of SCSI commands: what the driver sees while it sends one, and the references by
//! which it keeps the command's memory.

use crate::bhs::Bhs;
use crate::bindings;
use crate::failing;
use crate::tag::{itt_index, BHS_LEN};
use core::marker::PhantomData;
use core::ptr::{addr_of, addr_of_mut, NonNull};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use iser_bindings::ScatterlistOwner;
use kernel::ffi::{c_int, c_ushort};

/// What this crate adds to each task of libiscsi.
///
/// The header that libiscsi writes is here and not in a buffer of the driver: it is written
/// whenever libiscsi pleases, the driver's buffers belong to the hardware at times, and they go
/// with the connection while the tasks stay.
#[repr(C)]
pub(crate) struct TaskData {
    bhs: Bhs,
    /// Changes under `back_lock` when the task ends: it carries one request after another, with the
    /// same Initiator Task Tag, and a target may answer an aborted one when libiscsi prepares the
    /// next. A response is delivered only to the incarnation that was sent.
    incarnation: AtomicU32,
}

/// Behind the task in memory, which libiscsi aligns as the task.
const _: () = assert!(align_of::<TaskData>() <= align_of::<bindings::iscsi_task>());

impl TaskData {
    /// What a new session has.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const fn new() -> Self {
        Self {
            bhs: Bhs::ZERO,
            incarnation: AtomicU32::new(0),
        }
    }

    /// Lets the task's header point to the one here, for ever: libiscsi never changes that.
    ///
    /// # Safety
    ///
    /// `task` must be a task of a session that was set up with our size for its private data and
    /// that nobody else uses yet.
    pub(crate) unsafe fn provide_header(task: *mut bindings::iscsi_task) {
        // SAFETY: The private data is a `TaskData` by the safety requirements, and the task
        // ours.
        unsafe {
            let data = (*task).dd_data.cast::<TaskData>();
            (*task).hdr = addr_of_mut!((*data).bhs).cast();
            (*task).hdr_max = BHS_LEN as c_ushort;
        }
    }

    /// Returns the header of a task.
    ///
    /// # Safety
    ///
    /// `task` must be a task of a session that [`create`] made, whose `frwd_lock` must be held
    /// during `'a`.
    ///
    /// [`create`]: crate::session::create
    #[inline]
    pub(crate) unsafe fn bhs<'a>(task: NonNull<bindings::iscsi_task>) -> &'a [u8; BHS_LEN] {
        // SAFETY: The private data is a `TaskData`. The header is only written under the lock.
        unsafe { &(*(*task.as_ptr()).dd_data.cast::<TaskData>()).bhs.0 }
    }

    /// Returns the incarnation of a task. It does not change under `back_lock`, and not while who
    /// prepares and sends the task has `frwd_lock`: libiscsi's reference keeps it from being freed.
    /// What the last use has written is seen as the rest of the task is, by libiscsi's own queue of
    /// free tasks.
    ///
    /// # Safety
    ///
    /// `task` must be valid, and its private data a [`TaskData`].
    #[inline(always)]
    pub(crate) unsafe fn incarnation(task: NonNull<bindings::iscsi_task>) -> u32 {
        // SAFETY: The private data is a `TaskData`.
        unsafe { &(*(*task.as_ptr()).dd_data.cast::<TaskData>()).incarnation }.load(Relaxed)
    }

    /// Returns whether the task that `tag` names is still in this incarnation.
    ///
    /// # Safety
    ///
    /// `session` must be valid and have its tasks, each as for [`TaskData::incarnation`].
    /// `back_lock` must be held, or nobody else know it.
    #[inline(always)]
    pub(crate) unsafe fn is_in(
        session: NonNull<bindings::iscsi_session>,
        tag: u32,
        incarnation: u32,
    ) -> bool {
        let index = itt_index(tag);
        let session = session.as_ptr();
        // SAFETY: The session is valid; both are constant.
        let (cmds, count) = unsafe { ((*session).cmds, (*session).cmds_max) };
        // Not negative: a session has tasks.
        if index >= count as u32 {
            return false;
        }
        // SAFETY: The array has `count` tasks of the session.
        let now = unsafe {
            let task = *cmds.add(index as usize);
            Self::incarnation(NonNull::new_unchecked(task))
        };
        now == incarnation
    }

    /// Ends the incarnation of a task: no response to what it was is delivered any more.
    ///
    /// # Safety
    ///
    /// As for [`TaskData::incarnation`]; `back_lock` of the session must be held, or nobody else
    /// know the task.
    #[inline(always)]
    pub(crate) unsafe fn end_incarnation(task: NonNull<bindings::iscsi_task>) {
        // SAFETY: The private data is a `TaskData`.
        let incarnation = unsafe { &(*(*task.as_ptr()).dd_data.cast::<TaskData>()).incarnation };
        // Nobody else writes it meanwhile.
        incarnation.store(incarnation.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// Where the data of a command goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// There is none.
    None,
    /// From the target to the initiator.
    Read,
    /// From the initiator to the target.
    Write,
}

/// A SCSI command that the driver shall send.
///
/// # Invariants
///
/// `task` is a task of our session with a SCSI command, and `frwd_lock` is held during `'a`:
/// nobody else prepares, sends or reuses the task.
pub struct Command<'a> {
    task: NonNull<bindings::iscsi_task>,
    /// These are of the SCSI command, which may be gone as soon as it is sent.
    direction: bindings::dma_data_direction,
    data_len: u32,
    segments: u32,
    referenced: bool,
    _locked: PhantomData<&'a mut bindings::iscsi_task>,
}

impl Command<'_> {
    /// Wraps what libiscsi passes to `xmit_task`.
    ///
    /// # Safety
    ///
    /// The type invariant must hold, and the command must not be sent yet.
    #[inline(always)]
    pub(crate) unsafe fn new(task: NonNull<bindings::iscsi_task>) -> Self {
        // SAFETY: The task has a command that is not sent yet, so that it is still there.
        let (direction, data_len, segments) = unsafe {
            let sc = (*task.as_ptr()).sc;
            let sdb = &(*sc).sdb;
            ((*sc).sc_data_direction, sdb.length, sdb.table.nents)
        };
        // INVARIANT: By the safety requirements.
        Self {
            task,
            direction,
            data_len,
            segments,
            referenced: false,
            _locked: PhantomData,
        }
    }

    /// The same command, in another place. What is handed to a function that is not inlined has
    /// to be in memory; handing this over instead leaves the original in registers.
    #[inline(always)]
    pub fn elsewhere(self) -> Self {
        // INVARIANT: That of `self`, which is gone.
        Self {
            task: self.task,
            direction: self.direction,
            data_len: self.data_len,
            segments: self.segments,
            referenced: self.referenced,
            _locked: PhantomData,
        }
    }

    /// Returns the index of the task, which the Initiator Task Tag contains.
    #[inline]
    pub fn itt_index(&self) -> u32 {
        // SAFETY: Valid by the type invariant; constant.
        unsafe { (*self.task.as_ptr()).itt as u32 }
    }

    /// Returns which of all requests with its Initiator Task Tag this is, to be handed back with
    /// the response: see [`ConnRef::complete`](crate::ConnRef::complete).
    #[inline(always)]
    pub fn incarnation(&self) -> u32 {
        // SAFETY: Valid by the type invariant.
        unsafe { TaskData::incarnation(self.task) }
    }

    /// Returns the header that has to be sent.
    #[inline]
    pub fn bhs(&self) -> &[u8; BHS_LEN] {
        // SAFETY: By the type invariant the lock is held for longer than `self` is borrowed.
        unsafe { TaskData::bhs(self.task) }
    }

    /// Returns where the data goes.
    #[inline(always)]
    pub fn direction(&self) -> Direction {
        if self.data_len == 0 {
            return Direction::None;
        }
        match self.direction {
            bindings::dma_data_direction::DMA_FROM_DEVICE => Direction::Read,
            bindings::dma_data_direction::DMA_TO_DEVICE => Direction::Write,
            _ => Direction::None,
        }
    }

    /// Returns the length of the data buffer in bytes.
    #[inline]
    pub fn data_len(&self) -> u32 {
        self.data_len
    }

    /// Returns how many segments of memory the data buffer has.
    #[inline]
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// Returns the Expected Data Transfer Length in the header.
    ///
    /// It differs from [`Command::data_len`] where protection information is transferred too.
    #[inline]
    pub fn edtl(&self) -> u32 {
        let bhs = self.bhs();
        u32::from_be_bytes([bhs[20], bhs[21], bhs[22], bhs[23]])
    }

    /// Returns how many bytes go with the header as immediate data.
    #[inline]
    pub fn imm_count(&self) -> u32 {
        // SAFETY: Valid by the type invariant; only written under the lock.
        unsafe { (*self.task.as_ptr()).imm_count }
    }

    /// Returns how many bytes follow in unsolicited Data-Out PDUs.
    #[inline]
    pub fn unsolicited_len(&self) -> u32 {
        if self.direction() == Direction::Write {
            // SAFETY: Valid by the type invariant; only written under the lock.
            unsafe { (*self.task.as_ptr()).unsol_r2t.data_length }
        } else {
            // What an earlier command left there.
            0
        }
    }

    /// Tells libiscsi that the connection failed, as soon as the callback that this was passed to
    /// has returned. More than one call does no harm.
    #[inline(always)]
    pub fn fail_connection(&self) {
        // SAFETY: By the type invariant the lock is held; libiscsi calls with what is bound
        // only, and the task's connection is valid.
        unsafe { failing::fail_soon(NonNull::new_unchecked((*self.task.as_ptr()).conn)) };
    }

    /// Takes a reference on the task, by which the data stays.
    ///
    /// Returns [`None`] if it was taken before, or if the command is complete, which cannot be
    /// before it is sent.
    #[inline]
    pub fn reference(&mut self) -> Option<CommandRef> {
        // Whoever has it may map the data for a device, which can be done once.
        if core::mem::replace(&mut self.referenced, true) {
            return None;
        }
        // SAFETY: The task is valid by the type invariant.
        if !unsafe { bindings::iscsi_get_task(self.task.as_ptr()) } {
            return None;
        }
        // INVARIANT: The reference was just taken. The task has a command, and keeps it until
        // its last reference is put.
        Some(CommandRef { task: self.task })
    }

    /// Prepares the next unsolicited Data-Out PDU, until all such data is accounted for.
    ///
    /// libiscsi prepares the whole task again should the transmit fail.
    pub fn next_data_out(&mut self) -> Option<DataOut> {
        if self.direction() != Direction::Write {
            return None;
        }
        let task = self.task.as_ptr();
        let mut bhs = Bhs::ZERO;

        // SAFETY: By the type invariant the task is ours under the lock. A data-out header has
        // the length of every other, see the assertion below.
        unsafe {
            let r2t = addr_of_mut!((*task).unsol_r2t);
            let sent = (*r2t).sent as u32;
            if (*r2t).data_length <= sent {
                return None;
            }
            let offset = (*r2t).data_offset.wrapping_add(sent);
            bindings::iscsi_prep_data_out_pdu(task, r2t, addr_of_mut!(bhs).cast());
            let len = (*r2t).data_count as u32;
            if len == 0 {
                // The target claims to receive no data at all.
                return None;
            }
            (*r2t).sent = (*r2t).sent.wrapping_add((*r2t).data_count);
            Some(DataOut {
                bhs: bhs.0,
                offset,
                len,
            })
        }
    }
}

const _: () = assert!(size_of::<bindings::iscsi_data>() == BHS_LEN);
const _: () = assert!(size_of::<bindings::iscsi_scsi_req>() == BHS_LEN);
const _: () = assert!(core::mem::offset_of!(bindings::iscsi_scsi_req, data_length) == 20);

/// An unsolicited Data-Out PDU.
#[derive(Clone, Copy)]
pub struct DataOut {
    /// Its header.
    pub bhs: [u8; BHS_LEN],
    /// Where its data begins in the buffer of the command.
    pub offset: u32,
    /// How many bytes that is.
    pub len: u32,
}

/// A reference on the task of a SCSI command.
///
/// As long as there is one, libiscsi does not give the command back to SCSI, and its
/// scatterlist and pages stay what they are: also when the command is aborted, times out, or is
/// swept away by a reset, because the error handlers of this crate return only when no reference
/// is left, see [`Transport::invalidate`].
///
/// Dropping the last one completes the command if libiscsi is done with it: in process or
/// softirq context, with or without `frwd_lock`, but not with `back_lock`, which no driver ever
/// holds. All have to be dropped when [`Transport::stop`] returns.
///
/// [`Transport::invalidate`]: crate::Transport::invalidate
/// [`Transport::stop`]: crate::Transport::stop
///
/// # Invariants
///
/// Owns one reference on `task`, which has a SCSI command. The memory of the task, its
/// connection and its session stays: they are not freed while a task is referenced.
pub struct CommandRef {
    task: NonNull<bindings::iscsi_task>,
}

// SAFETY: References on tasks are counted atomically and may be put by any CPU.
unsafe impl Send for CommandRef {}

// SAFETY: Everything that `&self` reads is constant while the reference exists.
unsafe impl Sync for CommandRef {}

impl CommandRef {
    /// Returns the index of the task, which the Initiator Task Tag contains.
    #[inline]
    pub fn itt_index(&self) -> u32 {
        // SAFETY: Valid by the type invariant; constant.
        unsafe { (*self.task.as_ptr()).itt as u32 }
    }

    /// Returns the length of the data buffer in bytes.
    #[inline]
    pub fn data_len(&self) -> u32 {
        // SAFETY: The command and its data buffer are valid by the type invariant.
        unsafe { (*self.sdb()).length }
    }

    #[inline]
    fn sdb(&self) -> *const bindings::scsi_data_buffer {
        // SAFETY: By the type invariant the task is valid and has a command.
        unsafe { addr_of!((*(*self.task.as_ptr()).sc).sdb) }
    }
}

impl Drop for CommandRef {
    #[inline]
    fn drop(&mut self) {
        let task = self.task.as_ptr();
        // SAFETY: Gives up the reference that `self` owns by the type invariant. It is hardly
        // ever the last one; that takes `back_lock`, which is not held: no driver code runs
        // under it.
        unsafe {
            if !bindings::refcount_dec_not_one(addr_of_mut!((*task).refcount)) {
                bindings::iscsi_put_task(task);
            }
        }
    }
}

// SAFETY: While the reference exists, the task is not freed and the command not given back to
// SCSI, which owns list and pages and leaves them alone until then. That includes error
// handling: see `eh`. The list is made by the block layer, terminated, `nents` long, and
// `length` bytes of data fit. Nothing else in this module looks at its DMA fields.
unsafe impl ScatterlistOwner for CommandRef {
    #[inline]
    fn sgl(&self) -> *mut bindings::scatterlist {
        // SAFETY: The data buffer is valid by the type invariant.
        unsafe { (*self.sdb()).table.sgl }
    }

    #[inline]
    fn nents(&self) -> u32 {
        // SAFETY: The data buffer is valid by the type invariant.
        unsafe { (*self.sdb()).table.nents }
    }

    #[inline]
    fn len(&self) -> u32 {
        self.data_len()
    }
}

/// Returns whether libiscsi has done its part for a task in this state, whoever still holds it.
#[inline]
pub(crate) fn is_completed(state: c_int) -> bool {
    matches!(
        state as u32,
        bindings::ISCSI_TASK_COMPLETED
            | bindings::ISCSI_TASK_ABRT_TMF
            | bindings::ISCSI_TASK_ABRT_SESS_RECOV
    )
}

/// Returns whether a task is as libiscsi passed it to the driver: running, and referred to by
/// libiscsi only.
///
/// # Safety
///
/// `task` must be a task of a session whose `back_lock` is held.
pub(crate) unsafe fn is_untouched(task: NonNull<bindings::iscsi_task>) -> bool {
    let task = task.as_ptr();
    // SAFETY: As for `is_free`.
    unsafe {
        (*task).state as u32 == bindings::ISCSI_TASK_RUNNING
            && addr_of!((*task).refcount.refs.counter).read_volatile() == 1
    }
}

/// Returns whether nothing and nobody uses a task.
///
/// # Safety
///
/// `task` must be a task of a session whose `back_lock` is held.
pub(crate) unsafe fn is_free(task: NonNull<bindings::iscsi_task>) -> bool {
    let task = task.as_ptr();
    // SAFETY: Valid by the safety requirements. The state only becomes "free" under the lock;
    // references are taken and put without it, hence the volatile read.
    unsafe {
        (*task).state as u32 == bindings::ISCSI_TASK_FREE
            && addr_of!((*task).refcount.refs.counter).read_volatile() == 0
    }
}
