// SPDX-License-Identifier: GPL-2.0

//! Receive buffers: a ring for every message of the full feature phase, and two
//! large buffers that take turns while messages are still negotiated.

use crate::{
    bindings,
    dma::{self, Buffer, Direction, Pool},
    recv_account::{ring_len, Batch, Holder, LARGE},
};
use core::{cell::UnsafeCell, ptr::NonNull};
use kernel::{prelude::*, types::Opaque};

/// A receive buffer.
///
/// # Invariants
///
/// `mem` is `len` bytes, mapped at `addr` for the channel's life. The queue pair and the
/// batch together have at most one receive request with it, and only while `holder` says that
/// it is posted. The completion that has said so has `wr` until the batch is posted; all
/// else of the request is constant.
pub(crate) struct RecvBuffer {
    pub(crate) cqe: Opaque<bindings::ib_cqe>,
    mem: NonNull<u8>,
    addr: u64,
    len: u32,
    large: bool,
    holder: Holder,
    /// The receive request, and what it receives to. Only the link to the next changes.
    wr: Opaque<bindings::ib_recv_wr>,
    sge: Opaque<bindings::ib_sge>,
}

// SAFETY: Memory and mapping are tied to no thread.
unsafe impl Send for RecvBuffer {}
// SAFETY: `holder` decides who may touch the memory.
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
        if !self.holder.post() {
            return Ok(());
        }
        // SAFETY: The buffer is ours to post, and `qp` is valid by the contract. The buffer stays
        // mapped for the channel's life. The provider gets a copy of the request: it reads the
        // link when the buffer may already have completed, and gone into the batch.
        let ret = unsafe {
            let mut wr = *self.wr.get();
            wr.next = core::ptr::null_mut();
            bindings::ib_post_recv(qp, &raw const wr, core::ptr::null_mut())
        };
        if ret != 0 {
            self.holder.refused();
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
        self.holder.reading();
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
        self.holder.idle();
    }

    /// Whether the buffer is with the queue pair.
    #[inline]
    pub(crate) fn is_posted(&self) -> bool {
        self.holder.is_posted()
    }

    /// Whether the buffer can be posted.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.holder.is_idle()
    }
}

/// All receive buffers of a channel.
///
/// # Invariants
///
/// `batch` is accessed by completions only, of which one runs at a time. Its requests are of
/// buffers that are posted by what their `holder` says, and each links to the one before it.
pub(crate) struct Receives {
    batch: UnsafeCell<Batch<NonNull<bindings::ib_recv_wr>>>,
    ring: KVVec<RecvBuffer>,
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
        buffer.holder.again();
        let wr = buffer.wr.get();
        // SAFETY: By the type invariant we are alone with the batch.
        let batch = unsafe { &mut *self.batch.get() };
        // SAFETY: The request is in the buffer.
        let next = batch.add(unsafe { NonNull::new_unchecked(wr) });
        // INVARIANT: To the one before.
        // SAFETY: We have the request, as we have said that the buffer is posted.
        unsafe { (*wr).next = next.map_or(core::ptr::null_mut(), NonNull::as_ptr) };
        if !batch.take() {
            return Ok(());
        }
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
                holder: Holder::new(),
                wr: Opaque::zeroed(),
                sge: Opaque::zeroed(),
            })
        };
        let count = ring_len(count);
        // SAFETY: By our contract.
        let pool = unsafe { Pool::new(dev, count, len, Direction::FromDevice) }?;
        let mut ring: KVVec<RecvBuffer> = KVVec::with_capacity(count, GFP_KERNEL)?;
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
            batch: UnsafeCell::new(Batch::new()),
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

#[cfg(all(CONFIG_KUNIT = "y", CONFIG_INFINIBAND_VIRT_DMA))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_recv))]
mod tests {
    use super::*;

    /// What a session asks for, and what the ring has besides.
    const COUNT: usize = 20;
    const RING: usize = ring_len(COUNT);

    /// A queue pair without a device behind it, which remembers what it was given.
    ///
    /// The queue pair comes first, so that its address is that of the whole.
    #[repr(C)]
    struct Queue {
        qp: bindings::ib_qp,
        dev: bindings::ib_device,
        posted: KVec<*mut bindings::ib_cqe>,
        full: bool,
    }

    impl Queue {
        fn new() -> Result<KBox<Self>> {
            let mut queue = KBox::<Self>::new_uninit(GFP_KERNEL)?;
            let raw = queue.as_mut_ptr();
            // SAFETY: Zeroes are valid for all of it but the list, which follows; a device
            // without a DMA device is a virtual one, and its operations are optional.
            let mut queue = unsafe {
                raw.cast::<u8>().write_bytes(0, size_of::<Self>());
                (&raw mut (*raw).posted).write(KVec::with_capacity(2 * RING, GFP_KERNEL)?);
                queue.assume_init()
            };
            queue.dev.ops.post_recv = Some(post_recv);
            queue.qp.device = &raw mut queue.dev;
            Ok(queue)
        }

