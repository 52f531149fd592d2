// SPDX-License-Identifier: GPL-2.0

//! Connection identifiers of the RDMA connection manager, on the active side.
//!
//! [`Id`] owns a `struct rdma_cm_id` and the driver's event handler. The C object
//! holds a strong reference to the [`Id`] for as long as it lives, so an event
//! never finds its handler gone; [`Id::destroy`] (or a removal of the device,
//! when nothing of the device is in use any more) ends both.

use crate::{
    bindings::{self, NoIo},
    device::DeviceName,
    qp::{Qp, QpConfig},
    SocketAddr,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
    new_mutex,
    prelude::*,
    sync::{Arc, ArcBorrow, Mutex},
};

/// The driver's side of a connection.
pub trait Handler: Send + Sync + Sized + 'static {
    /// An event of the connection manager.
    ///
    /// Called from its workqueue, with the identifier's handler mutex held: may
    /// sleep, must not call [`Id::destroy`]. Allocations do not enter I/O.
    /// After [`EventKind::DeviceRemoval`] returned with no queue pair left, the
    /// identifier is gone; with one left, the device's removal waits for it.
    fn event(id: ArcBorrow<'_, Id<Self>>, event: &Event<'_, Self>);
}

/// What happened (`enum rdma_cm_event_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// The address is resolved and the identifier bound to a device.
    AddrResolved,
    /// The address could not be resolved.
    AddrError,
    /// The route is resolved.
    RouteResolved,
    /// The route could not be resolved.
    RouteError,
    /// Connecting failed.
    ConnectError,
    /// The peer did not answer.
    Unreachable,
    /// The peer refused.
    Rejected,
    /// Connected.
    Established,
    /// The peer, or [`Id::disconnect`], ended the connection.
    Disconnected,
    /// The device goes away: everything made on it must be gone on return.
    DeviceRemoval,
    /// The local address moved to another device.
    AddrChange,
    /// The connection's time-wait state ended.
    TimewaitExit,
    /// Anything else; an active side does not expect it.
    Other(u32),
}

impl EventKind {
    fn from_raw(raw: bindings::rdma_cm_event_type) -> Self {
        match raw {
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_RESOLVED => Self::AddrResolved,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_ERROR => Self::AddrError,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ROUTE_RESOLVED => Self::RouteResolved,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ROUTE_ERROR => Self::RouteError,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_CONNECT_ERROR => Self::ConnectError,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_UNREACHABLE => Self::Unreachable,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_REJECTED => Self::Rejected,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ESTABLISHED => Self::Established,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_DISCONNECTED => Self::Disconnected,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_DEVICE_REMOVAL => Self::DeviceRemoval,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_CHANGE => Self::AddrChange,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_TIMEWAIT_EXIT => Self::TimewaitExit,
            other => Self::Other(other),
        }
    }
}

/// The raw identifier, or nothing once it is destroyed.
struct RawId(Option<NonNull<bindings::rdma_cm_id>>);

// SAFETY: A CM identifier is tied to no thread.
unsafe impl Send for RawId {}

/// A connection identifier with its handler.
///
/// # Invariants
///
/// While `raw` is set, it is a valid identifier whose context is this object, and
/// that context owns one reference to the `Arc` that this object lives in. Queue
/// pairs exist only while `raw` is set: `resources.users` counts them.
#[pin_data]
pub struct Id<H: Handler> {
    #[pin]
    resources: Mutex<Resources>,
    #[pin]
    handler: H,
}

struct Resources {
    raw: RawId,
    users: u32,
    /// The device is going away, and waits for the queue pair and the identifier.
    removed: bool,
}

