// SPDX-License-Identifier: GPL-2.0

//! Login and Text Requests of user space, sent when it is ready for their responses.
//!
//! User space asks the transport class to send one, and gets a reply to that; the target's
//! response comes as an event of its own. iscsiadm, which keeps the session of a discovery itself,
//! loses a response that overtakes the reply: it takes the event while it looks for the reply
//! (`__kipc_call()` of open-iscsi 2.1.11), and polls the empty socket for another one until its
//! time limit (`iscsi_login()` and `discovery_sendtargets()`). A fast target or a busy host is
//! enough for that. So these requests go out when the system call with the reply is over.

use crate::bindings::{self, NoIo};
use crate::conn::{session_of, ConnData, ConnRef};
use crate::lock::Frwd;
use crate::tag::BHS_LEN;
use crate::{Bhs, Transport};
use core::ptr::{self, addr_of, NonNull};
use core::slice;
use core::sync::atomic::Ordering::{Acquire, Release};
use kernel::alloc::AllocError;
use kernel::bindings::{
    callback_head, task_work_add, task_work_notify_mode_TWA_RESUME, PF_KTHREAD,
};
use kernel::ffi::{c_char, c_int};
use kernel::prelude::*;

/// The one request of a connection that may wait.
///
/// # Invariants
///
/// `requested` of the connection is set, and nobody else clears it.
struct Turn<T: Transport>(ConnRef<T>);

impl<T: Transport> Turn<T> {
    /// Takes the turn, if no request waits.
    fn take(conn: ConnRef<T>) -> Option<Self> {
        let waits = conn.requested().swap(true, Acquire);
        // INVARIANT: Just set, by nobody else.
        (!waits).then(|| Self(conn))
    }
}

impl<T: Transport> Drop for Turn<T> {
    fn drop(&mut self) {
        self.0.requested().store(false, Release);
    }
}

/// A request that waits for the end of the system call.
#[repr(C)]
struct Request<T: Transport> {
    /// First: the task's list is of these.
    head: callback_head,
    bhs: Bhs,
    data: KVec<u8>,
    /// Last, since it keeps the module.
    turn: Turn<T>,
}

/// Sends a PDU of user space: a Login or Text Request that libiscsi would take later, when this
/// task returns to user space, anything else at once. May sleep, no session lock held.
///
/// Returns what user space is told. A request that turns out later not to be sent fails the
/// connection.
///
/// # Safety
///
/// `cls_conn` must be a valid connection of the transport `T`. `hdr` and `data` must point into
/// one message, the data behind the header, whatever its length, and be valid for `len` bytes.
pub(crate) unsafe fn send<T: Transport>(
    cls_conn: NonNull<bindings::iscsi_cls_conn>,
    hdr: *mut bindings::iscsi_hdr,
    data: *mut c_char,
    len: u32,
) -> c_int {
    if data.addr().wrapping_sub(hdr.addr()) < BHS_LEN {
        err!("iscsi: a PDU of user space is too short for its header\n");
        return EINVAL.to_errno();
    }
    // SAFETY: The header is there; a `Bhs` is as long, and aligned as one.
    let bhs = unsafe { *hdr.cast::<Bhs>() };
    // SAFETY: The flags of the current task; what it is does not change.
    let returns = unsafe { (*kernel::current!().as_ptr()).flags } & PF_KTHREAD == 0;
    // SAFETY: libiscsi sets the pointer to what is behind the class connection, which is of `T`; a
    // callback of a transport runs with its module referenced.
    let conn = unsafe {
        let conn = NonNull::new_unchecked((*cls_conn.as_ptr()).dd_data.cast());
        let waits = returns && bhs.is_negotiation_request() && is_taken(conn, len);
        waits.then(|| ConnData::<T>::current(conn)).flatten()
    };
    let Some(conn) = conn else {
        // SAFETY: By the safety requirements; no session lock is held.
        return unsafe { bindings::iscsi_conn_send_pdu(cls_conn.as_ptr(), hdr, data, len) };
    };
    let data = match len {
        0 => &[][..],
        // SAFETY: By the safety requirements.
        len => unsafe { slice::from_raw_parts(data.cast::<u8>(), len as usize) },
    };
    let _noio = NoIo::enter();
    match later(conn, bhs, data) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Whether libiscsi would take a Login or Text Request now. If not, user space is told at once.
///
/// # Safety
///
/// `conn` must be a valid connection; no session lock may be held.
unsafe fn is_taken(conn: NonNull<bindings::iscsi_conn>, len: u32) -> bool {
    // SAFETY: By the safety requirements.
    let session = unsafe { session_of(conn) };
    // SAFETY: The session is valid.
    let _frwd = unsafe { Frwd::lock(session) };
    // SAFETY: All of it is valid with the connection. Bits of the flags change without the lock,
    // the rest does not.
    let (state, flags, task) = unsafe {
        let conn = conn.as_ptr();
        let flags = ptr::read_volatile(addr_of!((*conn).flags));
        let task = (*(*conn).login_task).state as u32;
        ((*session.as_ptr()).state as u32, flags, task)
    };
    let ends = [
        bindings::ISCSI_STATE_TERMINATE,
        bindings::ISCSI_STATE_LOGGING_OUT,
    ];
    len <= bindings::ISCSI_DEF_MAX_RECV_SEG_LEN
        && !ends.contains(&state)
        && flags & (1 << bindings::ISCSI_CONN_FLAG_BOUND) != 0
        && task == bindings::ISCSI_TASK_FREE
}

/// Has a request sent when the current task returns to user space.
///
/// Fails with [`EBUSY`] if the one before waits for that too.
fn later<T: Transport>(conn: ConnRef<T>, bhs: Bhs, data: &[u8]) -> Result {
    let no_memory = |_: &AllocError| err!("iscsi: {conn}: no memory to send a request\n");
    let mut copy = KVec::new();
    copy.extend_from_slice(data, GFP_KERNEL)
        .inspect_err(no_memory)?;
    let place = KBox::<Request<T>>::new_uninit(GFP_KERNEL).inspect_err(no_memory)?;
    let Some(turn) = Turn::take(conn) else {
        err!("iscsi: a request of user space comes before the last one was sent\n");
        return Err(EBUSY);
    };
    let head = callback_head {
        next: ptr::null_mut(),
        func: Some(send_now::<T>),
    };
    let request = KBox::write(
        place,
        Request {
            head,
            bhs,
            data: copy,
            turn,
        },
    );

    let head = KBox::into_raw(request).cast::<callback_head>();
    // SAFETY: The entry is complete, and the task's until `send_now` gets it.
    let ret = unsafe {
        task_work_add(
            kernel::current!().as_ptr(),
            head,
            task_work_notify_mode_TWA_RESUME,
        )
    };
    if ret != 0 {
        // SAFETY: The task is about to end and has not taken what was a `KBox` above.
        drop(unsafe { KBox::from_raw(head.cast::<Request<T>>()) });
    }
    kernel::error::to_result(ret)
}

/// Sends a request. From the task that asked for it, on its way to user space; may sleep.
///
/// # Safety
///
/// To be called by the kernel only, with an entry that `later` added, and once for each.
unsafe extern "C" fn send_now<T: Transport>(head: *mut callback_head) {
    // SAFETY: The entry is the first member of what was a `KBox`, which is ours now.
    let request = unsafe { KBox::from_raw(head.cast::<Request<T>>()) };
    let Request {
        bhs, data, turn, ..
    } = KBox::into_inner(request);
    let noio = NoIo::enter();
    turn.0.send_pdu(&bhs, &data);
    drop(data);
    drop(noio);
    drop(turn);
}
