// SPDX-License-Identifier: GPL-2.0

//! Sending: the one [`Sender`] of a channel.

use crate::{
    channel::{Channel, ChannelOps},
    data_out::DataOuts,
    prepared::{Claimed, Prepared},
    send_queue::{Share, SqProducer, MAX_CHAIN},
    slot_state::SlotState,
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::{prelude::*, sync::Arc};

/// Scatter/gather entries of user memory that one send can carry unregistered.
pub const PAYLOAD_SGES: usize = 3;
/// Entries of a send: the header and its payload.
pub(crate) const SGES: usize = 1 + PAYLOAD_SGES;
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
    /// Only a part of the command was posted, or the peer has made up a response before it was:
    /// the connection must end. What was handed over stays owned until then.
    Partly(Error),
}

/// The only object that posts sends on a channel, and the one that ends it.
///
/// Dropping it without [`Sender::shutdown`] leaks the channel: nothing else can
/// tell that the device is done with it.
pub struct Sender<C: ChannelOps> {
    channel: Arc<Channel<C>>,
    sending: Sending,
}

/// What a sender keeps from one command to the next.
pub(crate) struct Sending {
    pub(crate) producer: SqProducer<KVec<u32>>,
    /// Follow-up sends posted, modulo 2^32.
    pub(crate) data_out_head: u32,
    /// How the state of a command begins.
    pub(crate) fresh: SlotState,
}

impl<C: ChannelOps> Sender<C> {
    pub(crate) fn new(channel: Arc<Channel<C>>, producer: SqProducer<KVec<u32>>) -> Self {
        Self {
            channel,
            sending: Sending {
                producer,
                data_out_head: 0,
                fresh: SlotState::new(false),
            },
        }
    }

    /// The channel.
    #[inline]
    pub fn channel(&self) -> &Arc<Channel<C>> {
        &self.channel
    }

    /// Says whether the peer may invalidate a command's key with its response.
    pub fn allow_remote_invalidation(&mut self, allow: bool) {
        self.sending.fresh = SlotState::new(allow);
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

    /// Begins the command of slot `index`, whose response will name `tag`, and with which
    /// [`Received::respond`](crate::Received::respond) will return `cookie`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a slot that does not exist, `EBUSY` while the slot's last
    /// command still owns something, `ESHUTDOWN` if the channel is closed.
    #[inline(always)]
    pub fn prepare(&mut self, index: u32, tag: u32, cookie: u32) -> Result<Prepared<'_, C>> {
        let channel: &Channel<C> = &self.channel;
        let slot = channel.slots.get(index as usize).ok_or(EINVAL)?;
        if channel.is_closing() {
            return Err(ESHUTDOWN);
        }
        // SAFETY: This is the channel's sender.
        if !unsafe { slot.claim(self.sending.fresh) } {
            return Err(EBUSY);
        }
        slot.tag.store(tag, Relaxed);
        slot.cookie.store(cookie, Relaxed);
        // INVARIANT: Just claimed. Nothing is mapped yet.
        Ok(Prepared {
            channel,
            slot: Claimed(slot),
            sending: &mut self.sending,
            data_outs: 0,
            num_sge: 1,
            mapped: false,
            registered: false,
            guarded: false,
            has_token: false,
            share: Share::Common,
        })
    }

    /// Starts to kill the key of slot `index` without waiting for its response. That it
    /// is dead shows in the owner being dropped.
    ///
    /// # Errors
    ///
    /// The invalidation could not be posted: only the end of the connection kills
    /// the key.
    pub fn abort(&mut self, index: u32) -> Result {
        let channel: &Channel<C> = &self.channel;
        let slot = channel.slots.get(index as usize).ok_or(EINVAL)?;
        let action = slot.update(SlotState::on_abort);
        // SAFETY: As `update` has told us.
        unsafe { channel.act(slot, action, false) }
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
            unsafe { buffer.post(channel.qp.raw()) }?;
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
            unsafe { buffer.post(channel.qp.raw()) }?;
        }
        Ok(())
    }

    /// Ends the channel: on return no work request is outstanding, no callback runs
    /// or will run, all remote keys are dead and all owners dropped. The queue pair
    /// goes with the last reference to the channel. Sleeps.
    pub fn shutdown(self) {
        // SAFETY: We are the sender, and are gone after this.
        unsafe { self.channel.shutdown() };
    }
}
