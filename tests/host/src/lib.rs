// SPDX-License-Identifier: GPL-2.0

//! The pure code of the driver and of the crates `rdma` and `iscsi` on the host.
//!
//! The modules are their own files, not copies. What is tested beside them in this crate
//! needs a generator of random input; what does not is a KUnit test in the file itself and runs
//! here as well. `models` has the rules a second time: the property tests and the fuzzer ([`fuzz`])
//! hold the code against them.

// Nothing but the tests calls these modules here, and they not all of them.
#![allow(dead_code)]
// Tests may panic.
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

#[path = "../../../drivers/infiniband/ulp/iser_rs/cm_data.rs"]
mod cm_data;
#[path = "../../../rust/modparam/number.rs"]
mod number;
#[path = "../../../drivers/infiniband/ulp/iser_rs/opcode.rs"]
mod opcode;
#[path = "../../../rust/rdma/recv_account.rs"]
mod recv_account;
#[path = "../../../rust/rdma/response.rs"]
pub mod response;
#[path = "../../../rust/rdma/send_account.rs"]
mod send_account;
#[path = "../../../rust/rdma/send_queue.rs"]
mod send_queue;
#[path = "../../../drivers/infiniband/ulp/iser_rs/sizes.rs"]
mod sizes;
#[path = "../../../rust/rdma/slot_state.rs"]
pub mod slot_state;
#[path = "../../../drivers/infiniband/ulp/iser_rs/state.rs"]
mod state;
#[path = "../../../rust/iscsi/tag.rs"]
mod tag;
#[path = "../../../drivers/infiniband/ulp/iser_rs/violation.rs"]
mod violation;
#[path = "../../../drivers/infiniband/ulp/iser_rs/wire.rs"]
mod wire;

pub mod fuzz;
mod models;
mod stubs;

// What `sizes` takes from these crates, and `tag` from the kernel, is in `stubs`.
extern crate self as iscsi;
extern crate self as rdma;
use stubs::{bindings, channel, device, qp, send, ChannelConfig, SessionLimits};

#[cfg(test)]
mod cm_data_props;
#[cfg(test)]
mod number_props;
#[cfg(test)]
mod receives_props;
#[cfg(test)]
mod send_queue_props;
#[cfg(test)]
mod sizes_props;
#[cfg(test)]
mod slot_state_props;
#[cfg(test)]
mod tag_props;
#[cfg(test)]
mod wire_props;

/// How many inputs a property is tried with; two are enough where Miri looks at each step.
#[cfg(test)]
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: None,
        ..Default::default()
    }
}
