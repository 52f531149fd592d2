// SPDX-License-Identifier: GPL-2.0

//! A connection that iSCSI is bound to: how its PDUs are sent.

use crate::{
    endpoint::{Endpoint, EndpointId},
    receive::{Receiver, Token},
    sizes,
    wire::{self, BHS_LEN, ISER_HEADER_LEN},
};
use iscsi::{Command, Direction, MgmtTask, Negotiated};
use kernel::{prelude::*, sync::Arc};
use rdma::{Access, Prepared, SendError, Sender};

/// A bound connection, as all threads see it.
pub(crate) struct Connection {
    endpoint: Arc<EndpointId>,
}

/// What of a bound connection belongs to the session's `frwd_lock`.
pub(crate) struct Tx {
    sender: Option<Sender<Receiver>>,
    /// The last Login Request has asked for the full feature phase.
    full_feature: bool,
}

impl Drop for Tx {
    fn drop(&mut self) {
        // `stop` has taken it long ago, unless binding failed behind us.
        if let Some(sender) = self.sender.take() {
            sender.shutdown();
        }
    }
}

impl Tx {
    pub(crate) fn new(sender: Sender<Receiver>) -> Self {
        Self {
            sender: Some(sender),
            full_feature: false,
        }
    }

    /// Stops sending for good.
    pub(crate) fn take_sender(&mut self) -> Option<Sender<Receiver>> {
        self.sender.take()
    }

    fn sender(&mut self) -> Result<&mut Sender<Receiver>> {
        self.sender.as_mut().ok_or(ENOTCONN)
    }

    /// Starts to kill the key of task `index`.
    pub(crate) fn invalidate(&mut self, index: u32) -> Result {
        self.sender()?.abort(index)
    }
}

impl Connection {
    pub(crate) fn new(endpoint: Arc<EndpointId>) -> Self {
        Self { endpoint }
    }

    /// The connection below.
    pub(crate) fn endpoint(&self) -> &EndpointId {
        &self.endpoint
    }

    fn portal(&self) -> iscsi::SocketAddr {
        self.endpoint.handler().portal()
    }

    /// Ends the connection. Sleeps.
    pub(crate) fn terminate(&self) {
        Endpoint::terminate(&self.endpoint);
    }

    /// Gets ready for commands. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a command could need more Data-Out PDUs than fit.
    pub(crate) fn start(&self, params: &Negotiated) -> Result {
        if params.discovery || params.initial_r2t {
            return Ok(());
        }
        let segment = params.max_xmit_dlength;
        let immediate = if params.immediate_data {
            params.first_burst.min(segment)
        } else {
            0
        };
        let count = sizes::data_outs(params.first_burst, immediate, segment);
        if count == 0 {
            return Ok(());
        }
        if count > rdma::send::MAX_DATA_OUTS {
            iscsi::err!(
                "{}: FirstBurstLength {} in segments of {segment} bytes takes {count} Data-Out PDUs, more than {}; set InitialR2T=Yes or a smaller FirstBurstLength\n",
                self.portal(),
                params.first_burst,
                rdma::send::MAX_DATA_OUTS
            );
            return Err(EINVAL);
        }
        self.endpoint
            .handler()
            .allocate_data_outs(2 * count)
            .inspect_err(|e| {
                iscsi::err!(
                    "{}: cannot allocate for {count} Data-Out PDUs: error {}\n",
                    self.portal(),
                    e.to_errno()
                );
            })
    }

