// SPDX-License-Identifier: GPL-2.0

//! One command's share of a channel: its header buffer, its memory region, and
//! what its posted work requests own.

use crate::{
    bindings,
    channel::ChannelOps,
    dma::SgMapping,
    mr::Region,
    response::Violation,
    send::SGES,
    slot_state::{Action, SlotState},
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull,
    // As in the pure code: the kernel's own are calls of C where they compare.
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};
use kernel::types::Opaque;

/// A completion callback.
pub(crate) type Done = unsafe extern "C" fn(*mut bindings::ib_cq, *mut bindings::ib_wc);

/// A command slot.
///
/// Two sides use it without a lock. The *sender* of the channel, of which there is
/// one, prepares and posts commands. *Completions*, on any processor,
/// report what has become of them. `state` hands the slot from one to the other.
///
/// # Invariants
///
/// - `header` and `header_addr` are a part of the channel's header pool that no
///   other slot has.
/// - `region` is accessed by the sender alone, from claiming the slot until posting.
/// - `requests` is accessed by the sender alone. From [`Slot::place`] on, its links and
///   entries are in this slot, or null, or, while a command is posted, in the follow-up sends.
/// - `owned` is accessed by the sender from claiming the slot until `state` says that
///   the command is posted; then by whoever `state` tells to release it, which it
///   does once, until that one has vacated the slot; and by whoever has drained the
///   queue pair when there is no sender any more. It is empty in a vacant slot.
//
// The first cache line is all that a response looks at; what senders and their completions use
// follows.
#[repr(C, align(64))]
pub(crate) struct Slot<C: ChannelOps> {
    state: AtomicU64,
    /// What the response must name.
    pub(crate) tag: AtomicU32,
    /// The key of the command.
    pub(crate) rkey: AtomicU32,
    /// What the upper layer gets back with the response: by the tag alone it cannot tell a
    /// command from the slot's last one.
    pub(crate) cookie: AtomicU32,
    owned: UnsafeCell<Owned<C>>,
    /// Follow-up sends of the command.
    pub(crate) data_outs: AtomicU32,
    /// For sends whose completion this slot waits for.
    pub(crate) send_cqe: Opaque<bindings::ib_cqe>,
    /// The same for the last one of several.
    pub(crate) chain_cqe: Opaque<bindings::ib_cqe>,
    pub(crate) header: NonNull<u8>,
    pub(crate) header_addr: u64,
    pub(crate) requests: UnsafeCell<Requests>,
    pub(crate) region: UnsafeCell<Region>,
    /// For the invalidation of the slot's key.
    pub(crate) inv_cqe: Opaque<bindings::ib_cqe>,
}

/// The work requests of a command, of which most is the same for all of a slot's.
pub(crate) struct Requests {
    /// Registers the region; the send follows.
    pub(crate) reg: bindings::ib_reg_wr,
    pub(crate) send: bindings::ib_send_wr,
    /// The header and the payload of the send.
    pub(crate) sges: [bindings::ib_sge; SGES],
}

// SAFETY: Everything in it may be used by any thread, one at a time.
unsafe impl<C: ChannelOps> Send for Slot<C> {}
// SAFETY: By the type invariants each part is used by one side at a time; `state`
// orders their accesses.
unsafe impl<C: ChannelOps> Sync for Slot<C> {}

/// User memory of a command. Dropping it unmaps the scatterlist, then lets its owner
/// go.
pub(crate) struct Memory<C: ChannelOps> {
    // Declared, and so dropped, before `_owner`.
    pub(crate) mapping: SgMapping,
    pub(crate) _owner: C::Owner,
}

/// What the posted work requests of a command own.
#[repr(u8)]
pub(crate) enum Owned<C: ChannelOps> {
    /// Nothing: none of it is the upper layer's.
    Nothing,
    /// What the payload or the region is in.
    Memory(Memory<C>),
    /// Of a message without a response.
    Token(C::Token),
}

impl<C: ChannelOps> Slot<C> {
    /// Bytes that a response looks at.
    pub(crate) const LOOKED_AT: usize = core::mem::offset_of!(Self, owned) + size_of::<Owned<C>>();

