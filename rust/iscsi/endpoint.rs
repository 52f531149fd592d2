// SPDX-License-Identifier: GPL-2.0

//! The endpoints of the transport, and the driver's handle of each.
//!
//! The transport class finds endpoints of all transports in one table and does not check whose
//! they are; nor does a poll keep an endpoint from being disconnected. So a callback looks its
//! endpoint up here first, and works on a clone of the handle.

use crate::bindings;
use crate::{SocketAddr, Transport};
use core::ptr::NonNull;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

/// An endpoint of ours.
///
/// # Invariants
///
/// `ep` is an endpoint that we created and that was not destroyed: it is removed from the table
/// before that.
struct Entry<T: Transport> {
    ep: NonNull<bindings::iscsi_endpoint>,
    handle: T::Endpoint,
}

// SAFETY: An endpoint is not tied to a thread; the handle is `Send`.
unsafe impl<T: Transport> Send for Entry<T> {}

/// All endpoints of the transport.
#[pin_data]
pub(crate) struct Endpoints<T: Transport> {
    #[pin]
    entries: Mutex<KVec<Entry<T>>>,
}

impl<T: Transport> Endpoints<T> {
    /// Makes an empty table.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_mutex!(KVec::new(), "iscsi_endpoints"),
        })
    }

    /// Returns the handle of an endpoint, if it is one of ours and not disconnected yet.
    pub(crate) fn find(&self, ep: *mut bindings::iscsi_endpoint) -> Option<T::Endpoint> {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|entry| entry.ep.as_ptr() == ep)?;
        Some(entry.handle.clone())
    }

    /// Takes the handle of an endpoint out of the table: who gets it disconnects.
    fn take(&self, ep: *mut bindings::iscsi_endpoint) -> Option<T::Endpoint> {
        let mut entries = self.entries.lock();
        let index = entries.iter().position(|entry| entry.ep.as_ptr() == ep)?;
        Some(entries.remove(index).ok()?.handle)
    }

    /// Connects to `addr` and returns the new endpoint. May sleep.
    pub(crate) fn connect(
        &self,
        addr: SocketAddr,
        non_blocking: bool,
    ) -> Result<NonNull<bindings::iscsi_endpoint>> {
        // SAFETY: May be called in any context that may sleep.
        let Some(ep) = NonNull::new(unsafe { bindings::iscsi_create_endpoint(0) }) else {
            err!("iscsi: {addr}: cannot make an endpoint\n");
            return Err(ENOMEM);
        };
        let destroy = || {
            // SAFETY: Just created, and known to nobody: the table has no entry for it.
            unsafe { bindings::iscsi_destroy_endpoint(ep.as_ptr()) };
        };

        let handle = T::ep_connect(addr, non_blocking).inspect_err(|_| destroy())?;
        // INVARIANT: Ours, and alive until it is taken out of the table.
        let entry = Entry {
            ep,
            handle: handle.clone(),
        };
        let pushed = self.entries.lock().push(entry, GFP_KERNEL);
        if pushed.is_err() {
            err!("iscsi: {addr}: no memory for another endpoint\n");
            T::ep_disconnect(&handle);
            destroy();
            return Err(ENOMEM);
        }
        Ok(ep)
    }

    /// Disconnects an endpoint and destroys it. May sleep.
    ///
    /// Returns whether it was ours and not disconnected yet.
    ///
    /// # Safety
    ///
    /// The caller must hold a reference on `ep`, or it must be in the table.
    pub(crate) unsafe fn disconnect(&self, ep: *mut bindings::iscsi_endpoint) -> bool {
        let Some(handle) = self.take(ep) else {
            return false;
        };
        T::ep_disconnect(&handle);
        drop(handle);
        // SAFETY: By the invariant of the entry that was just taken the endpoint is not
        // destroyed, and only who takes the entry destroys it.
        unsafe { bindings::iscsi_destroy_endpoint(ep) };
        true
    }

    /// Disconnects what user space left behind. May sleep.
    ///
    /// Returns how many endpoints that were.
    pub(crate) fn disconnect_all(&self) -> usize {
        let mut count = 0;
        loop {
            let first = self.entries.lock().first().map(|entry| entry.ep);
            let Some(ep) = first else {
                return count;
            };
            // SAFETY: Was in the table. Nobody else can disconnect it at the same time, because
            // this is called when the transport is no longer registered.
            if unsafe { self.disconnect(ep.as_ptr()) } {
                count += 1;
            }
        }
    }
}
