// SPDX-License-Identifier: GPL-2.0

//! A command on its way to the queue pair: what is handed over with it, and how it is
//! posted.

use crate::{
    bindings,
    channel::{Channel, ChannelOps},
    dma::{self, Direction, SgMapping},
    mr::{Access, Region},
    send::{RemoteBuffer, SendError, Sending, SGES},
    send_queue::{Chain, Share},
    slot::{Memory, Owned, Requests, Slot},
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;

/// A command of which nothing is posted yet. Dropping it takes everything back.
///
/// # Invariants
///
/// `slot` is a slot of `channel`, claimed by the sender that `self` borrows from, and not
/// published. `registered` is set only while there is a mapping that the region points at.
pub struct Prepared<'a, C: ChannelOps> {
    pub(crate) channel: &'a Channel<C>,
    pub(crate) slot: Claimed<'a, C>,
    pub(crate) sending: &'a mut Sending,
    pub(crate) data_outs: u32,
    pub(crate) num_sge: u32,
    pub(crate) mapped: bool,
    pub(crate) registered: bool,
    pub(crate) guarded: bool,
    pub(crate) has_token: bool,
    pub(crate) share: Share,
}

/// A claimed slot. Dropping it takes back what was put into it.
///
/// # Invariants
///
/// The slot is claimed by the sender, who is borrowed, and not published.
pub(crate) struct Claimed<'a, C: ChannelOps>(pub(crate) &'a Slot<C>);

impl<C: ChannelOps> Drop for Claimed<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { self.0.give_back() };
    }
}

