// SPDX-License-Identifier: GPL-2.0

//! A connection to a target, from address resolution to its end.
//!
//! Its states and their order are in [`crate::state`]. The end may come from user
//! space, from the transport class, from the connection manager or from the device,
//! in any order and at once: [`Endpoint::terminate`] is done once, by whoever comes
//! first, and the others wait for it.

use crate::{
    cm_data, params,
    receive::Receiver,
    sizes::{self, IoSize},
    state::{ConnState, Machine, Poll},
    transport::Iser,
};
use iscsi::{ConnError, ConnRef, SessionLimits, SocketAddr};
use kernel::{
    device::Device,
    fmt, new_condvar, new_mutex,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow, CondVar, CondVarTimeoutResult, Mutex},
    time::msecs_to_jiffies,
};
use rdma::{
    cm::{ConnectParams, Event, EventKind, Handler, Id},
    qp::Qp,
    Channel, Sender,
};

/// How long resolving an address or a route may take.
const RESOLVE_TIMEOUT_MS: u32 = 1000;

/// RDMA Reads that we have outstanding: none, but some targets want one.
const INITIATOR_DEPTH: u8 = 1;
/// Transport retries before a send fails: the most there are.
const RETRY_COUNT: u8 = 7;
/// Retries when the target has no receive posted. The next larger value is for ever.
const RNR_RETRY_COUNT: u8 = 6;

/// A connection identifier with its endpoint.
pub(crate) type EndpointId = Id<Endpoint>;

/// A connection to a target.
#[pin_data]
pub(crate) struct Endpoint {
    portal: SocketAddr,
    #[pin]
    inner: Mutex<Inner>,
    /// Told of every change of the state.
    #[pin]
    changed: CondVar,
}

struct Inner {
    machine: Machine,
    /// Until bound.
    qp: Option<Qp<Endpoint>>,
    /// From bound on.
    bound: Option<Bound>,
    remote_invalidation: bool,
    io: Option<IoSize>,
    /// Why the connection could not be made.
    error: Error,
}

struct Bound {
    conn: ConnRef<Iser>,
    channel: Arc<Channel<Receiver>>,
}

/// What a SCSI host needs to know.
pub(crate) struct HostLimits {
    pub(crate) io: IoSize,
    pub(crate) max_tasks: u32,
    pub(crate) virt_boundary: usize,
    pub(crate) parent: Option<ARef<Device>>,
}

impl Endpoint {
    /// Starts to connect to `portal`. Sleeps.
    pub(crate) fn connect(portal: SocketAddr) -> Result<Arc<EndpointId>> {
        let mut machine = Machine::new();
        let _ = machine.advance(ConnState::ResolvingAddress);
        let endpoint = try_pin_init!(Self {
            portal,
            inner <- new_mutex!(Inner {
                machine,
                qp: None,
                bound: None,
                remote_invalidation: false,
                io: None,
                error: ENOTCONN,
            }),
            changed <- new_condvar!(),
        }? Error);
        EndpointId::resolve(endpoint, &portal, RESOLVE_TIMEOUT_MS).inspect_err(|e| {
            iscsi::err!(
                "{portal}: cannot resolve the address: error {}\n",
                e.to_errno()
            );
        })
    }

    /// The target's address.
    pub(crate) fn portal(&self) -> SocketAddr {
        self.portal
    }

    /// Waits up to `timeout_ms` until the connection can be bound. Sleeps.
    ///
    /// # Errors
    ///
    /// Why it never will be, or `EINTR`.
    pub(crate) fn poll(&self, timeout_ms: u32) -> Result<bool> {
        let mut left = msecs_to_jiffies(timeout_ms);
        let mut inner = self.inner.lock();
        loop {
            match inner.machine.state().poll() {
                Poll::Ready => return Ok(true),
                Poll::Failed => return Err(inner.error),
                Poll::NotYet if left == 0 => return Ok(false),
                Poll::NotYet => {}
            }
            left = match self.changed.wait_interruptible_timeout(&mut inner, left) {
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Timeout => 0,
                CondVarTimeoutResult::Signal { .. } => return Err(EINTR),
            };
        }
    }