    pub(crate) fn new(
        header: NonNull<u8>,
        header_addr: u64,
        region: Region,
        send_done: Done,
        chain_done: Done,
        inv_done: Done,
    ) -> Self {
        let requests = Requests {
            reg: region.registration(),
            send: bindings::ib_send_wr {
                opcode: bindings::ib_wr_opcode_IB_WR_SEND,
                ..Default::default()
            },
            sges: [bindings::ib_sge::default(); SGES],
        };
        // INVARIANT: The caller has taken the header out of the pool; a new state is
        // free. The requests get their pointers in `place`, before a sender exists.
        Self {
            send_cqe: Opaque::new(bindings::ib_cqe {
                done: Some(send_done),
            }),
            chain_cqe: Opaque::new(bindings::ib_cqe {
                done: Some(chain_done),
            }),
            inv_cqe: Opaque::new(bindings::ib_cqe {
                done: Some(inv_done),
            }),
            header,
            header_addr,
            state: AtomicU64::new(SlotState::new(false).to_raw()),
            tag: AtomicU32::new(0),
            rkey: AtomicU32::new(0),
            cookie: AtomicU32::new(0),
            data_outs: AtomicU32::new(0),
            requests: UnsafeCell::new(requests),
            region: UnsafeCell::new(region),
            owned: UnsafeCell::new(Owned::Nothing),
        }
    }

    /// Completes the work requests when the slot is where it stays: messages begin with
    /// `header_len` bytes, registrations report to `reg_cqe`.
    pub(crate) fn place(&mut self, header_len: usize, lkey: u32, reg_cqe: *mut bindings::ib_cqe) {
        let Requests { reg, send, sges } = self.requests.get_mut();
        // INVARIANT: Into the slot, which does not move any more.
        reg.wr.next = send;
        reg.wr.__bindgen_anon_1.wr_cqe = reg_cqe;
        send.sg_list = sges.as_mut_ptr();
        let [header, ..] = sges;
        *header = bindings::ib_sge {
            addr: self.header_addr,
            length: header_len as u32,
            lkey,
        };
    }

    /// Begins a new command, if the last one is over. What a command that was given up
    /// has left is dropped.
    ///
    /// # Safety
    ///
    /// To be called by the channel's sender.
    #[inline(always)]
    pub(crate) unsafe fn claim(&self, fresh: SlotState) -> bool {
        let old = self.state.load(Acquire);
        let last = SlotState::from_raw(old);
        let next = fresh.following(last).to_raw();
        if last.is_vacant() {
            // What an event may still change in this state has no effect.
            self.state.store(next, Relaxed);
            return true;
        }
        if !last.is_free() {
            return false;
        }
        // Fails only if an event of the command has come at this very moment.
        let claimed = self.state.compare_exchange(old, next, AcqRel, Acquire);
        if claimed.is_err() {
            return false;
        }
        self.clear_given_up();
        true
    }

    /// Drops what a command that was given up has left, after claiming its slot.
    #[cold]
    fn clear_given_up(&self) {
        // SAFETY: By the type invariant: the slot was free, and is the caller's now.
        drop(unsafe { self.take_owned() });
    }

