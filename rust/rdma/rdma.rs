// SPDX-License-Identifier: GPL-2.0

//! RDMA verbs and the RDMA connection manager, made safe.
//!
//! For an upper-layer protocol that sends messages, receives messages and lets
//! its peer read and write memory. Knows nothing of iSCSI.
//!
//! - [`cm`]: a connection identifier and its events.
//! - [`qp`]: a reliable queue pair with its own protection domain.
//! - [`channel`]: everything that work requests of a queue pair name: header
//!   buffers, receive buffers, memory regions and the user memory that they
//!   expose. What a posted work request names is owned by the channel until the
//!   request has completed; user memory that a remote key exposes is owned by
//!   the channel until the key is dead.
//! - `slot_state`, `send_queue` and `recv_account`: the bookkeeping of these, as pure code.

pub mod channel;
pub mod cm;
mod completion;
mod data_out;
pub mod device;
mod dma;
#[cfg(CONFIG_KUNIT = "y")]
mod dma_tests;
mod failure;
#[cfg(CONFIG_KUNIT = "y")]
mod fake;
mod mr;
mod prepared;
pub mod qp;
mod recv;
mod recv_account;
mod response;
pub mod send;
mod send_account;
mod send_cq;
mod send_queue;
mod slot;
mod slot_state;
#[cfg(CONFIG_KUNIT = "y")]
mod slot_tests;

use iser_bindings as bindings;

pub use bindings::{ScatterlistOwner, SocketAddr};
pub use channel::{Channel, ChannelConfig, ChannelOps, Next, Received};
pub use dma::Direction;
pub use failure::Failure;
pub use mr::Access;
pub use prepared::Prepared;
pub use response::Violation;
pub use send::{RemoteBuffer, SendError, Sender};

/// What `pr_*` of this crate print before their text.
const __LOG_PREFIX: &[u8] = b"ib_iser_rs\0";
