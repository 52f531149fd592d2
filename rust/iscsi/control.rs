// SPDX-License-Identifier: GPL-2.0

//! The control path of a connection: bind, start, stop, destroy, parameters.
//!
//! Everything here may sleep, and allocates without starting I/O.

use crate::bindings::{self, NoIo};
use crate::conn::{session_of, Bound, ConnData, ConnRef};
use crate::registration::Registration;
use crate::session::wait_idle;
use crate::stats::Stats;
use crate::transport::{Decision, Negotiated, SessionLimits};
use crate::{Param, Transport};
use core::ptr::{addr_of_mut, NonNull};
use kernel::ffi::c_int;
use kernel::prelude::*;

/// `STOP_CONN_TERM` of the interface to user space: the session ends.
pub(crate) const STOP_TERM: c_int = 1;

/// `STOP_CONN_RECOVER` of the interface to user space: a new login follows.
pub(crate) const STOP_RECOVER: c_int = 3;

/// A connection of the transport class that belongs to this transport.
///
/// # Invariants
///
/// The class connection is valid and was made by [`create`], and the transport is `T`.
pub(crate) struct Control<T: Transport> {
    cls_conn: NonNull<bindings::iscsi_cls_conn>,
    _transport: core::marker::PhantomData<T>,
}

/// Creates a connection. May sleep.
///
/// Fails with [`EINVAL`] for any but connection 0, of which the driver core allows one: libiscsi
/// answers a ping of the target on any of a session's, and takes the stage of the login for a bug on
/// a second one.
///
/// # Safety
///
/// `cls_session` must be a valid session of the transport `T`.
pub(crate) unsafe fn create<T: Transport>(
    cls_session: NonNull<bindings::iscsi_cls_session>,
    cid: u32,
) -> Result<NonNull<bindings::iscsi_cls_conn>> {
    // SAFETY: The session is valid by the safety requirements.
    let sid = unsafe { (*cls_session.as_ptr()).sid };
    if cid != 0 {
        err!("iscsi: session{sid}: connection {cid}: a session has only connection 0\n");
        return Err(EINVAL);
    }
    // SAFETY: The session is valid by the safety requirements.
    let cls_conn =
        unsafe { bindings::iscsi_conn_setup(cls_session.as_ptr(), ConnData::<T>::SIZE, cid) };
    let Some(cls_conn) = NonNull::new(cls_conn) else {
        err!("iscsi: session{sid}: cannot set up a connection\n");
        return Err(ENOMEM);
    };
    // SAFETY: Just set up; user space can refer to it only when we have returned.
    unsafe {
        let conn = (*cls_conn.as_ptr()).dd_data.cast::<bindings::iscsi_conn>();
        (*conn).max_recv_dlength = T::RECV_DATA_SEGMENT;
        ConnData::<T>::init(NonNull::new_unchecked(conn));
    }
    Ok(cls_conn)
}

