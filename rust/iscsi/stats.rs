// SPDX-License-Identifier: GPL-2.0

//! The statistics of a connection: libiscsi's own, and named counters of the driver.

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::{addr_of_mut, NonNull};
use kernel::prelude::*;

/// Takes the counters of a driver; `iscsiadm -m session -s` shows them.
///
/// # Invariants
///
/// `stats` is valid for reads and writes during `'a`, and followed by memory for
/// `ISCSI_STATS_CUSTOM_MAX` counters, of which `custom_length` are used.
pub(crate) struct Stats<'a> {
    stats: NonNull<bindings::iscsi_stats>,
    _stats: PhantomData<&'a mut bindings::iscsi_stats>,
}

impl Stats<'_> {
    /// Wraps what the transport class passes to `get_stats`.
    ///
    /// # Safety
    ///
    /// The memory must be as the type invariant says, and zeroed.
    pub(crate) unsafe fn new(stats: NonNull<bindings::iscsi_stats>) -> Self {
        // INVARIANT: By the safety requirements; no counter is used yet.
        Self {
            stats,
            _stats: PhantomData,
        }
    }

    /// Fills in what libiscsi counts.
    ///
    /// # Safety
    ///
    /// `conn` must be a valid connection.
    pub(crate) unsafe fn fill(&mut self, conn: NonNull<bindings::iscsi_conn>) {
        let conn = conn.as_ptr();
        let stats = self.stats.as_ptr();

        // SAFETY: `stats` is valid by the type invariant, `conn` by the safety requirements. The
        // counters are plain integers that are read while they change, as everywhere in the
        // kernel: a torn or stale value is a wrong statistic and nothing else.
        let aborts = unsafe {
            (*stats).txdata_octets = (*conn).txdata_octets;
            (*stats).rxdata_octets = (*conn).rxdata_octets;
            (*stats).scsicmd_pdus = (*conn).scsicmd_pdus_cnt;
            (*stats).dataout_pdus = (*conn).dataout_pdus_cnt;
            (*stats).scsirsp_pdus = (*conn).scsirsp_pdus_cnt;
            (*stats).datain_pdus = (*conn).datain_pdus_cnt;
            (*stats).r2t_pdus = (*conn).r2t_pdus_cnt;
            (*stats).tmfcmd_pdus = (*conn).tmfcmd_pdus_cnt;
            (*stats).tmfrsp_pdus = (*conn).tmfrsp_pdus_cnt as u32;
            (*conn).eh_abort_cnt
        };
        self.add(c"eh_abort_cnt", u64::from(aborts));
    }

    /// Adds a counter. A name longer than 63 bytes is cut; what exceeds the room for counters is
    /// left out.
    pub(crate) fn add(&mut self, name: &CStr, value: u64) {
        let stats = self.stats.as_ptr();
        // SAFETY: Valid by the type invariant.
        let used = unsafe { (*stats).custom_length };
        if used >= bindings::ISCSI_STATS_CUSTOM_MAX {
            return;
        }

        // SAFETY: By the type invariant there is room for this counter behind the structure; the
        // pointer is derived from the whole allocation, not from the empty array field.
        unsafe {
            let slot = stats
                .byte_add(core::mem::offset_of!(bindings::iscsi_stats, custom))
                .cast::<bindings::iscsi_stats_custom>()
                .add(used as usize);
            let desc = addr_of_mut!((*slot).desc).cast::<u8>();
            // The last byte stays NUL.
            let room = size_of_val(&(*slot).desc) - 1;
            let len = name.to_bytes().len().min(room);
            core::ptr::write_bytes(desc, 0, room + 1);
            core::ptr::copy_nonoverlapping(name.to_bytes().as_ptr(), desc, len);
            (*slot).value = value;
            (*stats).custom_length = used + 1;
        }
    }
}
