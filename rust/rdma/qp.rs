// SPDX-License-Identifier: GPL-2.0

//! Reliable queue pairs.
//!
//! Each has a protection domain of its own: a remote key is worth nothing on any
//! other connection (RFC 7145, section 8.3.2), and once the queue pair is in its
//! error state all keys of the connection are dead.

use crate::{
    bindings,
    cm::{Handler, Id, User},
    device::{self, DeviceCaps, DeviceName},
    send_cq::SendCq,
};
use kernel::{
    device::Device,
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::{aref::ARef, Arc},
};

/// What a queue pair must hold.
#[derive(Clone, Copy)]
pub struct QpConfig {
    /// Send work requests, beyond the one for draining.
    pub max_send_wr: u32,
    /// Receive work requests, beyond the one for draining.
    pub max_recv_wr: u32,
    /// Scatter/gather entries of a send.
    pub max_send_sge: u32,
}

/// A protection domain.
///
/// # Invariants
///
/// `raw` is valid and owned; nothing in it is left when it is dropped.
struct Pd {
    raw: *mut bindings::ib_pd,
}

impl Drop for Pd {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::ib_dealloc_pd(self.raw) };
    }
}

/// A share of the device's completion queues, polled in softirq.
///
/// # Invariants
///
/// `raw` was got from the pool for `entries` entries.
struct PooledCq {
    raw: *mut bindings::ib_cq,
    entries: u32,
}

impl Drop for PooledCq {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::ib_cq_pool_put(self.raw, self.entries) };
    }
}

/// A queue pair of a connection.
///
/// # Invariants
///
/// `raw` is the queue pair of the identifier that `user` keeps, until it is destroyed. Its
/// receives complete on `recv_cq`, one at a time, its sends on `sends`.
pub struct Qp<H: Handler> {
    raw: *mut bindings::ib_qp,
    config: QpConfig,
    caps: DeviceCaps,
    // Dropped in this order, after the queue pair: the device stays until all of it is gone.
    _recv_cq: PooledCq,
    sends: SendCq,
    pd: Pd,
    user: User<H>,
}

// SAFETY: A queue pair is tied to no thread.
unsafe impl<H: Handler> Send for Qp<H> {}
// SAFETY: Shared access posts work requests, which providers serialise, and reads
// constant fields.
unsafe impl<H: Handler> Sync for Qp<H> {}

impl<H: Handler> Qp<H> {
    /// Creates the queue pair of `id`. Sleeps. The caller has checked that the
    /// identifier is bound to a device.
    pub(crate) fn new(id: Arc<Id<H>>, config: &QpConfig) -> Result<Self> {
        let ((raw, config, caps, recv_cq, sends, pd), user) = id.acquire(|cm| {
            // SAFETY: `acquire` passes a valid identifier.
            let dev = unsafe { (*cm).device };
            if dev.is_null() {
                return Err(ENODEV);
            }
            // SAFETY: A bound identifier keeps its device registered.
            let caps = unsafe { DeviceCaps::read(dev) };
            if !caps.fast_registration {
                return Err(EOPNOTSUPP);
            }
            // One more on each queue for draining.
            let config = QpConfig {
                max_send_wr: config.max_send_wr.min(caps.max_qp_wr.saturating_sub(1)),
                max_recv_wr: config.max_recv_wr.min(caps.max_qp_wr.saturating_sub(1)),
                max_send_sge: config.max_send_sge.min(caps.max_send_sge),
            };
            // SAFETY: `dev` is registered.
            let raw = from_err_ptr(unsafe { bindings::ib_alloc_pd(dev, 0) })?;
            let pd = Pd { raw };
            let entries = config.max_recv_wr + 1;
            // SAFETY: `dev` is registered.
            let raw = from_err_ptr(unsafe {
                bindings::ib_cq_pool_get(
                    dev,
                    entries,
                    -1,
                    bindings::ib_poll_context_IB_POLL_SOFTIRQ,
                )
            })?;
            let recv_cq = PooledCq { raw, entries };
            // SAFETY: `dev` is registered, and stays so while the queue pair does. Who posts keeps
            // what a request names, by the contract of `post_send`. A pool's queue has a vector.
            let sends = unsafe { SendCq::new(dev, config.max_send_wr + 1, (*raw).comp_vector) }?;
            let mut attr = bindings::ib_qp_init_attr {
                event_handler: Some(qp_event),
                send_cq: sends.raw(),
                recv_cq: recv_cq.raw,
                cap: bindings::ib_qp_cap {
                    max_send_wr: config.max_send_wr + 1,
                    max_recv_wr: config.max_recv_wr + 1,
                    max_send_sge: config.max_send_sge,
                    max_recv_sge: 1,
                    ..Default::default()
                },
                sq_sig_type: bindings::ib_sig_type_IB_SIGNAL_REQ_WR,
                qp_type: bindings::ib_qp_type_IB_QPT_RC,
                ..Default::default()
            };
            // SAFETY: All arguments are valid, and of one device.
            to_result(unsafe { bindings::rdma_create_qp(cm, pd.raw, &raw mut attr) })?;
            // SAFETY: As above; set by the call.
            Ok((unsafe { (*cm).qp }, config, caps, recv_cq, sends, pd))
        })?;
        // INVARIANT: Just created and counted.
        Ok(Self {
            raw,
            config,
            caps,
            _recv_cq: recv_cq,
            sends,
            pd,
            user,
        })
    }

