// SPDX-License-Identifier: GPL-2.0

//! iSER initiator (RFC 7145): the driver. Policy only, no `unsafe`.
//!
//! - [`transport`]: what the iSCSI transport class calls.
//! - [`endpoint`]: a connection from address resolution to its end, and
//!   [`events`]: what the connection manager tells it.
//! - [`connection`]: a connection that iSCSI is bound to; how PDUs are sent.
//! - [`receive`]: what arrives, and what goes wrong.
//! - [`sizes`]: queues, regions and hosts in numbers.
//! - [`params`]: the module parameters.
//! - [`wire`], [`violation`], [`cm_data`], [`state`]: pure code, which also runs on
//!   the build host.

#![forbid(unsafe_code)]

use kernel::prelude::*;

mod cm_data;
mod connection;
mod display;
mod endpoint;
mod events;
mod opcode;
mod params;
mod receive;
mod sizes;
mod state;
mod transport;
mod violation;
mod wire;

module! {
    type: IserModule,
    name: "ib_iser_rs",
    authors: ["The ib_iser_rs authors"],
    description: "iSER (iSCSI Extensions for RDMA) initiator",
    license: "GPL",
}

#[pin_data]
struct IserModule {
    #[pin]
    registration: iscsi::Registration<transport::Iser>,
}

impl kernel::InPlaceModule for IserModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            registration <- iscsi::Registration::new(module),
        }? Error)
    }
}