    /// What a host over this connection can do.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if it is not connected any more.
    pub(crate) fn host_limits(&self) -> Result<HostLimits> {
        let inner = self.inner.lock();
        let (Some(qp), Some(io)) = (&inner.qp, inner.io) else {
            return Err(ENOTCONN);
        };
        Ok(HostLimits {
            io,
            max_tasks: sizes::max_tasks(qp.config()),
            virt_boundary: IoSize::virt_boundary(qp.caps()),
            parent: qp.parent_device(),
        })
    }

    /// Makes the channel of an iSCSI connection. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the connection has ended, `EBUSY` if it is bound already.
    pub(crate) fn bind(
        &self,
        conn: ConnRef<Iser>,
        limits: &SessionLimits,
    ) -> Result<Sender<Receiver>> {
        let portal = self.portal;
        let mut inner = self.inner.lock();
        match inner.machine.state() {
            ConnState::Established => {}
            ConnState::Bound => return Err(EBUSY),
            state => {
                iscsi::err!("{portal}: cannot bind, the connection is {state}\n");
                return Err(ENOTCONN);
            }
        }
        let qp = inner.qp.take().ok_or(ENOTCONN)?;
        // The host was made at the first login, perhaps over another device.
        let Some(region_pages) = sizes::region_pages(qp.caps(), limits) else {
            let (device, entries) = (qp.device_name(), limits.sg_tablesize);
            iscsi::err!(
                "{portal}: {device} cannot register {entries} entries of a scatterlist as the device of the first login\n"
            );
            inner.qp = Some(qp);
            return Err(EINVAL);
        };
        let receiver = Receiver::new(portal, conn.clone());
        let made = Channel::new(qp, receiver, sizes::channel(limits.cmds_max, region_pages));
        let (channel, mut sender) = match made {
            Ok(made) => made,
            Err(e) => {
                // The queue pair went with the attempt: this connection is over.
                iscsi::err!(
                    "{portal}: cannot allocate for {} tasks: error {}\n",
                    limits.cmds_max,
                    e.to_errno()
                );
                self.advance(&mut inner, ConnState::Terminating);
                self.advance(&mut inner, ConnState::Down);
                return Err(e);
            }
        };
        sender.allow_remote_invalidation(inner.remote_invalidation);
        inner.bound = Some(Bound { conn, channel });
        self.advance(&mut inner, ConnState::Bound);
        Ok(sender)
    }

    /// Makes buffers for `count` Data-Out PDUs. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the connection has ended.
    pub(crate) fn allocate_data_outs(&self, count: u32) -> Result {
        let inner = self.inner.lock();
        let bound = inner.bound.as_ref().ok_or(ENOTCONN)?;
        Sender::allocate_data_outs(&bound.channel, count)
    }

    /// How often the target broke a rule on this connection.
    pub(crate) fn violations(&self) -> u32 {
        let inner = self.inner.lock();
        inner
            .bound
            .as_ref()
            .map_or(0, |b| b.channel.ops().violations())
    }

