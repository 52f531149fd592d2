// SPDX-License-Identifier: GPL-2.0

//! A channel: a queue pair with all that its work requests name.
//!
//! Each command of the upper layer has a slot with a header buffer and a memory
//! region, made once and mapped for the channel's life. A command's user memory is
//! handed over with its owner, and comes back (the owner is dropped) when
//!
//! - its response has been handed to [`Received::respond`],
//! - every send that carries some of it has completed, and
//! - its remote key is dead: invalidated by the peer, by a local invalidation that
//!   has completed, or because the queue pair is drained.
//!
//! Sends are made through the one [`Sender`], which also ends the channel.

use crate::{
    bindings,
    cm::Handler,
    completion,
    data_out::DataOuts,
    dma::{Buffer, Direction, Pool},
    failure::Failure,
    mr::Region,
    qp::Qp,
    recv::{Receives, RecvBuffer},
    recv_account,
    response::Violation,
    send::Sender,
    send_queue::{self, SqProducer},
    slot::{Owned, Slot},
    slot_state::{Action, SlotState},
    ScatterlistOwner,
};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex, SetOnce, UniqueArc},
    types::Opaque,
};

/// The upper layer's side of a channel.
///
/// Callbacks run in softirq and must not sleep. [`Self::received`] runs once at a time for a
/// channel, the others may run beside it and beside themselves.
pub trait ChannelOps: Send + Sync + Sized + 'static {
    /// Keeps user memory in place. Dropped in softirq or process context, never
    /// with a lock of the channel held.
    type Owner: ScatterlistOwner + Unpin + 'static;
    /// Given back when a send has completed.
    type Token: Send + Unpin + 'static;
    /// The handler of the connection's events.
    type Cm: Handler;
    /// Bytes of a message's header.
    const HEADER_LEN: usize;

    /// A message has arrived.
    fn received(channel: &Channel<Self>, message: &Received<'_, Self>) -> Next;

    /// The send that `token` went with has completed; `ok` is false if it was
    /// flushed or failed.
    fn sent(channel: &Channel<Self>, token: Self::Token, ok: bool);

    /// Something failed: the connection must end. Not called once the channel is
    /// closed.
    fn failed(channel: &Channel<Self>, failure: Failure);
}

/// A received message, valid while its callback runs.
pub struct Received<'a, C: ChannelOps> {
    /// Its bytes.
    pub data: &'a [u8],
    pub(crate) buffer: &'a RecvBuffer,
    /// The remote key that the peer invalidated with it.
    pub(crate) invalidated: Option<u32>,
    pub(crate) channel: &'a Channel<C>,
}

impl<C: ChannelOps> Received<'_, C> {
    /// Whether it arrived in a large buffer.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.buffer.is_large()
    }

    /// The remote key that the peer invalidated with the message.
    #[inline]
    pub fn invalidated(&self) -> Option<u32> {
        self.invalidated
    }

    /// The message is the response to the command of slot `index`, which must have been
    /// posted with `tag`. Returns the cookie of that. Starts a local invalidation where the
    /// peer has not invalidated the key.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. Nothing has changed then.
    #[inline(always)]
    pub fn respond(&self, index: u32, tag: u32) -> Result<u32, Violation> {
        let channel = self.channel;
        let slot = channel
            .slots
            .get(index as usize)
            .ok_or(Violation::UnknownCommand)?;
        // A send seldom completes behind its response. Nobody has looked yet.
        if slot.is_sending() {
            channel.qp.sends().poll();
        }
        let (action, cookie) = slot.respond(tag, self.invalidated)?;
        if action == Action::Release {
            // SAFETY: As `respond` has told us. The channel is not drained before this
            // callback returns.
            channel.release(unsafe { slot.release() }, true);
        } else {
            // SAFETY: As above.
            unsafe { channel.act_or_fail(slot, action, true) };
        }
        Ok(cookie)
    }
}

/// What becomes of a receive buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Post it again.
    Repost,
    /// Keep it back: it is posted when it is needed, or the connection is ending.
    Keep,
}

