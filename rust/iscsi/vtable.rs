// SPDX-License-Identifier: GPL-2.0

//! The callbacks of the iSCSI transport class and of libiscsi, and the tables they are in.
//!
//! Every callback says who calls it, with which locks, and whether it may sleep; it converts
//! pointers and results and leaves the rest to other modules. SCSI error handling is in `eh`.

use crate::bindings::{self, NoIo};
use crate::conn::{session_of, ConnData};
use crate::control::{self, Control};
use crate::eh;
use crate::failing::fail_soon;
use crate::lock::Back;
use crate::registration::Registration;
use crate::request;
use crate::session;
use crate::stats::Stats;
use crate::task::{is_untouched, TaskData};
use crate::{Command, HostParam, MgmtTask, Param, SocketAddr, Transport};
use core::ptr::{self, NonNull};
use kernel::ffi::{c_char, c_int, c_uint};
use kernel::prelude::*;

/// Readable by everybody.
const MODE_READ: bindings::umode_t = 0o444;

/// Returns the template of hosts.
pub(crate) fn host_template<T: Transport>(module: &ThisModule) -> bindings::scsi_host_template {
    let mut template = bindings::scsi_host_template {
        module: module.as_ptr(),
        name: T::HOST_NAME.as_char_ptr(),
        proc_name: T::PROC_NAME.as_char_ptr(),
        queuecommand: Some(bindings::iscsi_queuecommand),
        change_queue_depth: Some(bindings::scsi_change_queue_depth),
        eh_timed_out: Some(bindings::iscsi_eh_cmd_timed_out),
        eh_abort_handler: Some(eh::abort::<T>),
        eh_device_reset_handler: Some(eh::device_reset::<T>),
        eh_target_reset_handler: Some(eh::target_reset::<T>),
        eh_host_reset_handler: Some(eh::host_reset::<T>),
        this_id: -1,
        cmd_size: size_of::<bindings::iscsi_cmd>() as c_uint,
        ..Default::default()
    };
    template.set_track_queue_depth(1);
    template
}

/// Returns the table of the transport.
pub(crate) fn transport<T: Transport>(module: &ThisModule) -> bindings::iscsi_transport {
    bindings::iscsi_transport {
        owner: module.as_ptr(),
        name: T::NAME.as_char_ptr().cast_mut(),
        caps: T::CAPS,
        attr_is_visible: Some(attr_is_visible::<T>),
        // Endpoints.
        ep_connect: Some(ep_connect::<T>),
        ep_poll: Some(ep_poll::<T>),
        ep_disconnect: Some(ep_disconnect::<T>),
        get_ep_param: Some(get_ep_param::<T>),
        // Sessions and their hosts.
        create_session: Some(create_session::<T>),
        destroy_session: Some(destroy_session::<T>),
        get_session_param: Some(bindings::iscsi_session_get_param),
        session_recovery_timedout: Some(bindings::iscsi_session_recovery_timedout),
        get_host_param: Some(bindings::iscsi_host_get_param),
        set_host_param: Some(bindings::iscsi_host_set_param),
        // Connections.
        create_conn: Some(create_conn::<T>),
        bind_conn: Some(bind_conn::<T>),
        start_conn: Some(start_conn::<T>),
        unbind_conn: Some(bindings::iscsi_conn_unbind),
        stop_conn: Some(stop_conn::<T>),
        destroy_conn: Some(destroy_conn::<T>),
        set_param: Some(set_param::<T>),
        get_conn_param: Some(bindings::iscsi_conn_get_param),
        get_stats: Some(get_stats::<T>),
        // Tasks. `init_task` and `alloc_pdu` stay empty: tasks are complete from the creation of
        // their session on.
        send_pdu: Some(send_pdu::<T>),
        xmit_task: Some(xmit_task::<T>),
        cleanup_task: Some(cleanup_task),
        check_protection: Some(check_protection),
        ..Default::default()
    }
}

/// Converts a result to what C expects.
fn errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// Says which parameters sysfs shows. May sleep.
///
/// # Safety
///
/// To be called by the transport class only, when something of ours is added to sysfs.
unsafe extern "C" fn attr_is_visible<T: Transport>(
    param_type: c_int,
    param: c_int,
) -> bindings::umode_t {
    let param = param as u32;
    let visible = match param_type as u32 {
        bindings::iscsi_param_type_ISCSI_PARAM => T::PARAMS.contains(&Param::from_raw(param)),
        bindings::iscsi_param_type_ISCSI_HOST_PARAM => {
            T::HOST_PARAMS.contains(&HostParam::from_raw(param))
        }
        _ => false,
    };
    if visible {
        MODE_READ
    } else {
        0
    }
}

