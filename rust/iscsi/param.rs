// SPDX-License-Identifier: GPL-2.0

//! The parameters of sessions, connections and hosts that user space sets and reads.

use crate::bindings;
use kernel::ffi::c_int;
use kernel::prelude::*;

/// A parameter of a session or of a connection, named as in the kernel's `enum iscsi_param`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param(bindings::iscsi_param);

/// A parameter of a host, named as in the kernel's `enum iscsi_host_param`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostParam(bindings::iscsi_host_param);

macro_rules! params {
    ($ty:ident, $raw:ty: $($(#[$meta:meta])* $name:ident = $value:ident;)*) => {
        impl $ty {
            $(
                $(#[$meta])*
                pub const $name: Self = Self(bindings::$value);
            )*

            /// Takes over a number of the transport class.
            #[inline]
            pub(crate) const fn from_raw(raw: $raw) -> Self {
                Self(raw)
            }

            /// Returns the number that the transport class and user space use.
            #[inline]
            pub const fn as_raw(self) -> u32 {
                self.0
            }
        }
    };
}

params! { Param, bindings::iscsi_param:
    /// MaxRecvDataSegmentLength of the initiator.
    MAX_RECV_DLENGTH = iscsi_param_ISCSI_PARAM_MAX_RECV_DLENGTH;
    /// MaxRecvDataSegmentLength of the target.
    MAX_XMIT_DLENGTH = iscsi_param_ISCSI_PARAM_MAX_XMIT_DLENGTH;
    /// HeaderDigest.
    HDRDGST_EN = iscsi_param_ISCSI_PARAM_HDRDGST_EN;
    /// DataDigest.
    DATADGST_EN = iscsi_param_ISCSI_PARAM_DATADGST_EN;
    /// InitialR2T.
    INITIAL_R2T_EN = iscsi_param_ISCSI_PARAM_INITIAL_R2T_EN;
    /// MaxOutstandingR2T.
    MAX_R2T = iscsi_param_ISCSI_PARAM_MAX_R2T;
    /// ImmediateData.
    IMM_DATA_EN = iscsi_param_ISCSI_PARAM_IMM_DATA_EN;
    /// FirstBurstLength.
    FIRST_BURST = iscsi_param_ISCSI_PARAM_FIRST_BURST;
    /// MaxBurstLength.
    MAX_BURST = iscsi_param_ISCSI_PARAM_MAX_BURST;
    /// DataPDUInOrder.
    PDU_INORDER_EN = iscsi_param_ISCSI_PARAM_PDU_INORDER_EN;
    /// DataSequenceInOrder.
    DATASEQ_INORDER_EN = iscsi_param_ISCSI_PARAM_DATASEQ_INORDER_EN;
    /// ErrorRecoveryLevel.
    ERL = iscsi_param_ISCSI_PARAM_ERL;
    /// IFMarker.
    IFMARKER_EN = iscsi_param_ISCSI_PARAM_IFMARKER_EN;
    /// OFMarker.
    OFMARKER_EN = iscsi_param_ISCSI_PARAM_OFMARKER_EN;
    /// The next expected StatSN.
    EXP_STATSN = iscsi_param_ISCSI_PARAM_EXP_STATSN;
    /// The name of the target.
    TARGET_NAME = iscsi_param_ISCSI_PARAM_TARGET_NAME;
    /// The portal group of the target.
    TPGT = iscsi_param_ISCSI_PARAM_TPGT;
    /// The address of the portal that the node record names.
    PERSISTENT_ADDRESS = iscsi_param_ISCSI_PARAM_PERSISTENT_ADDRESS;
    /// The port of the portal that the node record names.
    PERSISTENT_PORT = iscsi_param_ISCSI_PARAM_PERSISTENT_PORT;
    /// The port that the connection is connected to.
    CONN_PORT = iscsi_param_ISCSI_PARAM_CONN_PORT;
    /// The address that the connection is connected to.
    CONN_ADDRESS = iscsi_param_ISCSI_PARAM_CONN_ADDRESS;
    /// The CHAP name of the initiator.
    USERNAME = iscsi_param_ISCSI_PARAM_USERNAME;
    /// The CHAP name of the target.
    USERNAME_IN = iscsi_param_ISCSI_PARAM_USERNAME_IN;
    /// The CHAP secret of the initiator.
    PASSWORD = iscsi_param_ISCSI_PARAM_PASSWORD;
    /// The CHAP secret of the target.
    PASSWORD_IN = iscsi_param_ISCSI_PARAM_PASSWORD_IN;
    /// Whether R2Ts are ignored once an abort is on its way.
    FAST_ABORT = iscsi_param_ISCSI_PARAM_FAST_ABORT;
    /// How long to wait for an ABORT TASK, in seconds.
    ABORT_TMO = iscsi_param_ISCSI_PARAM_ABORT_TMO;
    /// How long to wait for a LOGICAL UNIT RESET, in seconds.
    LU_RESET_TMO = iscsi_param_ISCSI_PARAM_LU_RESET_TMO;
    /// How long to wait for a TARGET WARM RESET, in seconds.
    TGT_RESET_TMO = iscsi_param_ISCSI_PARAM_TGT_RESET_TMO;
    /// How long a NOP-Out may stay unanswered, in seconds.
    PING_TMO = iscsi_param_ISCSI_PARAM_PING_TMO;
    /// How long a silent connection goes without a NOP-Out, in seconds.
    RECV_TMO = iscsi_param_ISCSI_PARAM_RECV_TMO;
    /// The name of the interface record.
    IFACE_NAME = iscsi_param_ISCSI_PARAM_IFACE_NAME;
    /// The name of the initiator.
    INITIATOR_NAME = iscsi_param_ISCSI_PARAM_INITIATOR_NAME;
    /// Whether this is a discovery session.
    DISCOVERY_SESS = iscsi_param_ISCSI_PARAM_DISCOVERY_SESS;
}

params! { HostParam, bindings::iscsi_host_param:
    /// The hardware address that sessions are bound to.
    HWADDRESS = iscsi_host_param_ISCSI_HOST_PARAM_HWADDRESS;
    /// The name of the initiator.
    INITIATOR_NAME = iscsi_host_param_ISCSI_HOST_PARAM_INITIATOR_NAME;
    /// The network device that sessions are bound to.
    NETDEV_NAME = iscsi_host_param_ISCSI_HOST_PARAM_NETDEV_NAME;
    /// The address of the host.
    IPADDRESS = iscsi_host_param_ISCSI_HOST_PARAM_IPADDRESS;
}

/// What a host shows in sysfs by default: what libiscsi keeps for every host.
pub(crate) const HOST_PARAMS: &[HostParam] = &[
    HostParam::HWADDRESS,
    HostParam::INITIATOR_NAME,
    HostParam::NETDEV_NAME,
];

/// What sessions and connections show in sysfs by default: what is negotiated, where the target
/// is, what the login needs, and the timeouts. Markers and error recovery levels do not exist
/// over RDMA.
pub(crate) const PARAMS: &[Param] = &[
    // Negotiated.
    Param::MAX_RECV_DLENGTH,
    Param::MAX_XMIT_DLENGTH,
    Param::HDRDGST_EN,
    Param::DATADGST_EN,
    Param::INITIAL_R2T_EN,
    Param::MAX_R2T,
    Param::IMM_DATA_EN,
    Param::FIRST_BURST,
    Param::MAX_BURST,
    Param::PDU_INORDER_EN,
    Param::DATASEQ_INORDER_EN,
    // Who and where.
    Param::TARGET_NAME,
    Param::TPGT,
    Param::CONN_ADDRESS,
    Param::CONN_PORT,
    Param::PERSISTENT_ADDRESS,
    Param::PERSISTENT_PORT,
    Param::IFACE_NAME,
    Param::INITIATOR_NAME,
    Param::DISCOVERY_SESS,
    Param::EXP_STATSN,
    // Login.
    Param::USERNAME,
    Param::USERNAME_IN,
    Param::PASSWORD,
    Param::PASSWORD_IN,
    // Timeouts and error handling.
    Param::PING_TMO,
    Param::RECV_TMO,
    Param::FAST_ABORT,
    Param::ABORT_TMO,
    Param::LU_RESET_TMO,
    Param::TGT_RESET_TMO,
];

/// Parses a decimal number, as user space writes the value of a numeric parameter.
///
/// A newline may follow it, nothing else.
pub fn parse_i32(value: &CStr) -> Result<i32> {
    let mut number: c_int = 0;
    // SAFETY: The string ends in NUL, and `number` is valid for writes.
    let ret = unsafe { bindings::kstrtoint(value.as_char_ptr(), 10, &mut number) };
    kernel::error::to_result(ret)?;
    Ok(number)
}