    /// Sends a SCSI command. `frwd_lock` is held.
    #[inline(always)]
    pub(crate) fn send_command(&self, tx: &mut Tx, mut command: Command<'_>) -> Result {
        let sender = tx.sender()?;
        let (index, tag) = (command.itt_index(), wire::initiator_task_tag(command.bhs()));
        match command.direction() {
            Direction::Read => {
                let mut prepared = sender.prepare(index, tag, command.incarnation())?;
                let owner = command.reference().ok_or(EINVAL)?;
                prepared.map(owner, rdma::Direction::FromDevice)?;
                let buffer = remote(prepared.register(Access::RemoteWrite)?);
                fill(prepared.header(), command.bhs(), None, Some(buffer))?;
                self.post(prepared, || command.fail_connection())
            }
            // Data that all go with the command need no region if they fit a send.
            Direction::Write
                if command.imm_count() == command.data_len() && command.segments() == 1 =>
            {
                let mut prepared = sender.prepare(index, tag, command.incarnation())?;
                let owner = command.reference().ok_or(EINVAL)?;
                prepared.map(owner, rdma::Direction::ToDevice)?;
                prepared.short_payload(command.imm_count())?;
                fill(prepared.header(), command.bhs(), None, None)?;
                self.post(prepared, || command.fail_connection())
            }
            Direction::Write => self.send_write(sender, index, tag, command.elsewhere()),
            Direction::None => self.send_no_data(sender, index, tag, command.elsewhere()),
        }
    }

    /// Says why a command was not sent, unless it is a matter of time, or of a connection that has
    /// ended. SCSI tries again, without a limit.
    #[cold]
    pub(crate) fn not_sent(&self, error: Error) {
        if ![EAGAIN, EBUSY, ENOTCONN, ESHUTDOWN].contains(&error) {
            iscsi::err!(
                "{}: cannot send a SCSI command, it is tried again: error {}\n",
                self.portal(),
                error.to_errno()
            );
        }
    }

    /// Sends a command without data.
    #[inline(never)]
    fn send_no_data(
        &self,
        sender: &mut Sender<Receiver>,
        index: u32,
        tag: u32,
        command: Command<'_>,
    ) -> Result {
        let mut prepared = sender.prepare(index, tag, command.incarnation())?;
        fill(prepared.header(), command.bhs(), None, None)?;
        self.post(prepared, || command.fail_connection())
    }

    /// Sends a write, however its data go.
    #[inline(never)]
    fn send_write(
        &self,
        sender: &mut Sender<Receiver>,
        index: u32,
        tag: u32,
        mut command: Command<'_>,
    ) -> Result {
        let mut prepared = sender.prepare(index, tag, command.incarnation())?;
        let owner = command.reference().ok_or(EINVAL)?;
        prepared.map(owner, rdma::Direction::ToDevice)?;
        let immediate = command.imm_count();
        if immediate == command.data_len() && prepared.payload(immediate).is_ok() {
            fill(prepared.header(), command.bhs(), None, None)?;
        } else {
            expose(&mut prepared, &mut command)?;
        }
        self.post(prepared, || command.fail_connection())
    }

    /// Sends a PDU without a SCSI command, or says in the log why not. `frwd_lock` is
    /// held.
    pub(crate) fn send_control(&self, tx: &mut Tx, task: &mut MgmtTask<'_>) -> Result {
        self.try_send_control(tx, task).inspect_err(|e| {
            // Why the connection has ended was said when it did.
            if [ENOTCONN, ESHUTDOWN].contains(e) {
                return;
            }
            let [opcode, ..] = *task.bhs();
            iscsi::err!(
                "{}: cannot send a PDU with opcode {opcode:#04x}: error {}\n",
                self.portal(),
                e.to_errno()
            );
        })
    }

