// SPDX-License-Identifier: GPL-2.0

//! The queue pair of a connection, over libibverbs.
//!
//! Unsafe code is here and in [`crate::cm`]. Everything here waits for its completion, so that a
//! caller can tell what the device said of one operation.

#![allow(unsafe_code)]

use crate::{
    cm::{Hangup, Id},
    patience::slow,
};
use rdma_mummy_sys::*;
use std::{
    alloc::{alloc_zeroed, dealloc, Layout},
    collections::VecDeque,
    ffi::{c_int, c_void},
    io::Error,
    mem::zeroed,
    ptr::{null_mut, NonNull},
    sync::Arc,
    time::{Duration, Instant},
};

/// Receive buffers, and the size of each: headers and 8 KiB of data.
const RECEIVES: usize = 256;
const RECEIVE_LEN: usize = 8448;
/// Send buffers for small messages that are sent without waiting.
const SENDS: usize = 64;
const SEND_LEN: usize = 1024;
/// A buffer for data, and for messages that are larger.
const BULK_LEN: usize = 2 << 20;

const SEND_AT: usize = RECEIVES * RECEIVE_LEN;
const BULK_AT: usize = SEND_AT + SENDS * SEND_LEN;
const MEMORY_LEN: usize = BULK_AT + BULK_LEN;
/// wr_id of a receive is its buffer, of a send its buffer and this, of others this.
const SEND_ID: u64 = 1 << 32;
const BULK_ID: u64 = 1 << 33;

/// How long a work request may take; on an instrumented kernel times its slowness.
const COMPLETION: Duration = Duration::from_secs(30);

/// Why an operation on a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is over.
    Gone,
    /// The work completion has this status (enum ibv_wc_status).
    Status(u32),
}

/// Remote access error: the peer's device refused the key, the address or the access.
pub const REFUSED: u32 = ibv_wc_status::IBV_WC_REM_ACCESS_ERR;

pub(crate) fn checked<T>(pointer: *mut T, what: &str) -> Result<NonNull<T>, String> {
    NonNull::new(pointer).ok_or_else(|| format!("{what}: {}", Error::last_os_error()))
}

pub(crate) fn status(code: c_int, what: &str) -> Result<(), String> {
    match code {
        0 => Ok(()),
        _ => Err(format!("{what}: {}", Error::last_os_error())),
    }
}

/// A connection.
pub struct Link {
    id: Arc<Id>,
    domain: NonNull<ibv_pd>,
    events: NonNull<ibv_comp_channel>,
    queue: NonNull<ibv_cq>,
    region: NonNull<ibv_mr>,
    memory: NonNull<u8>,
    /// Receive buffers that hold a message, and its length.
    arrived: VecDeque<(usize, usize)>,
    sending: [bool; SENDS],
    /// How the one bulk operation ended.
    bulk: Option<u32>,
    /// A work request was flushed or failed.
    failed: Option<u32>,
    /// Messages that the peer's device has acknowledged.
    pub delivered: u64,
}

// SAFETY: Owned by one thread at a time; nothing in it is tied to the one that made it.
unsafe impl Send for Link {}

fn layout() -> Layout {
    Layout::from_size_align(MEMORY_LEN, 4096).expect("a constant")
}

impl Link {
    /// The queue pair of a connection request, with all receive buffers posted.
    pub(crate) fn new(id: Id) -> Result<Self, String> {
        // SAFETY: The id came with a connection request and so has a device. What is made
        // here is destroyed in `drop`, or leaked if this fails: then the process ends soon.
        unsafe {
            let device = checked((*id.0).verbs, "device")?;
            let domain = checked(ibv_alloc_pd(device.as_ptr()), "ibv_alloc_pd")?;
            let events = checked(
                ibv_create_comp_channel(device.as_ptr()),
                "ibv_create_comp_channel",
            )?;
            let depth = (RECEIVES + SENDS + 8) as c_int;
            let queue = checked(
                ibv_create_cq(device.as_ptr(), depth, null_mut(), events.as_ptr(), 0),
                "ibv_create_cq",
            )?;
            let memory = checked(alloc_zeroed(layout()), "memory")?;
            let region = checked(
                ibv_reg_mr(
                    domain.as_ptr(),
                    memory.as_ptr().cast(),
                    MEMORY_LEN,
                    ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0 as c_int,
                ),
                "ibv_reg_mr",
            )?;
            let mut wanted: ibv_qp_init_attr = zeroed();
            wanted.send_cq = queue.as_ptr();
            wanted.recv_cq = queue.as_ptr();
            wanted.qp_type = ibv_qp_type::IBV_QPT_RC;
            wanted.cap.max_send_wr = SENDS as u32 + 4;
            wanted.cap.max_recv_wr = RECEIVES as u32;
            wanted.cap.max_send_sge = 1;
            wanted.cap.max_recv_sge = 1;
            status(
                rdma_create_qp(id.0, domain.as_ptr(), &mut wanted),
                "rdma_create_qp",
            )?;
            let mut link = Self {
                id: Arc::new(id),
                domain,
                events,
                queue,
                region,
                memory,
                arrived: VecDeque::new(),
                sending: [false; SENDS],
                bulk: None,
                failed: None,
                delivered: 0,
            };
            for buffer in 0..RECEIVES {
                link.post_receive(buffer)?;
            }
            Ok(link)
        }
    }