    /// What the command owns.
    ///
    /// # Safety
    ///
    /// To be called by the sender that has claimed the slot and not published it. Nothing
    /// else that came from here may be alive.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn owned(&self) -> &mut Owned<C> {
        // SAFETY: By the type invariant and the contract.
        unsafe { &mut *self.owned.get() }
    }

    /// Says that the claimed slot's command is about to be posted.
    ///
    /// # Safety
    ///
    /// To be called by the sender that has claimed the slot. `state` must be [`Self::state`] with
    /// nothing but that reported to it.
    #[inline(always)]
    pub(crate) unsafe fn publish(&self, state: SlotState) {
        self.state.store(state.to_raw(), Release);
    }

    /// Frees a claimed slot, and drops what was put into it, of a command that will not be
    /// posted.
    ///
    /// # Safety
    ///
    /// As for [`Self::publish`], which was not called.
    #[cold]
    pub(crate) unsafe fn give_back(&self) {
        let free = SlotState::new(false).following(self.state());
        self.state.store(free.to_raw(), Relaxed);
        // SAFETY: By the contract.
        drop(unsafe { self.take_owned() });
    }

    /// Frees a published slot, and drops what was put into it, of a command that could not be
    /// posted. Returns false, and leaves all to the drain, if the peer has made up a response by
    /// now: who accepted that is about to complete the command, which therefore counts as sent.
    ///
    /// # Safety
    ///
    /// To be called by the sender that has published the slot. Nothing was posted, and at least
    /// one send is counted, so that nobody was told to release.
    #[cold]
    pub(crate) unsafe fn take_back(&self) -> bool {
        let published = self.state();
        let free = SlotState::new(false).following(published);
        // Nothing was posted that could complete: only a response changes the state.
        if published.is_answered()
            || self
                .state
                .compare_exchange(published.to_raw(), free.to_raw(), AcqRel, Relaxed)
                .is_err()
        {
            return false;
        }
        // SAFETY: By the contract.
        drop(unsafe { self.take_owned() });
        true
    }

    /// The state. Others may be about to change it, unless the command is claimed and not published.
    #[inline(always)]
    pub(crate) fn state(&self) -> SlotState {
        SlotState::from_raw(self.state.load(Relaxed))
    }

    /// Whether guarded sends of the command are not known to have completed.
    #[inline(always)]
    pub(crate) fn is_sending(&self) -> bool {
        self.state().is_sending()
    }

    /// Reports an event, which is one of the methods of [`SlotState`]. `event` may run
    /// again if another processor was faster; its last run counts.
    #[inline(always)]
    pub(crate) fn update<R>(&self, event: impl Fn(&mut SlotState) -> R) -> R {
        let mut old = self.state.load(Acquire);
        loop {
            let mut state = SlotState::from_raw(old);
            let result = event(&mut state);
            match self
                .state
                .compare_exchange_weak(old, state.to_raw(), AcqRel, Acquire)
            {
                Ok(_) => return result,
                Err(now) => old = now,
            }
        }
    }

    /// Reports the response, which names this tag and has invalidated this key. Returns what to do
    /// and the cookie of the command. A violation changes nothing.
    #[inline(always)]
    pub(crate) fn respond(
        &self,
        tag: u32,
        invalidated: Option<u32>,
    ) -> Result<(Action, u32), Violation> {
        let mut read = SlotState::from_raw(self.state.load(Acquire));
        loop {
            match self.respond_in(read, tag, invalidated)? {
                Ok(answered) => return Ok(answered),
                Err(now) => read = now,
            }
        }
    }

    /// Reports the response in the state that was read. Where the state has changed since, returns
    /// what it is now, or that the command is over.
    ///
    /// Tag, key and cookie are of the command that is answered: none of them changes while the
    /// state is the same.
    #[inline(always)]
    pub(crate) fn respond_in(
        &self,
        read: SlotState,
        tag: u32,
        invalidated: Option<u32>,
    ) -> Result<Result<(Action, u32), SlotState>, Violation> {
        if self.tag.load(Relaxed) != tag {
            return Err(Violation::UnknownCommand);
        }
        let mut state = read;
        let action = state.on_response(invalidated, self.rkey.load(Relaxed))?;
        let cookie = self.cookie.load(Relaxed);
        let raw = self
            .state
            .compare_exchange_weak(read.to_raw(), state.to_raw(), AcqRel, Acquire);
        match raw.map_err(SlotState::from_raw) {
            Ok(_) => Ok(Ok((action, cookie))),
            Err(now) if now.is_of(read) => Ok(Err(now)),
            Err(_) => Err(Violation::UnknownCommand),
        }
    }

    /// Reports the completion of a guarded send, successful or flushed. Where somebody waits for the
    /// command, [`Self::settle`] has to follow, with what this returns.
    #[inline(always)]
    pub(crate) fn send_done(&self) -> Option<SlotState> {
        let before = self.state.fetch_sub(SlotState::ONE_SEND, AcqRel);
        let before = SlotState::from_raw(before);
        before.is_finishing().then_some(before)
    }

    /// Goes on with a command, of which a send has completed in this state. Another processor may
    /// have done so already, and the slot may have a new command by now.
    pub(crate) fn settle(&self, sent: SlotState) -> Action {
        self.update(|state| {
            if state.is_of(sent) {
                state.settle()
            } else {
                Action::Nothing
            }
        })
    }

    /// Takes out what the command owned, and frees the slot.
    ///
    /// # Safety
    ///
    /// The caller must be who [`Self::update`], [`Self::settle`] or [`Self::respond`] has told
    /// [`Action::Release`].
    #[inline(always)]
    pub(crate) unsafe fn release(&self) -> Owned<C> {
        // SAFETY: By the type invariant and the contract.
        let owned = unsafe { self.take_owned() };
        // An event that comes between these lines is lost: the answer to all is "nothing".
        let mut state = self.state();
        state.vacate();
        self.state.store(state.to_raw(), Release);
        owned
    }

    /// Takes out what the command owned.
    ///
    /// # Safety
    ///
    /// The type invariant must give the caller access.
    #[inline(always)]
    pub(crate) unsafe fn take_owned(&self) -> Owned<C> {
        // SAFETY: By the contract.
        unsafe { core::mem::replace(&mut *self.owned.get(), Owned::Nothing) }
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

    /// The slot that `cqe` is the entry for chains of.
    ///
    /// # Safety
    ///
    /// `cqe` must be the `chain_cqe` of a slot that lives for `'a`.
    #[inline]
    pub(crate) unsafe fn from_chain_cqe<'a>(cqe: *mut bindings::ib_cqe) -> &'a Self {
        // SAFETY: By the contract; `Opaque` is transparent.
        unsafe { &*cqe.byte_sub(core::mem::offset_of!(Self, chain_cqe)).cast() }
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