        /// The queue pair, from which `post_recv` finds back here.
        fn qp(&mut self) -> *mut bindings::ib_qp {
            core::ptr::from_mut(self).cast()
        }

        /// Completes one of the requests.
        fn complete(&mut self, number: usize) -> Result<*mut bindings::ib_cqe> {
            let index = number % self.posted.len();
            Ok(self.posted.remove(index)?)
        }

        /// Buffers for this queue.
        fn receives(&mut self) -> Result<Receives> {
            // SAFETY: The tests drop the buffers before the queue.
            unsafe { Receives::new(&raw mut self.dev, 1, COUNT, 128, 1024, done) }
        }

        fn has_twice(&self) -> bool {
            let mut rest = &self.posted[..];
            while let [first, more @ ..] = rest {
                if more.contains(first) {
                    return true;
                }
                rest = more;
            }
            false
        }
    }

    /// # Safety
    ///
    /// `qp` must be that of a [`Queue`] that nobody else uses, `wr` a chain of requests.
    unsafe extern "C" fn post_recv(
        qp: *mut bindings::ib_qp,
        mut wr: *const bindings::ib_recv_wr,
        _bad: *mut *const bindings::ib_recv_wr,
    ) -> i32 {
        // SAFETY: By the contract.
        let queue = unsafe { &mut *qp.cast::<Queue>() };
        if queue.full {
            return ENOMEM.to_errno();
        }
        while !wr.is_null() {
            // SAFETY: By the contract; the request is one of a completion entry.
            let (cqe, next) = unsafe { ((*wr).__bindgen_anon_1.wr_cqe, (*wr).next) };
            if queue.posted.push(cqe, GFP_KERNEL).is_err() {
                return ENOMEM.to_errno();
            }
            wr = next;
        }
        0
    }

    unsafe extern "C" fn done(_cq: *mut bindings::ib_cq, _wc: *mut bindings::ib_wc) {}

    #[test]
    fn each_is_posted_once() -> Result {
        let mut queue = Queue::new()?;
        let receives = queue.receives()?;
        assert_eq!(receives.ring().len(), RING);
        assert_eq!(receives.large().len(), LARGE);
        for _ in 0..2 {
            for buffer in Iterator::chain(receives.ring().iter(), receives.large()) {
                // SAFETY: The queue takes any number of requests; nobody reads a buffer.
                unsafe { buffer.post(queue.qp()) }?;
                assert!(buffer.is_posted());
            }
        }
        assert_eq!(queue.posted.len(), RING + LARGE);
        assert!(!queue.has_twice());
        Ok(())
    }

    #[test]
    fn a_refused_post_changes_nothing() -> Result {
        let mut queue = Queue::new()?;
        let receives = queue.receives()?;
        for full in [true, false] {
            queue.full = full;
            for buffer in receives.ring() {
                // SAFETY: As above.
                let posted = unsafe { buffer.post(queue.qp()) };
                assert_eq!(posted.is_err(), full);
                assert_eq!(buffer.is_idle(), full);
            }
            assert_eq!(queue.posted.len(), if full { 0 } else { RING });
        }
        Ok(())
    }

    #[test]
    fn reposting_loses_none() -> Result {
        let mut queue = Queue::new()?;
        let receives = queue.receives()?;
        for buffer in Iterator::chain(receives.ring().iter(), receives.large()) {
            // SAFETY: As above.
            unsafe { buffer.post(queue.qp()) }?;
        }
        // Completions in an order of no pattern, of buffers of both kinds.
        let mut seed = 1usize;
        for _ in 0..1000 {
            seed = seed.wrapping_mul(25173).wrapping_add(13849) & 0xffff;
            let cqe = queue.complete(seed)?;
            // SAFETY: The entry is one of `receives`; its request has completed, and nothing of the
            // bytes is left when it is posted again.
            let buffer = unsafe {
                let buffer = RecvBuffer::from_cqe(cqe);
                let bytes = buffer.bytes(&raw mut queue.dev, u32::MAX).len();
                assert_eq!(bytes, if buffer.is_large() { 1024 } else { 128 });
                assert!(!buffer.is_posted() && !buffer.is_idle());
                buffer.read(&raw mut queue.dev);
                receives.repost(buffer, queue.qp())?;
                buffer
            };
            assert!(buffer.is_posted());
            assert!(!queue.has_twice());
            // Up to one less than a batch wait; the session has what it asked for.
            assert!(queue.posted.len() >= COUNT + LARGE);
            assert!(queue.posted.len() <= RING + LARGE);
        }
        // SAFETY: No completion is running.
        let waiting = unsafe { (*receives.batch.get()).waiting() };
        assert_eq!(queue.posted.len() + waiting, RING + LARGE);
        Ok(())
    }
}
