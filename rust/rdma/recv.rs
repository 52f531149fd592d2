// SPDX-License-Identifier: GPL-2.0

//! Receive buffers: a ring for every message of the full feature phase, and two
//! large buffers that take turns while messages are still negotiated.

use crate::{
    bindings,
    dma::{self, Buffer, Direction, Pool},
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};
use kernel::{prelude::*, types::Opaque};

/// How many large buffers there are. Two, because the next request can leave
/// while the completion handler still reads the last response; the one after that
/// cannot, as handlers run one at a time.
const LARGE: usize = 2;

/// The state of a receive buffer.
///
/// The device writes a buffer only while it is posted, and the CPU reads it only
/// in the completion handler, before it is posted again.
const IDLE: u32 = 0;
const POSTED: u32 = 1;
const READING: u32 = 2;

/// How many buffers of the ring are posted at once. Up to one less wait for the others.
const BATCH: u32 = 8;

/// A receive buffer.
///
/// # Invariants
///
/// `mem` is `len` bytes, mapped at `addr` for the channel's life. The queue pair and the
/// batch together have at most one receive request with it, and only while `state` is
/// `POSTED`. The completion that has set that state has `wr` until the batch is posted; all
/// else of the request is constant.
pub(crate) struct RecvBuffer {
    pub(crate) cqe: Opaque<bindings::ib_cqe>,
    mem: NonNull<u8>,
    addr: u64,
    len: u32,
    large: bool,
    state: AtomicU32,
    /// The receive request, and what it receives to. Only the link to the next changes.
    wr: Opaque<bindings::ib_recv_wr>,
    sge: Opaque<bindings::ib_sge>,
}

// SAFETY: Memory and mapping are tied to no thread.
unsafe impl Send for RecvBuffer {}
// SAFETY: `state` decides who may touch the memory.
unsafe impl Sync for RecvBuffer {}

impl RecvBuffer {
    /// The buffer that `cqe` belongs to.
    ///
    /// # Safety
    ///
    /// `cqe` must be in a buffer that lives for `'a`.
    #[inline]
    pub(crate) unsafe fn from_cqe<'a>(cqe: *mut bindings::ib_cqe) -> &'a Self {
        // SAFETY: By the contract; `Opaque` is transparent.
        unsafe { &*cqe.byte_sub(core::mem::offset_of!(Self, cqe)).cast() }
    }

    /// Whether this is a large buffer.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.large
    }

    /// Gives the buffer to the queue pair, unless somebody else has just done so. Any
    /// context.
    ///
    /// # Errors
    ///
    /// What the provider returns.
    ///
    /// # Safety
    ///
    /// `qp` must be the queue pair of the buffer's channel, with room for it; no
    /// reference to the buffer's bytes may be left.
    #[inline]
    pub(crate) unsafe fn post(&self, qp: *mut bindings::ib_qp) -> Result {
        let posted = self.state.compare_exchange(IDLE, POSTED, AcqRel, Relaxed);
        if posted.is_err() {
            return Ok(());
        }
        // SAFETY: We have set the state, and `qp` is valid by the contract. The buffer stays
        // mapped for the channel's life. The provider gets a copy of the request: it reads the
        // link when the buffer may already have completed, and gone into the batch.
        let ret = unsafe {
            let mut wr = *self.wr.get();
            wr.next = core::ptr::null_mut();
            bindings::ib_post_recv(qp, &raw const wr, core::ptr::null_mut())
        };
        if ret != 0 {
            self.state.store(IDLE, Relaxed);
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    /// Completes the receive request when the buffer is where it stays.
    fn place(&mut self, lkey: u32) {
        // INVARIANT: Into the buffer, which does not move any more.
        // SAFETY: `&mut self` has all of it.
        unsafe {
            *self.sge.get() = bindings::ib_sge {
                addr: self.addr,
                length: self.len,
                lkey,
            };
            *self.wr.get() = bindings::ib_recv_wr {
                next: core::ptr::null_mut(),
                __bindgen_anon_1: bindings::ib_recv_wr__bindgen_ty_1 {
                    wr_cqe: self.cqe.get(),
                },
                sg_list: self.sge.get(),
                num_sge: 1,
            };
        }
    }

    /// Takes the first `len` bytes back after a completion, for reading.
    ///
    /// # Safety
    ///
    /// The receive request must have completed, on `dev`, and the result must be
    /// gone before the buffer is posted again.
    #[inline]
    pub(crate) unsafe fn bytes(&self, dev: *mut bindings::ib_device, len: u32) -> &[u8] {
        let len = len.min(self.len) as usize;
        self.state.store(READING, Relaxed);
        // SAFETY: Part of a live mapping, by the type invariant.
        unsafe { dma::sync_for_cpu(dev, self.addr, len, Direction::FromDevice) };
        // SAFETY: The device wrote `len` bytes and does not write any more.
        unsafe { core::slice::from_raw_parts(self.mem.as_ptr(), len) }
    }

    /// Ends the CPU's turn.
    ///
    /// # Safety
    ///
    /// As for [`Self::bytes`], whose result must be gone.
    #[inline]
    pub(crate) unsafe fn read(&self, dev: *mut bindings::ib_device) {
        // SAFETY: Part of a live mapping, by the type invariant.
        unsafe { dma::sync_for_device(dev, self.addr, self.len as usize, Direction::FromDevice) };
    }

    /// Says that the buffer, which was read, may be posted when it is needed.
    #[inline]
    pub(crate) fn idle(&self) {
        self.state.store(IDLE, Release);
    }

    /// Whether the buffer is with the queue pair.
    #[inline]
    pub(crate) fn is_posted(&self) -> bool {
        self.state.load(Relaxed) == POSTED
    }

    /// Whether the buffer can be posted.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.state.load(Acquire) == IDLE
    }
}