// The pure code describes itself with `core::fmt` alone.
impl kernel::fmt::Display for Violation {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// The sizes of a channel.
#[derive(Clone, Copy)]
pub struct ChannelConfig {
    /// Command slots.
    pub slots: u32,
    /// Pages of a memory region.
    pub region_pages: u32,
    /// Receive buffers of the ring.
    pub receives: u32,
    /// Bytes of a receive buffer of the ring.
    pub receive_len: usize,
    /// Bytes of a large receive buffer.
    pub large_receive_len: usize,
    /// Bytes of the buffer for payload that is not user memory.
    pub control_len: usize,
}

/// Extra receive requests that a queue pair must hold for its channel.
pub const EXTRA_RECEIVES: u32 = recv_account::EXTRA;

/// A channel.
///
/// # Invariants
///
/// - Every completion entry that a work request of `qp` names is in this object or
///   in something that it owns, and stays in place until `qp` is destroyed.
/// - The context of `qp` points here. From creation until the sender has shut the channel down
///   it owns a reference; the channel outlives `qp` in any case.
pub struct Channel<C: ChannelOps> {
    ops: C,
    config: ChannelConfig,
    pub(crate) slots: KVVec<Slot<C>>,
    pub(crate) data_outs: SetOnce<DataOuts>,
    /// For signalled sends that no slot waits for.
    pub(crate) plain_cqe: Opaque<bindings::ib_cqe>,
    /// For registrations, which only complete when they fail.
    pub(crate) reg_cqe: Opaque<bindings::ib_cqe>,
    pub(crate) receives: Receives,
    pub(crate) control: Buffer,
    _headers: Pool,
    closing: AtomicBool,
    /// Drains, one at a time; whether the last one is over.
    drained: Pin<KBox<Mutex<bool>>>,
    // Last: its domain goes after everything that lives there.
    pub(crate) qp: Qp<C::Cm>,
}

// SAFETY: Completion entries are constant; all else is `Send` or a buffer that
// slots or states guard.
unsafe impl<C: ChannelOps> Send for Channel<C> {}
// SAFETY: As above.
unsafe impl<C: ChannelOps> Sync for Channel<C> {}

impl<C: ChannelOps> Channel<C> {
    /// Makes the channel of `qp` and its sender. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the queue pair is too small for one command per slot to be
    /// invalidated at the same time; otherwise what allocation returns.
    pub fn new(qp: Qp<C::Cm>, ops: C, config: ChannelConfig) -> Result<(Arc<Self>, Sender<C>)> {
        // A cache line, which is what a slot is aligned to.
        const { assert!(Slot::<C>::LOOKED_AT <= align_of::<Slot<C>>()) };
        let dev = qp.device();
        let slots_len = config.slots as usize;
        // A send is a header and a payload at least.
        if config.receives + EXTRA_RECEIVES > qp.config().max_recv_wr
            || qp.config().max_send_sge < 2
        {
            return Err(EINVAL);
        }
        // Each slot's key may be under local invalidation at once; what is left
        // is for sends and registrations.
        let capacity = qp
            .config()
            .max_send_wr
            .checked_sub(config.slots)
            .ok_or(EINVAL)?;
        let marks = KVec::from_elem(0u32, send_queue::marks_len(capacity), GFP_KERNEL)?;
        let producer = SqProducer::new(marks, capacity).map_err(|_| EINVAL)?;

        // SAFETY: `qp` keeps `dev` registered, and outlives the pool as the last
        // field of the channel.
        let headers = unsafe { Pool::new(dev, slots_len, C::HEADER_LEN, Direction::ToDevice) }?;
        // SAFETY: As above.
        let control = unsafe { Buffer::new(dev, config.control_len, Direction::ToDevice) }?;
        // SAFETY: As above; the handler is the one for receive buffers.
        let receives = unsafe {
            Receives::new(
                dev,
                qp.local_dma_lkey(),
                config.receives as usize,
                config.receive_len,
                config.large_receive_len,
                completion::receive_done::<C>,
            )
        }?;
        // Never grows: completion entries stay in place.
        let mut slots = KVVec::with_capacity(slots_len, GFP_KERNEL)?;
        for i in 0..slots_len {
            // SAFETY: `qp` owns its domain and outlives the region, as above.
            let region = unsafe { Region::new(qp.pd(), config.region_pages, qp.caps().sg_gaps) }?;
            let (header, addr) = headers.part(i).ok_or(EINVAL)?;
            let slot = Slot::new(
                header,
                addr,
                region,
                completion::send_done::<C>,
                completion::chain_done::<C>,
                completion::invalidate_done::<C>,
            );
            slots.push(slot, GFP_KERNEL)?;
        }
        let drained = KBox::pin_init(new_mutex!(false), GFP_KERNEL)?;
        let (raw_qp, lkey) = (qp.raw(), qp.local_dma_lkey());
        let mut channel = UniqueArc::new(
            Self {
                ops,
                config,
                slots,
                data_outs: SetOnce::new(),
                plain_cqe: Opaque::new(bindings::ib_cqe {
                    done: Some(completion::plain_done::<C>),
                }),
                reg_cqe: Opaque::new(bindings::ib_cqe {
                    done: Some(completion::registration_done::<C>),
                }),
                receives,
                control,
                _headers: headers,
                closing: AtomicBool::new(false),
                drained,
                qp,
            },
            GFP_KERNEL,
        )?;
        let reg_cqe = channel.reg_cqe.get();
        for slot in &mut channel.slots {
            slot.place(C::HEADER_LEN, lkey, reg_cqe);
        }
        let channel = Arc::from(channel);
        // INVARIANT: The context owns a reference until `Channel::shutdown`.
        let context = Arc::into_raw(channel.clone());
        // SAFETY: The queue pair is ours and nothing is posted yet, so nobody
        // reads its context.
        unsafe { (*raw_qp).qp_context = context.cast_mut().cast() };
        let sender = Sender::new(channel.clone(), producer);
        Ok((channel, sender))
    }

