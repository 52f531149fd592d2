// SPDX-License-Identifier: GPL-2.0

//! The iSCSI transport `iser`: what the transport class and libiscsi call.

use crate::{
    connection::{Connection, Tx},
    endpoint::{Endpoint, EndpointId},
    params, wire,
};
use iscsi::{
    caps, Command, ConnRef, Decision, HostConfig, MgmtTask, Negotiated, Param, SessionLimits,
    SocketAddr,
};
use kernel::{prelude::*, sync::Arc};

/// The transport.
pub(crate) struct Iser;

/// How long a blocking `ep_connect` waits for the target.
const CONNECT_TIMEOUT_MS: u32 = 30_000;

impl iscsi::Transport for Iser {
    const NAME: &'static CStr = c"iser";
    const HOST_NAME: &'static CStr = c"iSCSI Initiator over iSER";
    // open-iscsi finds out the transport by it.
    const PROC_NAME: &'static CStr = c"iscsi_iser";
    const CAPS: u32 = caps::RECOVERY_L0 | caps::MULTI_R2T | caps::TEXT_NEGO;
    const RECV_DATA_SEGMENT: u32 = wire::RECV_DATA_SEGMENT as u32;

    type Endpoint = Arc<EndpointId>;
    type Conn = Connection;
    type Tx = Tx;

    fn ep_connect(addr: SocketAddr, non_blocking: bool) -> Result<Self::Endpoint> {
        let endpoint = Endpoint::connect(addr)?;
        if !non_blocking {
            let ready = endpoint.handler().poll(CONNECT_TIMEOUT_MS);
            if !matches!(ready, Ok(true)) {
                if ready.is_ok() {
                    iscsi::err!(
                        "{addr}: no connection within {} s\n",
                        CONNECT_TIMEOUT_MS / 1000
                    );
                }
                Self::ep_disconnect(&endpoint);
                return Err(ready.err().unwrap_or(ETIMEDOUT));
            }
        }
        Ok(endpoint)
    }

    fn ep_poll(ep: &Self::Endpoint, timeout_ms: i32) -> Result<bool> {
        // A negative timeout waits, but never for longer than a connection takes.
        let timeout = u32::try_from(timeout_ms).unwrap_or(CONNECT_TIMEOUT_MS);
        ep.handler().poll(timeout)
    }

    fn ep_disconnect(ep: &Self::Endpoint) {
        Endpoint::terminate(ep);
        if ep.destroy().is_err() {
            iscsi::err!(
                "{}: the queue pair is still in use, the connection leaks\n",
                ep.handler().portal()
            );
        }
    }

    fn ep_address(ep: &Self::Endpoint) -> Result<SocketAddr> {
        Ok(ep.handler().portal())
    }

    fn host_config(ep: &Self::Endpoint, cmds_max: u16, queue_depth: u16) -> Result<HostConfig> {
        let limits = ep.handler().host_limits()?;
        let max_tasks = u16::try_from(limits.max_tasks)?;
        Ok(HostConfig {
            can_queue: cmds_max.min(max_tasks),
            cmd_per_lun: queue_depth,
            sg_tablesize: u16::try_from(limits.io.sg_tablesize)?,
            max_sectors: limits.io.max_sectors,
            max_lun: params::MAX_LUN.get().into(),
            virt_boundary_mask: limits.virt_boundary,
            max_segment_size: limits.max_segment_size,
            parent: limits.parent,
        })
    }

    fn bind(
        ep: &Self::Endpoint,
        conn: ConnRef<Self>,
        limits: SessionLimits,
    ) -> Result<(Arc<Self::Conn>, Self::Tx)> {
        let connection = Arc::new(Connection::new(ep.clone()), GFP_KERNEL)?;
        let sender = ep.handler().bind(conn, &limits)?;
        Ok((connection, Tx::new(sender)))
    }

    fn bound(conn: &Self::Conn) -> Result {
        conn.endpoint().handler().still_bound()
    }

    fn start(conn: &Self::Conn, params: Negotiated) -> Result {
        conn.start(&params)
    }

    fn stop(conn: &Self::Conn, _recover: bool) {
        conn.terminate();
    }

    fn set_param(conn: &Self::Conn, param: Param, value: &CStr) -> Result<Decision> {
        let name = match param {
            // What is received is limited by our buffers, not by this.
            Param::MAX_RECV_DLENGTH => return Ok(Decision::Handled),
            Param::HDRDGST_EN => "HeaderDigest",
            Param::DATADGST_EN => "DataDigest",
            Param::IFMARKER_EN => "IFMarker",
            Param::OFMARKER_EN => "OFMarker",
            _ => return Ok(Decision::PassOn),
        };
        let portal = conn.endpoint().handler().portal();
        match iscsi::parse_i32(value) {
            Ok(0) => Ok(Decision::Handled),
            Ok(_) => {
                // RFC 7145, section 6.1: the transport has its own.
                iscsi::err!("{portal}: {name} was negotiated, iSER has none\n");
                Err(EPROTO)
            }
            Err(e) => {
                iscsi::err!("{portal}: {name} is not a number\n");
                Err(e)
            }
        }
    }

    #[inline(always)]
    fn xmit_command(conn: &Self::Conn, tx: &mut Self::Tx, cmd: Command<'_>) -> Result {
        conn.send_command(tx, cmd)
            .inspect_err(|&e| conn.not_sent(e))
    }

    fn xmit_mgmt(conn: &Self::Conn, tx: &mut Self::Tx, task: &mut MgmtTask<'_>) -> Result {
        conn.send_control(tx, task)
    }

    fn invalidate(_conn: &Self::Conn, tx: &mut Self::Tx, itt_index: u32) {
        // If it fails, the connection is ending or will be failed for taking too
        // long: either kills the key.
        let _ = tx.invalidate(itt_index);
    }
}
