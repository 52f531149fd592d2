// SPDX-License-Identifier: GPL-2.0

//! Streaming DMA mappings through an RDMA device, which may be a virtual one.

use crate::{bindings, ScatterlistOwner};
use bindings::dma_data_direction;
use core::{num::NonZeroUsize, ptr::NonNull};
use kernel::prelude::*;

/// Which way data goes, seen from memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The device reads memory.
    ToDevice = dma_data_direction::DMA_TO_DEVICE.0 as isize,
    /// The device writes memory.
    FromDevice = dma_data_direction::DMA_FROM_DEVICE.0 as isize,
}

impl Direction {
    #[inline]
    const fn as_raw(self) -> dma_data_direction {
        match self {
            Self::ToDevice => dma_data_direction::DMA_TO_DEVICE,
            Self::FromDevice => dma_data_direction::DMA_FROM_DEVICE,
        }
    }
}

/// A cache line: the unit of buffers, so that none shares a line with foreign data.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory of our own that stays mapped for its whole life.
///
/// # Invariants
///
/// `mem` is mapped at `addr` for `dev`, in direction `dir`, over `len` bytes.
/// `dev` outlives the buffer (its owner holds a queue pair of the device).
pub(crate) struct Buffer {
    dev: *mut bindings::ib_device,
    mem: KVec<Line>,
    len: usize,
    addr: u64,
    dir: Direction,
}

// SAFETY: The buffer is plain memory and a mapping, tied to no thread.
unsafe impl Send for Buffer {}
// SAFETY: `&Buffer` only gives out raw pointers and calls that may run anywhere.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates and maps `len` zeroed bytes. Sleeps.
    ///
    /// # Safety
    ///
    /// `dev` must be a registered device and stay so until the buffer is dropped.
    pub(crate) unsafe fn new(
        dev: *mut bindings::ib_device,
        len: usize,
        dir: Direction,
    ) -> Result<Self> {
        let lines = len.div_ceil(size_of::<Line>());
        let mut mem = KVec::from_elem(Line([0; 64]), lines, GFP_KERNEL)?;
        // SAFETY: `mem` is `len` bytes at least, kmalloc'd and so fit for DMA.
        let addr =
            unsafe { bindings::ib_dma_map_single(dev, mem.as_mut_ptr().cast(), len, dir.as_raw()) };
        // SAFETY: `addr` is what mapping through `dev` returned.
        if unsafe { bindings::ib_dma_mapping_error(dev, addr) } != 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: Just mapped.
        Ok(Self {
            dev,
            mem,
            len,
            addr,
            dir,
        })
    }

    /// The part at `offset` of `len` bytes, as pointer and device address.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Option<(NonNull<u8>, u64)> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let base = NonNull::new(self.mem.as_ptr().cast_mut().cast::<u8>())?;
        // SAFETY: `offset` is inside the allocation, as just checked.
        Some((unsafe { base.add(offset) }, self.addr + offset as u64))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ib_dma_unmap_single(self.dev, self.addr, self.len, self.dir.as_raw()) };
    }
}

/// Many equal parts of a few buffers, each of at most a page: no large
/// contiguous allocation, however many parts are asked for.
pub(crate) struct Pool {
    buffers: KVec<Buffer>,
    stride: usize,
    per_buffer: NonZeroUsize,
}

