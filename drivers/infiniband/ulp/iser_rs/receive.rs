// SPDX-License-Identifier: GPL-2.0

//! What arrives on a connection, and what goes wrong with it.
//!
//! Nothing that the target sends is trusted. The first rule that it breaks ends the
//! connection, with one message and one counter; libiscsi then recovers.

use crate::{opcode::Opcode, transport::Iser, violation::Violation, wire};
use iscsi::{Bhs, CommandRef, ConnError, ConnRef, Pdu, PduError, SocketAddr, Unanswered};
// The kernel's own are calls of C.
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use kernel::prelude::*;
use rdma::{Channel, ChannelOps, Failure, Next, Received};

/// The receiving side of a channel.
pub(crate) struct Receiver {
    portal: SocketAddr,
    conn: ConnRef<Iser>,
    /// The connection has been failed: say so once.
    failed: AtomicBool,
    /// The task of the Logout Request, or the reserved tag.
    logout: AtomicU32,
    /// The target has answered it.
    logged_out: AtomicBool,
}

/// A PDU that nobody answers, until its send has completed.
pub(crate) struct Token(pub(crate) Unanswered);

/// What a target did wrong.
enum Breach {
    Pdu(Violation),
    Command(rdma::Violation),
    Iscsi(ConnError),
}

impl From<PduError> for Breach {
    fn from(error: PduError) -> Self {
        match error {
            PduError::Late => Self::Pdu(Violation::LateResponse),
            PduError::Conn(error) => Self::Iscsi(error),
        }
    }
}

impl Receiver {
    pub(crate) fn new(portal: SocketAddr, conn: ConnRef<Iser>) -> Self {
        Self {
            portal,
            conn,
            failed: AtomicBool::new(false),
            logout: AtomicU32::new(wire::RESERVED_TAG),
            logged_out: AtomicBool::new(false),
        }
    }

    /// Takes note that the connection has failed. Returns true once: whoever is told so tells the
    /// log.
    pub(crate) fn fails_first(&self) -> bool {
        !self.failed.swap(true, Relaxed)
    }

    /// Takes note that a Logout Request is about to be sent.
    pub(crate) fn logs_out(&self, tag: u32) {
        self.logout.store(tag, Relaxed);
    }

    /// Whether the target has answered our Logout Request.
    pub(crate) fn logged_out(&self) -> bool {
        self.logged_out.load(Relaxed)
    }

    #[inline(always)]
    fn process(&self, message: &Received<'_, Self>) -> Result<Next, Breach> {
        let pdu = wire::parse(message.data).map_err(Breach::Pdu)?;
        // Aligned in every buffer: 28 bytes of iSER header come before.
        let bhs = match Bhs::from_bytes(pdu.bhs) {
            Some(bhs) if pdu.opcode == Opcode::ScsiResponse => bhs,
            _ => return self.process_other(message),
        };
        let pdu = Pdu::new(bhs, pdu.data);
        let incarnation = self.respond(message, &pdu)?;
        self.conn.complete_response(pdu, incarnation)?;
        Ok(Next::Repost)
    }

    /// Every PDU but a SCSI Response. Parses it again: to be handed over, it would have to be in
    /// memory.
    #[inline(never)]
    fn process_other(&self, message: &Received<'_, Self>) -> Result<Next, Breach> {
        let pdu = wire::parse(message.data).map_err(Breach::Pdu)?;
        let bhs = Bhs::new(pdu.bhs);
        let to_iscsi = Pdu::new(&bhs, pdu.data);
        let incarnation = self.respond(message, &to_iscsi)?;
        if pdu.opcode == Opcode::LogoutResponse && pdu.itt == self.logout.load(Relaxed) {
            // Before user space learns of it, and disconnects. Of a response that libiscsi
            // refuses, the connection ends anyway.
            self.logged_out.store(true, Relaxed);
        }
        self.conn.complete(to_iscsi, incarnation)?;
        // Each Login Request posts a large buffer for its response. Everything else
        // gives back what it has taken.
        if message.is_large() && pdu.opcode == Opcode::LoginResponse {
            return Ok(Next::Keep);
        }
        Ok(Next::Repost)
    }

    /// Accepts the response that a PDU is, if it ends a task. Returns which incarnation of it.
    #[inline(always)]
    fn respond(&self, message: &Received<'_, Self>, pdu: &Pdu<'_>) -> Result<Option<u32>, Breach> {
        if let Some(tag) = pdu.ends() {
            let incarnation = message
                .respond(iscsi::itt_index(tag), tag)
                .map_err(Breach::Command)?;
            Ok(Some(incarnation))
        } else if let Some(key) = message.invalidated() {
            Err(Breach::Command(rdma::Violation::InvalidationWithoutKey {
                key,
            }))
        } else {
            Ok(None)
        }
    }

    #[cold]
    fn breach(&self, breach: Breach) {
        // Of a good PDU libiscsi says that the connection has failed when it cannot pass it on.
        let ours = matches!(breach, Breach::Iscsi(ConnError::CONN_FAILED));
        if !ours {
            self.conn.count_violation();
        }
        if !self.fails_first() {
            return;
        }
        let portal = self.portal;
        let error = match breach {
            Breach::Pdu(v) => {
                iscsi::err!(
                    "{portal}: protocol violation by the target ({}): {v}\n",
                    v.name()
                );
                match v {
                    Violation::LateResponse => ConnError::BAD_ITT,
                    _ => ConnError::PROTO,
                }
            }
            Breach::Command(v) => {
                iscsi::err!(
                    "{portal}: protocol violation by the target ({}): {v}\n",
                    v.name()
                );
                match v {
                    rdma::Violation::UnknownCommand => ConnError::BAD_ITT,
                    _ => ConnError::PROTO,
                }
            }
            Breach::Iscsi(e) if ours => {
                iscsi::err!(
                    "{portal}: a PDU of the target could not be passed to iscsid: is it running?\n"
                );
                e
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
    const HEADER_LEN: usize = wire::HEADERS_LEN;

    #[inline]
    fn received(channel: &Channel<Self>, message: &Received<'_, Self>) -> Next {
        let this = channel.ops();
        this.process(message).unwrap_or_else(|breach| {
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
        if !this.fails_first() {
            return;
        }
        // After a logout the target hangs up, and an iWARP device ends what is posted before it
        // says so.
        if !(this.logged_out() && matches!(failure, Failure::Flushed)) {
            iscsi::err!("{}: {failure}\n", this.portal);
        }
        this.conn.fail(ConnError::CONN_FAILED);
    }
}
