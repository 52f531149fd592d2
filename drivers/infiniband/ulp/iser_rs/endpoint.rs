// SPDX-License-Identifier: GPL-2.0

//! A connection to a target, from address resolution to its end.
//!
//! Its states and their order are in [`crate::state`]. The end may come from user
//! space, from the transport class, from the connection manager or from the device,
//! in any order and at once: [`Endpoint::terminate`] is done once, by whoever comes
//! first, and the others wait for it.

use crate::{
    params,
    receive::Receiver,
    sizes::{self, IoSize},
    state::{ConnState, Machine, Poll},
    transport::Iser,
};
use iscsi::{ConnRef, SessionLimits, SocketAddr};
use kernel::{
    device::Device,
    fmt, new_condvar, new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        lock::{mutex::MutexBackend, Guard},
        Arc, CondVar, CondVarTimeoutResult, Mutex,
    },
    time::msecs_to_jiffies,
};
use rdma::{cm::Id, qp::Qp, Channel, Sender};

/// How long resolving an address or a route may take.
pub(crate) const RESOLVE_TIMEOUT_MS: u32 = 1000;

/// How long the target may take to hang up after a logout.
const FAREWELL_MS: u32 = 250;

/// A connection identifier with its endpoint.
pub(crate) type EndpointId = Id<Endpoint>;

/// A connection to a target.
#[pin_data]
pub(crate) struct Endpoint {
    pub(crate) portal: SocketAddr,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
    /// Told of every change of the state, and when `busy` ends.
    #[pin]
    pub(crate) changed: CondVar,
}

pub(crate) struct Inner {
    pub(crate) machine: Machine,
    /// Until bound.
    pub(crate) qp: Option<Qp<Endpoint>>,
    /// From bound on.
    pub(crate) bound: Option<Bound>,
    pub(crate) remote_invalidation: bool,
    /// Somebody binds or ends the connection, without the lock: a queue pair is destroyed, and
    /// iWARP waits then for the handlers of events, which want the lock. Who wants to do the same
    /// waits.
    busy: bool,
    /// After a logout: the target has its turn to hang up.
    pub(crate) farewell: Farewell,
    pub(crate) io: Option<IoSize>,
    /// Why the connection could not be made.
    pub(crate) error: Error,
}

/// How far the end of a logged out connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Nobody waits for the target.
    None,
    /// Somebody does.
    Waiting,
    /// The target has hung up.
    Gone,
}

pub(crate) struct Bound {
    pub(crate) conn: ConnRef<Iser>,
    pub(crate) channel: Arc<Channel<Receiver>>,
}

/// What a SCSI host needs to know.
pub(crate) struct HostLimits {
    pub(crate) io: IoSize,
    pub(crate) max_tasks: u32,
    pub(crate) virt_boundary: usize,
    pub(crate) max_segment_size: u32,
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
                busy: false,
                farewell: Farewell::None,
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
            max_segment_size: IoSize::max_segment_size(qp.caps()),
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
        let remote_invalidation = inner.remote_invalidation;
        inner.busy = true;
        drop(inner);

        let receiver = Receiver::new(portal, conn.clone());
        let made = Channel::new(qp, receiver, sizes::channel(limits.cmds_max, region_pages));

        let mut inner = self.inner.lock();
        let established = inner.machine.state() == ConnState::Established;
        let result = match made {
            Ok((channel, mut sender)) if established => {
                sender.allow_remote_invalidation(remote_invalidation);
                inner.bound = Some(Bound { conn, channel });
                self.advance(&mut inner, ConnState::Bound);
                Ok(sender)
            }
            Ok((channel, sender)) => {
                drop(inner);
                sender.shutdown();
                drop(channel);
                inner = self.inner.lock();
                iscsi::err!("{portal}: the connection has ended while it was bound\n");
                Err(ENOTCONN)
            }
            Err(e) => {
                // The queue pair went with the attempt: this connection is over.
                iscsi::err!(
                    "{portal}: cannot allocate for {} tasks: error {}\n",
                    limits.cmds_max,
                    e.to_errno()
                );
                self.advance(&mut inner, ConnState::Terminating);
                self.advance(&mut inner, ConnState::Down);
                Err(e)
            }
        };
        inner.busy = false;
        self.changed.notify_all();
        result
    }

    /// Whether what [`Self::bind`] has made is still in use. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the connection has ended.
    pub(crate) fn still_bound(&self) -> Result {
        let inner = self.inner.lock();
        let open = |bound: &Bound| !bound.channel.is_closing();
        if inner.machine.state() == ConnState::Bound && inner.bound.as_ref().is_some_and(open) {
            Ok(())
        } else {
            Err(ENOTCONN)
        }
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

    /// Ends the connection: on return nothing of the device is in use any more, no
    /// remote key is alive and every command is given back. Sleeps. May be called
    /// any number of times, from anywhere that may sleep, except with a lock of the
    /// session held.
    pub(crate) fn terminate(id: &EndpointId) {
        let this = id.handler();
        let mut inner = this.inner.lock();
        this.await_farewell(&mut inner);
        let old = this.advance(&mut inner, ConnState::Terminating);
        if let Some(bound) = &inner.bound {
            // What is flushed from here on is no failure, and nothing is sent.
            bound.channel.close();
        }
        // Before it was connected there is nothing to disconnect, and iWARP would wait
        // for the handler, which waits for us.
        if old.is_some_and(ConnState::is_connected) {
            if let Err(e) = id.disconnect() {
                // Not any more.
                this.debug(fmt!("disconnect: error {}", e.to_errno()));
            }
        }
        while inner.busy {
            this.changed.wait(&mut inner);
        }
        let sender = inner
            .bound
            .as_ref()
            .and_then(|bound| bound.conn.with_tx(|_, tx| tx.take_sender()).flatten());
        if sender.is_none() && inner.bound.is_some() {
            // Being bound at this very moment: iSCSI has no sender to give yet. It asks
            // when it has one, and stops what it has bound.
            return;
        }
        let (bound, qp) = (inner.bound.take(), inner.qp.take());
        inner.busy = true;
        drop(inner);

        if let Some(sender) = sender {
            sender.shutdown();
        }
        // With it goes the last reference to the channel.
        drop(bound);
        drop(qp);

        let mut inner = this.inner.lock();
        this.advance(&mut inner, ConnState::Down);
        inner.busy = false;
        this.changed.notify_all();
    }

    /// After a logout, gives the target the time to hang up.
    ///
    /// It has sent the Logout Response but may not know yet that we have it: an
    /// emulated device acknowledges behind the completion. A target that is hung up on
    /// at this moment takes its response for lost, and LIO then loses track of it.
    fn await_farewell(&self, inner: &mut Guard<'_, Inner, MutexBackend>) {
        let logged_out = |bound: &Bound| bound.channel.ops().logged_out();
        if inner.machine.state() != ConnState::Bound
            || inner.farewell != Farewell::None
            || !inner.bound.as_ref().is_some_and(logged_out)
        {
            return;
        }
        inner.farewell = Farewell::Waiting;
        let mut left = msecs_to_jiffies(FAREWELL_MS);
        while left > 0 && inner.farewell == Farewell::Waiting {
            left = match self.changed.wait_interruptible_timeout(inner, left) {
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                _ => 0,
            };
        }
    }

    /// Goes to another state, and tells who waits. Returns the old one.
    pub(crate) fn advance(&self, inner: &mut Inner, to: ConnState) -> Option<ConnState> {
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

    pub(crate) fn debug(&self, what: fmt::Arguments<'_>) {
        if params::debug() {
            pr_info!("{}: {what}\n", self.portal);
        }
    }
}