    /// What the queue pair holds: what was asked for, or the device's limit.
    pub fn config(&self) -> &QpConfig {
        &self.config
    }

    /// Capabilities of the device.
    pub fn caps(&self) -> &DeviceCaps {
        &self.caps
    }

    /// The number of the queue pair.
    pub fn number(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { (*self.raw).qp_num }
    }

    /// The device's name.
    pub fn device_name(&self) -> DeviceName {
        // SAFETY: By the type invariant the device is registered.
        unsafe { DeviceName::read(self.device()) }
    }

    /// The device behind the RDMA device, where a host belongs in sysfs.
    pub fn parent_device(&self) -> Option<ARef<Device>> {
        // SAFETY: By the type invariant the device is registered.
        unsafe { device::parent(self.device()) }
    }

    /// Moves the queue pair to its error state and waits until every completion has been
    /// polled, and those of receives handled (`ib_drain_qp()`). Sleeps. May be called again, but not twice
    /// at once: there is room for one marker in each queue.
    pub(crate) fn drain(&self) {
        self.sends.account().drain();
        self.sends.arm();
        // SAFETY: By the type invariant; both queues have room for one more
        // request. From here on the sends' completion queue is polled until it is empty.
        unsafe { bindings::ib_drain_qp(self.raw) };
    }

    /// Destroys the queue pair, if it is still there. Its domain and its completion queues stay,
    /// and the device registered. Sleeps.
    ///
    /// # Safety
    ///
    /// Nothing may be done with `self` from here on but to drop it.
    pub(crate) unsafe fn destroy(&self) {
        self.user.with_raw(|cm| {
            // SAFETY: `cm` is valid, and has our queue pair until that is destroyed.
            unsafe {
                if !(*cm).qp.is_null() {
                    bindings::rdma_destroy_qp(cm);
                }
            }
        });
    }

    /// The completions of sends.
    #[inline(always)]
    pub(crate) fn sends(&self) -> &SendCq {
        &self.sends
    }

    /// The raw queue pair.
    pub(crate) fn raw(&self) -> *mut bindings::ib_qp {
        self.raw
    }

    /// Posts a chain of send requests (`ib_post_send()`). Any context.
    ///
    /// # Errors
    ///
    /// What the provider returns, and the first request that was not posted, or null if it
    /// does not say.
    ///
    /// # Safety
    ///
    /// `first` must begin a valid chain. What its requests name must stay until they have
    /// completed or the queue pair is drained.
    #[inline(always)]
    pub(crate) unsafe fn post_send(
        &self,
        first: *const bindings::ib_send_wr,
    ) -> core::result::Result<(), (Error, *const bindings::ib_send_wr)> {
        // A provider that does not say what was posted may have posted anything.
        let mut bad = core::ptr::null();
        // SAFETY: By the type invariant the queue pair is valid; the provider copies the
        // requests, and they are valid by the contract.
        let ret = unsafe {
            match (*self.device()).ops.post_send {
                Some(post) => post(self.raw, first, &raw mut bad),
                None => return Err((EOPNOTSUPP, first)),
            }
        };
        if ret == 0 {
            return Ok(());
        }
        Err((Error::from_errno(ret), bad))
    }

    /// The raw device, registered for as long as the queue pair lives.
    #[inline]
    pub(crate) fn device(&self) -> *mut bindings::ib_device {
        // SAFETY: By the type invariant.
        unsafe { (*self.raw).device }
    }

    /// The raw protection domain.
    pub(crate) fn pd(&self) -> *mut bindings::ib_pd {
        self.pd.raw
    }

    /// The key by which the device reads and writes mapped memory of our own.
    #[inline]
    pub(crate) fn local_dma_lkey(&self) -> u32 {
        // SAFETY: By the type invariant of `Pd`.
        unsafe { (*self.pd.raw).local_dma_lkey }
    }
}

impl<H: Handler> Drop for Qp<H> {
    fn drop(&mut self) {
        // SAFETY: Nobody uses what is dropped.
        unsafe { self.destroy() };
    }
}

/// Asynchronous events of a queue pair. They only explain what completions and
/// the connection manager report as well.
///
/// # Safety
///
/// Called by the core in any context, with a valid event.
unsafe extern "C" fn qp_event(event: *mut bindings::ib_event, _context: *mut kernel::ffi::c_void) {
    // SAFETY: By the contract; the message is a string constant, and the event is one
    // of a queue pair.
    let (name, dev, number) = unsafe {
        (
            CStr::from_char_ptr(bindings::ib_event_msg((*event).event)),
            DeviceName::read((*event).device),
            (*(*event).element.qp).qp_num,
        )
    };
    if bindings::message_allowed() {
        pr_notice!("{dev}: queue pair {number}: {name}\n");
    }
}
