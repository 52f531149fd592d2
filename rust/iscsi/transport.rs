// SPDX-License-Identifier: GPL-2.0

//! What a driver implements: [`Transport`], and the types its callbacks exchange.

use crate::{Command, ConnRef, HostParam, MgmtTask, Param, SocketAddr};
use kernel::device::Device;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

/// Capabilities of a transport, as open-iscsi reads them from sysfs.
pub mod caps {
    use crate::bindings;

    /// Recovery means a new session (ErrorRecoveryLevel 0).
    pub const RECOVERY_L0: u32 = bindings::CAP_RECOVERY_L0;
    /// More than one outstanding R2T per task.
    pub const MULTI_R2T: u32 = bindings::CAP_MULTI_R2T;
    /// The kernel sends text PDUs for user space: discovery works over this transport.
    pub const TEXT_NEGO: u32 = bindings::CAP_TEXT_NEGO;
}

/// What of a SCSI host depends on the device behind the endpoint.
pub struct HostConfig {
    /// Tasks per session that the driver can carry, management tasks included.
    ///
    /// There are no more than user space asks for. libiscsi rounds down to a power of two, of
    /// which 16 is the least, and takes 15 of them for management; the rest is the number of
    /// commands that SCSI sees.
    pub can_queue: u16,
    /// Commands per logical unit.
    pub cmd_per_lun: u16,
    /// Entries in the scatterlist of one command.
    pub sg_tablesize: u16,
    /// Sectors of 512 bytes in one command.
    pub max_sectors: u32,
    /// Logical units per target.
    pub max_lun: u64,
    /// Bits that must be zero where one entry of a scatterlist ends and the next begins; 0 for
    /// no such limit.
    pub virt_boundary_mask: usize,
    /// The length of one entry of a scatterlist in bytes.
    pub max_segment_size: u32,
    /// The device that does the DMA, which becomes the parent of the host in sysfs.
    pub parent: Option<ARef<Device>>,
}

/// How many tasks a session has.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// All tasks. Every [`Command::itt_index`] and [`MgmtTask::itt_index`] is below this.
    pub cmds_max: u32,
    /// How many of them can be SCSI commands at the same time.
    pub scsi_cmds_max: u32,
    /// Entries in the scatterlist of one command: what [`HostConfig`] said when the session was
    /// made, perhaps over another device.
    pub sg_tablesize: u32,
    /// The boundary that entries keep, likewise.
    pub virt_boundary_mask: usize,
}

/// What the login negotiated, or how the session is configured.
#[derive(Clone, Copy, Debug)]
pub struct Negotiated {
    /// This is a discovery session: no SCSI command will come.
    pub discovery: bool,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// FirstBurstLength.
    pub first_burst: u32,
    /// MaxBurstLength.
    pub max_burst: u32,
    /// MaxRecvDataSegmentLength of the initiator.
    pub max_recv_dlength: u32,
    /// MaxRecvDataSegmentLength of the target.
    pub max_xmit_dlength: u32,
}

/// Who takes care of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The driver did. libiscsi does not learn of it.
    Handled,
    /// libiscsi shall.
    PassOn,
}

