// SPDX-License-Identifier: GPL-2.0

//! The completion queue of a queue pair's send queue.
//!
//! Nobody wants to know that a send has completed before its response is there, and then it
//! nearly always has. So this queue is polled when a response finds its command still sending, and
//! successes raise no events. Only while somebody waits for one it is armed for every completion;
//! an event then has it polled in softirq. For failures it is always armed.
//!
//! It may be polled on several processors at once, so its callbacks may run at the same time,
//! and out of order. What has been handled is never more than what has been polled, which
//! is a prefix of what was posted: a count of completions vouches for the oldest.

use crate::{bindings, send_account::SqShared};
use core::{
    mem::ManuallyDrop,
    sync::atomic::{
        AtomicBool, AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::barrier::{smp_mb, Full},
    time::{delay::fsleep, Delta},
    types::Opaque,
};

/// Completions handled in a row where something was received: what has gathered since the last
/// time, which is little.
const BATCH: i32 = 16;
/// Completions handled in a row in softirq.
const WEIGHT: i32 = 64;

/// What the core's callbacks get.
///
/// # Invariants
///
/// `poll` is initialised, and `raw` valid until [`SendCq`] is dropped.
#[repr(C)]
struct Shared {
    poll: Opaque<bindings::irq_poll>,
    raw: *mut bindings::ib_cq,
    account: SqShared,
    /// Runs of `poll_now`. There may be more than one: some may still be arming the queue, after
    /// their `irq_poll_complete()`, while another polls.
    polling: AtomicU32,
    stopped: AtomicBool,
}

/// The completion queue.
///
/// # Invariants
///
/// The device of the queue stays registered. Every work request that completes here names
/// a completion entry that lives until the queue pair is drained, or, for the
/// core's own, until it has completed.
pub(crate) struct SendCq {
    // In a place of its own: the core keeps pointers to it.
    shared: ManuallyDrop<KBox<Shared>>,
}

// SAFETY: The queue and `poll` are tied to no thread.
unsafe impl Send for SendCq {}
// SAFETY: Operations of a provider are reentrant
// (Documentation/infiniband/core_locking.rst); all else is atomic or constant.
unsafe impl Sync for SendCq {}

impl SendCq {
    /// Creates a queue for that many completions. Sleeps.
    ///
    /// # Safety
    ///
    /// `dev` must stay registered for as long as the result lives. Work requests must keep
    /// to the type's invariant.
    pub(crate) unsafe fn new(
        dev: *mut bindings::ib_device,
        entries: u32,
        comp_vector: u32,
    ) -> Result<Self> {
        let mut shared = KBox::new(
            Shared {
                poll: Opaque::zeroed(),
                raw: core::ptr::null_mut(),
                account: SqShared::new(),
                polling: AtomicU32::new(0),
                stopped: AtomicBool::new(false),
            },
            GFP_KERNEL,
        )?;
        let attr = bindings::ib_cq_init_attr {
            cqe: entries,
            comp_vector,
            flags: 0,
        };
        // SAFETY: `poll` stays where it is until it is disabled by `stop`.
        unsafe { bindings::irq_poll_init(shared.poll.get(), WEIGHT, Some(poll_now)) };
        let context: *mut Shared = &raw mut *shared;
        // SAFETY: `dev` is registered; the context lives until the queue is destroyed. Nothing
        // completes before `raw` is set, as nobody knows the queue.
        shared.raw = from_err_ptr(unsafe {
            bindings::__ib_create_cq(
                dev,
                Some(completed),
                None,
                context.cast(),
                &raw const attr,
                c"ib_iser_rs".as_char_ptr(),
            )
        })?;
        // INVARIANT: By the safety requirements, and as just created.
        let this = Self {
            shared: ManuallyDrop::new(shared),
        };
        // SAFETY: The queue is valid. It is empty: nothing can be missed.
        unsafe { arm(this.shared.raw, Event::Failure) };
        Ok(this)
    }

    /// The raw queue.
    pub(crate) fn raw(&self) -> *mut bindings::ib_cq {
        self.shared.raw
    }

    /// The account of the send queue.
    #[inline(always)]
    pub(crate) fn account(&self) -> &SqShared {
        &self.shared.account
    }

    /// Handles what has completed. Softirq, no lock held: callbacks run.
    #[inline]
    pub(crate) fn poll(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::ib_process_cq_direct(self.shared.raw, BATCH) };
    }

    /// As [`Self::poll`], all there is.
    #[cold]
    pub(crate) fn poll_all(&self) {
        // SAFETY: By the type invariants.
        while unsafe { bindings::ib_process_cq_direct(self.shared.raw, WEIGHT) } == WEIGHT {}
    }

    /// Has what has completed handled in softirq, soon. Any context.
    #[cold]
    pub(crate) fn poll_soon(&self) {
        // SAFETY: By the type invariant of `Shared`; stopped, it counts as scheduled already.
        unsafe { bindings::irq_poll_sched(self.shared.poll.get()) };
    }

    /// Somebody waits for what is posted: handles it in softirq when it completes. Any
    /// context. To be called behind what makes the completion matter.
    pub(crate) fn arm(&self) {
        // Pairs with the barrier of `poll_now`: it sees that somebody waits, or has let go of
        // `poll`, so that it can be scheduled.
        smp_mb(Full);
        // SAFETY: By the type invariants.
        if unsafe { arm(self.shared.raw, Event::Any) } {
            self.poll_soon();
        }
    }

    /// Waits until nothing is being polled in softirq. Sleeps. One at a time.
    pub(crate) fn quiesce(&self) {
        if self.disable() {
            // SAFETY: Just disabled.
            unsafe { bindings::irq_poll_enable(self.shared.poll.get()) };
            // An event meanwhile went by.
            self.poll_soon();
        }
    }

    /// Lets nothing be polled in softirq any more, and waits for what is. Sleeps. One at a time.
    pub(crate) fn stop(&self) {
        if self.disable() {
            self.shared.stopped.store(true, Relaxed);
        }
    }

    /// Disables polling in softirq, unless it was stopped before.
    fn disable(&self) -> bool {
        // A second `irq_poll_disable()` would wait for ever.
        if self.shared.stopped.load(Relaxed) {
            return false;
        }
        // SAFETY: By the type invariant of `Shared`.
        unsafe { bindings::irq_poll_disable(self.shared.poll.get()) };
        // Each run is counted before it lets go of `poll`, so all are.
        while self.shared.polling.load(Acquire) != 0 {
            fsleep(Delta::from_millis(1));
        }
        true
    }
}

