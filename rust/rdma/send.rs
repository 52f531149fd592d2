// SPDX-License-Identifier: GPL-2.0

//! Sending: the one [`Sender`] of a channel, and a [`Prepared`] command on its way
//! to the queue pair.

use crate::{
    bindings,
    channel::{Channel, ChannelOps, SlotGuard},
    data_out::DataOuts,
    dma::{self, Direction, SgMapping},
    mr::Access,
    send_queue::{Chain, SqProducer, MAX_CHAIN},
    slot::{Owned, Slot},
    slot_state::SlotState,
};
use kernel::{error::to_result, prelude::*, sync::Arc};

/// Scatter/gather entries of user memory that one send can carry unregistered.
pub const PAYLOAD_SGES: usize = 3;
/// Entries of a send: the header and its payload.
const SGES: usize = 1 + PAYLOAD_SGES;
/// What a queue pair should have per send for that.
pub const MAX_SEND_SGE: u32 = SGES as u32;
/// Follow-up sends that one command can have.
pub const MAX_DATA_OUTS: u32 = MAX_CHAIN - 2;

/// A memory region as the peer addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteBuffer {
    /// Remote key.
    pub rkey: u32,
    /// Address of the first byte.
    pub addr: u64,
}

/// Why a command was not sent.
#[derive(Clone, Copy)]
pub enum SendError {
    /// Nothing was posted and nothing is owned any more. `EAGAIN`: the queue is
    /// full for now; `EBUSY`: the slot's last command is not over.
    NotSent(Error),
    /// Only a part of the command was posted: the connection must end. What was
    /// handed over stays owned until then.
    Partly(Error),
}

/// The only object that posts sends on a channel, and the one that ends it.
///
/// Dropping it without [`Sender::shutdown`] leaks the channel: nothing else can
/// tell that the device is done with it.
pub struct Sender<C: ChannelOps> {
    channel: Arc<Channel<C>>,
    producer: SqProducer<KVec<u32>>,
    data_out_head: u32,
    remote_invalidation: bool,
}

impl<C: ChannelOps> Sender<C> {
    pub(crate) fn new(channel: Arc<Channel<C>>, producer: SqProducer<KVec<u32>>) -> Self {
        Self {
            channel,
            producer,
            data_out_head: 0,
            remote_invalidation: false,
        }
    }

    /// The channel.
    #[inline]
    pub fn channel(&self) -> &Arc<Channel<C>> {
        &self.channel
    }

    /// Says whether the peer may invalidate a command's key with its response.
    pub fn allow_remote_invalidation(&mut self, allow: bool) {
        self.remote_invalidation = allow;
    }

    /// Makes `count` buffers for follow-up sends. Once; sleeps.
    pub fn allocate_data_outs(channel: &Channel<C>, count: u32) -> Result {
        let data_outs = DataOuts::new(channel, count)?;
        if channel.data_outs.populate(data_outs) {
            Ok(())
        } else {
            Err(EALREADY)
        }
    }

