// SPDX-License-Identifier: GPL-2.0

//! Follow-up sends: each a header of its own and a part of a command's memory.
//! They are posted in one chain with the command's first send, and used in turn,
//! as sends complete in order.

use crate::{
    bindings,
    channel::{Channel, ChannelOps},
    dma::{self, Direction, Pool},
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Release},
    types::Opaque,
};

/// A follow-up send.
///
/// # Invariants
///
/// `header` is mapped at `header_addr` for the channel's life.
struct DataOut {
    wr: Opaque<bindings::ib_send_wr>,
    sges: Opaque<[bindings::ib_sge; 2]>,
    header: NonNull<u8>,
    header_addr: u64,
}

/// The follow-up sends of a channel, a power of two of them. Their numbers wrap.
///
/// # Invariants
///
/// Number `n` is in use from being posted until `retired` has passed it. The work
/// requests are only touched by the channel's sender, and headers of those in use
/// not at all.
pub(crate) struct DataOuts {
    items: KVVec<DataOut>,
    retired: Atomic<u32>,
    dev: *mut bindings::ib_device,
    header_len: usize,
    _headers: Pool,
}

// SAFETY: Memory and mapping are tied to no thread, nor is the device.
unsafe impl Send for DataOuts {}
// SAFETY: Only the sender touches items; `retired` is atomic.
unsafe impl Sync for DataOuts {}

impl DataOuts {
    /// Makes at least `count`. Sleeps.
    pub(crate) fn new<C: ChannelOps>(channel: &Channel<C>, count: u32) -> Result<Self> {
        // SAFETY: The result goes to the channel, whose queue pair keeps the device.
        unsafe { Self::of_device(channel.qp.device(), C::HEADER_LEN, count) }
    }

    /// Makes at least `count`, with headers of that length. Sleeps.
    ///
    /// # Safety
    ///
    /// `dev` must be registered and stay so for as long as the result lives.
    unsafe fn of_device(
        dev: *mut bindings::ib_device,
        header_len: usize,
        count: u32,
    ) -> Result<Self> {
        let count = count.max(1).checked_next_power_of_two().ok_or(EINVAL)? as usize;
        // SAFETY: By our contract.
        let headers = unsafe { Pool::new(dev, count, header_len, Direction::ToDevice) }?;
        let mut items = KVVec::with_capacity(count, GFP_KERNEL)?;
        for i in 0..count {
            let (header, header_addr) = headers.part(i).ok_or(EINVAL)?;
            let item = DataOut {
                wr: Opaque::zeroed(),
                sges: Opaque::zeroed(),
                header,
                header_addr,
            };
            items.push(item, GFP_KERNEL)?;
        }
        Ok(Self {
            items,
            retired: Atomic::new(0),
            dev,
            header_len,
            _headers: headers,
        })
    }

    fn item(&self, number: u32) -> Option<&DataOut> {
        self.items.get(number as usize & (self.items.len() - 1))
    }

    /// Number `number`, if it is not in use, with `payload` behind its header, which
    /// is to be filled in.
    ///
    /// # Safety
    ///
    /// To be called by the channel's sender, with numbers in order.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn claim(
        &self,
        number: u32,
        payload: bindings::ib_sge,
        lkey: u32,
    ) -> Option<&mut [u8]> {
        let in_use = number.wrapping_sub(self.retired.load(Acquire));
        if in_use as usize >= self.items.len() {
            return None;
        }
        let item = self.item(number)?;
        // SAFETY: Not in use, and the sender is alone.
        unsafe {
            *item.sges.get() = [
                bindings::ib_sge {
                    addr: item.header_addr,
                    length: self.header_len as u32,
                    lkey,
                },
                payload,
            ];
            Some(core::slice::from_raw_parts_mut(
                item.header.as_ptr(),
                self.header_len,
            ))
        }
    }

    /// Links `count` claimed items from number `head`, and returns the first. The
    /// last one gets `last` and `last_flags`, the others `cqe`.
    ///
    /// # Safety
    ///
    /// To be called by the channel's sender, for numbers that it has claimed and
    /// not posted yet.
    pub(crate) unsafe fn chain(
        &self,
        head: u32,
        count: u32,
        cqe: *mut bindings::ib_cqe,
        last: bindings::ib_send_wr__bindgen_ty_1,
        last_flags: i32,
    ) -> *mut bindings::ib_send_wr {
        let mut next = core::ptr::null_mut();
        let mut id = last;
        let mut flags = last_flags;
        for number in (0..count).rev() {
            let Some(item) = self.item(head.wrapping_add(number)) else {
                continue;
            };
            // SAFETY: By the contract the item is the caller's; its header is
            // mapped.
            unsafe {
                dma::sync_for_device(
                    self.dev,
                    item.header_addr,
                    self.header_len,
                    Direction::ToDevice,
                );
                *item.wr.get() = bindings::ib_send_wr {
                    next,
                    __bindgen_anon_1: id,
                    sg_list: item.sges.get().cast(),
                    num_sge: 2,
                    opcode: bindings::ib_wr_opcode_IB_WR_SEND,
                    send_flags: flags,
                    ex: bindings::ib_send_wr__bindgen_ty_2 { imm_data: 0 },
                };
            }
            next = item.wr.get();
            id = bindings::ib_send_wr__bindgen_ty_1 { wr_cqe: cqe };
            flags = 0;
        }
        next
    }

    /// The `count` oldest in use are idle again.
    pub(crate) fn retire(&self, count: u32) {
        self.retired.fetch_add(count, Release);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_data_out))]