/// An iSCSI transport.
///
/// The callbacks for one connection come from different threads, in two kinds of context:
///
/// - *process* callbacks may sleep. They run without I/O from allocations, and at most one of
///   [`bind`], [`start`], [`ep_disconnect`] and [`stop`] runs per connection at a time, except
///   that [`ep_disconnect`] of an endpoint that is bound nowhere, or no longer, may run beside
///   anything;
/// - *locked* callbacks hold `frwd_lock` of the session with softirqs disabled. They must not
///   sleep, must not call [`ConnRef::fail`], [`ConnRef::with_tx`] or [`ConnRef::complete`],
///   and own [`Tx`].
///
/// # Order
///
/// `ep_connect`, `ep_poll` until ready, `host_config` (first login only), `bind`, logins through
/// `xmit_mgmt`, `start`, commands, then `ep_disconnect` and `stop` in either order. From a
/// failure at any point it goes to the last two at once. After `stop` nothing more comes for that
/// connection, and `Conn` and `Tx` are dropped.
///
/// [`bind`]: Transport::bind
/// [`start`]: Transport::start
/// [`stop`]: Transport::stop
/// [`ep_disconnect`]: Transport::ep_disconnect
/// [`Tx`]: Transport::Tx
pub trait Transport: Sized + 'static {
    /// The name of the transport, for user space.
    const NAME: &'static CStr;
    /// The name of the hosts, for people.
    const HOST_NAME: &'static CStr;
    /// The `proc_name` of the hosts. open-iscsi finds out the transport of a host by it.
    const PROC_NAME: &'static CStr;
    /// What the transport can do, from [`caps`].
    const CAPS: u32;
    /// MaxRecvDataSegmentLength to start with: how long the data segment of a PDU from the
    /// target may be, other than login and text responses.
    const RECV_DATA_SEGMENT: u32;
    /// Parameters of sessions and connections that sysfs shows.
    const PARAMS: &'static [Param] = crate::param::PARAMS;
    /// Parameters of hosts that sysfs shows.
    const HOST_PARAMS: &'static [HostParam] = crate::param::HOST_PARAMS;

    /// A handle on an endpoint: a connection of the transport below, before iSCSI.
    ///
    /// Each callback works on its own clone, so that a disconnect can happen meanwhile.
    type Endpoint: Clone + Send + Sync + 'static;
    /// A bound connection, as all threads share it.
    type Conn: Send + Sync + 'static;
    /// What of a bound connection belongs to `frwd_lock`: queues that only senders touch.
    type Tx: Send + 'static;

    /// Starts to connect to `addr`. Process.
    ///
    /// An error goes to user space, which has nothing to clean up then. Unless `non_blocking`,
    /// the connection should be complete on return.
    fn ep_connect(addr: SocketAddr, non_blocking: bool) -> Result<Self::Endpoint>;

    /// Waits up to `timeout_ms` for the endpoint to be connected. Process, and user space waits.
    ///
    /// Returns `Ok(true)` if it is, `Ok(false)` if not yet, an error if it will never be.
    fn ep_poll(ep: &Self::Endpoint, timeout_ms: i32) -> Result<bool>;

    /// Disconnects. Process.
    ///
    /// Called exactly once for each endpoint, in any state of the connection. libiscsi sends
    /// nothing more on a connection that is bound to it. The endpoint's handle is dropped
    /// afterwards.
    fn ep_disconnect(ep: &Self::Endpoint);

    /// Returns the address of the peer. Process.
    fn ep_address(ep: &Self::Endpoint) -> Result<SocketAddr>;

    /// Says what a SCSI host over this endpoint can do. Process.
    ///
    /// `cmds_max` tasks per session and `queue_depth` commands per logical unit are what user
    /// space asks for, or the defaults of libiscsi.
    fn host_config(ep: &Self::Endpoint, cmds_max: u16, queue_depth: u16) -> Result<HostConfig>;

    /// Binds an iSCSI connection to the endpoint. Process.
    ///
    /// `conn` works from now on until `stop` has returned; on an error it has to be dropped. All
    /// receive buffers that the login needs should be posted on return. An endpoint that is
    /// bound already has to be refused.
    fn bind(
        ep: &Self::Endpoint,
        conn: ConnRef<Self>,
        limits: SessionLimits,
    ) -> Result<(Arc<Self::Conn>, Self::Tx)>;

    /// What [`bind`](Self::bind) has returned can be found by [`ConnRef`] from now on. Process.
    ///
    /// An error says that the connection below has ended meanwhile, of which libiscsi does not
    /// take notice before this. It is stopped then, and user space told.
    fn bound(conn: &Self::Conn) -> Result;

    /// The login is complete, commands follow. Process.
    fn start(conn: &Self::Conn, params: Negotiated) -> Result;

    /// Stops the connection. Process.
    ///
    /// On return the transport below must be done with all memory: no [`CommandRef`] and no
    /// [`Unanswered`] may be left, and no completion may still run. libiscsi then gives the
    /// commands back, to be repeated if `recover`. It sends nothing more, except that it may
    /// still be in the transmit callback when this begins. Called once for each `bind` that
    /// succeeded, before or after `ep_disconnect`.
    ///
    /// [`CommandRef`]: crate::CommandRef
    /// [`Unanswered`]: crate::Unanswered
    fn stop(conn: &Self::Conn, recover: bool);

    /// User space sets a parameter. Process.
    ///
    /// [`parse_i32`](crate::parse_i32) reads a numeric value.
    fn set_param(conn: &Self::Conn, param: Param, value: &CStr) -> Result<Decision> {
        let _ = (conn, param, value);
        Ok(Decision::PassOn)
    }

    /// Sends a SCSI command. Locked.
    ///
    /// On an error nothing may have been posted and every [`CommandRef`] has to be dropped;
    /// libiscsi takes the CmdSN back and SCSI tries again later.
    ///
    /// [`CommandRef`]: crate::CommandRef
    fn xmit_command(conn: &Self::Conn, tx: &mut Self::Tx, cmd: Command<'_>) -> Result;

    /// Sends a PDU that carries no SCSI command. Locked.
    ///
    /// On an error nothing may have been posted and every [`Unanswered`] has to be dropped.
    ///
    /// [`Unanswered`]: crate::Unanswered
    fn xmit_mgmt(conn: &Self::Conn, tx: &mut Self::Tx, task: &mut MgmtTask<'_>) -> Result;

    /// SCSI error handling waits for the command of this task to be let go. Locked.
    ///
    /// libiscsi is done with it, but a [`CommandRef`] is left. Unless that is in progress
    /// anyway, the driver has to revoke the target's access to the memory, and to drop the
    /// references when that is done. It can come more than once for a command. If it takes
    /// longer than some seconds, the connection is failed.
    ///
    /// [`CommandRef`]: crate::CommandRef
    fn invalidate(conn: &Self::Conn, tx: &mut Self::Tx, itt_index: u32);
}