    /// Begins the command of slot `index`, whose response will name `tag`.
    ///
    /// With bottom halves off, as everything up to [`Prepared::post`]; the slot is
    /// locked meanwhile.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a slot that does not exist, `EBUSY` while the slot's last
    /// command still owns something, `ESHUTDOWN` if the channel is closed.
    #[inline]
    pub fn prepare(&mut self, index: u32, tag: u32) -> Result<Prepared<'_, C>> {
        let channel: &Channel<C> = &self.channel;
        if channel.is_closing() {
            return Err(ESHUTDOWN);
        }
        let slot = channel.slots.get(index as usize).ok_or(EINVAL)?;
        let mut inner = slot.inner.lock();
        if inner.state.key_is_live() || inner.state.sends_in_flight() != 0 {
            return Err(EBUSY);
        }
        inner.state = SlotState::new(self.remote_invalidation);
        inner.tag = tag;
        Ok(Prepared {
            guard: inner,
            owned: Owned::none(),
            spare: None,
            channel,
            slot,
            producer: &mut self.producer,
            data_out_head: &mut self.data_out_head,
            data_outs: 0,
            registered: None,
            guarded: false,
            sges: [bindings::ib_sge::default(); SGES],
            num_sge: 1,
        })
    }

    /// Starts to kill the key of slot `index` without waiting for its response.
    /// With bottom halves off. That it is dead shows in the owner being dropped.
    ///
    /// # Errors
    ///
    /// The invalidation could not be posted: only the end of the connection kills
    /// the key.
    pub fn abort(&mut self, index: u32) -> Result {
        let channel: &Channel<C> = &self.channel;
        let slot = channel.slots.get(index as usize).ok_or(EINVAL)?;
        let mut inner = slot.inner.lock();
        let action = inner.state.on_abort();
        channel.act(slot, inner, action, false)
    }

    /// Makes sure that `count` large receive buffers are posted, or all there are. Any
    /// context.
    ///
    /// # Errors
    ///
    /// `EBUSY` if none could be posted because all are being read, which cannot be
    /// while messages alternate.
    pub fn arm_large_receives(&self, count: usize) -> Result {
        let channel = &self.channel;
        let large = channel.receives.large();
        let mut posted = large.iter().filter(|b| b.is_posted()).count();
        for buffer in large.iter().filter(|b| b.is_idle()) {
            if posted >= count {
                break;
            }
            // SAFETY: The channel's queue pair, with room for every buffer; an idle
            // buffer is not being read.
            unsafe { buffer.post(channel.qp.raw(), channel.qp.local_dma_lkey()) }?;
            posted += 1;
        }
        if posted == 0 {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Posts every buffer of the receive ring that is not posted. Any context.
    pub fn post_receives(&self) -> Result {
        let channel = &self.channel;
        for buffer in channel.receives.ring() {
            if !buffer.is_idle() {
                continue;
            }
            // SAFETY: As above.
            unsafe { buffer.post(channel.qp.raw(), channel.qp.local_dma_lkey()) }?;
        }
        Ok(())
    }

    /// Ends the channel: on return no work request is outstanding, no callback runs
    /// or will run, all remote keys are dead and all owners dropped. The queue pair
    /// goes with the last reference to the channel. Sleeps.
    pub fn shutdown(self) {
        self.channel.shutdown();
    }
}

/// A command of which nothing is posted yet. Dropping it takes everything back.
///
/// # Invariants
///
/// `guard` locks `slot`, a slot of `channel` that has nothing posted.
/// `registered` is set only while `owned` has a mapping that the region points at.
pub struct Prepared<'a, C: ChannelOps> {
    // Dropped first: owners go with no lock held.
    guard: SlotGuard<'a, C>,
    owned: Owned<C>,
    spare: Option<C::Owner>,
    channel: &'a Channel<C>,
    slot: &'a Slot<C>,
    producer: &'a mut SqProducer<KVec<u32>>,
    data_out_head: &'a mut u32,
    data_outs: u32,
    registered: Option<Access>,
    guarded: bool,
    sges: [bindings::ib_sge; SGES],
    num_sge: usize,
}

impl<'a, C: ChannelOps> Prepared<'a, C> {
    /// Maps the memory of `owner` for the device, and takes the owner.
    #[inline]
    pub fn map(&mut self, owner: C::Owner, direction: Direction) -> Result {
        if self.owned.owner.is_some() {
            self.spare = Some(owner);
            return Err(EINVAL);
        }
        // Kept in any case: it must not be dropped under the lock.
        let owner = self.owned.owner.insert(owner);
        // SAFETY: The queue pair keeps its device. The mapping goes to `owned`,
        // which drops it before the owner, and which the slot keeps from before
        // posting until the device is done.
        let mapping = unsafe { SgMapping::new(self.channel.qp.device(), owner, direction) }?;
        self.owned.mapping = Some(mapping);
        Ok(())
    }

    /// Registers the mapped memory with the command.
    #[inline]
    pub fn register(&mut self, access: Access) -> Result<RemoteBuffer> {
        let mapping = self.owned.mapping.as_ref().ok_or(EINVAL)?;
        if self.registered.is_some() {
            return Err(EINVAL);
        }
        let region = &mut self.guard.region;
        region.map(mapping)?;
        let buffer = RemoteBuffer {
            rkey: region.rkey(),
            addr: region.iova(),
        };
        self.registered = Some(access);
        Ok(buffer)
    }

