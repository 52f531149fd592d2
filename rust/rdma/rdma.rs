// SPDX-License-Identifier: GPL-2.0

//! RDMA verbs and the RDMA connection manager, made safe.
//!
//! Knows nothing of iSCSI.

use iser_bindings as bindings;

/// What `pr_*` of this crate print before their text.
const __LOG_PREFIX: &[u8] = b"ib_iser_rs\0";

/// Size of the C `struct ib_qp_init_attr`; proof that the bindings are real.
pub const QP_INIT_ATTR_SIZE: usize = core::mem::size_of::<bindings::ib_qp_init_attr>();

/// The next remote key of a region whose key is `rkey`.
pub fn next_rkey(rkey: u32) -> u32 {
    // SAFETY: Pure arithmetic on the value.
    unsafe { bindings::ib_inc_rkey(rkey) }
}

/// Says in the log that the crate is linked.
pub fn hello() {
    kernel::pr_debug!("rdma: linked\n");
}
