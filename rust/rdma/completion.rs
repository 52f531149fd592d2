// SPDX-License-Identifier: GPL-2.0

//! What the core calls when a work request has completed: one callback for each
//! kind of request.
//!
//! All run in softirq, with no lock held. None may sleep. Receives come one at a time for a
//! channel; everything else comes from a queue that is polled there, or when somebody waits
//! (`send_cq`), at times on several processors at once.

use crate::{
    bindings,
    channel::{Channel, ChannelOps, Next, Received},
    failure::Failure,
    recv::RecvBuffer,
    slot::Slot,
    slot_state::SlotState,
};
use core::sync::atomic::Ordering::Relaxed;

/// The channel whose request has completed.
///
/// # Safety
///
/// `wc` must be a valid completion on the queue pair of a `Channel<C>`. The result must not
/// outlive the callback.
#[inline]
unsafe fn channel_of<'a, C: ChannelOps>(wc: *const bindings::ib_wc) -> &'a Channel<C> {
    // SAFETY: By the type invariant of `Channel`, the context points to it, and it outlives
    // the queue pair.
    unsafe { &*(*(*wc).qp).qp_context.cast_const().cast::<Channel<C>>() }
}

/// Reports a failed request, unless the channel is closed: then it was flushed.
///
/// # Safety
///
/// `wc` must be valid.
#[cold]
unsafe fn failed_completion<C: ChannelOps>(
    channel: &Channel<C>,
    status: u32,
    wc: *const bindings::ib_wc,
    what: &'static str,
) {
    if channel.is_closing() {
        return;
    }
    let failure = if status == bindings::ib_wc_status_IB_WC_WR_FLUSH_ERR {
        Failure::Flushed
    } else {
        Failure::Completion {
            what,
            status,
            // SAFETY: By the contract.
            vendor: unsafe { (*wc).vendor_err },
        }
    };
    C::failed(channel, failure);
}

/// Whether the request succeeded. Reports a failure.
///
/// # Safety
///
/// `wc` must be valid.
#[inline]
unsafe fn succeeded<C: ChannelOps>(
    channel: &Channel<C>,
    wc: *const bindings::ib_wc,
    what: &'static str,
) -> bool {
    // SAFETY: By the contract.
    let status = unsafe { (*wc).status };
    if status == bindings::ib_wc_status_IB_WC_SUCCESS {
        return true;
    }
    // SAFETY: By the contract.
    unsafe { failed_completion(channel, status, wc, what) };
    false
}

/// A send that a slot waits for has completed.
///
/// # Safety
///
/// As for every callback here: called by the core with a valid completion, whose
/// entry is the `send_cqe` of a slot of the channel.
pub(crate) unsafe extern "C" fn send_done<C: ChannelOps>(
    _cq: *mut bindings::ib_cq,
    wc: *mut bindings::ib_wc,
) {
    // SAFETY: By the contract.
    let channel = unsafe { channel_of::<C>(wc) };
    // SAFETY: By the contract; the channel owns its slots.
    let slot: &Slot<C> = unsafe { Slot::from_send_cqe((*wc).__bindgen_anon_1.wr_cqe) };
    // SAFETY: By the contract.
    if !unsafe { succeeded(channel, wc, "send") } {
        return last_of_chain(channel, slot, false);
    }
    channel.qp.sends().account().retire();
    if let Some(sent) = slot.send_done() {
        last_send_done(channel, slot, sent, true);
    }
}

/// The last send of a chain that a slot waits for has completed.
///
/// # Safety
///
/// As for [`send_done`]; the entry is the `chain_cqe` of a slot of the channel.
pub(crate) unsafe extern "C" fn chain_done<C: ChannelOps>(
    _cq: *mut bindings::ib_cq,
    wc: *mut bindings::ib_wc,
) {
    // SAFETY: By the contract.
    let channel = unsafe { channel_of::<C>(wc) };
    // SAFETY: By the contract; the channel owns its slots.
    let slot: &Slot<C> = unsafe { Slot::from_chain_cqe((*wc).__bindgen_anon_1.wr_cqe) };
    // SAFETY: By the contract.
    let ok = unsafe { succeeded(channel, wc, "send") };
    if ok {
        channel.qp.sends().account().retire();
    }
    last_of_chain(channel, slot, ok);
}

/// All sends of a command have completed, or will not.
#[cold]
fn last_of_chain<C: ChannelOps>(channel: &Channel<C>, slot: &Slot<C>, ok: bool) {
    let count = slot.data_outs.swap(0, Relaxed);
    if let Some(pool) = channel.data_outs.as_ref() {
        pool.retire(count);
    }
    if let Some(sent) = slot.send_done() {
        last_send_done(channel, slot, sent, ok);
    }
}