/// Starts to connect. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// # Safety
///
/// To be called by the transport class only. `addr` must be an address as user space sent it.
unsafe extern "C" fn ep_connect<T: Transport>(
    _shost: *mut bindings::Scsi_Host,
    addr: *mut kernel::bindings::sockaddr,
    non_blocking: c_int,
) -> *mut bindings::iscsi_endpoint {
    let _noio = NoIo::enter();
    // SAFETY: The transport class checks that there are 16 bytes, which is the family and all of
    // an IPv4 address. It does not say how many there are: an IPv6 address that user space cut
    // short is read 12 bytes beyond the message, where the socket buffer's own data follows. All
    // transports do the same.
    let addr = unsafe { SocketAddr::from_raw(addr) };
    let addr = match addr {
        Ok(addr) => addr,
        Err(err) => {
            err!("iscsi: cannot connect: neither an IPv4 nor an IPv6 address\n");
            return err.to_ptr();
        }
    };
    // SAFETY: This is a callback of `T`.
    match unsafe { Registration::<T>::current() }
        .and_then(|reg| reg.endpoints().connect(addr, non_blocking != 0))
    {
        Ok(ep) => ep.as_ptr(),
        Err(err) => err.to_ptr(),
    }
}

/// Waits for a connection. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// Returns 1 if connected, 0 if not yet, or an errno.
///
/// # Safety
///
/// To be called by the transport class only, with an endpoint that it holds a reference on.
unsafe extern "C" fn ep_poll<T: Transport>(
    ep: *mut bindings::iscsi_endpoint,
    timeout_ms: c_int,
) -> c_int {
    let _noio = NoIo::enter();
    // SAFETY: This is a callback of `T`.
    let result = unsafe { Registration::<T>::current() }.and_then(|reg| {
        let endpoint = reg.endpoints().find(ep).ok_or(ENOTCONN)?;
        T::ep_poll(&endpoint, timeout_ms)
    });
    match result {
        Ok(connected) => c_int::from(connected),
        Err(err) => err.to_errno(),
    }
}

/// Disconnects. A request of user space, or the transport class's cleanup after a failure; under
/// `ep_mutex` of the connection if it is bound to one. May sleep.
///
/// # Safety
///
/// To be called by the transport class only, with an endpoint that it got from `ep_connect`. If a
/// connection is bound to it, `unbind_conn` was called.
unsafe extern "C" fn ep_disconnect<T: Transport>(ep: *mut bindings::iscsi_endpoint) {
    let _noio = NoIo::enter();
    // SAFETY: This is a callback of `T`.
    let Ok(reg) = (unsafe { Registration::<T>::current() }) else {
        return;
    };
    // SAFETY: The transport class has a reference on the endpoint.
    if !unsafe { reg.endpoints().disconnect(ep) } {
        pr_warn!("iscsi: an endpoint to disconnect is not one of this transport\n");
    }
}

/// Prints the address that an endpoint is connected to. A read of sysfs, under `ep_mutex` of the
/// connection; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with an endpoint that a connection is bound to, and
/// a page to print to.
unsafe extern "C" fn get_ep_param<T: Transport>(
    ep: *mut bindings::iscsi_endpoint,
    param: bindings::iscsi_param,
    buf: *mut c_char,
) -> c_int {
    if ![Param::CONN_PORT, Param::CONN_ADDRESS].contains(&Param::from_raw(param)) {
        return ENOSYS.to_errno();
    }
    // SAFETY: This is a callback of `T`.
    let result = unsafe { Registration::<T>::current() }.and_then(|reg| {
        let endpoint = reg.endpoints().find(ep).ok_or(ENOTCONN)?;
        T::ep_address(&endpoint)
    });
    match result {
        Ok(addr) => {
            let mut storage = addr.to_storage();
            // SAFETY: The address is valid, and `buf` a page by the safety requirements.
            unsafe { bindings::iscsi_conn_get_addr_param(&mut storage, param, buf) }
        }
        Err(err) => err.to_errno(),
    }
}