impl Pool {
    /// Makes `count` parts of `size` bytes. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for parts of no size, or of one that no memory has; `ENOMEM`.
    ///
    /// # Safety
    ///
    /// As for [`Buffer::new`].
    pub(crate) unsafe fn new(
        dev: *mut bindings::ib_device,
        count: usize,
        size: usize,
        dir: Direction,
    ) -> Result<Self> {
        let stride = size.checked_next_multiple_of(size_of::<Line>());
        // Nothing has no parts.
        let stride = stride.filter(|_| size > 0).ok_or(EINVAL)?;
        let per_buffer = kernel::page::PAGE_SIZE
            .checked_div(stride)
            .and_then(NonZeroUsize::new)
            .unwrap_or(NonZeroUsize::MIN);
        let mut buffers = KVec::with_capacity(count.div_ceil(per_buffer.get()), GFP_KERNEL)?;
        let mut left = count;
        while left > 0 {
            let parts = left.min(per_buffer.get());
            let len = parts.checked_mul(stride).ok_or(EINVAL)?;
            // SAFETY: Passed on to our caller.
            let buffer = unsafe { Buffer::new(dev, len, dir) }?;
            buffers.push(buffer, GFP_KERNEL)?;
            left -= parts;
        }
        Ok(Self {
            buffers,
            stride,
            per_buffer,
        })
    }

    /// Part `index`, as pointer and device address.
    pub(crate) fn part(&self, index: usize) -> Option<(NonNull<u8>, u64)> {
        let buffer = self.buffers.get(index / self.per_buffer)?;
        buffer.part((index % self.per_buffer) * self.stride, self.stride)
    }
}

/// Lets the CPU see what the device wrote.
///
/// # Safety
///
/// `addr..addr + len` must be part of a live mapping of `dev`.
#[inline]
pub(crate) unsafe fn sync_for_cpu(
    dev: *mut bindings::ib_device,
    addr: u64,
    len: usize,
    dir: Direction,
) {
    // SAFETY: By our contract. A virtual device has nothing to synchronise.
    unsafe {
        if !(*dev).dma_device.is_null() {
            bindings::ib_dma_sync_single_for_cpu(dev, addr, len, dir.as_raw());
        }
    }
}

/// Lets the device see what the CPU wrote, or write again.
///
/// # Safety
///
/// `addr..addr + len` must be part of a live mapping of `dev`.
#[inline]
pub(crate) unsafe fn sync_for_device(
    dev: *mut bindings::ib_device,
    addr: u64,
    len: usize,
    dir: Direction,
) {
    // SAFETY: By our contract. A virtual device has nothing to synchronise.
    unsafe {
        if !(*dev).dma_device.is_null() {
            bindings::ib_dma_sync_single_for_device(dev, addr, len, dir.as_raw());
        }
    }
}

/// Maps a scatterlist (`ib_dma_map_sg()`). Returns the number of segments, or zero.
///
/// # Safety
///
/// `dev` must be a registered device, and `sgl` valid and of `nents` entries.
#[inline(always)]
unsafe fn map_sg(
    dev: *mut bindings::ib_device,
    sgl: *mut bindings::scatterlist,
    nents: i32,
    dir: Direction,
) -> i32 {
    // A virtual device, without the way through the helper.
    #[cfg(CONFIG_INFINIBAND_VIRT_DMA)]
    // SAFETY: By the contract.
    unsafe {
        if (*dev).dma_device.is_null() {
            return bindings::ib_dma_virt_map_sg(dev, sgl, nents);
        }
    }
    // SAFETY: By the contract.
    unsafe { bindings::ib_dma_map_sg(dev, sgl, nents, dir.as_raw()) }
}

/// A scatterlist mapped for a device.
///
/// # Invariants
///
/// `sgl` has as many entries as `nents` says, mapped for `dev` in its direction to `mapped > 0`
/// segments. Whoever holds the mapping also holds the list's owner and drops the
/// mapping first; `dev` outlives both.
//
// An error, which a `Result` keeps in the same place, overlaps with nothing but the first field.
#[repr(C)]
pub(crate) struct SgMapping {
    mapped: i32,
    /// Negative if the device reads. A field for the direction would be one too many for the cache
    /// line that a response looks at.
    nents: i32,
    dev: NonNull<bindings::ib_device>,
    sgl: *mut bindings::scatterlist,
}

// SAFETY: A mapping is tied to no thread.
unsafe impl Send for SgMapping {}