    /// The upper layer's side.
    #[inline]
    pub fn ops(&self) -> &C {
        &self.ops
    }

    /// The sizes.
    #[inline]
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// The queue pair.
    #[inline]
    pub fn qp(&self) -> &Qp<C::Cm> {
        &self.qp
    }

    /// Carries out what a slot's state asks for.
    ///
    /// # Safety
    ///
    /// `action` must be what the last [`Slot::update`], [`Slot::settle`] or [`Slot::respond`] of this
    /// thread has returned for `slot`, and be carried out once.
    pub(crate) unsafe fn act(&self, slot: &Slot<C>, action: Action, ok: bool) -> Result {
        match action {
            Action::Nothing => Ok(()),
            Action::Wait => {
                self.await_sends();
                Ok(())
            }
            Action::Release => {
                // SAFETY: By the contract.
                let owned = unsafe { slot.release() };
                self.release(owned, ok);
                Ok(())
            }
            Action::LocalInvalidate => self.post_invalidate(slot),
        }
    }

    /// Somebody waits for sends that are posted.
    #[cold]
    pub(crate) fn await_sends(&self) {
        let sends = self.qp.sends();
        sends.account().wait();
        sends.arm();
    }

    /// Lets the command of a slot go on, of which a send has completed in this state.
    ///
    /// # Errors
    ///
    /// As for [`Self::act`].
    #[cold]
    pub(crate) fn settle(&self, slot: &Slot<C>, sent: SlotState, ok: bool) -> Result {
        let action = slot.settle(sent);
        // SAFETY: As `settle` has told us.
        unsafe { self.act(slot, action, ok) }
    }

    /// As [`Self::act`], from a completion: a failure ends the connection. The key then
    /// stays alive, and its memory owned, until the drain.
    ///
    /// # Safety
    ///
    /// As for [`Self::act`].
    pub(crate) unsafe fn act_or_fail(&self, slot: &Slot<C>, action: Action, ok: bool) {
        // SAFETY: By the contract.
        if let Err(error) = unsafe { self.act(slot, action, ok) } {
            self.invalidation_failed(error);
        }
    }