impl<T: Transport> Control<T> {
    /// Wraps a connection that user space has named, and returns the registration.
    ///
    /// Fails with [`EINVAL`] if it is one of another transport.
    ///
    /// # Safety
    ///
    /// Must be called from a callback of the transport `T`, with a connection that stays valid as
    /// long as the value is used.
    pub(crate) unsafe fn named<'a>(
        cls_conn: *mut bindings::iscsi_cls_conn,
    ) -> Result<(&'a Registration<T>, Self)> {
        // SAFETY: By the safety requirements.
        let reg = unsafe { Registration::of((*cls_conn).transport) }?;
        // INVARIANT: A valid connection, by the safety requirements, and of `T`.
        let this = Self {
            // SAFETY: Valid.
            cls_conn: unsafe { NonNull::new_unchecked(cls_conn) },
            _transport: core::marker::PhantomData,
        };
        Ok((reg, this))
    }

    fn conn(&self) -> NonNull<bindings::iscsi_conn> {
        // SAFETY: libiscsi sets the pointer to what is behind the class connection.
        unsafe { NonNull::new_unchecked((*self.cls_conn.as_ptr()).dd_data.cast()) }
    }

    fn session(&self) -> NonNull<bindings::iscsi_session> {
        // SAFETY: The connection is valid by the type invariant.
        unsafe { session_of(self.conn()) }
    }

    /// Returns what is bound.
    fn bound(&self) -> Option<kernel::sync::Arc<T::Conn>> {
        // SAFETY: The connection is valid and of this transport; no lock is held in the control
        // path.
        unsafe { ConnData::<T>::get(self.conn()) }
    }

    /// Binds the connection to the endpoint with this handle.
    pub(crate) fn bind(&self, reg: &Registration<T>, handle: u64, leading: c_int) -> Result {
        let _noio = NoIo::enter();
        let conn = self.conn();
        let session = self.session().as_ptr();
        let sid = self.sid();
        // SAFETY: The session is valid; constant.
        let limits = unsafe {
            SessionLimits {
                cmds_max: (*session).cmds_max as u32,
                scsi_cmds_max: (*session).scsi_cmds_max as u32,
                sg_tablesize: u32::from((*(*session).host).sg_tablesize),
                virt_boundary_mask: (*(*session).host).virt_boundary_mask,
            }
        };

        // SAFETY: May be called in any context that may sleep.
        let ep = unsafe { bindings::iscsi_lookup_endpoint(handle) };
        if ep.is_null() {
            err!("iscsi: session{sid}: bind: no endpoint {handle}\n");
            return Err(EINVAL);
        }
        let endpoint = reg.endpoints().find(ep);
        // SAFETY: Gives up the reference of the lookup.
        unsafe { bindings::iscsi_put_endpoint(ep) };
        let Some(endpoint) = endpoint else {
            err!("iscsi: session{sid}: bind: endpoint {handle} is disconnected\n");
            return Err(ENOTCONN);
        };

        // Before there is something that would have to be stopped again.
        let place = KBox::<Bound<T>>::new_uninit(GFP_KERNEL)
            .inspect_err(|_| err!("iscsi: session{sid}: bind: no memory\n"))?;

        // SAFETY: The connection is valid and of this transport.
        let generation = unsafe { ConnData::<T>::begin(conn) }
            .inspect_err(|_| err!("iscsi: session{sid}: bind: already bound\n"))?;
        // SAFETY: As above. The module is referenced while user space's request runs.
        let conn_ref = unsafe { ConnRef::new(conn, generation) };
        let (driver_conn, tx) = T::bind(&endpoint, conn_ref, limits).inspect_err(|err| {
            err!("iscsi: session{sid}: bind to endpoint {handle} failed: {err:?}\n")
        })?;
        let bound = KBox::write(place, Bound::new(driver_conn, tx));

        // What is bound must be there before libiscsi may send.
        // SAFETY: The connection is valid and of this transport, and `begin` found nothing
        // bound; binds are serialised.
        unsafe { ConnData::<T>::publish(conn, bound) };
        let result = self
            .bound()
            .map_or(Ok(()), |conn| T::bound(&conn))
            .and_then(|()| {
                // SAFETY: Session and connection are valid.
                kernel::error::to_result(unsafe {
                    bindings::iscsi_conn_bind(
                        (*session).cls_session,
                        self.cls_conn.as_ptr(),
                        leading,
                    )
                })
            });
        result.inspect_err(|err| {
            err!("iscsi: session{sid}: bind to endpoint {handle} failed: {err:?}\n");
            self.unbind(false);
        })
    }

    /// Stops what the driver bound, and forgets it.
    fn unbind(&self, recover: bool) {
        if let Some(conn) = self.bound() {
            T::stop(&conn, recover);
        }
        // SAFETY: The connection is valid and of this transport.
        drop(unsafe { ConnData::<T>::retire(self.conn()) });
    }

    /// Starts full feature phase.
    pub(crate) fn start(&self) -> Result {
        let _noio = NoIo::enter();
        let bound = self.bound().ok_or(ENOTCONN)?;

        // SAFETY: Connection and session are valid; user space, which sets these values, waits
        // for us.
        let params = unsafe {
            let conn = self.conn().as_ptr();
            let session = self.session().as_ptr();
            Negotiated {
                discovery: (*session).discovery_sess != 0,
                initial_r2t: (*session).initial_r2t_en != 0,
                immediate_data: (*session).imm_data_en != 0,
                first_burst: (*session).first_burst,
                max_burst: (*session).max_burst,
                max_recv_dlength: (*conn).max_recv_dlength,
                max_xmit_dlength: (*conn).max_xmit_dlength,
            }
        };
        T::start(&bound, params)?;
        // SAFETY: The connection is valid.
        kernel::error::to_result(unsafe { bindings::iscsi_conn_start(self.cls_conn.as_ptr()) })
    }

    /// Stops the connection with one of the `STOP_*` flags.
    pub(crate) fn stop(&self, flag: c_int) {
        let _noio = NoIo::enter();
        let cls_conn = self.cls_conn.as_ptr();
        let recover = flag == STOP_RECOVER;

        // The transport class has done this if it knew the endpoint; once more does no harm.
        // SAFETY: The connection is valid.
        unsafe { bindings::iscsi_conn_unbind(cls_conn, false) };
        if let Some(conn) = self.bound() {
            T::stop(&conn, recover);
        }
        // SAFETY: The connection is valid.
        unsafe { bindings::iscsi_conn_stop(cls_conn, flag) };
        // SAFETY: The connection is valid and of this transport.
        drop(unsafe { ConnData::<T>::retire(self.conn()) });
    }

    /// Destroys the connection.
    ///
    /// # Safety
    ///
    /// The connection must not be used afterwards.
    pub(crate) unsafe fn destroy(self, reg: &Registration<T>) {
        let _noio = NoIo::enter();
        let cls_conn = self.cls_conn.as_ptr();
        let conn = self.conn();

        // User space disconnects and stops first, unless it is broken. Then we do.
        // SAFETY: The connection is valid; the mutex serialises with the transport class, which
        // handles the endpoint in the same way.
        unsafe {
            bindings::mutex_lock(addr_of_mut!((*cls_conn).ep_mutex));
            let ep = core::ptr::replace(addr_of_mut!((*cls_conn).ep), core::ptr::null_mut());
            if !ep.is_null() {
                bindings::iscsi_conn_unbind(cls_conn, false);
                reg.endpoints().disconnect(ep);
            }
            if self.bound().is_some() {
                self.stop(STOP_TERM);
            }
            // No new cleanup from now on: who has seen another state has queued it under the lock ...
            let flags = bindings::spin_lock_irqsave(addr_of_mut!((*cls_conn).lock));
            addr_of_mut!((*cls_conn).state)
                .write_volatile(bindings::iscsi_connection_state_ISCSI_CONN_DOWN);
            bindings::spin_unlock_irqrestore(addr_of_mut!((*cls_conn).lock), flags);
            bindings::mutex_unlock(addr_of_mut!((*cls_conn).ep_mutex));
        }

        // ... neither by the driver ...
        // SAFETY: The connection is valid and of this transport.
        drop(unsafe { ConnData::<T>::retire(conn) });
        // ... and none that is still queued.
        // SAFETY: The connection is valid and of this transport, and was just retired.
        unsafe {
            ConnData::<T>::flush(conn);
            bindings::cancel_work_sync(addr_of_mut!((*cls_conn).cleanup_work));
        }

        // SAFETY: The session is valid and no lock is held; tasks are valid as long as it is,
        // and what they point to is only compared.
        let idle = unsafe {
            wait_idle(self.session(), |task| {
                (*task.as_ptr()).conn == conn.as_ptr()
            })
        };
        if !idle {
            // Cannot happen unless a driver breaks the contract of `Transport::stop`.
            // SAFETY: The connection is valid. The reference is never put: who holds the tasks
            // reaches the session through the connection.
            unsafe { bindings::iscsi_get_conn(cls_conn) };
            err!("iscsi: tasks in use after the end of their connection, leaking it\n");
        }

        // SAFETY: The connection is valid, and by the safety requirements it is ours to destroy.
        unsafe { bindings::iscsi_conn_teardown(cls_conn) };
    }

    /// Sets a parameter.
    pub(crate) fn set_param(&self, param: Param, value: &CStr, len: c_int) -> Result {
        let _noio = NoIo::enter();
        let bound = self.bound().ok_or(ENOTCONN)?;
        match T::set_param(&bound, param, value)? {
            Decision::Handled => Ok(()),
            // SAFETY: The connection is valid. libiscsi only reads the string.
            Decision::PassOn => kernel::error::to_result(unsafe {
                bindings::iscsi_set_param(
                    self.cls_conn.as_ptr(),
                    param.as_raw(),
                    value.as_char_ptr().cast_mut(),
                    len,
                )
            })
            // Of a parameter that libiscsi does not know user space thinks nothing.
            .inspect_err(|err| {
                if *err != ENOSYS {
                    let number = param.as_raw();
                    err!(
                        "iscsi: session{}: cannot set parameter {number}: {err:?}\n",
                        self.sid()
                    );
                }
            }),
        }
    }

    /// The number of the session.
    fn sid(&self) -> c_int {
        // SAFETY: Session and class session are valid; constant.
        unsafe { (*(*self.session().as_ptr()).cls_session).sid }
    }

    /// Collects the statistics.
    pub(crate) fn stats(&self, stats: &mut Stats<'_>) {
        // SAFETY: The connection is valid, and of this transport.
        let violations = unsafe {
            stats.fill(self.conn());
            ConnData::<T>::violations(self.conn())
        };
        stats.add(c"protocol_violations", violations.into());
    }
}