    fn try_send_control(&self, tx: &mut Tx, task: &mut MgmtTask<'_>) -> Result {
        let tag = wire::initiator_task_tag(task.bhs());
        let final_login = wire::is_final_login_request(task.bhs());
        // Until the full feature phase, and in a discovery session for ever, each
        // response may be long.
        let large = task.is_discovery() || (task.is_login() && !tx.full_feature);
        let sender = tx.sender()?;
        if large && task.has_response() {
            // Login requests alternate with their responses. In a discovery session a
            // ping or a logout may be on its way beside a text request.
            sender.arm_large_receives(if task.is_login() && !task.is_discovery() {
                1
            } else {
                2
            })?;
        }
        if final_login && !task.is_discovery() {
            // Everything that can arrive from here on has its buffer (RFC 7145,
            // section 5.1.3): behind the one for the Login Response.
            sender.post_receives()?;
        }
        if wire::is_logout_request(task.bhs()) {
            sender.channel().ops().logs_out(tag);
        }
        let mut prepared = sender.prepare(task.itt_index(), tag, task.incarnation())?;
        // A ping tells whether the target still takes anything; there are few of these.
        prepared.urgent();
        fill(prepared.header(), task.bhs(), None, None)?;
        let data = task.data();
        if !data.is_empty() {
            if !task.is_login() {
                iscsi::err!(
                    "{}: only login and text requests carry data\n",
                    self.portal()
                );
                return Err(EINVAL);
            }
            prepared.control_payload(data)?;
        }
        if let Some(unanswered) = task.unanswered() {
            prepared.token(Token(unanswered))?;
        }
        self.post(prepared, || task.fail_connection())?;
        tx.full_feature |= final_login && !task.is_discovery();
        Ok(())
    }

    /// Posts a PDU. `fail` fails the connection, in which this one counts as sent: what of it was
    /// posted is owned until the end.
    #[inline(always)]
    fn post(&self, prepared: Prepared<'_, Receiver>, fail: impl FnOnce()) -> Result {
        match prepared.post() {
            Ok(()) => Ok(()),
            Err(SendError::NotSent(e)) => Err(e),
            Err(SendError::Partly(e)) => {
                self.posted_in_part(e);
                fail();
                Ok(())
            }
        }
    }

    #[cold]
    fn posted_in_part(&self, error: Error) {
        iscsi::err!(
            "{}: a command was posted only in part: error {}\n",
            self.portal(),
            error.to_errno()
        );
    }
}

/// Writes an iSER header and the BHS behind it.
#[inline(always)]
fn fill(
    header: &mut [u8],
    bhs: &[u8; BHS_LEN],
    write: Option<wire::RemoteBuffer>,
    read: Option<wire::RemoteBuffer>,
) -> Result {
    let (iser, rest) = header
        .split_first_chunk_mut::<ISER_HEADER_LEN>()
        .ok_or(EINVAL)?;
    let (to, _) = rest.split_first_chunk_mut::<BHS_LEN>().ok_or(EINVAL)?;
    wire::encode_header(iser, write, read);
    *to = *bhs;
    Ok(())
}

/// A region as the iSER header names it.
#[inline(always)]
fn remote(buffer: rdma::RemoteBuffer) -> wire::RemoteBuffer {
    wire::RemoteBuffer {
        rkey: buffer.rkey,
        addr: buffer.addr,
    }
}

/// Registers the mapped memory of a write, so that the target may read what does not go with
/// the command or behind it in Data-Out PDUs.
fn expose(prepared: &mut Prepared<'_, Receiver>, command: &mut Command<'_>) -> Result {
    let immediate = command.imm_count();
    let unsolicited = immediate
        .checked_add(command.unsolicited_len())
        .ok_or(EINVAL)?;
    let solicited = unsolicited < command.data_len();
    let mut buffer = remote(prepared.register(if solicited {
        Access::RemoteRead
    } else {
        Access::Local
    })?);
    if immediate > 0 {
        prepared.payload(immediate)?;
    }
    // What is advertised begins behind the unsolicited data.
    buffer.addr = buffer.addr.wrapping_add(unsolicited.into());
    let write = solicited.then_some(buffer);
    fill(prepared.header(), command.bhs(), write, None)?;
    while let Some(data_out) = command.next_data_out() {
        let header = prepared.data_out(data_out.offset, data_out.len)?;
        fill(header, &data_out.bhs, None, None)?;
    }
    Ok(())
}