/// The last send of a command has completed that somebody waits for.
#[inline(never)]
fn last_send_done<C: ChannelOps>(channel: &Channel<C>, slot: &Slot<C>, sent: SlotState, ok: bool) {
    if let Err(error) = channel.settle(slot, sent, ok) {
        channel.invalidation_failed(error);
    }
}

/// A signalled send that no slot waits for has completed.
///
/// # Safety
///
/// As for [`send_done`]; the entry is the `plain_cqe` of the channel.
pub(crate) unsafe extern "C" fn plain_done<C: ChannelOps>(
    _cq: *mut bindings::ib_cq,
    wc: *mut bindings::ib_wc,
) {
    // SAFETY: By the contract.
    let channel = unsafe { channel_of::<C>(wc) };
    // A request that was not asked to signal completes all the same when it fails;
    // then the connection ends, and with it the account.
    // SAFETY: By the contract.
    if unsafe { succeeded(channel, wc, "send") } {
        channel.qp.sends().account().retire();
    }
}

/// A registration has failed, or was flushed: it is not signalled.
///
/// # Safety
///
/// As for [`send_done`]; the entry is the `reg_cqe` of the channel.
pub(crate) unsafe extern "C" fn registration_done<C: ChannelOps>(
    _cq: *mut bindings::ib_cq,
    wc: *mut bindings::ib_wc,
) {
    // SAFETY: By the contract.
    let channel = unsafe { channel_of::<C>(wc) };
    // SAFETY: By the contract.
    let _ = unsafe { succeeded(channel, wc, "memory registration") };
}

/// A slot's key is invalid, or the request was flushed.
///
/// # Safety
///
/// As for [`send_done`]; the entry is the `inv_cqe` of a slot of the channel.
pub(crate) unsafe extern "C" fn invalidate_done<C: ChannelOps>(
    _cq: *mut bindings::ib_cq,
    wc: *mut bindings::ib_wc,
) {
    // SAFETY: By the contract.
    let channel = unsafe { channel_of::<C>(wc) };
    channel.qp.sends().account().invalidated();
    // SAFETY: By the contract; the channel owns its slots.
    let slot: &Slot<C> = unsafe { Slot::from_inv_cqe((*wc).__bindgen_anon_1.wr_cqe) };
    // SAFETY: By the contract.
    if !unsafe { succeeded(channel, wc, "local invalidation") } {
        // The key is not dead before the queue pair is drained.
        return;
    }
    let action = slot.update(SlotState::on_invalidated);
    // SAFETY: As `update` has told us.
    unsafe { channel.act_or_fail(slot, action, true) };
}

/// A message has arrived, or a receive was flushed.
///
/// # Safety
///
/// As for [`send_done`]; the entry belongs to a receive buffer of the channel.
pub(crate) unsafe extern "C" fn receive_done<C: ChannelOps>(
    _cq: *mut bindings::ib_cq,
    wc: *mut bindings::ib_wc,
) {
    // SAFETY: By the contract.
    let channel = unsafe { channel_of::<C>(wc) };
    // SAFETY: By the contract; the channel owns its buffers.
    let buffer = unsafe { RecvBuffer::from_cqe((*wc).__bindgen_anon_1.wr_cqe) };
    let dev = channel.qp.device();
    // SAFETY: By the contract.
    let status = unsafe { (*wc).status };
    let next = if status == bindings::ib_wc_status_IB_WC_SUCCESS {
        // SAFETY: By the contract; the union member goes with the flag.
        let (len, invalidated) = unsafe {
            let with_invalidate =
                (*wc).wc_flags & bindings::ib_wc_flags_IB_WC_WITH_INVALIDATE as i32 != 0;
            (
                (*wc).byte_len,
                with_invalidate.then(|| (*wc).ex.invalidate_rkey),
            )
        };
        let message = Received {
            // SAFETY: The receive has completed, and the slice ends with this
            // block, before the buffer is idle.
            data: unsafe { buffer.bytes(dev, len) },
            buffer,
            invalidated,
            channel,
        };
        C::received(channel, &message)
    } else {
        // When a send fails, receives are flushed, and it is the send that says why.
        channel.qp.sends().poll_all();
        // SAFETY: By the contract.
        unsafe { failed_completion(channel, status, wc, "receive") };
        Next::Keep
    };
    // SAFETY: The message is gone.
    unsafe { buffer.read(dev) };
    if next == Next::Keep || channel.is_closing() {
        buffer.idle();
        return;
    }
    // SAFETY: The channel's own queue pair, which had room for this buffer; this is a
    // completion of the channel, and the buffer was not handed on.
    if let Err(error) = unsafe { channel.receives.repost(buffer, channel.qp.raw()) } {
        C::failed(
            channel,
            Failure::Post {
                what: "receive",
                error,
            },
        );
    }
}