mod tests {
    use super::*;
    use crate::fake::Device;

    const HEADER: usize = 76;
    const LKEY: u32 = 9;

    /// What number `number` sends.
    fn payload(number: u32) -> bindings::ib_sge {
        bindings::ib_sge {
            addr: u64::from(number) << 12,
            length: 512,
            lkey: LKEY + 1,
        }
    }

    /// Claims number `number` and fills its header in. Returns whether it was not in use.
    fn claim(outs: &DataOuts, number: u32) -> bool {
        // SAFETY: The tests are the only sender, and claim in order.
        let header = unsafe { outs.claim(number, payload(number), LKEY) };
        header.is_some_and(|header| {
            assert_eq!(header.len(), HEADER);
            header.fill(number as u8);
            true
        })
    }

    #[test]
    fn in_use_until_retired() -> Result {
        let mut device = Device::with_dma()?;
        // Asked for; there are so many.
        for (asked, there) in [(0, 1), (1, 1), (3, 4), (4, 4), (5, 8), (126, 128)] {
            // Numbers wrap.
            for first in [0u32, u32::MAX - 2] {
                // SAFETY: The result is dropped before the device.
                let outs = unsafe { DataOuts::of_device(device.raw(), HEADER, asked) }?;
                outs.retire(first);
                for number in 0..there {
                    assert!(claim(&outs, first.wrapping_add(number)));
                }
                for retired in 0..2 * there {
                    let next = first.wrapping_add(there + retired);
                    assert!(!claim(&outs, next));
                    outs.retire(1);
                    assert!(claim(&outs, next));
                }
            }
        }
        // SAFETY: As above.
        let too_many = unsafe { DataOuts::of_device(device.raw(), HEADER, u32::MAX) };
        assert_eq!(too_many.err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn chains_in_order() -> Result {
        let mut device = Device::with_dma()?;
        // SAFETY: The result is dropped before the device.
        let outs = unsafe { DataOuts::of_device(device.raw(), HEADER, 8) }?;
        let entries = [const { Opaque::<bindings::ib_cqe>::uninit() }; 2];
        let [plain, last] = [entries[0].get(), entries[1].get()];
        let mut head = 0u32;
        // How many of a chain, whether its last one is signalled.
        for (count, flags) in [(1, 0), (3, 2), (8, 2), (5, 0), (7, 2)] {
            for number in 0..count {
                assert!(claim(&outs, head.wrapping_add(number)));
            }
            let id = bindings::ib_send_wr__bindgen_ty_1 { wr_cqe: last };
            // SAFETY: Just claimed.
            let mut wr = unsafe { DataOuts::chain(&outs, head, count, plain, id, flags) };
            for number in 0..count {
                assert!(!wr.is_null());
                let at_end = number + 1 == count;
                // SAFETY: A request of the chain, with two entries and a header of ours.
                unsafe {
                    let (header, data) = (*(*wr).sg_list, *(*wr).sg_list.add(1));
                    assert_eq!((*wr).num_sge, 2);
                    assert_eq!((header.length, header.lkey), (HEADER as u32, LKEY));
                    let expected = payload(head.wrapping_add(number));
                    assert_eq!(
                        (data.addr, data.length, data.lkey),
                        (expected.addr, 512, LKEY + 1)
                    );
                    assert_eq!((*wr).opcode, bindings::ib_wr_opcode_IB_WR_SEND);
                    assert_eq!((*wr).send_flags, if at_end { flags } else { 0 });
                    let cqe = (*wr).__bindgen_anon_1.wr_cqe;
                    assert_eq!(cqe, if at_end { last } else { plain });
                    wr = (*wr).next;
                }
            }
            assert!(wr.is_null());
            head = head.wrapping_add(count);
            outs.retire(count);
        }
        Ok(())
    }
}