impl<C: ChannelOps> Prepared<'_, C> {
    /// The slot's region.
    #[inline(always)]
    fn region(&mut self) -> &mut Region {
        // SAFETY: By the type invariants of `Slot` and of this type the region is ours.
        unsafe { &mut *self.slot.0.region.get() }
    }

    /// The slot's work requests.
    #[inline(always)]
    fn requests(&mut self) -> &mut Requests {
        // SAFETY: By the type invariants of `Slot` and of this type they are ours.
        unsafe { &mut *self.slot.0.requests.get() }
    }

    /// The mapped memory.
    #[inline(always)]
    fn mapping(&self) -> Result<&SgMapping> {
        // SAFETY: By the type invariant the slot is claimed and not published; what `map`
        // and `token` have borrowed is gone.
        match unsafe { self.slot.0.owned() } {
            Owned::Memory(memory) => Ok(&memory.mapping),
            _ => Err(EINVAL),
        }
    }

    /// Maps the memory of `owner` for the device, and takes the owner. Once, and not beside a
    /// token.
    #[inline(always)]
    pub fn map(&mut self, owner: C::Owner, direction: Direction) -> Result {
        if self.has_token || core::mem::replace(&mut self.mapped, true) {
            return Err(EINVAL);
        }
        // SAFETY: The queue pair keeps its device. The mapping is dropped before the
        // owner in `Memory`, which the slot keeps until the device is done.
        let mapping = unsafe { SgMapping::new(self.channel.qp.device(), &owner, direction) };
        let mapping = mapping.ok_or(ENOMEM)?;
        let owned = Owned::Memory(Memory {
            mapping,
            _owner: owner,
        });
        // SAFETY: By the type invariant the slot is claimed and not published, and nothing
        // else is borrowed of what it owns: nothing, which needs no dropping.
        unsafe { core::ptr::write(self.slot.0.owned(), owned) };
        Ok(())
    }

    /// Registers the mapped memory with the command.
    #[inline(always)]
    pub fn register(&mut self, access: Access) -> Result<RemoteBuffer> {
        if self.registered {
            return Err(EINVAL);
        }
        let segments = self.mapping()?.raw();
        let region = self.region();
        // SAFETY: The mapping stays until the slot is released, behind which its key is
        // dead.
        unsafe { region.map(segments) }?;
        let buffer = RemoteBuffer {
            rkey: region.rkey(),
            addr: region.iova(),
        };
        let requests = self.requests();
        requests.reg.key = buffer.rkey;
        requests.reg.access = access.as_raw();
        self.slot.0.rkey.store(buffer.rkey, Relaxed);
        self.registered = true;
        Ok(buffer)
    }

    /// The header of the message, to be filled in. What an earlier command has left
    /// is still in it.
    #[inline(always)]
    pub fn header(&mut self) -> &mut [u8] {
        // SAFETY: The slot's header buffer is of that length. Only the sender
        // writes it, and `self` borrows the sender; the device only reads it.
        unsafe { core::slice::from_raw_parts_mut(self.slot.0.header.as_ptr(), C::HEADER_LEN) }
    }

    /// Sends the first `len` bytes of the mapped memory behind the header, which are in one
    /// segment. The same as [`Self::payload`] for that case, and shorter.
    ///
    /// # Errors
    ///
    /// `E2BIG`: they are not.
    #[inline(always)]
    pub fn short_payload(&mut self, len: u32) -> Result {
        let lkey = self.channel.qp.local_dma_lkey();
        let payload = self.mapping()?.first_sge(len, lkey).ok_or(E2BIG)?;
        let [_, sge, ..] = &mut self.requests().sges;
        *sge = payload;
        self.num_sge = 2;
        self.guarded = true;
        Ok(())
    }

    /// Sends the first `len` bytes of the mapped memory behind the header.
    ///
    /// # Errors
    ///
    /// `E2BIG`: unregistered, that takes more entries than a send has.
    pub fn payload(&mut self, len: u32) -> Result {
        // Not by the region's key where it can be avoided: the peer may invalidate that
        // while the send could still be repeated.
        let lkey = self.channel.qp.local_dma_lkey();
        let room = (self.channel.qp.config().max_send_sge as usize).min(SGES);
        // SAFETY: By the type invariants of `Slot` and of this type they are ours, and
        // borrowed nowhere else.
        let sges = unsafe { &mut (*self.slot.0.requests.get()).sges };
        let payload = sges.get_mut(1..room).ok_or(E2BIG)?;
        if let Some(used) = self.mapping()?.fill_sges(payload, len, lkey) {
            self.num_sge = 1 + used as u32;
        } else {
            let registered = self.registered;
            let region = self.region();
            if !registered || u64::from(len) > region.len() {
                return Err(E2BIG);
            }
            let payload = bindings::ib_sge {
                addr: region.iova(),
                length: len,
                lkey: region.lkey(),
            };
            let [_, sge, ..] = sges;
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
        let lkey = self.channel.qp.local_dma_lkey();
        let [_, sge, ..] = &mut self.requests().sges;
        *sge = bindings::ib_sge {
            addr,
            length: bytes.len() as u32,
            lkey,
        };
        self.num_sge = 2;
        Ok(())
    }

    /// Has `token` given back when the send has completed. For messages without a
    /// response, which have no memory of the upper layer's. Once.
    pub fn token(&mut self, token: C::Token) -> Result {
        if self.mapped || core::mem::replace(&mut self.has_token, true) {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant the slot is claimed and not published, and nothing
        // else is borrowed of what it owns.
        unsafe { *self.slot.0.owned() = Owned::Token(token) };
        self.guarded = true;
        Ok(())
    }

    /// The message may use what the send queue keeps free of others, so that it goes out also
    /// when the peer takes nothing and the queue is full. For few messages at a time, of one
    /// send each.
    #[inline]
    pub fn urgent(&mut self) {
        self.share = Share::Urgent;
    }

    /// Adds a follow-up send: `len` bytes of the registered memory from `offset`.
    /// Returns its header, to be filled in.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: too many follow-up sends are under way.
    pub fn data_out(&mut self, offset: u32, len: u32) -> Result<&mut [u8]> {
        let registered = self.registered;
        let region = self.region();
        let end = u64::from(offset) + u64::from(len);
        if !registered || end > region.len() {
            return Err(EINVAL);
        }
        let payload = bindings::ib_sge {
            addr: region.iova() + u64::from(offset),
            length: len,
            lkey: region.lkey(),
        };
        let pool = self.channel.data_outs.as_ref().ok_or(EAGAIN)?;
        let number = self.sending.data_out_head.wrapping_add(self.data_outs);
        // SAFETY: Only the sender, which `self` borrows, claims; `number` follows
        // the last one that it has posted.
        let header = unsafe { pool.claim(number, payload, self.channel.qp.local_dma_lkey()) };
        let Some(header) = header else {
            // Some may have completed long ago, which nobody had to know.
            self.channel.qp.sends().poll_soon();
            return Err(EAGAIN);
        };
        self.data_outs += 1;
        self.guarded = true;
        Ok(header)
    }

    /// Posts the command. From here on the channel owns what was handed over.
    #[inline(always)]
    pub fn post(self) -> core::result::Result<(), SendError> {
        let Self {
            channel,
            slot: claimed,
            sending,
            data_outs,
            num_sge,
            mapped: _,
            registered,
            guarded,
            has_token,
            share,
        } = self;
        let slot = claimed.0;
        let Sending {
            producer,
            data_out_head,
            fresh: _,
        } = sending;

        let kind = if guarded {
            Chain::Guarded
        } else {
            Chain::Plain
        };
        let wrs = u32::from(registered) + 1 + data_outs;
        let sends = channel.qp.sends();
        let Ok(plan) = producer.plan(sends.account(), wrs, kind, share, || sends.poll_soon())
        else {
            return Err(SendError::NotSent(EAGAIN));
        };
        // A response that the peer has made up must neither get an invalidation in front of the
        // registration nor find nothing to wait for: posting counts as a send. A guarded
        // send without a registration needs no such thing: its completion comes later anyway,
        // and there is no key.
        let counted = registered || !guarded;
        let mut state = slot.state();
        if state
            .posted(registered, u16::from(counted) + u16::from(guarded))
            .is_err()
        {
            // A completion too many; the slot is as good as new when it is given back.
            return Err(SendError::NotSent(EIO));
        }
        if has_token {
            // No response will come: the completion of the send ends it.
            let _ = state.on_abort();
        }
        // The slot owns everything before the device can complete any of it.
        core::mem::forget(claimed);
        // SAFETY: We are the sender that has claimed the slot.
        unsafe { slot.publish(state) };

        // SAFETY: The slot's header is mapped for the channel's life.
        unsafe {
            dma::sync_for_device(
                channel.qp.device(),
                slot.header_addr,
                C::HEADER_LEN,
                Direction::ToDevice,
            )
        };
        // Sends complete in order: of a chain, the last one tells of all.
        let last = bindings::ib_send_wr__bindgen_ty_1 {
            wr_cqe: if data_outs != 0 {
                slot.chain_cqe.get()
            } else if guarded {
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
        // SAFETY: By the type invariants of `Slot` and of this type they are ours, and
        // borrowed nowhere else.
        let Requests { reg, send, .. } = unsafe { &mut *slot.requests.get() };
        send.num_sge = num_sge as i32;
        if data_outs == 0 {
            send.next = core::ptr::null_mut();
            send.__bindgen_anon_1 = last;
            send.send_flags = last_flags;
        } else if let Some(pool) = channel.data_outs.as_ref() {
            let plain = channel.plain_cqe.get();
            send.__bindgen_anon_1.wr_cqe = plain;
            send.send_flags = 0;
            // SAFETY: `data_out` has claimed these, and they are not posted yet.
            send.next = unsafe { pool.chain(*data_out_head, data_outs, plain, last, last_flags) };
            slot.data_outs.store(data_outs, Relaxed);
        }
        let first: *const bindings::ib_send_wr = if registered { &reg.wr } else { send };

        // SAFETY: Headers, payload and completion entries stay until the drain, by the
        // type invariant of `Channel` and because the slot owns user memory.
        match unsafe { channel.qp.post_send(first) } {
            Ok(()) => {
                plan.commit();
                *data_out_head = data_out_head.wrapping_add(data_outs);
                if let Some(sent) = counted.then(|| slot.send_done()).flatten() {
                    return channel.settle(slot, sent, true).map_err(SendError::Partly);
                }
                if has_token {
                    channel.await_sends();
                }
                Ok(())
            }
            Err((error, bad)) if !core::ptr::eq(bad, first) => {
                plan.commit();
                *data_out_head = data_out_head.wrapping_add(data_outs);
                if let Some(sent) = counted.then(|| slot.send_done()).flatten() {
                    let _ = channel.settle(slot, sent, false);
                }
                Err(SendError::Partly(error))
            }
            Err((error, _)) => {
                slot.data_outs.store(0, Relaxed);
                // SAFETY: We have published the slot, with one send at least; nothing was posted.
                if unsafe { slot.take_back() } {
                    Err(SendError::NotSent(error))
                } else {
                    Err(SendError::Partly(error))
                }
            }
        }
    }
}