    /// Ends the connection: on return nothing of the device is in use any more, no
    /// remote key is alive and every command is given back. Sleeps. May be called
    /// any number of times, from anywhere that may sleep, except with a lock of the
    /// session held.
    ///
    /// `sender` is the connection's, if the caller has it; else it is taken from
    /// where iSCSI keeps it.
    pub(crate) fn terminate(id: &EndpointId, sender: Option<Sender<Receiver>>) {
        let this = id.handler();
        let mut inner = this.inner.lock();
        let old = this.advance(&mut inner, ConnState::Terminating);
        if let Some(bound) = &inner.bound {
            // What is flushed from here on is no failure, and nothing is sent.
            bound.channel.close();
        }
        // Before it was connected there is nothing to disconnect, and iWARP would wait
        // for the handler, which waits for us.
        if matches!(old, Some(ConnState::Established | ConnState::Bound)) {
            if let Err(e) = id.disconnect() {
                // Not any more.
                this.debug(fmt!("disconnect: error {}", e.to_errno()));
            }
        }
        let sender = sender.or_else(|| {
            let bound = inner.bound.as_ref()?;
            bound.conn.with_tx(|_, tx| tx.take_sender()).flatten()
        });
        match sender {
            Some(sender) => {
                sender.shutdown();
                // With it goes the last reference to the channel.
                drop(inner.bound.take());
            }
            // Being bound at this very moment: iSCSI has no sender to give yet. Its
            // login fails on the closed channel, and whoever comes then finds it.
            None if inner.bound.is_some() => return,
            None => {}
        }
        drop(inner.qp.take());
        this.advance(&mut inner, ConnState::Down);
    }

    /// Goes to another state, and tells who waits. Returns the old one.
    fn advance(&self, inner: &mut Inner, to: ConnState) -> Option<ConnState> {
        match inner.machine.advance(to) {
            Ok(old) => {
                if old != inner.machine.state() {
                    self.debug(fmt!("{old} -> {to}"));
                    self.changed.notify_all();
                }
                Some(old)
            }
            Err(refused) => {
                iscsi::notice!("{}: {refused}\n", self.portal);
                None
            }
        }
    }

    /// The connection could not be made. iscsid will find out, and disconnect.
    ///
    /// Not for a bound connection: that one is lost.
    fn connect_failed(&self, inner: &mut Inner, what: fmt::Arguments<'_>, error: Error) {
        if inner.machine.state().is_ending() {
            return;
        }
        iscsi::err!("{}: {what}: error {}\n", self.portal, error.to_errno());
        inner.error = error;
        self.advance(inner, ConnState::Terminating);
    }

    fn debug(&self, what: fmt::Arguments<'_>) {
        if params::debug() {
            pr_info!("{}: {what}\n", self.portal);
        }
    }

    fn address_resolved(&self, event: &Event<'_, Self>) {
        let mut inner = self.inner.lock();
        if self
            .advance(&mut inner, ConnState::ResolvingRoute)
            .is_none()
        {
            return;
        }
        if let Err(e) = event.resolve_route(RESOLVE_TIMEOUT_MS) {
            self.connect_failed(&mut inner, fmt!("cannot resolve the route"), e);
        }
    }

    fn route_resolved(&self, event: &Event<'_, Self>) {
        let mut inner = self.inner.lock();
        if self.advance(&mut inner, ConnState::Connecting).is_none() {
            return;
        }
        let qp = match event.create_qp(&sizes::QP) {
            Ok(qp) => qp,
            Err(e) => {
                self.connect_failed(&mut inner, fmt!("cannot create the queue pair"), e);
                return;
            }
        };
        let max_sectors = params::MAX_SECTORS.get();
        let io = IoSize::new(qp.caps(), max_sectors);
        if io.max_sectors < max_sectors {
            iscsi::notice!(
                "{}: {} allows {} of {max_sectors} sectors in a command\n",
                self.portal,
                qp.device_name(),
                io.max_sectors
            );
        }
        let request = REQUEST.encode();
        let params = ConnectParams {
            private_data: &request,
            responder_resources: qp.caps().max_qp_rd_atom.min(u8::MAX.into()) as u8,
            initiator_depth: INITIATOR_DEPTH,
            retry_count: RETRY_COUNT,
            rnr_retry_count: RNR_RETRY_COUNT,
        };
        inner.io = Some(io);
        inner.qp = Some(qp);
        if let Err(e) = event.connect(&params) {
            self.connect_failed(&mut inner, fmt!("cannot send the connection request"), e);
        }
    }

