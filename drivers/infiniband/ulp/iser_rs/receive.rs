// SPDX-License-Identifier: GPL-2.0

//! What arrives on a connection, and what goes wrong with it.
//!
//! Nothing that the target sends is trusted. The first rule that it breaks ends the
//! connection, with one message and one counter; libiscsi then recovers.

use crate::{transport::Iser, violation::Violation, wire};
use iscsi::{Bhs, CommandRef, ConnError, ConnRef, SocketAddr, Unanswered};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, AtomicFlag, Relaxed},
};
use rdma::{Channel, ChannelOps, Failure, Next, Received};

/// The bits of an Initiator Task Tag that number the task; libiscsi uses the others
/// to tell one login of a session from the next.
const ITT_INDEX: u32 = 0x1fff;

/// The receiving side of a channel.
pub(crate) struct Receiver {
    portal: SocketAddr,
    conn: ConnRef<Iser>,
    /// The connection has been failed: say so once.
    failed: AtomicFlag,
    violations: Atomic<u32>,
    /// The target has answered a Logout Request.
    logged_out: AtomicFlag,
}

/// A PDU that nobody answers, until its send has completed.
pub(crate) struct Token(pub(crate) Unanswered);

/// What a target did wrong.
enum Breach {
    Pdu(Violation),
    Command(rdma::Violation),
    Iscsi(ConnError),
}

impl Receiver {
    pub(crate) fn new(portal: SocketAddr, conn: ConnRef<Iser>) -> Self {
        Self {
            portal,
            conn,
            failed: AtomicFlag::new(false),
            violations: Atomic::new(0),
            logged_out: AtomicFlag::new(false),
        }
    }

    /// How often the target broke a rule.
    pub(crate) fn violations(&self) -> u32 {
        self.violations.load(Relaxed)
    }

    /// Whether the target has answered a Logout Request.
    pub(crate) fn logged_out(&self) -> bool {
        self.logged_out.load(Relaxed)
    }

    #[inline]
    fn process(&self, channel: &Channel<Self>, message: &Received<'_>) -> Result<Next, Breach> {
        let pdu = wire::parse(message.data).map_err(Breach::Pdu)?;
        if !pdu.itt_is_reserved() {
            let itt = pdu.itt_ne();
            channel
                .respond(message, itt & ITT_INDEX, itt)
                .map_err(Breach::Command)?;
        } else if let Some(key) = message.invalidated() {
            return Err(Breach::Command(rdma::Violation::InvalidationWithoutKey {
                key,
            }));
        }
        if wire::is_logout_response(pdu.bhs) {
            // Before user space learns of it, and disconnects.
            self.logged_out.store(true, Relaxed);
        }
        // Aligned in every buffer: 28 bytes of iSER header come before.
        let done = match Bhs::from_bytes(pdu.bhs) {
            Some(bhs) => self.conn.complete_pdu(bhs, pdu.data),
            None => self.conn.complete_pdu(&Bhs::new(pdu.bhs), pdu.data),
        };
        done.map_err(Breach::Iscsi)?;
        // Each Login Request posts a large buffer for its response. Everything else
        // gives back what it has taken.
        if message.large && wire::is_login_response(pdu.bhs) {
            return Ok(Next::Keep);
        }
        Ok(Next::Repost)
    }

    #[cold]
    fn breach(&self, breach: Breach) {
        self.violations.add(1, Relaxed);
        if self.failed.xchg(true, Relaxed) {
            return;
        }
        let portal = self.portal;
        let error = match breach {
            Breach::Pdu(v) => {
                iscsi::err!(
                    "{portal}: protocol violation by the target ({}): {v}\n",
                    v.name()
                );
                ConnError::PROTO
            }
            Breach::Command(v) => {
                iscsi::err!(
                    "{portal}: protocol violation by the target ({}): {v}\n",
                    v.name()
                );
                ConnError::PROTO
            }
            Breach::Iscsi(e) => {
                iscsi::err!("{portal}: PDU of the target refused: {e}\n");
                e
            }
        };
        self.conn.fail(error);
    }
}

impl ChannelOps for Receiver {
    type Owner = CommandRef;
    type Token = Token;
    type Cm = crate::endpoint::Endpoint;

    #[inline]
    fn received(channel: &Channel<Self>, message: &Received<'_>) -> Next {
        let this = channel.ops();
        this.process(channel, message).unwrap_or_else(|breach| {
            this.breach(breach);
            Next::Keep
        })
    }

    fn sent(_channel: &Channel<Self>, token: Token, ok: bool) {
        if ok {
            token.0.sent();
        }
    }

    #[cold]
    fn failed(channel: &Channel<Self>, failure: Failure) {
        let this = channel.ops();
        if !this.failed.xchg(true, Relaxed) {
            iscsi::err!("{}: {failure}\n", this.portal);
            this.conn.fail(ConnError::CONN_FAILED);
        }
    }
}
