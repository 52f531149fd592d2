// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts and commands, the iSCSI transport class and libiscsi, made safe.
//!
//! A driver implements [`Transport`] and creates a [`Registration`]; sessions, tasks, error
//! handling and recovery stay with libiscsi, and this crate stands between the two. Knows
//! nothing of RDMA.
//!
//! # Ownership
//!
//! | object | kept alive by |
//! |---|---|
//! | endpoint | the transport class, from `ep_connect` to `ep_disconnect`; the driver's handle is a [`Clone`] that each callback gets for its own |
//! | connection and session memory | the transport class, and each [`ConnRef`] |
//! | [`Transport::Conn`], [`Transport::Tx`] | the connection from `bind_conn` to `stop_conn`, and whoever cloned the [`Arc`] |
//! | task of a SCSI command | libiscsi until its response or its abortion, and each [`CommandRef`] |
//! | data of a SCSI command | its task: SCSI gets the command back only with the last reference |
//!
//! # Locks
//!
//! libiscsi has two spinlocks per session: `frwd_lock` for what goes out and, inside it,
//! `back_lock` for what comes back. [`Transport::Tx`] is what the driver owns under `frwd_lock`.
//! Which connection is bound is written under both, so that either one is enough to read it.
//!
//! [`Arc`]: kernel::sync::Arc

use iser_bindings as bindings;

#[macro_use]
mod log;

mod bhs;
mod conn;
mod control;
mod eh;
mod endpoint;
mod error;
mod failing;
mod lock;
mod mgmt;
mod param;
mod pdu;
mod registration;
mod request;
mod session;
mod stats;
mod tag;
mod task;
#[cfg(CONFIG_KUNIT = "y")]
mod task_tests;
mod transport;
mod vtable;

pub use bhs::Bhs;
pub use conn::ConnRef;
pub use error::{ConnError, PduError};
#[doc(hidden)]
pub use iser_bindings::message_allowed;
pub use iser_bindings::SocketAddr;
pub use mgmt::{MgmtTask, Unanswered};
pub use param::{parse_i32, HostParam, Param};
pub use pdu::Pdu;
pub use registration::Registration;
pub use tag::{itt_index, BHS_LEN};
pub use task::{Command, CommandRef, DataOut, Direction};
pub use transport::{caps, Decision, HostConfig, Negotiated, SessionLimits, Transport};

/// What `pr_*` of this crate print before their text.
const __LOG_PREFIX: &[u8] = b"ib_iser_rs\0";
