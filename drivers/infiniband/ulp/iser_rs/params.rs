// SPDX-License-Identifier: GPL-2.0

//! The module parameters: names, types, defaults and permissions of the C driver.

use modparam::{module_param, Fixed, Int, Uint};

module_param! {
    /// How much is said in the log.
    static DEBUG_LEVEL: Int = Int::new(0);
    name: "debug_level",
    type: "int",
    mode: 0o644,
    description: "Enable debug tracing if > 0 (default:disabled)",
}

module_param! {
    /// Logical units that a target may have.
    static MAX_LUN: Uint = Uint::new(512, 1);
    name: "max_lun",
    type: "uint",
    mode: 0o444,
    description: "Max LUNs to allow per session, should > 0 (default:512)",
}

module_param! {
    /// Sectors of 512 bytes that a command may have; sessions made later follow a
    /// change.
    static MAX_SECTORS: Uint = Uint::new(1024, 1);
    name: "max_sectors",
    type: "uint",
    mode: 0o644,
    description: "Max number of sectors in a single scsi command, should > 0 (default:1024)",
}

module_param! {
    /// Whether memory that a target reaches is always registered: yes.
    static ALWAYS_REGISTER: Fixed =
        Fixed::new(true, "unregistered memory would let the target reach all memory");
    name: "always_register",
    type: "bool",
    mode: 0o444,
    description: "Always register memory; N is refused, as it would let the target reach all memory (default:true)",
}

module_param! {
    /// Whether protection information is offloaded: not yet.
    static PI_ENABLE: Fixed = Fixed::new(false, "T10-PI is not implemented yet");
    name: "pi_enable",
    type: "bool",
    mode: 0o444,
    description: "Enable T10-PI offload support; Y is refused, as it is not implemented yet (default:disabled)",
}

/// Whether events of a connection's life are logged.
pub(crate) fn debug() -> bool {
    DEBUG_LEVEL.get() > 0
}