    fn established(&self, event: &Event<'_, Self>) {
        let mut inner = self.inner.lock();
        let answer = cm_data::parse_response(event.private_data());
        inner.remote_invalidation = REQUEST.negotiate(answer);
        let kind = if inner.remote_invalidation {
            "remote"
        } else {
            "local"
        };
        self.debug(fmt!("connected, {kind} invalidation"));
        self.advance(&mut inner, ConnState::Established);
    }

    /// The connection could not be made, as an event says. Returns false if it had been
    /// made before.
    fn not_connected(&self, event: &Event<'_, Self>) -> bool {
        let mut inner = self.inner.lock();
        match (inner.machine.state(), event.kind()) {
            (ConnState::Established | ConnState::Bound, _) => return false,
            (_, EventKind::Rejected) => {
                let reason = event.reject_reason();
                self.connect_failed(
                    &mut inner,
                    fmt!("the target rejects the connection: {reason}"),
                    ECONNREFUSED,
                );
            }
            _ => {
                let error = match event.status() {
                    status if status < 0 => Error::from_errno(status),
                    _ => EHOSTUNREACH,
                };
                self.connect_failed(&mut inner, fmt!("{}", event.name()), error);
            }
        }
        true
    }

    /// The peer, or something between, has ended the connection. The transport class
    /// does the rest; until then nothing is posted that would not be flushed.
    fn lost(&self, id: &EndpointId, what: &CStr) {
        let inner = self.inner.lock();
        if inner.machine.state().is_ending() {
            return;
        }
        iscsi::notice!("{}: connection lost: {what}\n", self.portal);
        if let Some(bound) = &inner.bound {
            bound.channel.close();
        }
        let _ = id.disconnect();
        match &inner.bound {
            Some(bound) => {
                // What has arrived, such as why a login is refused, comes first.
                bound.channel.drain();
                let conn = bound.conn.clone();
                drop(inner);
                conn.fail(ConnError::CONN_FAILED);
            }
            None => {
                let mut inner = inner;
                inner.error = ECONNRESET;
                self.advance(&mut inner, ConnState::Terminating);
            }
        }
    }

    /// The device goes away: everything made on it has to go first.
    fn removed(&self, id: &EndpointId) {
        let conn = {
            let mut inner = self.inner.lock();
            inner.error = ENODEV;
            if !inner.machine.state().is_ending() {
                iscsi::notice!("{}: the RDMA device is being removed\n", self.portal);
            }
            inner.bound.as_ref().map(|b| b.conn.clone())
        };
        Self::terminate(id, None);
        if let Some(conn) = conn {
            conn.fail(ConnError::CONN_FAILED);
        }
    }
}

/// What we say in a connection request.
const REQUEST: cm_data::Request = cm_data::Request {
    remote_invalidation: true,
};

impl Handler for Endpoint {
    fn event(id: ArcBorrow<'_, Id<Self>>, event: &Event<'_, Self>) {
        let this = id.handler();
        let kind = event.kind();
        this.debug(fmt!("{}, status {}", event.name(), event.status()));
        match kind {
            EventKind::AddrResolved => this.address_resolved(event),
            EventKind::RouteResolved => this.route_resolved(event),
            EventKind::Established => this.established(event),
            // Some of these also come when a connection is long established: the
            // target's address has moved, or it has given up after all.
            EventKind::Rejected
            | EventKind::AddrError
            | EventKind::RouteError
            | EventKind::ConnectError
            | EventKind::Unreachable => {
                if !this.not_connected(event) {
                    this.lost(&id, event.name());
                }
            }
            EventKind::Disconnected | EventKind::AddrChange | EventKind::TimewaitExit => {
                this.lost(&id, event.name());
            }
            EventKind::DeviceRemoval => this.removed(&id),
            EventKind::Other(number) => {
                iscsi::notice!("{}: unexpected event {number}\n", this.portal);
            }
        }
    }
}