    /// The header of the message, to be filled in. What an earlier command has left
    /// is still in it.
    #[inline]
    pub fn header(&mut self) -> &mut [u8] {
        // SAFETY: The slot's header buffer is of that length. Only the sender
        // writes it, and `self` borrows the sender; the device only reads it.
        unsafe {
            core::slice::from_raw_parts_mut(
                self.slot.header.as_ptr(),
                self.channel.config().header_len,
            )
        }
    }

    /// Sends the first `len` bytes of the mapped memory behind the header.
    ///
    /// # Errors
    ///
    /// `E2BIG`: unregistered, that takes more entries than a send has.
    #[inline]
    pub fn payload(&mut self, len: u32) -> Result {
        let mapping = self.owned.mapping.as_ref().ok_or(EINVAL)?;
        let room = (self.channel.qp.config().max_send_sge as usize).min(SGES);
        let lkey = self.channel.qp.local_dma_lkey();
        let sges = self.sges.get_mut(1..room).ok_or(E2BIG)?;
        // Not by the region's key where it can be avoided: the peer may invalidate that
        // while the send could still be repeated.
        if let Some(used) = mapping.fill_sges(sges, len, lkey) {
            self.num_sge = 1 + used;
        } else {
            let region = &self.guard.region;
            if self.registered.is_none() || u64::from(len) > region.len() {
                return Err(E2BIG);
            }
            let [_, sge, ..] = &mut self.sges;
            *sge = bindings::ib_sge {
                addr: region.iova(),
                length: len,
                lkey: region.lkey(),
            };
            self.num_sge = 2;
        }
        self.guarded = true;
        Ok(())
    }