impl SgMapping {
    /// Maps the list of `owner`, unless it is empty or the device is out of addresses. Does
    /// not sleep.
    ///
    /// # Safety
    ///
    /// `dev` must be a registered device. The mapping must be dropped before
    /// `owner` and before `dev` goes away.
    #[inline(always)]
    pub(crate) unsafe fn new<O: ScatterlistOwner>(
        dev: *mut bindings::ib_device,
        owner: &O,
        dir: Direction,
    ) -> Option<Self> {
        let sgl = owner.sgl();
        let nents = owner.nents() as i32;
        if nents <= 0 {
            return None;
        }
        // SAFETY: `owner` keeps the list of `nents` entries valid.
        let mapped = unsafe { map_sg(dev, sgl, nents, dir) };
        if mapped <= 0 {
            return None;
        }
        // INVARIANT: Just mapped; the rest is our contract.
        Some(Self {
            // SAFETY: A registered device, by our contract.
            dev: unsafe { NonNull::new_unchecked(dev) },
            sgl,
            nents: match dir {
                Direction::FromDevice => nents,
                Direction::ToDevice => -nents,
            },
            mapped,
        })
    }

    /// The mapped list and its number of segments.
    #[inline]
    pub(crate) fn raw(&self) -> (*mut bindings::scatterlist, i32) {
        (self.sgl, self.mapped)
    }

    /// The first `len` bytes, by the local key `lkey`, if one segment holds them.
    #[inline(always)]
    #[allow(clippy::useless_conversion)] // `dma_addr_t` is shorter on some machines
    pub(crate) fn first_sge(&self, len: u32, lkey: u32) -> Option<bindings::ib_sge> {
        // SAFETY: The list has a mapped segment.
        let (addr, seg) = unsafe { ((*self.sgl).dma_address, dma_len(self.sgl)) };
        (len <= seg).then_some(bindings::ib_sge {
            addr: addr.into(),
            length: len,
            lkey,
        })
    }

    /// Fills `sges` with the first `len` bytes, by the local key `lkey`. Returns
    /// how many entries that took, or `None` if they do not suffice.
    #[allow(clippy::useless_conversion)] // as above
    pub(crate) fn fill_sges(
        &self,
        sges: &mut [bindings::ib_sge],
        len: u32,
        lkey: u32,
    ) -> Option<usize> {
        let mut left = len;
        let mut sg = self.sgl;
        let mut used = 0;
        for sge in sges {
            // SAFETY: `sg` is one of the `mapped` segments of the list.
            let (addr, seg) = unsafe { ((*sg).dma_address, dma_len(sg)) };
            let take = seg.min(left);
            *sge = bindings::ib_sge {
                addr: addr.into(),
                length: take,
                lkey,
            };
            left -= take;
            used += 1;
            if left == 0 {
                return Some(used);
            }
            if used as i32 >= self.mapped {
                return None;
            }
            // SAFETY: As above, and there is another segment.
            sg = unsafe { bindings::sg_next(sg) };
        }
        None
    }
}

/// The length of a mapped segment (`sg_dma_len()`).
///
/// # Safety
///
/// `sg` must be a mapped segment.
#[inline]
unsafe fn dma_len(sg: *const bindings::scatterlist) -> u32 {
    #[cfg(CONFIG_NEED_SG_DMA_LENGTH)]
    // SAFETY: By the contract.
    unsafe {
        (*sg).dma_length
    }
    #[cfg(not(CONFIG_NEED_SG_DMA_LENGTH))]
    // SAFETY: By the contract.
    unsafe {
        (*sg).length
    }
}

impl Drop for SgMapping {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants. A virtual device has nothing to unmap.
        unsafe {
            let dev = self.dev.as_ptr();
            if !(*dev).dma_device.is_null() {
                let dir = if self.nents < 0 {
                    Direction::ToDevice
                } else {
                    Direction::FromDevice
                };
                let nents = self.nents.wrapping_abs();
                bindings::ib_dma_unmap_sg(dev, self.sgl, nents, dir.as_raw());
            }
        }
    }
}