/// Buffers of the ring that wait to be posted together: a call for each costs as much as
/// the posting.
struct Batch {
    first: *mut bindings::ib_recv_wr,
    count: u32,
}

/// All receive buffers of a channel.
///
/// # Invariants
///
/// `batch` is accessed by completions only, of which one runs at a time. It is a chain
/// of `count` requests of buffers whose state is `POSTED`.
pub(crate) struct Receives {
    batch: UnsafeCell<Batch>,
    ring: KVec<RecvBuffer>,
    large: KVec<RecvBuffer>,
    // What the buffers point into.
    _pool: Pool,
    _large: [Buffer; LARGE],
}

// SAFETY: The requests belong to the buffers, which belong to the same object.
unsafe impl Send for Receives {}
// SAFETY: By the type invariant.
unsafe impl Sync for Receives {}

impl Receives {
    /// How many requests the receive queue must hold besides those that are asked for.
    pub(crate) const EXTRA: u32 = LARGE as u32 + BATCH - 1;

    /// Posts a buffer again: one of the ring together with others.
    ///
    /// # Errors
    ///
    /// What the provider returns.
    ///
    /// # Safety
    ///
    /// To be called by the completion of the buffer's last request, which no reference to its
    /// bytes outlives. `qp` must be the queue pair of the channel.
    #[inline(always)]
    pub(crate) unsafe fn repost(&self, buffer: &RecvBuffer, qp: *mut bindings::ib_qp) -> Result {
        if buffer.large {
            buffer.idle();
            // SAFETY: By the contract; the queue had room for it.
            return unsafe { buffer.post(qp) };
        }
        // INVARIANT: Nobody else posts a buffer that is read.
        buffer.state.store(POSTED, Relaxed);
        // SAFETY: By the type invariant we are alone with the batch, and with the request,
        // as we have set the state.
        let (batch, wr) = unsafe { (&mut *self.batch.get(), buffer.wr.get()) };
        // SAFETY: As above.
        unsafe { (*wr).next = batch.first };
        batch.first = wr;
        batch.count = batch.count.wrapping_add(1);
        if batch.count < BATCH {
            return Ok(());
        }
        batch.first = core::ptr::null_mut();
        batch.count = 0;
        // SAFETY: By the type invariant and the contract; requests are copied.
        match unsafe { bindings::ib_post_recv(qp, wr, core::ptr::null_mut()) } {
            0 => Ok(()),
            error => Err(Error::from_errno(error)),
        }
    }

    /// Allocates and maps the buffers. Sleeps.
    ///
    /// # Safety
    ///
    /// `dev` must be registered and stay so for as long as the result lives;
    /// `done` must be a receive completion handler for these buffers.
    pub(crate) unsafe fn new(
        dev: *mut bindings::ib_device,
        lkey: u32,
        count: usize,
        len: usize,
        large_len: usize,
        done: unsafe extern "C" fn(*mut bindings::ib_cq, *mut bindings::ib_wc),
    ) -> Result<Self> {
        let buffer = |(mem, addr): (NonNull<u8>, u64), len: usize, large: bool| {
            // INVARIANT: Mapped by whoever gave us the part; not posted.
            Ok::<_, Error>(RecvBuffer {
                cqe: Opaque::new(bindings::ib_cqe { done: Some(done) }),
                mem,
                addr,
                len: u32::try_from(len)?,
                large,
                state: AtomicU32::new(IDLE),
                wr: Opaque::zeroed(),
                sge: Opaque::zeroed(),
            })
        };
        // So many more wait in the batch.
        let count = count + (BATCH - 1) as usize;
        // SAFETY: By our contract.
        let pool = unsafe { Pool::new(dev, count, len, Direction::FromDevice) }?;
        let mut ring: KVec<RecvBuffer> = KVec::with_capacity(count, GFP_KERNEL)?;
        for i in 0..count {
            ring.push(buffer(pool.part(i).ok_or(EINVAL)?, len, false)?, GFP_KERNEL)?;
        }
        // SAFETY: By our contract.
        let large_mem = unsafe {
            [
                Buffer::new(dev, large_len, Direction::FromDevice)?,
                Buffer::new(dev, large_len, Direction::FromDevice)?,
            ]
        };
        let mut large: KVec<RecvBuffer> = KVec::with_capacity(LARGE, GFP_KERNEL)?;
        for mem in &large_mem {
            large.push(
                buffer(mem.part(0, large_len).ok_or(EINVAL)?, large_len, true)?,
                GFP_KERNEL,
            )?;
        }
        ring.iter_mut().for_each(|buffer| buffer.place(lkey));
        large.iter_mut().for_each(|buffer| buffer.place(lkey));
        Ok(Self {
            batch: UnsafeCell::new(Batch {
                first: core::ptr::null_mut(),
                count: 0,
            }),
            ring,
            large,
            _pool: pool,
            _large: large_mem,
        })
    }

    /// The buffers of the ring.
    pub(crate) fn ring(&self) -> &[RecvBuffer] {
        &self.ring
    }

    /// The large buffers.
    pub(crate) fn large(&self) -> &[RecvBuffer] {
        &self.large
    }
}
