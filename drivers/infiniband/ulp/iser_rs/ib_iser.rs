// SPDX-License-Identifier: GPL-2.0

//! iSER initiator (RFC 7145): the driver. Policy only.

#![deny(unsafe_code)]

use kernel::prelude::*;

module! {
    type: IserModule,
    name: "ib_iser_rs",
    authors: ["The ib_iser_rs authors"],
    description: "iSER (iSCSI Extensions for RDMA) initiator",
    license: "GPL",
}

struct IserModule;

impl kernel::Module for IserModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        iscsi::hello();
        Ok(Self)
    }
}

impl Drop for IserModule {
    fn drop(&mut self) {
        pr_info!("unloaded\n");
    }
}
