// SPDX-License-Identifier: GPL-2.0

//! A command on its way to the queue pair: what is handed over with it, and how it is
//! posted.

use crate::{
    bindings,
    channel::{Channel, ChannelOps},
    dma::{self, Direction, SgMapping},
    mr::{Access, Region},
    send::{RemoteBuffer, SendError, SGES},
    send_queue::{Chain, SqProducer},
    slot::{Owned, Slot},
    slot_state::SlotState,
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;

/// A command of which nothing is posted yet. Dropping it takes everything back.
///
/// # Invariants
///
/// `slot` is a slot of `channel`, claimed by the sender that `self` borrows from.
/// `registered` is set only while there is a mapping that the region points at.
pub struct Prepared<'a, C: ChannelOps> {
    // Declared, and so dropped, before `owner`.
    pub(crate) mapping: Option<SgMapping>,
    pub(crate) owner: Option<C::Owner>,
    pub(crate) token: Option<C::Token>,
    pub(crate) channel: &'a Channel<C>,
    pub(crate) slot: &'a Slot<C>,
    pub(crate) fresh: SlotState,
    pub(crate) producer: &'a mut SqProducer<KVec<u32>>,
    pub(crate) data_out_head: &'a mut u32,
    pub(crate) data_outs: u32,
    pub(crate) registered: Option<Access>,
    pub(crate) guarded: bool,
    pub(crate) sges: &'a mut [bindings::ib_sge; SGES],
    pub(crate) num_sge: usize,
}

