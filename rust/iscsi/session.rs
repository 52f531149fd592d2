// SPDX-License-Identifier: GPL-2.0

//! Sessions, each with a SCSI host of its own: how they begin and end.

use crate::bindings;
use crate::lock::BackBh;
use crate::registration::Registration;
use crate::task::{is_free, TaskData};
use crate::transport::HostConfig;
use crate::Transport;
use core::ptr::{self, NonNull};
use kernel::ffi::{c_int, c_short, c_uint, c_ulong};
use kernel::prelude::*;
use kernel::time::{delay::fsleep, Delta, Instant, Monotonic};

/// How long tasks may be in use that should not be any more.
const IDLE_TIMEOUT: Delta = Delta::from_millis(5_000);

/// Longer command blocks would need an additional header segment, which no transport sends.
const MAX_CDB_LEN: u16 = 16;

/// A SCSI host that is not part of a session yet; removed and freed when dropped.
///
/// # Invariants
///
/// `shost` came from `iscsi_host_alloc` and is owned. It was added if `added` is set.
struct Host {
    shost: NonNull<bindings::Scsi_Host>,
    added: bool,
}

impl Host {
    /// Allocates a host and adds it to the system. `cmds_max` is what user space asks for.
    fn new<T: Transport>(reg: &Registration<T>, config: HostConfig, cmds_max: u16) -> Result<Self> {
        // Without a workqueue: `xmit_task` does not sleep.
        // SAFETY: The template is filled in and outlives the host.
        let shost = unsafe { bindings::iscsi_host_alloc(reg.host_template(), 0, false) };
        // INVARIANT: Owned, and not added.
        let mut host = Self {
            shost: NonNull::new(shost).ok_or(ENOMEM)?,
            added: false,
        };
        let transport = reg.scsi_transport();
        if transport.is_null() {
            err!("iscsi: a session cannot be made before the module is loaded\n");
            return Err(EAGAIN);
        }

        // Zero would mean a default to libiscsi.
        let wanted = cmds_max.min(config.can_queue).max(1);
        // SAFETY: The host is valid; it has no limit yet.
        let scsi_cmds = unsafe { bindings::iscsi_host_get_max_scsi_cmds(shost, wanted) };
        kernel::error::to_result(scsi_cmds)?;

        // SAFETY: The host is valid and nobody else knows it.
        unsafe {
            (*shost).transportt = transport;
            // As many tags as tasks: SCSI never offers a command that libiscsi has no task for,
            // and need not count the commands of the only target once more.
            (*shost).can_queue = scsi_cmds;
            (*shost).cmd_per_lun = config.cmd_per_lun.min(c_short::MAX as u16) as c_short;
            (*shost).max_lun = config.max_lun;
            (*shost).max_id = 0;
            (*shost).max_channel = 0;
            (*shost).max_cmd_len = MAX_CDB_LEN;
            (*shost).sg_tablesize = config.sg_tablesize;
            (*shost).max_sectors = config.max_sectors;
            (*shost).virt_boundary_mask = config.virt_boundary_mask as c_ulong;
            (*shost).max_segment_size = config.max_segment_size;
        }

        let parent = match &config.parent {
            // `Device` is a transparent wrapper of the C structure.
            Some(dev) => ptr::from_ref(&**dev).cast_mut().cast(),
            None => ptr::null_mut(),
        };
        // SAFETY: The host is set up, and the device valid or NULL; SCSI takes its own
        // reference.
        kernel::error::to_result(unsafe { bindings::iscsi_host_add(shost, parent) })?;
        // INVARIANT: Just added.
        host.added = true;
        Ok(host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let shost = self.shost.as_ptr();
        // SAFETY: Owned by the type invariant, and removed if it was added; it has no session.
        unsafe {
            if self.added {
                remove(shost);
            }
            bindings::iscsi_host_free(shost);
        }
    }
}

/// Removes a host whose session is gone. May sleep.
///
/// Not by `iscsi_host_remove()`, which would wait for its sessions and then flushes the signals
/// of the calling process: if that is an iscsid which is being killed, it would live on, and
/// nothing could kill it any more.
///
/// # Safety
///
/// `shost` must have been added, and have no session that was not removed.
unsafe fn remove(shost: *mut bindings::Scsi_Host) {
    // SAFETY: By the contract.
    unsafe { bindings::scsi_remove_host(shost) };
}

/// Creates a session over an endpoint. May sleep.
pub(crate) fn create<T: Transport>(
    reg: &Registration<T>,
    ep: *mut bindings::iscsi_endpoint,
    cmds_max: u16,
    queue_depth: u16,
    initial_cmdsn: u32,
) -> Result<NonNull<bindings::iscsi_cls_session>> {
    let Some(endpoint) = reg.endpoints().find(ep) else {
        err!("iscsi: no session without a connected endpoint: open-iscsi is too old\n");
        return Err(EINVAL);
    };

    let cmds_max = match cmds_max {
        0 => bindings::ISCSI_DEF_XMIT_CMDS_MAX as u16,
        wanted => wanted,
    };
    let queue_depth = match queue_depth {
        0 => bindings::ISCSI_DEF_CMD_PER_LUN as u16,
        wanted => wanted,
    };
    let portal = T::ep_address(&endpoint).inspect_err(|err| {
        err!("iscsi: no session over an endpoint without an address: {err:?}\n")
    })?;
    let config = T::host_config(&endpoint, cmds_max, queue_depth)
        .inspect_err(|err| err!("iscsi: {portal}: no SCSI host over this connection: {err:?}\n"))?;
    let host = Host::new(reg, config, cmds_max)
        .inspect_err(|err| err!("iscsi: {portal}: cannot make a SCSI host: {err:?}\n"))?;

    // SAFETY: The host is valid and added. What it says is what libiscsi computed itself, so
    // that it fits.
    let cls_session = unsafe {
        let shost = host.shost.as_ptr();
        bindings::iscsi_session_setup(
            reg.transport(),
            shost,
            (*shost).can_queue as u16 + bindings::ISCSI_MGMT_CMDS_MAX as u16,
            0,
            size_of::<TaskData>() as c_int,
            initial_cmdsn,
            0 as c_uint,
        )
    };
    let Some(cls_session) = NonNull::new(cls_session) else {
        err!("iscsi: {portal}: cannot set up a session: {ENOMEM:?}\n");
        return Err(ENOMEM);
    };
    // SAFETY: Just set up, with `cmds_max` tasks, and without a connection nobody uses them.
    unsafe {
        let session = session_of(cls_session).as_ptr();
        for i in 0..(*session).cmds_max as usize {
            TaskData::provide_header(*(*session).cmds.add(i));
        }
    }

    // The session has it now.
    core::mem::forget(host);
    reg.session_created();
    Ok(cls_session)
}

/// Destroys a session and its host. May sleep.
///
/// # Safety
///
/// `cls_session` must be a session of this transport without connections, and not be used
/// afterwards.
pub(crate) unsafe fn destroy<T: Transport>(
    reg: &Registration<T>,
    cls_session: NonNull<bindings::iscsi_cls_session>,
) {
    // SAFETY: The session is valid until it is freed below, and the host until it is freed; the
    // order lets nothing refer to the session any more before its tasks are looked at.
    unsafe {
        let session = session_of(cls_session);
        let shost = (*session.as_ptr()).host;

        bindings::iscsi_session_remove(cls_session.as_ptr());
        remove(shost);

        if !wait_idle(session, |_| true) {
            // Cannot happen unless a driver breaks the contract of `Transport::stop`. The
            // session also keeps the module, so that who holds the tasks can still put them.
            err!(
                "iscsi: session{}: tasks in use after its end, leaking it\n",
                (*cls_session.as_ptr()).sid
            );
            return;
        }

        // The session has a reference of its own on the host. It comes last because it lets go
        // of the module.
        bindings::iscsi_host_free(shost);
        bindings::iscsi_session_free(cls_session.as_ptr());
    }
    reg.session_freed();
}

/// Returns a session that user space has named, and the registration.
///
/// Fails with [`EINVAL`] if it is one of another transport.
///
/// # Safety
///
/// Must be called from a callback of the transport `T`, with a valid session.
pub(crate) unsafe fn named<'a, T: Transport>(
    cls_session: *mut bindings::iscsi_cls_session,
) -> Result<(&'a Registration<T>, NonNull<bindings::iscsi_cls_session>)> {
    // SAFETY: By the safety requirements.
    unsafe {
        let reg = Registration::of((*cls_session).transport)?;
        Ok((reg, NonNull::new_unchecked(cls_session)))
    }
}

