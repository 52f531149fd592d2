// SPDX-License-Identifier: GPL-2.0

//! One command's share of a channel: its header buffer, its memory region, and
//! what its posted work requests own.

use crate::{bindings, channel::ChannelOps, dma::SgMapping, mr::Region, slot_state::SlotState};
use core::ptr::NonNull;
use kernel::{new_spinlock, prelude::*, sync::SpinLock, types::Opaque};

/// A command slot.
///
/// # Invariants
///
/// - `header` and `header_addr` are a part of the channel's header pool that no
///   other slot has.
/// - The completion entries name the callbacks of [`crate::completion`] for `C`.
#[pin_data]
pub(crate) struct Slot<C: ChannelOps> {
    /// For sends whose completion this slot waits for.
    pub(crate) send_cqe: Opaque<bindings::ib_cqe>,
    /// For the invalidation of the slot's key.
    pub(crate) inv_cqe: Opaque<bindings::ib_cqe>,
    pub(crate) header: NonNull<u8>,
    pub(crate) header_addr: u64,
    #[pin]
    pub(crate) inner: SpinLock<SlotInner<C>>,
}

// SAFETY: The header buffer is written by the channel's only sender.
unsafe impl<C: ChannelOps> Send for Slot<C> {}
// SAFETY: As above; everything else is constant or inside the lock.
unsafe impl<C: ChannelOps> Sync for Slot<C> {}

/// What the lock of a slot protects. Taken in softirq: with bottom halves off.
///
/// # Invariants
///
/// `owned` is set from before the first work request of a command is posted until
/// `state` says that it may be released.
pub(crate) struct SlotInner<C: ChannelOps> {
    pub(crate) state: SlotState,
    /// What the response must name.
    pub(crate) tag: u32,
    pub(crate) region: Region,
    /// Follow-up sends of the command.
    pub(crate) data_outs: u32,
    pub(crate) owned: Owned<C>,
}

/// What the posted work requests of a command own. Dropping it unmaps the
/// scatterlist, then lets its owner go.
pub(crate) struct Owned<C: ChannelOps> {
    // Declared, and so dropped, before `owner`.
    pub(crate) mapping: Option<SgMapping>,
    pub(crate) owner: Option<C::Owner>,
    pub(crate) token: Option<C::Token>,
}

impl<C: ChannelOps> Owned<C> {
    #[inline]
    pub(crate) const fn none() -> Self {
        Self {
            mapping: None,
            owner: None,
            token: None,
        }
    }
}

impl<C: ChannelOps> Slot<C> {
    pub(crate) fn new(
        header: NonNull<u8>,
        header_addr: u64,
        region: Region,
        send_done: unsafe extern "C" fn(*mut bindings::ib_cq, *mut bindings::ib_wc),
        inv_done: unsafe extern "C" fn(*mut bindings::ib_cq, *mut bindings::ib_wc),
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            send_cqe: Opaque::new(bindings::ib_cqe {
                done: Some(send_done),
            }),
            inv_cqe: Opaque::new(bindings::ib_cqe {
                done: Some(inv_done),
            }),
            header,
            header_addr,
            inner <- new_spinlock!(SlotInner {
                state: SlotState::new(false),
                tag: 0,
                region,
                data_outs: 0,
                owned: Owned::none(),
            }, "iser_slot"),
        })
    }

    /// The slot that `cqe` is the send entry of.
    ///
    /// # Safety
    ///
    /// `cqe` must be the `send_cqe` of a slot that lives for `'a`.
    #[inline]
    pub(crate) unsafe fn from_send_cqe<'a>(cqe: *mut bindings::ib_cqe) -> &'a Self {
        // SAFETY: By the contract; `Opaque` is transparent.
        unsafe { &*cqe.byte_sub(core::mem::offset_of!(Self, send_cqe)).cast() }
    }

    /// The slot that `cqe` is the invalidation entry of.
    ///
    /// # Safety
    ///
    /// `cqe` must be the `inv_cqe` of a slot that lives for `'a`.
    #[inline]
    pub(crate) unsafe fn from_inv_cqe<'a>(cqe: *mut bindings::ib_cqe) -> &'a Self {
        // SAFETY: By the contract; `Opaque` is transparent.
        unsafe { &*cqe.byte_sub(core::mem::offset_of!(Self, inv_cqe)).cast() }
    }
}