    #[cold]
    pub(crate) fn invalidation_failed(&self, error: Error) {
        if !self.is_closing() {
            C::failed(
                self,
                Failure::Post {
                    what: "local invalidation",
                    error,
                },
            );
        }
    }

    /// Lets go of what a command owned.
    #[inline(always)]
    pub(crate) fn release(&self, owned: Owned<C>, ok: bool) {
        match owned {
            Owned::Nothing => {}
            Owned::Memory(memory) => drop(memory),
            Owned::Token(token) => self.give_back(token, ok),
        }
    }

    #[cold]
    #[inline(never)]
    fn give_back(&self, token: C::Token, ok: bool) {
        C::sent(self, token, ok);
    }

    /// Posts the invalidation of a slot's key. Room for it is set aside.
    fn post_invalidate(&self, slot: &Slot<C>) -> Result {
        if self.is_closing() {
            return Err(ESHUTDOWN);
        }
        let wr = bindings::ib_send_wr {
            next: core::ptr::null_mut(),
            __bindgen_anon_1: bindings::ib_send_wr__bindgen_ty_1 {
                wr_cqe: slot.inv_cqe.get(),
            },
            sg_list: core::ptr::null_mut(),
            num_sge: 0,
            opcode: bindings::ib_wr_opcode_IB_WR_LOCAL_INV,
            send_flags: bindings::ib_send_flags_IB_SEND_SIGNALED,
            ex: bindings::ib_send_wr__bindgen_ty_2 {
                invalidate_rkey: slot.rkey.load(Ordering::Relaxed),
            },
        };
        let sends = self.qp.sends();
        sends.account().invalidating();
        // SAFETY: The queue pair is valid; the request is copied and its
        // completion entry lives until the drain, by the type invariant.
        let posted = to_result(unsafe {
            bindings::ib_post_send(self.qp.raw(), &raw const wr, core::ptr::null_mut())
        });
        match posted {
            Ok(()) => sends.arm(),
            Err(_) => sends.account().invalidated(),
        }
        posted
    }

    /// Closes the channel: nothing is posted any more, and what is flushed from here on
    /// is no failure. Any context.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Moves the queue pair to its error state, and waits until what was received before is
    /// handled. Sleeps.
    pub fn drain(&self) {
        let over = self.drained.lock();
        // Nobody would poll the markers.
        if !*over {
            self.qp.drain();
        }
    }

    /// Whether the channel is closed.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Ends all work: on return no request is outstanding, no callback runs or
    /// will run, every key is dead and every owner dropped. Sleeps.
    ///
    /// # Safety
    ///
    /// To be called once, by the sender, which posts nothing from here on.
    pub(crate) unsafe fn shutdown(&self) {
        self.close();
        self.drain();
        // A callback that was running when the first drain began may have posted
        // behind its markers. None posts any more now, so these are the last.
        self.qp.sends().quiesce();
        {
            let mut over = self.drained.lock();
            self.qp.drain();
            self.qp.sends().stop();
            *over = true;
        }
        for slot in &self.slots {
            let _ = slot.update(SlotState::on_drained);
            // SAFETY: Drained, and the sender posts nothing any more.
            let owned = unsafe { slot.take_owned() };
            self.release(owned, false);
        }
        // INVARIANT: The pointer stays, the reference goes.
        // SAFETY: The context points here, and owns a reference until this one call; the sender
        // holds another.
        drop(unsafe { Arc::<Self>::from_raw((*self.qp.raw()).qp_context.cast_const().cast()) });
    }
}

impl<C: ChannelOps> Drop for Channel<C> {
    /// What a request names goes after the queue pair, so that it is there even for one that the
    /// provider has left behind in a drain, of which the core only warns.
    fn drop(&mut self) {
        // SAFETY: All that is left is to drop it, behind what lives in its domain.
        unsafe { self.qp.destroy() };
    }
}
