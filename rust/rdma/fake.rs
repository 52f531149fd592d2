// SPDX-License-Identifier: GPL-2.0

//! What the KUnit suites have instead of an RDMA device and a command.

use crate::{bindings, mr::Region, ScatterlistOwner};
use core::mem::ManuallyDrop;
use kernel::{device, faux, prelude::*};

/// Memory of zeroes.
///
/// # Safety
///
/// Zeroes must be valid for `T`.
pub(crate) unsafe fn zeroed<T>() -> Result<KBox<T>> {
    let mut memory = KBox::<T>::new_uninit(GFP_KERNEL)?;
    // SAFETY: All of the memory is ours, and zeroes are valid by the contract.
    unsafe {
        memory
            .as_mut_ptr()
            .cast::<u8>()
            .write_bytes(0, size_of::<T>());
        Ok(memory.assume_init())
    }
}

/// An RDMA device of which only mapping works, through a device of the driver core: what the
/// kernel knows of DMA mappings, and checks, belongs to that one.
///
/// # Invariants
///
/// `dev.dma_device` is null or the device of `faux`, which stays registered with `self`.
pub(crate) struct Device {
    dev: KBox<bindings::ib_device>,
    faux: Option<faux::Registration>,
}

impl Device {
    /// A virtual one, whose addresses are those of the CPU.
    pub(crate) fn virt() -> Result<Self> {
        // INVARIANT: The pointer is null.
        // SAFETY: Numbers, pointers, lists that nobody walks, and optional functions.
        let dev = unsafe { zeroed() }?;
        Ok(Self { dev, faux: None })
    }

    /// One that reaches all of memory.
    pub(crate) fn with_dma() -> Result<Self> {
        let mut device = Self::virt()?;
        let faux = faux::Registration::new(c"iser_kunit", None)?;
        let raw: &device::Device<device::Bound> = faux.as_ref().as_ref();
        // INVARIANT: The device of `faux`.
        device.dev.dma_device = core::ptr::from_ref(raw).cast_mut().cast();
        device.faux = Some(faux);
        // SAFETY: By the type invariant. `device::Device` is a transparent wrapper. Nobody else
        // knows the device, and so nobody reads or sets its masks. They stay as long as it does.
        unsafe {
            let raw = device.dev.dma_device;
            (*raw).dma_mask = &raw mut (*raw).coherent_dma_mask;
        }
        device.reaches(u64::MAX);
        Ok(device)
    }

    /// From here on the device reaches addresses up to this one.
    pub(crate) fn reaches(&mut self, last: u64) {
        if self.faux.is_some() {
            // SAFETY: By the type invariant; nobody maps meanwhile, as we have `&mut self`.
            unsafe { (*self.dev.dma_device).coherent_dma_mask = last };
        }
    }

    /// The RDMA device. It stays in place as long as `self` does.
    pub(crate) fn raw(&mut self) -> *mut bindings::ib_device {
        &raw mut *self.dev
    }
}

/// A memory region without a device behind it.
pub(crate) struct FakeRegion {
    mr: bindings::ib_mr,
    dev: bindings::ib_device,
}

impl FakeRegion {
    /// One whose first key is `key`.
    pub(crate) fn new(key: u32) -> Result<KBox<Self>> {
        // SAFETY: Zeroes are valid for both: operations are optional.
        let mut fake = unsafe { zeroed::<Self>() }?;
        fake.dev.ops.map_mr_sg = Some(map_mr_sg);
        fake.mr.device = &raw mut fake.dev;
        (fake.mr.lkey, fake.mr.rkey) = (key, key);
        Ok(fake)
    }

    /// The region, to be used as long as `self` is there. Dropping it would give it back to a
    /// device.
    pub(crate) fn region(&mut self) -> ManuallyDrop<Region> {
        // SAFETY: The tests keep `self`.
        ManuallyDrop::new(unsafe { Region::fake(&raw mut self.mr) })
    }
}

/// A number of entries that the provider refuses.
pub(crate) const FAILING: i32 = 100;

/// Maps up to four entries, of a page each.
///
/// # Safety
///
/// `mr` must be valid; the other pointers are not followed.
unsafe extern "C" fn map_mr_sg(
    mr: *mut bindings::ib_mr,
    _sg: *mut bindings::scatterlist,
    nents: i32,
    _offset: *mut u32,
) -> i32 {
    if nents == FAILING {
        return ENOMEM.to_errno();
    }
    let mapped = nents.min(4);
    // SAFETY: By the contract.
    unsafe { (*mr).length = mapped as u64 * 4096 };
    mapped
}

/// User memory of a command, in segments.
///
/// # Invariants
///
/// `entries` is a scatterlist of `segments`, which do not move.
pub(crate) struct List {
    entries: KVec<bindings::scatterlist>,
    segments: KVec<KVec<u8>>,
}

// SAFETY: The list is tied to no thread, and points to nothing but its own memory.
unsafe impl Send for List {}

impl List {
    /// Memory in segments of these lengths.
    pub(crate) fn new(lens: &[usize]) -> Result<Self> {
        let count = u32::try_from(lens.len())?;
        let mut segments = KVec::with_capacity(lens.len(), GFP_KERNEL)?;
        let mut entries = KVec::with_capacity(lens.len(), GFP_KERNEL)?;
        for len in lens {
            segments.push(KVec::from_elem(0u8, *len, GFP_KERNEL)?, GFP_KERNEL)?;
            entries.push(bindings::scatterlist::default(), GFP_KERNEL)?;
        }
        if count > 0 {
            // SAFETY: So many entries.
            unsafe { bindings::sg_init_table(entries.as_mut_ptr(), count) };
        }
        for (entry, segment) in entries.iter_mut().zip(&segments) {
            let (mut one, len) = (bindings::scatterlist::default(), segment.len());
            // SAFETY: One entry, for memory of the allocator.
            unsafe { bindings::sg_init_one(&mut one, segment.as_ptr().cast(), len as u32) };
            // The two lowest bits say where the list ends.
            let end = entry.page_link & 3;
            *entry = one;
            entry.page_link = (one.page_link & !3) | end;
        }
        // INVARIANT: As just made.
        Ok(Self { entries, segments })
    }
}

// SAFETY: By the type invariant; the list changes only by being mapped.
unsafe impl ScatterlistOwner for List {
    fn sgl(&self) -> *mut bindings::scatterlist {
        self.entries.as_ptr().cast_mut()
    }

    fn nents(&self) -> u32 {
        self.entries.len() as u32
    }

    fn len(&self) -> u32 {
        self.segments
            .iter()
            .map(|segment| segment.len() as u32)
            .sum()
    }
}