/// Creates a session. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with an endpoint that it holds a reference on, or
/// NULL.
unsafe extern "C" fn create_session<T: Transport>(
    ep: *mut bindings::iscsi_endpoint,
    cmds_max: u16,
    queue_depth: u16,
    initial_cmdsn: u32,
) -> *mut bindings::iscsi_cls_session {
    let _noio = NoIo::enter();
    // SAFETY: This is a callback of `T`.
    unsafe { Registration::<T>::current() }
        .and_then(|reg| session::create(reg, ep, cmds_max, queue_depth, initial_cmdsn))
        .map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Destroys a session. A request of user space, under `rx_queue_mutex`, or work that it queued;
/// may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a session whose connections are destroyed.
unsafe extern "C" fn destroy_session<T: Transport>(cls_session: *mut bindings::iscsi_cls_session) {
    let _noio = NoIo::enter();
    // SAFETY: This is a callback of `T`; the session keeps the module.
    let Ok((reg, cls_session)) = (unsafe { session::named::<T>(cls_session) }) else {
        return;
    };
    // SAFETY: By the safety requirements.
    unsafe { session::destroy(reg, cls_session) };
}

/// Creates a connection. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a session.
unsafe extern "C" fn create_conn<T: Transport>(
    cls_session: *mut bindings::iscsi_cls_session,
    cid: u32,
) -> *mut bindings::iscsi_cls_conn {
    let _noio = NoIo::enter();
    // SAFETY: This is a callback of `T`.
    unsafe { session::named::<T>(cls_session) }
        // SAFETY: A valid session of `T`.
        .and_then(|(_, cls_session)| unsafe { control::create::<T>(cls_session, cid) })
        .map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Binds a connection to an endpoint. A request of user space, under `rx_queue_mutex` and
/// `ep_mutex` of the connection; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a session and a connection of that.
unsafe extern "C" fn bind_conn<T: Transport>(
    _cls_session: *mut bindings::iscsi_cls_session,
    cls_conn: *mut bindings::iscsi_cls_conn,
    handle: u64,
    is_leading: c_int,
) -> c_int {
    // SAFETY: This is a callback of `T`.
    let control = unsafe { Control::<T>::named(cls_conn) };
    errno(control.and_then(|(reg, control)| control.bind(reg, handle, is_leading)))
}

/// Starts full feature phase. A request of user space, under `rx_queue_mutex` and `ep_mutex` of
/// the connection; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a connection.
unsafe extern "C" fn start_conn<T: Transport>(cls_conn: *mut bindings::iscsi_cls_conn) -> c_int {
    // SAFETY: This is a callback of `T`.
    errno(unsafe { Control::<T>::named(cls_conn) }.and_then(|(_, control)| control.start()))
}

/// Stops a connection. A request of user space, under `rx_queue_mutex`, or the transport class's
/// cleanup after a failure, under `ep_mutex` of the connection; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a connection.
unsafe extern "C" fn stop_conn<T: Transport>(cls_conn: *mut bindings::iscsi_cls_conn, flag: c_int) {
    // SAFETY: This is a callback of `T`.
    if let Ok((_, control)) = unsafe { Control::<T>::named(cls_conn) } {
        control.stop(flag);
    }
}

/// Destroys a connection. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a connection, for the last time.
unsafe extern "C" fn destroy_conn<T: Transport>(cls_conn: *mut bindings::iscsi_cls_conn) {
    // SAFETY: This is a callback of `T`.
    if let Ok((reg, control)) = unsafe { Control::<T>::named(cls_conn) } {
        // SAFETY: By the safety requirements.
        unsafe { control.destroy(reg) };
    }
}

/// Sets a parameter. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a connection and a string that ends in
/// NUL.
unsafe extern "C" fn set_param<T: Transport>(
    cls_conn: *mut bindings::iscsi_cls_conn,
    param: bindings::iscsi_param,
    buf: *mut c_char,
    len: c_int,
) -> c_int {
    // SAFETY: By the safety requirements; nobody changes the message meanwhile.
    let value: &CStr = unsafe { CStr::from_char_ptr(buf) };
    // SAFETY: This is a callback of `T`.
    let control = unsafe { Control::<T>::named(cls_conn) };
    errno(control.and_then(|(_, control)| control.set_param(Param::from_raw(param), value, len)))
}

/// Reports statistics. A request of user space, under `rx_queue_mutex`; may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a connection and zeroed memory with
/// room for `ISCSI_STATS_CUSTOM_MAX` counters.
unsafe extern "C" fn get_stats<T: Transport>(
    cls_conn: *mut bindings::iscsi_cls_conn,
    stats: *mut bindings::iscsi_stats,
) {
    // SAFETY: This is a callback of `T`.
    let Ok((_, control)) = (unsafe { Control::<T>::named(cls_conn) }) else {
        return;
    };
    // SAFETY: By the safety requirements.
    control.stats(&mut unsafe { Stats::new(NonNull::new_unchecked(stats)) });
}

/// Sends a PDU. A request of user space, under `rx_queue_mutex` and `ep_mutex` of the connection;
/// may sleep.
///
/// # Safety
///
/// To be called by the transport class only, with a connection, a header, and so many bytes
/// of data.
unsafe extern "C" fn send_pdu<T: Transport>(
    cls_conn: *mut bindings::iscsi_cls_conn,
    hdr: *mut bindings::iscsi_hdr,
    data: *mut c_char,
    len: u32,
) -> c_int {
    // SAFETY: This is a callback of `T`.
    if let Err(err) = unsafe { Control::<T>::named(cls_conn) } {
        return err.to_errno();
    }
    // SAFETY: By the safety requirements; the connection is one of `T`.
    unsafe { request::send::<T>(NonNull::new_unchecked(cls_conn), hdr, data, len) }
}

/// Sends a task. From `iscsi_queuecommand`, or where libiscsi or user space sends a PDU; under
/// `frwd_lock`, must not sleep.
///
/// # Safety
///
/// To be called by libiscsi only, with a prepared task on a connection of `T`.
unsafe extern "C" fn xmit_task<T: Transport>(task: *mut bindings::iscsi_task) -> c_int {
    // SAFETY: libiscsi set the connection when it prepared the task; the lock is held.
    let (task, bound) = unsafe {
        let conn = NonNull::new_unchecked((*task).conn);
        (NonNull::new_unchecked(task), ConnData::<T>::locked(conn))
    };
    let Some((conn, tx)) = bound else {
        return ENOTCONN.to_errno();
    };

    // SAFETY: The task is valid, and its command does not change under the lock before it is
    // sent.
    let is_command = unsafe { !(*task.as_ptr()).sc.is_null() };
    let result = if is_command {
        // SAFETY: The task has a command that is not sent; the lock is held during the call.
        T::xmit_command(conn, tx, unsafe { Command::new(task) })
    } else {
        // SAFETY: The task has no command; the lock is held during the call.
        T::xmit_mgmt(conn, tx, &mut unsafe { MgmtTask::new(task) })
    };
    match result {
        Ok(()) => 0,
        // SAFETY: The task was passed to us, something is bound, and the lock is held.
        Err(error) => unsafe { not_sent(task, error) },
    }
}

/// Returns what libiscsi is told of a task that the driver has not sent.
///
/// It takes the task back then, and gives its memory to somebody else. So if somebody has
/// completed it or still refers to it, which takes a mistake of the driver, the task counts as sent,
/// and the connection is failed. Else nobody completes it from here on.
///
/// # Safety
///
/// `task` must have been passed to `xmit_task`, whose lock is held, on a connection with
/// something bound.
#[cold]
unsafe fn not_sent(task: NonNull<bindings::iscsi_task>, error: Error) -> c_int {
    // SAFETY: libiscsi set the connection when it prepared the task, and by the requirements
    // nobody has prepared it again since.
    let conn = unsafe { NonNull::new_unchecked((*task.as_ptr()).conn) };
    let untouched = {
        // SAFETY: The session of a valid connection; softirqs are disabled by `frwd_lock`.
        let _back = unsafe { Back::lock(session_of(conn)) };
        // SAFETY: The lock is held.
        let untouched = unsafe { is_untouched(task) };
        if untouched {
            // SAFETY: As above.
            unsafe { TaskData::end_incarnation(task) };
        }
        untouched
    };
    if untouched {
        return error.to_errno();
    }
    // SAFETY: By the safety requirements.
    unsafe { fail_soon(conn) };
    0
}

/// A task becomes free. From whoever puts its last reference; under `back_lock`, at times under
/// `frwd_lock` too, must not sleep. Nothing depends on the task any more then, and late responses
/// to it are refused.
///
/// # Safety
///
/// As for [`TaskData::end_incarnation`], which libiscsi's call meets.
pub(crate) unsafe extern "C" fn cleanup_task(task: *mut bindings::iscsi_task) {
    // SAFETY: By the safety requirements.
    unsafe { TaskData::end_incarnation(NonNull::new_unchecked(task)) };
}

/// Returns what is wrong with the protection information of a command. From completion, under
/// `back_lock`; must not sleep. No host of ours has any.
///
/// # Safety
///
/// To be called by libiscsi only.
unsafe extern "C" fn check_protection(
    _task: *mut bindings::iscsi_task,
    _sector: *mut bindings::sector_t,
) -> u8 {
    0
}