    pub(crate) fn id(&self) -> *mut rdma_cm_id {
        self.id.0
    }

    /// The number by which events name it.
    pub fn number(&self) -> usize {
        self.id.0 as usize
    }

    pub fn hangup(&self) -> Hangup {
        Hangup::new(self.id.clone())
    }

    fn entry(&self, at: usize, length: usize) -> ibv_sge {
        assert!(at + length <= MEMORY_LEN);
        ibv_sge {
            addr: self.memory.as_ptr() as u64 + at as u64,
            length: length as u32,
            // SAFETY: The region lives as long as `self`.
            lkey: unsafe { self.region.as_ref() }.lkey,
        }
    }

    fn copy_in(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= MEMORY_LEN);
        // SAFETY: It fits. No reference into this memory exists, and the device is not using
        // this part: its work request has completed.
        unsafe {
            self.memory
                .as_ptr()
                .add(at)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    fn copy_out(&self, at: usize, length: usize) -> Vec<u8> {
        assert!(at + length <= MEMORY_LEN);
        let mut bytes = vec![0; length];
        // SAFETY: As in `copy_in`.
        unsafe {
            self.memory
                .as_ptr()
                .add(at)
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), length);
        }
        bytes
    }

    fn post_receive(&mut self, buffer: usize) -> Result<(), String> {
        let mut entry = self.entry(buffer * RECEIVE_LEN, RECEIVE_LEN);
        // SAFETY: The queue pair is alive; what is pointed to is read during the call, and
        // the buffer stays.
        unsafe {
            let mut wanted: ibv_recv_wr = zeroed();
            wanted.wr_id = buffer as u64;
            wanted.sg_list = &mut entry;
            wanted.num_sge = 1;
            let mut bad = null_mut();
            match ibv_post_recv((*self.id.0).qp, &mut wanted, &mut bad) {
                0 => Ok(()),
                code => Err(format!("ibv_post_recv: error {code}")),
            }
        }
    }

    /// Posts one send request: a message, or with `remote` an RDMA operation.
    fn post(
        &mut self,
        number: u64,
        mut entry: ibv_sge,
        opcode: ibv_wr_opcode::Type,
        invalidate: u32,
        remote: rdma_t,
    ) -> Result<(), Failure> {
        // SAFETY: As in `post_receive`.
        let code = unsafe {
            let mut wanted: ibv_send_wr = zeroed();
            wanted.wr_id = number;
            wanted.sg_list = &mut entry;
            wanted.num_sge = c_int::from(entry.length != 0);
            wanted.opcode = opcode;
            wanted.send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
            wanted.imm_data_invalidated_rkey_union.invalidated_rkey = invalidate;
            wanted.wr.rdma = remote;
            let mut bad = null_mut();
            ibv_post_send((*self.id.0).qp, &mut wanted, &mut bad)
        };
        match code {
            0 => Ok(()),
            _ => Err(Failure::Gone),
        }
    }

    /// Takes completions off the queue; says whether there were any.
    fn poll(&mut self) -> bool {
        // SAFETY: The queue is alive, and the array has room for what is asked for.
        let (count, found) = unsafe {
            let mut found: [ibv_wc; 16] = zeroed();
            let count = ibv_poll_cq(self.queue.as_ptr(), 16, found.as_mut_ptr());
            (usize::try_from(count).unwrap_or(0), found)
        };
        for wc in &found[..count] {
            let good = wc.status == ibv_wc_status::IBV_WC_SUCCESS;
            if !good {
                self.failed.get_or_insert(wc.status);
            }
            if wc.wr_id & BULK_ID != 0 {
                self.bulk = Some(wc.status);
            } else if wc.wr_id & SEND_ID != 0 {
                self.sending[(wc.wr_id & 0xffff) as usize % SENDS] = false;
                self.delivered += u64::from(good);
            } else if good {
                self.arrived
                    .push_back((wc.wr_id as usize, wc.byte_len as usize));
            }
        }
        count > 0
    }

    /// Handles completions until `done`, or for at most `limit`.
    fn wait(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            while self.poll() {}
            if done(self) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // SAFETY: Queue and channel are alive; each event that is taken is acknowledged.
            unsafe {
                ibv_req_notify_cq(self.queue.as_ptr(), 0);
                if self.poll() {
                    continue;
                }
                let mut handle = libc::pollfd {
                    fd: self.events.as_ref().fd,
                    events: libc::POLLIN,
                    revents: 0,
                };
                let pause = left.as_millis().clamp(1, 1000) as c_int;
                if libc::poll(&mut handle, 1, pause) == 1 {
                    let mut queue = null_mut();
                    let mut context: *mut c_void = null_mut();
                    if ibv_get_cq_event(self.events.as_ptr(), &mut queue, &mut context) == 0 {
                        ibv_ack_cq_events(queue, 1);
                    }
                }
            }
        }
    }

    fn healthy(&self) -> Result<(), Failure> {
        match self.failed {
            None => Ok(()),
            Some(status) if status == ibv_wc_status::IBV_WC_WR_FLUSH_ERR => Err(Failure::Gone),
            Some(status) => Err(Failure::Status(status)),
        }
    }

    /// The next message, if one comes within `limit`.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Failure> {
        self.wait(limit, |l| !l.arrived.is_empty() || l.failed.is_some());
        let Some((buffer, length)) = self.arrived.pop_front() else {
            return self.healthy().map(|()| None);
        };
        let bytes = self.copy_out(buffer * RECEIVE_LEN, length.min(RECEIVE_LEN));
        // Posting to a queue pair that has ended fails, or the buffer is flushed.
        let _ = self.post_receive(buffer);
        Ok(Some(bytes))
    }

    /// Sends a message without waiting for it; large ones are waited for.
    pub fn send(&mut self, bytes: &[u8], invalidate: Option<u32>) -> Result<(), Failure> {
        let none = rdma_t {
            remote_addr: 0,
            rkey: 0,
        };
        let opcode = match invalidate {
            Some(_) => ibv_wr_opcode::IBV_WR_SEND_WITH_INV,
            None => ibv_wr_opcode::IBV_WR_SEND,
        };
        let key = invalidate.unwrap_or(0);
        if bytes.len() > SEND_LEN {
            self.flush()?;
            self.copy_in(BULK_AT, bytes);
            let entry = self.entry(BULK_AT, bytes.len());
            return self.bulk(entry, opcode, key, none).inspect(|()| {
                self.delivered += 1;
            });
        }
        self.wait(slow(COMPLETION), |l| {
            l.failed.is_some() || l.sending.contains(&false)
        });
        self.healthy()?;
        let Some(slot) = self.sending.iter().position(|busy| !busy) else {
            return Err(Failure::Gone);
        };
        let at = SEND_AT + slot * SEND_LEN;
        self.copy_in(at, bytes);
        let entry = self.entry(at, bytes.len());
        self.sending[slot] = true;
        self.post(SEND_ID | slot as u64, entry, opcode, key, none)
    }

    /// Waits until everything sent was acknowledged, or failed.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let done = self.wait(slow(COMPLETION), |l| {
            l.failed.is_some() || !l.sending.contains(&true)
        });
        self.healthy()?;
        if done {
            Ok(())
        } else {
            Err(Failure::Gone)
        }
    }

    fn bulk(
        &mut self,
        entry: ibv_sge,
        opcode: ibv_wr_opcode::Type,
        invalidate: u32,
        remote: rdma_t,
    ) -> Result<(), Failure> {
        self.healthy()?;
        self.bulk = None;
        self.post(BULK_ID, entry, opcode, invalidate, remote)?;
        self.wait(slow(COMPLETION), |l| l.bulk.is_some());
        match self.bulk {
            Some(ibv_wc_status::IBV_WC_SUCCESS) => Ok(()),
            Some(ibv_wc_status::IBV_WC_WR_FLUSH_ERR) | None => Err(Failure::Gone),
            Some(status) => Err(Failure::Status(status)),
        }
    }

    /// Writes to the initiator's memory.
    pub fn write(&mut self, bytes: &[u8], rkey: u32, remote_addr: u64) -> Result<(), Failure> {
        for (index, part) in bytes.chunks(BULK_LEN).enumerate() {
            self.copy_in(BULK_AT, part);
            let entry = self.entry(BULK_AT, part.len());
            let remote_addr = remote_addr.wrapping_add((index * BULK_LEN) as u64);
            self.bulk(
                entry,
                ibv_wr_opcode::IBV_WR_RDMA_WRITE,
                0,
                rdma_t { remote_addr, rkey },
            )?;
        }
        Ok(())
    }

    /// Reads the initiator's memory.
    pub fn read(&mut self, length: usize, rkey: u32, remote_addr: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let part = (length - bytes.len()).min(BULK_LEN);
            let entry = self.entry(BULK_AT, part);
            let remote_addr = remote_addr.wrapping_add(bytes.len() as u64);
            self.bulk(
                entry,
                ibv_wr_opcode::IBV_WR_RDMA_READ,
                0,
                rdma_t { remote_addr, rkey },
            )?;
            bytes.extend_from_slice(&self.copy_out(BULK_AT, part));
        }
        Ok(bytes)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: Everything was made in `new`, and goes in the opposite order; with the
        // queue pair gone the device uses none of the memory. The id goes with its last
        // owner.
        unsafe {
            rdma_disconnect(self.id.0);
            rdma_destroy_qp(self.id.0);
            ibv_destroy_cq(self.queue.as_ptr());
            ibv_dereg_mr(self.region.as_ptr());
            ibv_destroy_comp_channel(self.events.as_ptr());
            ibv_dealloc_pd(self.domain.as_ptr());
            dealloc(self.memory.as_ptr(), layout());
        }
    }
}