    /// Sends a copy of `bytes` behind the header, from the channel's buffer for
    /// that. The caller knows that the last message with one has been answered.
    pub fn control_payload(&mut self, bytes: &[u8]) -> Result {
        let (mem, addr) = self.channel.control.part(0, bytes.len()).ok_or(EMSGSIZE)?;
        let dev = self.channel.qp.device();
        // SAFETY: `mem` is as long as `bytes`, and only the sender, which `self`
        // borrows, writes it.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), mem.as_ptr(), bytes.len());
            dma::sync_for_device(dev, addr, bytes.len(), Direction::ToDevice);
        }
        let [_, sge, ..] = &mut self.sges;
        *sge = bindings::ib_sge {
            addr,
            length: bytes.len() as u32,
            lkey: self.channel.qp.local_dma_lkey(),
        };
        self.num_sge = 2;
        Ok(())
    }

    /// Has `token` given back when the send has completed. For messages without a
    /// response.
    pub fn token(&mut self, token: C::Token) {
        self.owned.token = Some(token);
        self.guarded = true;
    }

    /// Takes the token back, of a command that could not be posted.
    pub fn take_token(&mut self) -> Option<C::Token> {
        self.owned.token.take()
    }

    /// Adds a follow-up send: `len` bytes of the registered memory from `offset`.
    /// Returns its header, to be filled in.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: too many follow-up sends are under way.
    pub fn data_out(&mut self, offset: u32, len: u32) -> Result<&mut [u8]> {
        let region = &self.guard.region;
        let end = u64::from(offset) + u64::from(len);
        if self.registered.is_none() || end > region.len() {
            return Err(EINVAL);
        }
        let payload = bindings::ib_sge {
            addr: region.iova() + u64::from(offset),
            length: len,
            lkey: region.lkey(),
        };
        let pool = self.channel.data_outs.as_ref().ok_or(EAGAIN)?;
        let number = self.data_out_head.wrapping_add(self.data_outs);
        // SAFETY: Only the sender, which `self` borrows, claims; `number` follows
        // the last one that it has posted.
        let header = unsafe { pool.claim(number, payload, self.channel.qp.local_dma_lkey()) }
            .ok_or(EAGAIN)?;
        self.data_outs += 1;
        self.guarded = true;
        Ok(header)
    }

    /// Posts the command. From here on the channel owns what was handed over.
    #[inline]
    pub fn post(self) -> core::result::Result<(), SendError> {
        let channel = self.channel;
        let slot = self.slot;
        let qp = channel.qp.raw();
        let lead = self.registered.is_some();
        let kind = if self.guarded {
            Chain::Guarded
        } else {
            Chain::Plain
        };
        let wrs = u32::from(lead) + 1 + self.data_outs;
        let plan = self
            .producer
            .plan(&channel.sq, wrs, kind)
            .map_err(|_| SendError::NotSent(EAGAIN))?;

        // SAFETY: The slot's header is mapped for the channel's life.
        unsafe {
            dma::sync_for_device(
                channel.qp.device(),
                slot.header_addr,
                channel.config().header_len,
                Direction::ToDevice,
            )
        };
        let mut sges = self.sges;
        let [header, ..] = &mut sges;
        *header = bindings::ib_sge {
            addr: slot.header_addr,
            length: channel.config().header_len as u32,
            lkey: channel.qp.local_dma_lkey(),
        };
        // Sends complete in order: of a chain, the last one tells of all.
        let last = bindings::ib_send_wr__bindgen_ty_1 {
            wr_cqe: if self.guarded {
                slot.send_cqe.get()
            } else {
                channel.plain_cqe.get()
            },
        };
        let last_flags = if plan.is_signalled() {
            bindings::ib_send_flags_IB_SEND_SIGNALED
        } else {
            0
        };
        let mut send_wr = bindings::ib_send_wr {
            next: core::ptr::null_mut(),
            __bindgen_anon_1: last,
            sg_list: sges.as_mut_ptr(),
            num_sge: self.num_sge as i32,
            opcode: bindings::ib_wr_opcode_IB_WR_SEND,
            send_flags: last_flags,
            ex: bindings::ib_send_wr__bindgen_ty_2 { imm_data: 0 },
        };
        if self.data_outs != 0 {
            let Some(pool) = channel.data_outs.as_ref() else {
                return Err(SendError::NotSent(EINVAL));
            };
            send_wr.__bindgen_anon_1.wr_cqe = channel.plain_cqe.get();
            send_wr.send_flags = 0;
            // SAFETY: `data_out` has claimed these, and they are not posted yet.
            send_wr.next = unsafe {
                pool.chain(
                    *self.data_out_head,
                    self.data_outs,
                    channel.plain_cqe.get(),
                    last,
                    last_flags,
                )
            };
        }
        let mut reg_wr;
        let first: *const bindings::ib_send_wr = match self.registered {
            Some(access) => {
                let region = &self.guard.region;
                reg_wr = region.registration(access, channel.reg_cqe.get());
                reg_wr.wr.next = &raw mut send_wr;
                &raw const reg_wr.wr
            }
            None => &raw const send_wr,
        };

        // The slot owns everything before the device can complete any of it, and
        // stays locked until all is posted: a response that the peer has made up must
        // not get an invalidation in front of the registration.
        let Self {
            mut guard,
            mut owned,
            data_out_head,
            data_outs,
            guarded,
            ..
        } = self;
        let Ok(posted) = guard.state.posted(lead, u16::from(guarded)) else {
            return Err(SendError::NotSent(EINVAL));
        };
        if owned.token.is_some() {
            // No response will come: the completion of the send ends it.
            let _ = guard.state.on_abort();
        }
        guard.data_outs = data_outs;
        core::mem::swap(&mut guard.owned, &mut owned);

        let mut bad: *const bindings::ib_send_wr = core::ptr::null();
        // SAFETY: The queue pair is valid. The requests are copied; headers,
        // payload and completion entries stay until the drain, by the type
        // invariant of `Channel` and because the slot owns user memory.
        let ret = to_result(unsafe { bindings::ib_post_send(qp, first, &raw mut bad) });
        let error = match ret {
            Ok(()) => {
                plan.commit();
                *data_out_head = data_out_head.wrapping_add(data_outs);
                return Ok(());
            }
            Err(error) => error,
        };
        if !bad.is_null() && !core::ptr::eq(bad, first) {
            plan.commit();
            *data_out_head = data_out_head.wrapping_add(data_outs);
            return Err(SendError::Partly(error));
        }
        // Nothing was posted: take it all back.
        let _ = guard.state.not_posted(posted);
        guard.data_outs = 0;
        core::mem::swap(&mut guard.owned, &mut owned);
        drop(guard);
        channel.release(owned, false);
        Err(SendError::NotSent(error))
    }
}