impl<H: Handler> Id<H> {
    /// Creates an identifier and starts to resolve `dst`, for at most
    /// `timeout_ms`. Sleeps. Events may arrive before this returns.
    pub fn resolve(
        handler: impl PinInit<H, Error>,
        dst: &SocketAddr,
        timeout_ms: u32,
    ) -> Result<Arc<Self>> {
        let _noio = NoIo::enter();
        let id = Arc::pin_init(
            try_pin_init!(Self {
                resources <- new_mutex!(Resources {
                    raw: RawId(None),
                    users: 0,
                    removed: false,
                }),
                handler <- handler,
            }? Error),
            GFP_KERNEL,
        )?;
        // The context's reference; taken back where the raw identifier ends.
        let context = Arc::into_raw(id.clone());
        // SAFETY: `init_net` is always valid; the handler matches the context.
        let raw = from_err_ptr(unsafe {
            bindings::rdma_create_id(
                &raw mut bindings::init_net,
                Some(event_callback::<H>),
                context.cast_mut().cast(),
                bindings::rdma_ucm_port_space_RDMA_PS_TCP,
                bindings::ib_qp_type_IB_QPT_RC,
            )
        });
        let raw = match raw.map(NonNull::new) {
            Ok(Some(raw)) => raw,
            Ok(None) | Err(_) => {
                // SAFETY: No identifier took the reference over.
                drop(unsafe { Arc::from_raw(context) });
                return Err(raw.err().unwrap_or(ENOMEM));
            }
        };
        // INVARIANT: Valid, with our context and its reference.
        id.resources.lock().raw = RawId(Some(raw));

        // SAFETY: `raw` is valid. A handler could destroy it as soon as the request is queued,
        // which is the last that the function does with it. The address is copied.
        let ret = unsafe {
            bindings::rdma_resolve_addr(
                raw.as_ptr(),
                core::ptr::null_mut(),
                dst.as_ptr(),
                timeout_ms as kernel::ffi::c_ulong,
            )
        };
        if let Err(e) = to_result(ret) {
            // Only a removal of the device can have been faster.
            let _ = id.destroy();
            return Err(e);
        }
        Ok(id)
    }

    /// The driver's handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// Ends the connection: the queue pair goes to its error state, and the peer
    /// is told (`rdma_disconnect()`). Sleeps. Harmless at any time.
    pub fn disconnect(&self) -> Result {
        let resources = self.resources.lock();
        match resources.raw.0 {
            // SAFETY: By the type invariant; destruction needs the lock we hold.
            Some(raw) => to_result(unsafe { bindings::rdma_disconnect(raw.as_ptr()) }),
            None => Ok(()),
        }
    }

    /// Destroys the identifier. On return no event is being handled and none will
    /// come. Sleeps. Must not be called from [`Handler::event`], nor with a lock
    /// held that the handler takes.
    ///
    /// # Errors
    ///
    /// `EBUSY` while a queue pair is left. Nothing has happened then.
    pub fn destroy(&self) -> Result {
        let raw = {
            let mut resources = self.resources.lock();
            if resources.users != 0 {
                return Err(EBUSY);
            }
            resources.raw.0.take()
        };
        if let Some(raw) = raw {
            // SAFETY: Just taken; the caller holds a reference.
            unsafe { Self::destroy_raw(raw) };
        }
        Ok(())
    }

    /// Destroys an identifier, and drops its reference to this object.
    ///
    /// # Safety
    ///
    /// `raw` must have been taken out of `resources`, without a queue pair, and no handler
    /// wait for the caller, who holds a reference to the object.
    unsafe fn destroy_raw(raw: NonNull<bindings::rdma_cm_id>) {
        // SAFETY: By the contract the caller owns it.
        let context = unsafe {
            let context = (*raw.as_ptr()).context;
            bindings::rdma_destroy_id(raw.as_ptr());
            context
        };
        // SAFETY: The identifier is gone, and with it its context, whose reference this is.
        drop(unsafe { Arc::<Self>::from_raw(context.cast_const().cast()) });
    }