impl<C: ChannelOps> Prepared<'_, C> {
    /// The slot's region.
    #[inline(always)]
    fn region(&self) -> &Region {
        // SAFETY: By the type invariants of `Slot` and of this type the region is ours.
        unsafe { &*self.slot.region.get() }
    }

    /// Maps the memory of `owner` for the device, and takes the owner. Once.
    #[inline(always)]
    pub fn map(&mut self, owner: C::Owner, direction: Direction) -> Result {
        if self.owner.is_some() {
            return Err(EINVAL);
        }
        // SAFETY: The queue pair keeps its device. The mapping is dropped before the
        // owner, here and in `Owned`, which the slot keeps from before posting until
        // the device is done.
        let mapping = unsafe { SgMapping::new(self.channel.qp.device(), &owner, direction) }?;
        self.mapping = Some(mapping);
        self.owner = Some(owner);
        Ok(())
    }

    /// Registers the mapped memory with the command.
    #[inline(always)]
    pub fn register(&mut self, access: Access) -> Result<RemoteBuffer> {
        let mapping = self.mapping.as_ref().ok_or(EINVAL)?;
        if self.registered.is_some() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariants of `Slot` and of this type the region is ours.
        let region = unsafe { &mut *self.slot.region.get() };
        region.map(mapping)?;
        let buffer = RemoteBuffer {
            rkey: region.rkey(),
            addr: region.iova(),
        };
        self.slot.rkey.store(buffer.rkey, Relaxed);
        self.registered = Some(access);
        Ok(buffer)
    }

    /// The header of the message, to be filled in. What an earlier command has left
    /// is still in it.
    #[inline(always)]
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
    #[inline(always)]
    pub fn payload(&mut self, len: u32) -> Result {
        let mapping = self.mapping.as_ref().ok_or(EINVAL)?;
        let room = (self.channel.qp.config().max_send_sge as usize).min(SGES);
        let lkey = self.channel.qp.local_dma_lkey();
        let sges = self.sges.get_mut(1..room).ok_or(E2BIG)?;
        // Not by the region's key where it can be avoided: the peer may invalidate that
        // while the send could still be repeated.
        if let Some(used) = mapping.fill_sges(sges, len, lkey) {
            self.num_sge = 1 + used;
        } else {
            let region = self.region();
            if self.registered.is_none() || u64::from(len) > region.len() {
                return Err(E2BIG);
            }
            let payload = bindings::ib_sge {
                addr: region.iova(),
                length: len,
                lkey: region.lkey(),
            };
            let [_, sge, ..] = &mut *self.sges;
            *sge = payload;
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
        let [_, sge, ..] = &mut *self.sges;
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
        self.token = Some(token);
        self.guarded = true;
    }

    /// Takes the token back, of a command that could not be posted.
    pub fn take_token(&mut self) -> Option<C::Token> {
        self.token.take()
    }

    /// Adds a follow-up send: `len` bytes of the registered memory from `offset`.
    /// Returns its header, to be filled in.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: too many follow-up sends are under way.
    pub fn data_out(&mut self, offset: u32, len: u32) -> Result<&mut [u8]> {
        let region = self.region();
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
    #[inline(always)]
    pub fn post(self) -> core::result::Result<(), SendError> {
        let Self {
            mapping,
            owner,
            token,
            channel,
            slot,
            fresh,
            producer,
            data_out_head,
            data_outs,
            registered,
            guarded,
            sges,
            num_sge,
        } = self;
        let owned = Owned {
            _mapping: mapping,
            _owner: owner,
            token,
        };
        let qp = channel.qp.raw();
        let kind = if guarded {
            Chain::Guarded
        } else {
            Chain::Plain
        };
        let wrs = u32::from(registered.is_some()) + 1 + data_outs;
        let Ok(plan) = producer.plan(&channel.sq, wrs, kind) else {
            return Err(SendError::NotSent(EAGAIN));
        };

        let header_len = channel.config().header_len;
        // SAFETY: The slot's header is mapped for the channel's life.
        unsafe {
            dma::sync_for_device(
                channel.qp.device(),
                slot.header_addr,
                header_len,
                Direction::ToDevice,
            )
        };
        let [header, ..] = &mut *sges;
        *header = bindings::ib_sge {
            addr: slot.header_addr,
            length: header_len as u32,
            lkey: channel.qp.local_dma_lkey(),
        };
        // Sends complete in order: of a chain, the last one tells of all.
        let last = bindings::ib_send_wr__bindgen_ty_1 {
            wr_cqe: if guarded {
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
            num_sge: num_sge as i32,
            opcode: bindings::ib_wr_opcode_IB_WR_SEND,
            send_flags: last_flags,
            ex: bindings::ib_send_wr__bindgen_ty_2 { imm_data: 0 },
        };
        if data_outs != 0 {
            let Some(pool) = channel.data_outs.as_ref() else {
                return Err(SendError::NotSent(EINVAL));
            };
            send_wr.__bindgen_anon_1.wr_cqe = channel.plain_cqe.get();
            send_wr.send_flags = 0;
            // SAFETY: `data_out` has claimed these, and they are not posted yet.
            send_wr.next = unsafe {
                pool.chain(
                    *data_out_head,
                    data_outs,
                    channel.plain_cqe.get(),
                    last,
                    last_flags,
                )
            };
            slot.data_outs.store(data_outs, Relaxed);
        }
        let mut reg_wr;
        let first: *const bindings::ib_send_wr = match registered {
            Some(access) => {
                // SAFETY: By the type invariants of `Slot` and of this type the region
                // is ours until the slot is published.
                let region = unsafe { &*slot.region.get() };
                reg_wr = region.registration(access, channel.reg_cqe.get());
                reg_wr.wr.next = &raw mut send_wr;
                &raw const reg_wr.wr
            }
            None => &raw const send_wr,
        };

        // The slot owns everything before the device can complete any of it. Posting
        // counts as a send: a response that the peer has made up must not get an
        // invalidation in front of the registration.
        let mut state = fresh;
        if state
            .posted(registered.is_some(), 1 + u16::from(guarded))
            .is_err()
        {
            return Err(SendError::NotSent(EINVAL));
        }
        if owned.token.is_some() {
            // No response will come: the completion of the send ends it.
            let _ = state.on_abort();
        }
        // SAFETY: We are the sender that has claimed the slot.
        unsafe { slot.publish(state, owned) };

        let mut bad: *const bindings::ib_send_wr = core::ptr::null();
        // SAFETY: The queue pair is valid. The requests are copied; headers,
        // payload and completion entries stay until the drain, by the type
        // invariant of `Channel` and because the slot owns user memory.
        let ret = unsafe { bindings::ib_post_send(qp, first, &raw mut bad) };
        if ret == 0 {
            plan.commit();
            *data_out_head = data_out_head.wrapping_add(data_outs);
            let action = slot.update(SlotState::on_send_done);
            // SAFETY: As `update` has told us.
            return unsafe { channel.act(slot, action, true) }.map_err(SendError::Partly);
        }
        let error = Error::from_errno(ret);
        if !bad.is_null() && !core::ptr::eq(bad, first) {
            plan.commit();
            *data_out_head = data_out_head.wrapping_add(data_outs);
            let action = slot.update(SlotState::on_send_done);
            // SAFETY: As `update` has told us.
            let _ = unsafe { channel.act(slot, action, false) };
            return Err(SendError::Partly(error));
        }
        slot.data_outs.store(0, Relaxed);
        // SAFETY: Nothing was posted.
        drop(unsafe { slot.withdraw() });
        Err(SendError::NotSent(error))
    }
}
