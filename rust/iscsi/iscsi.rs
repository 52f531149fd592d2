// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts and commands, the iSCSI transport class and libiscsi, made safe.
//!
//! Knows nothing of RDMA.

use iser_bindings as bindings;

/// What `pr_*` of this crate print before their text.
const __LOG_PREFIX: &[u8] = b"ib_iser_rs\0";

/// Size of a basic header segment.
pub const BHS_SIZE: usize = core::mem::size_of::<bindings::iscsi_hdr>();

/// Says in the log that the crate is linked.
pub fn hello() {
    kernel::pr_debug!("iscsi: linked\n");
}
