// SPDX-License-Identifier: GPL-2.0

//! iSER initiator (RFC 7145): the driver. Policy only, no `unsafe`.
//!
//! - [`transport`]: what the iSCSI transport class calls.
//! - [`endpoint`]: a connection from address resolution to its end.
//! - [`connection`]: a connection that iSCSI is bound to; how PDUs are sent.
//! - [`receive`]: what arrives, and what goes wrong.
//! - [`sizes`]: queues, regions and hosts in numbers.
//! - [`wire`], [`violation`], [`cm_data`], [`state`], [`params`]: pure code, which
//!   also runs on the build host.

#![forbid(unsafe_code)]

use kernel::prelude::*;

mod cm_data;
mod connection;
mod display;
mod endpoint;
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
    params: {
        debug_level: i32 {
            default: 0,
            description: "Enable debug tracing if > 0 (default:disabled)",
        },
        max_lun: u32 {
            default: 512,
            description: "Max LUNs to allow per session, should > 0 (default:512)",
        },
        max_sectors: u32 {
            default: 1024,
            description: "Max number of sectors in a single scsi command, should > 0 (default:1024)",
        },
        always_register: bool {
            default: true,
            description: "Always register memory; N is refused, as it gives the target all memory (default:true)",
        },
        pi_enable: bool {
            default: false,
            description: "Enable T10-PI offload support; not supported yet (default:disabled)",
        },
    },
}

#[pin_data]
struct IserModule {
    #[pin]
    registration: iscsi::Registration<transport::Iser>,
}

impl kernel::InPlaceModule for IserModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: { check_params()? },
            registration <- iscsi::Registration::new(module),
        }? Error)
    }
}

/// Refuses what would otherwise be ignored.
fn check_params() -> Result {
    for (bounds, value) in [
        (params::MAX_LUN, module_parameters::max_lun.value()),
        (params::MAX_SECTORS, module_parameters::max_sectors.value()),
    ] {
        if let Err(invalid) = bounds.check(value) {
            pr_err!("{invalid}\n");
            return Err(EINVAL);
        }
    }
    if !module_parameters::always_register.value() {
        pr_err!("always_register=N is not supported: it would let the target reach all memory\n");
        return Err(EINVAL);
    }
    if module_parameters::pi_enable.value() {
        pr_err!("pi_enable=Y is not supported yet: T10-PI is not implemented\n");
        return Err(EINVAL);
    }
    Ok(())
}

/// How many sectors a command may have.
fn max_sectors() -> u32 {
    module_parameters::max_sectors.value()
}

/// How many logical units a target may have.
fn max_lun() -> u32 {
    module_parameters::max_lun.value()
}

/// How much is said in the log.
fn verbosity() -> params::Verbosity {
    params::Verbosity::new(module_parameters::debug_level.value())
}
