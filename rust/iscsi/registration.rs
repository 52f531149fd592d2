// SPDX-License-Identifier: GPL-2.0

//! The registration of a transport with the iSCSI transport class.

use crate::bindings;
use crate::endpoint::Endpoints;
use crate::vtable;
use crate::Transport;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::time::{delay::fsleep, Delta};
use kernel::types::Opaque;

/// The one [`Registration`] that exists, or NULL.
///
/// Several callbacks of the transport class do not say which transport they are for.
static CURRENT: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// A registered transport.
///
/// There can be one at a time. It should be the last thing that a module's initialisation makes,
/// because user space can use the transport at once; and the first that its exit drops: endpoints
/// that user space left behind are disconnected then, by [`Transport::ep_disconnect`].
///
/// # Invariants
///
/// While this is registered, `CURRENT` points to it; the templates stay where they are.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Transport> {
    #[pin]
    endpoints: Endpoints<T>,
    #[pin]
    host: Opaque<bindings::scsi_host_template>,
    #[pin]
    transport: Opaque<bindings::iscsi_transport>,
    /// NULL while not registered.
    scsi: Atomic<*mut bindings::scsi_transport_template>,
    /// Sessions that were created and not freed.
    sessions: Atomic<i32>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Registering is not tied to a thread; what is inside is protected by locks, atomic, or
// constant once registered.
unsafe impl<T: Transport> Send for Registration<T> {}

// SAFETY: As above.
unsafe impl<T: Transport> Sync for Registration<T> {}

impl<T: Transport> Registration<T> {
    /// Registers the transport for `module`, which is kept from being unloaded while there are
    /// sessions.
    ///
    /// Fails with [`EBUSY`] if there is a registration already.
    pub fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            endpoints <- Endpoints::new(),
            host <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes.
                unsafe { ptr::write(slot, vtable::host_template::<T>(module)) }
            }),
            transport <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes.
                unsafe { ptr::write(slot, vtable::transport::<T>(module)) }
            }),
            scsi: Atomic::new(ptr::null_mut()),
            sessions: Atomic::new(0),
            _pin: PhantomPinned,
        }? Error)
        .pin_chain(|this| this.into_ref().register())
    }

    fn register(&self) -> Result {
        let me = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // INVARIANT: From here on `CURRENT` points to this.
        if CURRENT.cmpxchg(ptr::null_mut(), me, Full).is_err() {
            pr_err!("iscsi: another transport is registered already\n");
            return Err(EBUSY);
        }

        // SAFETY: The templates are filled in, pinned, and stay until after they are
        // unregistered in `drop`.
        let scsi = unsafe { bindings::iscsi_register_transport(self.transport.get()) };
        if scsi.is_null() {
            CURRENT.store(ptr::null_mut(), Release);
            let name = T::NAME;
            pr_err!("iscsi: cannot register the transport {name}: is another driver of that name loaded?\n");
            return Err(EEXIST);
        }
        self.scsi.store(scsi, Release);
        Ok(())
    }

    /// Returns the registration, for the callbacks of the transport class. [`ENODEV`] if there is
    /// none.
    ///
    /// # Safety
    ///
    /// Must be called from a callback of the transport `T`, and the reference not be used when
    /// it has returned: the transport class makes sure that the transport is registered then, or
    /// that a session keeps the module.
    pub(crate) unsafe fn current<'a>() -> Result<&'a Self> {
        let ptr = CURRENT.load(Acquire).cast::<Self>();
        // SAFETY: By the type invariant this is NULL or the only registration. It is of `T`
        // because it is `T` whose callback runs, and it is not dropped meanwhile.
        unsafe { ptr.as_ref() }.ok_or(ENODEV)
    }

    /// Returns the registration, if `transport` is its own: the transport class looks up what user
    /// space names by numbers alone.
    ///
    /// Fails with [`EINVAL`] if it is another one.
    ///
    /// # Safety
    ///
    /// As for [`Registration::current`].
    pub(crate) unsafe fn of<'a>(transport: *const bindings::iscsi_transport) -> Result<&'a Self> {
        // SAFETY: By the safety requirements.
        let this = unsafe { Self::current() }?;
        if !ptr::eq(transport, this.transport.get()) {
            err!("iscsi: user space has named what is of another transport\n");
            return Err(EINVAL);
        }
        Ok(this)
    }

    /// Returns the endpoints.
    pub(crate) fn endpoints(&self) -> &Endpoints<T> {
        &self.endpoints
    }

    /// Returns the template of hosts.
    pub(crate) fn host_template(&self) -> *const bindings::scsi_host_template {
        self.host.get()
    }

    /// Returns the transport.
    pub(crate) fn transport(&self) -> *mut bindings::iscsi_transport {
        self.transport.get()
    }

    /// Returns what the transport class made for the SCSI core, or NULL if it is not there yet.
    pub(crate) fn scsi_transport(&self) -> *mut bindings::scsi_transport_template {
        self.scsi.load(Acquire)
    }

    /// Counts a new session.
    pub(crate) fn session_created(&self) {
        self.sessions.add(1, Relaxed);
    }

    /// Counts a session that is gone.
    pub(crate) fn session_freed(&self) {
        self.sessions.fetch_sub(1, Release);
    }
}

#[pinned_drop]
impl<T: Transport> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        if self.scsi.load(Relaxed).is_null() {
            // Was never registered.
            return;
        }

        // SAFETY: Registered, see above. No callback from user space runs when this returns.
        unsafe { bindings::iscsi_unregister_transport(self.transport.get()) };

        let left = self.endpoints.disconnect_all();
        if left > 0 {
            pr_info!("iscsi: disconnected {left} endpoints that user space left behind\n");
        }

        // Sessions keep the module; the last one lets go of it shortly before it is counted.
        while self.sessions.load(Acquire) != 0 {
            fsleep(Delta::from_millis(10));
        }
        CURRENT.store(ptr::null_mut(), Release);

        // Who puts the last reference on the module may be one of its own functions, called by
        // the connection manager, a workqueue or a task on its way to user space. Until it has
        // returned, its code must stay: it does not sleep on the way, and if it was preempted,
        // Tasks RCU waits for it (where a kernel has none, this is plain RCU, and does not).
        // SAFETY: May sleep, and holds no lock.
        unsafe { bindings::synchronize_rcu_tasks() };
    }
}
