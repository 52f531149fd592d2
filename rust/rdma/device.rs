// SPDX-License-Identifier: GPL-2.0

//! What an RDMA device can do, as far as upper layers need to know.

use crate::bindings;
use kernel::{device, sync::aref::ARef};

/// Capabilities of a device, copied from `struct ib_device_attr`. A provider without a limit
/// says [`u32::MAX`].
#[derive(Clone, Copy)]
pub struct DeviceCaps {
    /// Most work requests in one queue of a queue pair.
    pub max_qp_wr: u32,
    /// Most scatter/gather entries of one send.
    pub max_send_sge: u32,
    /// Most RDMA reads of the peer that can be outstanding on one queue pair.
    pub max_qp_rd_atom: u32,
    /// Most pages (or, with [`Self::sg_gaps`], entries) of one memory region.
    pub max_region_pages: u32,
    /// Most bytes that its DMA takes as one segment, at this moment: SCSI may change it.
    pub max_segment_size: u32,
    /// Memory can be registered by a work request (`IB_DEVICE_MEM_MGT_EXTENSIONS`).
    pub fast_registration: bool,
    /// A region may have gaps between its entries (`IBK_SG_GAPS_REG`).
    pub sg_gaps: bool,
    /// What a completion says that the peer has invalidated, was a valid key.
    pub checks_invalidation: bool,
}

impl DeviceCaps {
    /// Reads the capabilities of `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must point to a registered device.
    pub(crate) unsafe fn read(dev: *mut bindings::ib_device) -> Self {
        // SAFETY: `dev` is valid by the contract; attributes do not change once
        // a device is registered.
        let attrs = unsafe { &(*dev).attrs };
        Self {
            max_qp_wr: attrs.max_qp_wr,
            max_send_sge: attrs.max_send_sge,
            max_qp_rd_atom: attrs.max_qp_rd_atom,
            max_region_pages: attrs.max_fast_reg_page_list_len,
            // SAFETY: `dev` is valid by the contract.
            max_segment_size: unsafe { bindings::ib_dma_max_seg_size(dev) },
            fast_registration: attrs.device_cap_flags
                & bindings::ib_device_cap_flags_IB_DEVICE_MEM_MGT_EXTENSIONS as u64
                != 0,
            sg_gaps: attrs.kernel_cap_flags
                & u64::from(bindings::ib_kernel_cap_flags_IBK_SG_GAPS_REG)
                != 0,
            // siw, for one, takes any key of a region, also the one that comes next.
            // SAFETY: As above.
            checks_invalidation: unsafe { (*dev).node_type } != bindings::RDMA_NODE_RNIC as u8,
        }
    }
}

/// A device's name, copied, for messages.
#[derive(Clone, Copy)]
pub struct DeviceName([u8; 64]);

impl DeviceName {
    /// Reads the name of `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must point to a registered device.
    pub(crate) unsafe fn read(dev: *mut bindings::ib_device) -> Self {
        let mut name = [0; 64];
        // SAFETY: `dev` is valid by the contract. A concurrent rename may tear
        // the text, never its bounds.
        let src = unsafe { &(*dev).name };
        name.copy_from_slice(src);
        Self(name)
    }
}

impl kernel::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        use core::fmt::Write;
        for byte in self.0.iter().take_while(|b| **b != 0) {
            f.write_char(char::from(*byte))?;
        }
        Ok(())
    }
}

/// The device behind an RDMA device (`ib_device.dev.parent`): where a host that
/// does its I/O through it belongs in sysfs.
///
/// # Safety
///
/// `dev` must point to a registered device.
pub(crate) unsafe fn parent(dev: *mut bindings::ib_device) -> Option<ARef<device::Device>> {
    // SAFETY: `dev` is valid by the contract; its parent is set for its lifetime.
    let parent = unsafe { (*dev).__bindgen_anon_1.dev.as_ref().parent };
    if parent.is_null() {
        return None;
    }
    // SAFETY: A registered device holds a reference to its parent.
    Some(unsafe { device::Device::get_device(parent.cast()) })
}
