// SPDX-License-Identifier: GPL-2.0

//! How connections come and go, over librdmacm.

#![allow(unsafe_code)]

use crate::verbs::{checked, status, Link};
use rdma_mummy_sys::*;
use std::{
    mem::zeroed,
    net::SocketAddrV4,
    ptr::{null_mut, NonNull},
    sync::Arc,
};

/// What the connection manager reports.
pub enum Event {
    /// Somebody wants to connect.
    Request(Incoming),
    /// A connection was made, or ended; the number names it.
    Established(usize),
    Gone(usize),
    Other,
}

/// Where connections come in.
pub struct Listener {
    channel: NonNull<rdma_event_channel>,
}

impl Listener {
    pub fn new(address: SocketAddrV4) -> Result<Self, String> {
        // SAFETY: Plain calls with pointers to locals that they do not keep. The id lives
        // as long as the process.
        unsafe {
            let channel = checked(rdma_create_event_channel(), "rdma_create_event_channel")?;
            let mut id = null_mut();
            status(
                rdma_create_id(
                    channel.as_ptr(),
                    &mut id,
                    null_mut(),
                    rdma_port_space::RDMA_PS_TCP,
                ),
                "rdma_create_id",
            )?;
            let mut name: libc::sockaddr_in = zeroed();
            name.sin_family = libc::AF_INET as u16;
            name.sin_port = address.port().to_be();
            name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            status(rdma_bind_addr(id, (&raw mut name).cast()), "rdma_bind_addr")?;
            status(rdma_listen(id, 8), "rdma_listen")?;
            Ok(Self { channel })
        }
    }

    /// Waits for the next event.
    pub fn next(&self) -> Result<Event, String> {
        let mut event: *mut rdma_cm_event = null_mut();
        // SAFETY: The channel is never destroyed; the event is ours until acknowledged, and
        // nothing of it is used after that.
        unsafe {
            status(
                rdma_get_cm_event(self.channel.as_ptr(), &mut event),
                "rdma_get_cm_event",
            )?;
            let id = (*event).id;
            let found = match (*event).event {
                rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST => {
                    Event::Request(Incoming { id: Some(Id(id)) })
                }
                rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED => Event::Established(id as usize),
                rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED
                | rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_ERROR
                | rdma_cm_event_type::RDMA_CM_EVENT_UNREACHABLE
                | rdma_cm_event_type::RDMA_CM_EVENT_REJECTED => Event::Gone(id as usize),
                _ => Event::Other,
            };
            rdma_ack_cm_event(event);
            Ok(found)
        }
    }
}

/// An identifier of the connection manager.
pub(crate) struct Id(pub(crate) *mut rdma_cm_id);

// SAFETY: librdmacm may be called from any thread.
unsafe impl Send for Id {}
// SAFETY: As above; an id is destroyed by its only owner.
unsafe impl Sync for Id {}

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: Nobody else has it. Its queue pair, if any, was destroyed before.
        unsafe { rdma_destroy_id(self.0) };
    }
}

/// A connection request.
pub struct Incoming {
    id: Option<Id>,
}

impl Incoming {
    /// Rejects it with some private data.
    pub fn reject(self, private: &[u8]) {
        if let Some(id) = &self.id {
            // SAFETY: The id is ours; the data are copied.
            unsafe { rdma_reject(id.0, private.as_ptr().cast(), private.len() as u8) };
        }
    }

    /// Never answers it.
    pub fn ignore(mut self) {
        // Destroying it would reject it.
        std::mem::forget(self.id.take());
    }

    /// Accepts it.
    pub fn accept(mut self, private: &[u8]) -> Result<Link, String> {
        let id = self.id.take().ok_or("no identifier")?;
        let link = Link::new(id)?;
        // SAFETY: All zeroes are a valid value.
        let mut param: rdma_conn_param = unsafe { zeroed() };
        param.private_data = private.as_ptr().cast();
        param.private_data_len = private.len() as u8;
        param.responder_resources = 16;
        param.initiator_depth = 16;
        param.retry_count = 7;
        param.rnr_retry_count = 7;
        // SAFETY: The id has a queue pair; the parameters are copied.
        status(unsafe { rdma_accept(link.id(), &mut param) }, "rdma_accept")?;
        Ok(link)
    }
}

/// Ends a connection from another thread.
#[derive(Clone)]
pub struct Hangup(Arc<Id>);

impl Hangup {
    pub(crate) fn new(id: Arc<Id>) -> Self {
        Self(id)
    }

    pub fn now(&self) {
        // SAFETY: The id is alive as long as somebody holds it.
        unsafe { rdma_disconnect(self.0 .0) };
    }
}
