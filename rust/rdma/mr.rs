// SPDX-License-Identifier: GPL-2.0

//! Memory regions for fast registration: allocated once, registered and
//! invalidated by work requests.

use crate::bindings;
use kernel::{error::from_err_ptr, prelude::*};

/// The page size that regions are mapped with: what every device supports.
const REGION_PAGE: u32 = 4096;

/// The part of a key that we choose, anew for each registration.
const KEY_MASK: u32 = 0xff;

/// A memory region.
///
/// # Invariants
///
/// `raw` is a region that this object owns. When dropped it cannot be reached any more: its
/// queue pair is drained by then, or gone.
pub(crate) struct Region {
    raw: *mut bindings::ib_mr,
}

// SAFETY: A region is tied to no thread; its owner serialises access.
unsafe impl Send for Region {}

/// What the peer may do with a region.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the region serves our own sends.
    Local,
    /// RDMA Read.
    RemoteRead,
    /// RDMA Write.
    RemoteWrite,
}

impl Access {
    #[inline]
    pub(crate) const fn as_raw(self) -> i32 {
        let flags = match self {
            Self::Local => 0,
            Self::RemoteRead => bindings::ib_access_flags_IB_ACCESS_REMOTE_READ,
            // Remote write needs local write (IBA 10.6.3.1).
            Self::RemoteWrite => {
                bindings::ib_access_flags_IB_ACCESS_LOCAL_WRITE
                    | bindings::ib_access_flags_IB_ACCESS_REMOTE_WRITE
            }
        };
        flags as i32
    }
}

impl Region {
    /// Allocates a region of up to `pages` pages; with `gaps`, of up to `pages`
    /// entries that need not touch. Sleeps.
    ///
    /// # Safety
    ///
    /// `pd` must be a valid protection domain that outlives the region.
    pub(crate) unsafe fn new(pd: *mut bindings::ib_pd, pages: u32, gaps: bool) -> Result<Self> {
        let kind = if gaps {
            bindings::ib_mr_type_IB_MR_TYPE_SG_GAPS
        } else {
            bindings::ib_mr_type_IB_MR_TYPE_MEM_REG
        };
        // SAFETY: `pd` is valid by the contract.
        let raw = from_err_ptr(unsafe { bindings::ib_alloc_mr(pd, kind, pages) })?;
        // INVARIANT: Just allocated.
        Ok(Self { raw })
    }

    /// Points the region at a mapped list, under a new key, for a registration
    /// that is posted next. The old key must be dead. Does not sleep.
    ///
    /// # Safety
    ///
    /// `segments` must be of a mapping that stays until the new key is dead.
    #[inline(always)]
    pub(crate) unsafe fn map(&mut self, (sgl, nents): (*mut bindings::scatterlist, i32)) -> Result {
        // SAFETY: `raw` is valid by the type invariant and not in use; `sgl` has
        // `nents` mapped segments.
        let n = unsafe {
            // As `ib_update_fast_reg_key()` with `ib_inc_rkey()`.
            let mr = &mut *self.raw;
            let key = mr.rkey.wrapping_add(1) & KEY_MASK;
            mr.lkey = (mr.lkey & !KEY_MASK) | key;
            mr.rkey = (mr.rkey & !KEY_MASK) | key;
            bindings::ib_map_mr_sg(self.raw, sgl, nents, core::ptr::null_mut(), REGION_PAGE)
        };
        if n == nents {
            Ok(())
        } else if n < 0 {
            Err(Error::from_errno(n))
        } else {
            Err(EINVAL)
        }
    }

    /// A work request that registers the region, but for the key and the access, which
    /// are different each time.
    pub(crate) fn registration(&self) -> bindings::ib_reg_wr {
        bindings::ib_reg_wr {
            wr: bindings::ib_send_wr {
                opcode: bindings::ib_wr_opcode_IB_WR_REG_MR,
                ..Default::default()
            },
            mr: self.raw,
            ..Default::default()
        }
    }

    /// The current remote key.
    #[inline]
    pub(crate) fn rkey(&self) -> u32 {
        // SAFETY: `raw` is valid by the type invariant.
        unsafe { (*self.raw).rkey }
    }