    /// Runs `f` on the raw identifier, which makes its queue pair, and counts that if it succeeds.
    pub(crate) fn acquire<R>(
        self: &Arc<Self>,
        f: impl FnOnce(*mut bindings::rdma_cm_id) -> Result<R>,
    ) -> Result<(R, User<H>)> {
        let mut resources = self.resources.lock();
        let raw = resources.raw.0.ok_or(ENOTCONN)?;
        if resources.users != 0 {
            // The identifier knows of one queue pair.
            return Err(EBUSY);
        }
        let ret = f(raw.as_ptr())?;
        resources.users += 1;
        drop(resources);
        // INVARIANT: Just counted.
        Ok((ret, User(self.clone())))
    }
}

/// What keeps an identifier that has a queue pair, and so the device registered. It has to be
/// dropped behind all that was made on the device, and may sleep then.
///
/// # Invariants
///
/// Is counted in `resources.users`.
pub(crate) struct User<H: Handler>(Arc<Id<H>>);

impl<H: Handler> User<H> {
    /// Runs `f` on the raw identifier. Sleeps.
    pub(crate) fn with_raw(&self, f: impl FnOnce(*mut bindings::rdma_cm_id)) {
        if let Some(raw) = self.0.resources.lock().raw.0 {
            f(raw.as_ptr());
        }
    }
}

impl<H: Handler> Drop for User<H> {
    /// If the device waits, the identifier goes, too: perhaps nobody is there any more who would
    /// destroy it.
    fn drop(&mut self) {
        let raw = {
            let mut resources = self.0.resources.lock();
            resources.users = resources.users.saturating_sub(1);
            if resources.removed && resources.users == 0 {
                resources.raw.0.take()
            } else {
                None
            }
        };
        if let Some(raw) = raw {
            // SAFETY: Just taken, the queue pair is gone. The handler of the removal has nothing
            // to do but to return, and no other one is called after it. We hold a reference.
            unsafe { Id::<H>::destroy_raw(raw) };
        }
    }
}

/// An event, valid while its handler runs.
///
/// # Invariants
///
/// `raw` and `event` are the arguments of the running C callback, and `id` is the
/// context of `raw`.
pub struct Event<'a, H: Handler> {
    id: ArcBorrow<'a, Id<H>>,
    raw: *mut bindings::rdma_cm_id,
    event: *mut bindings::rdma_cm_event,
    _callback: PhantomData<&'a mut bindings::rdma_cm_event>,
}

/// What the active side proposes (`struct rdma_conn_param`).
pub struct ConnectParams<'a> {
    /// Private data of the protocol.
    pub private_data: &'a [u8],
    /// RDMA reads and atomics of the peer that we can serve at once.
    pub responder_resources: u8,
    /// RDMA reads that we want to have outstanding.
    pub initiator_depth: u8,
    /// Transport retries before a send fails.
    pub retry_count: u8,
    /// Retries when the peer has no receive posted; 7 is for ever.
    pub rnr_retry_count: u8,
}

