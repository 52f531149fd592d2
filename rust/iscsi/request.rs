// SPDX-License-Identifier: GPL-2.0

//! Login and Text Requests of user space, sent when it is ready for their responses.
//!
//! User space asks the transport class to send one, and gets a reply to that; the target's
//! response comes as an event of its own. iscsiadm, which keeps the session of a discovery itself,
//! loses a response that overtakes the reply: it takes the event while it looks for the reply,
//! and polls the empty socket for another one until its time limit (open-iscsi 2.1.11,
//! `__kipc_call()` and `discovery_sendtargets()`). A fast target or a busy host is enough for
//! that. So these requests go out when the system call with the reply is over.

use crate::bindings::{self, NoIo};
use crate::conn::{ConnData, ConnRef};
use crate::{Bhs, Transport};
use core::ptr::{self, NonNull};
use core::slice;
use kernel::alloc::AllocError;
use kernel::bindings::{
    callback_head, task_work_add, task_work_notify_mode_TWA_RESUME, PF_KTHREAD,
};
use kernel::ffi::{c_char, c_int};
use kernel::prelude::*;

/// A request that waits for the end of the system call.
#[repr(C)]
struct Request<T: Transport> {
    /// First: the task's list is of these.
    head: callback_head,
    conn: ConnRef<T>,
    bhs: Bhs,
    data: KVec<u8>,
}

/// Sends a PDU of user space: a Login or Text Request later, when this task returns to user
/// space, anything else at once. May sleep, no session lock held.
///
/// Returns what user space is told. A request that turns out later not to be sent fails the
/// connection.
///
/// # Safety
///
/// `cls_conn` must be a valid connection of the transport `T`, `hdr` valid for a header and `data`
/// for `len` bytes.
pub(crate) unsafe fn send<T: Transport>(
    cls_conn: NonNull<bindings::iscsi_cls_conn>,
    hdr: *mut bindings::iscsi_hdr,
    data: *mut c_char,
    len: u32,
) -> c_int {
    // SAFETY: libiscsi sets the pointer to what is behind the class connection, which is of `T`.
    let conn = unsafe {
        let conn = NonNull::new_unchecked((*cls_conn.as_ptr()).dd_data.cast());
        ConnData::<T>::current(conn)
    };
    // SAFETY: By the safety requirements; a `Bhs` is as long as a header, and aligned as one.
    let bhs = unsafe { *hdr.cast::<Bhs>() };
    // SAFETY: The flags of the current task, of which only itself changes those that are its kind.
    let returns = unsafe { (*kernel::current!().as_ptr()).flags } & PF_KTHREAD == 0;
    match conn {
        Some(conn) if bhs.is_negotiation() && returns => {
            let _noio = NoIo::enter();
            let data = match len {
                0 => &[][..],
                // SAFETY: By the safety requirements.
                len => unsafe { slice::from_raw_parts(data.cast::<u8>(), len as usize) },
            };
            match later(conn, bhs, data) {
                Ok(()) => 0,
                Err(error) => error.to_errno(),
            }
        }
        // SAFETY: By the safety requirements; no session lock is held.
        _ => unsafe { bindings::iscsi_conn_send_pdu(cls_conn.as_ptr(), hdr, data, len) },
    }
}

/// Has a request sent when the current task returns to user space.
fn later<T: Transport>(conn: ConnRef<T>, bhs: Bhs, data: &[u8]) -> Result {
    let no_memory = |_: &AllocError| err!("iscsi: {conn}: no memory to send a request\n");
    let mut copy = KVec::new();
    copy.extend_from_slice(data, GFP_KERNEL)
        .inspect_err(no_memory)?;
    let place = KBox::<Request<T>>::new_uninit(GFP_KERNEL).inspect_err(no_memory)?;
    let head = callback_head {
        next: ptr::null_mut(),
        func: Some(send_now::<T>),
    };
    let request = KBox::write(
        place,
        Request {
            head,
            conn,
            bhs,
            data: copy,
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
    let _noio = NoIo::enter();
    request.conn.send_pdu(&request.bhs, &request.data);
}
