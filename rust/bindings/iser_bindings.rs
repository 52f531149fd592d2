// SPDX-License-Identifier: GPL-2.0

//! Raw bindings to the RDMA, SCSI and iSCSI headers.
//!
//! What bindgen makes of `bindings_helper.h` and of the C helpers, on top of
//! `kernel::bindings`: a type that the kernel's own bindings define is that type
//! here too. Only the crates `rdma` and `iscsi` may use this crate; the driver
//! cannot name it.

#![allow(
    clippy::all,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

#[allow(dead_code)]
#[allow(clippy::cast_lossless)]
#[allow(clippy::ptr_as_ptr)]
#[allow(clippy::ref_as_ptr)]
#[allow(clippy::undocumented_unsafe_blocks)]
#[cfg_attr(not(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES), allow(unknown_lints))]
#[allow(unnecessary_transmutes)]
mod bindings_raw {
    use kernel::ffi;
    use pin_init::{MaybeZeroable, Zeroable};

    // What this module defines itself takes precedence over the kernel's own
    // bindings, notably types that are only forward declarations there.
    pub use kernel::bindings::*;

    // SAFETY: `__BindgenBitfieldUnit<Storage>` is a newtype around `Storage`.
    unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}

    include!(concat!(env!("ISER_BINDINGS_DIR"), "/bindings_generated.rs"));
    include!(concat!(
        env!("ISER_BINDINGS_DIR"),
        "/bindings_helpers_generated.rs"
    ));
}

pub use bindings_raw::*;

pub mod contract;
pub mod log;
pub mod noio;
pub mod sockaddr;

pub use contract::ScatterlistOwner;
pub use log::message_allowed;
pub use noio::NoIo;
pub use sockaddr::SocketAddr;