    /// The current local key.
    #[inline]
    pub(crate) fn lkey(&self) -> u32 {
        // SAFETY: `raw` is valid by the type invariant.
        unsafe { (*self.raw).lkey }
    }

    /// Bytes that the region covers.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        // SAFETY: `raw` is valid by the type invariant.
        unsafe { (*self.raw).length }
    }

    /// The address at which the peer sees the first byte.
    #[inline]
    pub(crate) fn iova(&self) -> u64 {
        // SAFETY: `raw` is valid by the type invariant.
        unsafe { (*self.raw).iova }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The only failure is a bound memory
        // window, and there are none.
        unsafe { bindings::ib_dereg_mr(self.raw) };
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_mr))]
mod tests {
    use super::*;
    use crate::fake::{FakeRegion, FAILING};

    const FIRST_KEY: u32 = 0xabcd_ef10;

    impl Region {
        /// A region of which only mapping works. It must not be dropped, but forgotten.
        ///
        /// # Safety
        ///
        /// `raw` must be valid as long as the result is used.
        pub(crate) unsafe fn fake(raw: *mut bindings::ib_mr) -> Self {
            // INVARIANT: By the contract; it is never dropped.
            Self { raw }
        }
    }

    #[test]
    fn each_use_has_another_key() -> Result {
        let mut fake = FakeRegion::new(FIRST_KEY)?;
        let mut region = fake.region();
        let mut last = region.rkey();
        let mut seen = [false; 256];
        for _ in 0..256 {
            // SAFETY: No memory is mapped.
            unsafe { region.map((core::ptr::null_mut(), 1)) }?;
            let key = region.rkey();
            assert!(key != last);
            assert_eq!(key, region.lkey());
            // What names the region stays.
            assert_eq!(key & !KEY_MASK, FIRST_KEY & !KEY_MASK);
            seen[(key & KEY_MASK) as usize] = true;
            last = key;
        }
        // All 256 keys take their turn, and then the first one comes back.
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(last, FIRST_KEY);
        Ok(())
    }

    #[test]
    fn all_entries_or_none() -> Result {
        let mut fake = FakeRegion::new(FIRST_KEY)?;
        let mut region = fake.region();
        let table = [
            (1, Ok(())),
            (4, Ok(())),
            // A region that covers a part of a command is none.
            (5, Err(EINVAL)),
            (FAILING, Err(ENOMEM)),
        ];
        for (entries, expected) in table {
            // SAFETY: No memory is mapped.
            let mapped = unsafe { region.map((core::ptr::null_mut(), entries)) };
            assert_eq!(mapped, expected);
        }
        Ok(())
    }

    #[test]
    fn used_again_after_a_failed_map() -> Result {
        let mut fake = FakeRegion::new(FIRST_KEY)?;
        let mut region = fake.region();
        let mut keys = KVec::with_capacity(6, GFP_KERNEL)?;
        // Entries of one command after another, whether they map.
        for (entries, maps) in [
            (4, true),
            (5, false),
            (2, true),
            (FAILING, false),
            (FAILING, false),
            (1, true),
        ] {
            // SAFETY: No memory is mapped.
            let mapped = unsafe { region.map((core::ptr::null_mut(), entries)) };
            assert_eq!(mapped.is_ok(), maps);
            // What a failed map has named, no later one does.
            assert!(!keys.contains(&region.rkey()));
            keys.push(region.rkey(), GFP_KERNEL)?;
            if maps {
                assert_eq!(region.len(), entries as u64 * u64::from(REGION_PAGE));
            }
            // The work request is the same each time, and takes the key that is now.
            assert_eq!(region.registration().mr, region.raw);
            assert_eq!(region.lkey(), region.rkey());
        }
        Ok(())
    }

    #[test]
    fn access_of_the_peer() {
        let remote_read = bindings::ib_access_flags_IB_ACCESS_REMOTE_READ as i32;
        let remote_write = bindings::ib_access_flags_IB_ACCESS_REMOTE_WRITE as i32;
        let table = [
            (Access::Local, false, false),
            (Access::RemoteRead, true, false),
            (Access::RemoteWrite, false, true),
        ];
        for (access, read, write) in table {
            let flags = access.as_raw();
            let (reads, writes) = (flags & remote_read, flags & remote_write);
            assert_eq!((reads != 0, writes != 0), (read, write));
        }
    }
}