impl<H: Handler> Event<'_, H> {
    fn as_ref(&self) -> &bindings::rdma_cm_event {
        // SAFETY: By the type invariant.
        unsafe { &*self.event }
    }

    /// What happened.
    pub fn kind(&self) -> EventKind {
        EventKind::from_raw(self.as_ref().event)
    }

    /// The event's status: a negative errno, or the reason of a rejection.
    pub fn status(&self) -> i32 {
        self.as_ref().status
    }

    /// The event's name, as the kernel prints it.
    pub fn name(&self) -> &'static CStr {
        // SAFETY: Returns a string constant.
        unsafe { CStr::from_char_ptr(bindings::rdma_event_msg(self.as_ref().event)) }
    }

    /// Why the peer refused, as the kernel words it. For `Rejected` only.
    pub fn reject_reason(&self) -> &'static CStr {
        // SAFETY: By the type invariant; returns a string constant.
        unsafe { CStr::from_char_ptr(bindings::rdma_reject_msg(self.raw, self.as_ref().status)) }
    }

    /// Private data of the peer. Empty unless `Established`. Devices pad it.
    pub fn private_data(&self) -> &[u8] {
        if self.kind() != EventKind::Established {
            return &[];
        }
        // SAFETY: `conn` is the member in use for this kind of event.
        let conn = unsafe { &self.as_ref().param.conn };
        if conn.private_data.is_null() {
            return &[];
        }
        // SAFETY: The connection manager vouches for pointer and length while
        // the callback runs.
        unsafe {
            core::slice::from_raw_parts(
                conn.private_data.cast(),
                usize::from(conn.private_data_len),
            )
        }
    }

    /// The device that the identifier is bound to, if it is.
    pub fn device_name(&self) -> Option<DeviceName> {
        // SAFETY: By the type invariant.
        let dev = unsafe { (*self.raw).device };
        if dev.is_null() {
            return None;
        }
        // SAFETY: A bound identifier keeps its device registered.
        Some(unsafe { DeviceName::read(dev) })
    }

    /// Starts to resolve the route (`rdma_resolve_route()`).
    pub fn resolve_route(&self, timeout_ms: u32) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe {
            bindings::rdma_resolve_route(self.raw, timeout_ms as kernel::ffi::c_ulong)
        })
    }

    /// Creates the connection's queue pair on the device of the identifier.
    pub fn create_qp(&self, config: &QpConfig) -> Result<Qp<H>> {
        // SAFETY: By the type invariant.
        if unsafe { (*self.raw).device }.is_null() {
            return Err(ENODEV);
        }
        Qp::new(Arc::from(self.id), config)
    }

    /// Sends the connection request (`rdma_connect_locked()`).
    pub fn connect(&self, params: &ConnectParams<'_>) -> Result {
        // SAFETY: By the type invariant.
        if unsafe { (*self.raw).qp }.is_null() {
            return Err(EINVAL);
        }
        let mut raw = bindings::rdma_conn_param {
            private_data: params.private_data.as_ptr().cast(),
            private_data_len: u8::try_from(params.private_data.len()).map_err(|_| EINVAL)?,
            responder_resources: params.responder_resources,
            initiator_depth: params.initiator_depth,
            retry_count: params.retry_count,
            rnr_retry_count: params.rnr_retry_count,
            ..Default::default()
        };
        // SAFETY: By the type invariant the handler mutex is held, as this
        // function wants; parameters and private data are copied.
        to_result(unsafe { bindings::rdma_connect_locked(self.raw, &raw mut raw) })
    }
}

/// The event handler of every identifier.
///
/// # Safety
///
/// Called by the connection manager, from its workqueue and with the handler
/// mutex of `raw` held, with an identifier made by [`Id::resolve`] for the same
/// `H`. May sleep. A non-zero return makes the caller destroy `raw`.
unsafe extern "C" fn event_callback<H: Handler>(
    raw: *mut bindings::rdma_cm_id,
    event: *mut bindings::rdma_cm_event,
) -> kernel::ffi::c_int {
    let _noio = NoIo::enter();
    // SAFETY: `raw` is valid by the contract.
    let context: *const Id<H> = unsafe { (*raw).context.cast_const().cast() };
    // SAFETY: The context owns a reference to an `Arc<Id<H>>`, which nobody can
    // take back while a handler of the identifier runs.
    let id = unsafe { ArcBorrow::from_raw(context) };
    // INVARIANT: The arguments of the callback and its context.
    let event = Event {
        id,
        raw,
        event,
        _callback: PhantomData,
    };
    H::event(id, &event);

    if event.kind() != EventKind::DeviceRemoval {
        return 0;
    }
    let gone = {
        let mut resources = id.resources.lock();
        // From here on the last `User` does it.
        resources.removed = true;
        // A concurrent `destroy` has taken it: it waits for us and does the rest.
        resources.users == 0 && resources.raw.0.take().is_some()
    };
    if !gone {
        return 0;
    }
    // SAFETY: The caller destroys the identifier, so its context's reference is
    // ours to drop. Nothing of the object is touched after that.
    drop(unsafe { Arc::from_raw(context) });
    1
}
