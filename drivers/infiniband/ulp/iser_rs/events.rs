// SPDX-License-Identifier: GPL-2.0

//! What the connection manager tells an endpoint.

use crate::{
    cm_data,
    endpoint::{Bound, Endpoint, EndpointId, Farewell, Inner, RESOLVE_TIMEOUT_MS},
    params,
    sizes::{self, IoSize},
    state::ConnState,
};
use iscsi::ConnError;
use kernel::{fmt, prelude::*, sync::ArcBorrow};
use rdma::{
    cm::{ConnectParams, Event, EventKind, Handler, Id},
    qp::Qp,
};

/// RDMA Reads that we have outstanding: none, but some targets want one.
const INITIATOR_DEPTH: u8 = 1;
/// Transport retries before a send fails: the most there are.
const RETRY_COUNT: u8 = 7;
/// Retries when the target has no receive posted. The next larger value is for ever.
const RNR_RETRY_COUNT: u8 = 6;

impl Endpoint {
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
        let request = request(&qp).encode();
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
        inner.remote_invalidation = inner
            .qp
            .as_ref()
            .is_some_and(|qp| request(qp).negotiate(answer));
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
        let mut inner = self.inner.lock();
        if inner.machine.state().is_ending() {
            return;
        }
        // Nobody has to wait for it any more.
        if core::mem::replace(&mut inner.farewell, Farewell::Gone) != Farewell::None {
            // As expected.
            self.changed.notify_all();
            return;
        }
        let said = |bound: &Bound| {
            let receiver = bound.channel.ops();
            !receiver.fails_first() || receiver.logged_out()
        };
        if !inner.bound.as_ref().is_some_and(said) {
            iscsi::notice!("{}: connection lost: {what}\n", self.portal);
        }
        if let Some(bound) = &inner.bound {
            bound.channel.close();
        }
        // As in `terminate`: before it is connected, iWARP would wait for its reply to be handled,
        // and that for us.
        if inner.machine.state().is_connected() {
            let _ = id.disconnect();
        }
        match &inner.bound {
            Some(bound) => {
                // What has arrived, such as why a login is refused, comes first.
                bound.channel.drain();
                let conn = bound.conn.clone();
                drop(inner);
                conn.fail(ConnError::CONN_FAILED);
            }
            None => {
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
            // No event can tell us while this one is handled.
            inner.farewell = Farewell::Gone;
            if let Some(bound) = &inner.bound {
                // The queue pair may fail with it, which is nothing new.
                bound.channel.ops().fails_first();
            }
            if !inner.machine.state().is_ending() {
                iscsi::notice!("{}: the RDMA device is being removed\n", self.portal);
            }
            inner.bound.as_ref().map(|b| b.conn.clone())
        };
        Self::terminate(id);
        if let Some(conn) = conn {
            conn.fail(ConnError::CONN_FAILED);
        }
    }
}

/// What we say in a connection request. A key counts as dead when the target has invalidated it, so
/// the device has to look at what it invalidates.
fn request(qp: &Qp<Endpoint>) -> cm_data::Request {
    cm_data::Request {
        remote_invalidation: qp.caps().checks_invalidation,
    }
}

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