/// Returns the session of a class session.
///
/// # Safety
///
/// `cls_session` must be a valid session of libiscsi.
pub(crate) unsafe fn session_of(
    cls_session: NonNull<bindings::iscsi_cls_session>,
) -> NonNull<bindings::iscsi_session> {
    // SAFETY: libiscsi sets the pointer to what is behind the class session.
    unsafe { NonNull::new_unchecked((*cls_session.as_ptr()).dd_data.cast()) }
}

/// Iterates over the tasks of a session.
///
/// # Safety
///
/// `session` must be valid, and its tasks not be freed while the iterator is used.
pub(crate) unsafe fn tasks(
    session: NonNull<bindings::iscsi_session>,
) -> impl Iterator<Item = NonNull<bindings::iscsi_task>> {
    // SAFETY: Both are constant from setup to the end of the session.
    let (cmds, count) = unsafe {
        let session = session.as_ptr();
        ((*session).cmds, (*session).cmds_max as usize)
    };
    // SAFETY: There are `count` pointers to tasks, and none is NULL.
    (0..count).map(move |index| unsafe { NonNull::new_unchecked(*cmds.add(index)) })
}

/// Waits until tasks are free: immediately, unless somebody is late. Sleeps.
///
/// Returns whether they are.
///
/// # Safety
///
/// `session` must be valid, and no session lock held.
pub(crate) unsafe fn wait_idle(
    session: NonNull<bindings::iscsi_session>,
    of_interest: impl Fn(NonNull<bindings::iscsi_task>) -> bool,
) -> bool {
    let start = Instant::<Monotonic>::now();
    loop {
        {
            // SAFETY: The session is valid.
            let _back = unsafe { BackBh::lock(session) };
            // SAFETY: The session and its tasks are valid.
            let busy = unsafe { tasks(session) }.any(|task| {
                // SAFETY: The lock is held.
                of_interest(task) && !unsafe { is_free(task) }
            });
            if !busy {
                return true;
            }
        }
        if start.elapsed() > IDLE_TIMEOUT {
            return false;
        }
        fsleep(Delta::from_millis(2));
    }
}