impl Drop for SendCq {
    fn drop(&mut self) {
        self.stop();
        // SAFETY: By the type invariants; the queue pair is gone, and nobody polls.
        let error = unsafe { bindings::ib_destroy_cq_user(self.shared.raw, core::ptr::null_mut()) };
        if error != 0 {
            // The provider may still call `completed`.
            pr_err!("a completion queue could not be destroyed, and is leaked: error {error}\n");
            return;
        }
        // SAFETY: Dropped once. The queue is gone: `completed` does not run and will not, and
        // by `stop` nor does `poll_now`.
        unsafe { ManuallyDrop::drop(&mut self.shared) };
    }
}

/// What raises an event.
#[derive(Clone, Copy)]
enum Event {
    /// The next completion.
    Any,
    /// The next failed one.
    Failure,
}

/// Arms a queue; returns whether something has completed meanwhile.
///
/// # Safety
///
/// `cq` must be valid.
unsafe fn arm(cq: *mut bindings::ib_cq, event: Event) -> bool {
    // Sends are never solicited, and failures always.
    let flags = bindings::ib_cq_notify_flags_IB_CQ_REPORT_MISSED_EVENTS
        | match event {
            Event::Any => bindings::ib_cq_notify_flags_IB_CQ_NEXT_COMP,
            Event::Failure => bindings::ib_cq_notify_flags_IB_CQ_SOLICITED,
        };
    // SAFETY: By the contract. Every provider has the operation: the core requires it.
    unsafe {
        (*(*cq).device)
            .ops
            .req_notify_cq
            .is_some_and(|notify| notify(cq, flags) > 0)
    }
}

/// Something has completed that was waited for.
///
/// # Safety
///
/// Called by the provider, in any context, with the context of a [`SendCq`].
unsafe extern "C" fn completed(_cq: *mut bindings::ib_cq, context: *mut kernel::ffi::c_void) {
    let shared = context.cast::<Shared>();
    // SAFETY: By the contract; the queue is destroyed before its context is freed.
    unsafe { bindings::irq_poll_sched((*shared).poll.get()) };
}

/// Polls, and arms again.
///
/// # Safety
///
/// Called by the core in softirq, with the `poll` of a [`Shared`], which is not freed before
/// it is disabled.
unsafe extern "C" fn poll_now(poll: *mut bindings::irq_poll, budget: i32) -> i32 {
    // SAFETY: By the contract; `poll` is the first member, and nobody has it exclusively.
    let shared = unsafe { &*poll.cast::<Shared>() };
    shared.polling.fetch_add(1, Relaxed);
    // SAFETY: By the type invariant.
    let count = unsafe { bindings::ib_process_cq_direct(shared.raw, budget) };
    if count < budget {
        // Before arming: an event that came in between would be lost.
        // SAFETY: By the contract, in its own run.
        unsafe { bindings::irq_poll_complete(poll) };
        // SAFETY: By the type invariant: `disable` waits for `polling`.
        if unsafe { arm_again(shared) } {
            // SAFETY: As above.
            unsafe { bindings::irq_poll_sched(poll) };
        }
    }
    // The last access.
    shared.polling.fetch_sub(1, Release);
    count
}

/// Arms the queue for what is waited for; returns whether something has completed meanwhile.
///
/// # Safety
///
/// `shared.raw` must be valid during the call.
unsafe fn arm_again(shared: &Shared) -> bool {
    // First, because some providers forget what they were armed for before.
    // SAFETY: By the contract.
    let missed = unsafe { arm(shared.raw, Event::Failure) };
    // Pairs with the barriers of `SendCq::arm` and of `irq_poll_sched()`.
    smp_mb(Full);
    if !shared.account.is_awaited() {
        // It may be a failure.
        return missed;
    }
    // SAFETY: By the contract.
    if unsafe { arm(shared.raw, Event::Any) } {
        return true;
    }
    if !shared.account.is_draining() {
        return false;
    }
    // Of a dead device some providers make up completions, call `completed` once, and report
    // nothing as missed; `poll` was still scheduled then, perhaps.
    // SAFETY: By the contract; callbacks may run at the same time.
    unsafe { bindings::ib_process_cq_direct(shared.raw, WEIGHT) > 0 }
}
