// SPDX-License-Identifier: GPL-2.0

//! Queues, regions and hosts in numbers: what a device allows, and what a session
//! needs.

use crate::wire;
use iscsi::SessionLimits;
use rdma::{
    channel::EXTRA_RECEIVES,
    device::DeviceCaps,
    qp::QpConfig,
    send::{MAX_DATA_OUTS, MAX_SEND_SGE},
    ChannelConfig,
};

/// Most tasks of a session, management included.
pub(crate) const MAX_TASKS: u32 = 512;

/// Receive buffers beyond one for each task: NOP-In, Asynchronous Message and
/// Reject come without being asked for.
pub(crate) const UNSOLICITED_RECEIVES: u32 = 16;

/// Send requests that commands of a session share: a registration and a send for
/// each, or longer chains for fewer.
const SEND_SHARE: u32 = 2 * MAX_TASKS + 64;

/// Fewest send requests to share, for one command with the most Data-Out PDUs.
const MIN_SEND_SHARE: u32 = 4 * (MAX_DATA_OUTS + 2);

/// The page size of memory regions.
const REGION_PAGE: u32 = 4096;
const SECTOR: u32 = 512;

/// Most entries of a scatterlist: commands of 16 MiB.
const MAX_SG_TABLESIZE: u32 = 16 * 1024 * 1024 / REGION_PAGE;

/// The queue pair of a connection whose session is not known yet.
pub(crate) const QP: QpConfig = QpConfig {
    // One local invalidation for each task comes on top.
    max_send_wr: SEND_SHARE + MAX_TASKS,
    max_recv_wr: MAX_TASKS + UNSOLICITED_RECEIVES + EXTRA_RECEIVES,
    max_send_sge: MAX_SEND_SGE,
};

/// How many tasks a queue pair can carry.
pub(crate) fn max_tasks(qp: &QpConfig) -> u32 {
    let send = qp.max_send_wr.saturating_sub(MIN_SEND_SHARE);
    let recv = qp
        .max_recv_wr
        .saturating_sub(UNSOLICITED_RECEIVES + EXTRA_RECEIVES);
    send.min(recv).min(MAX_TASKS)
}

/// The memory of one command.
#[derive(Clone, Copy)]
pub(crate) struct IoSize {
    /// Entries of a scatterlist.
    pub(crate) sg_tablesize: u32,
    /// Sectors of a command.
    pub(crate) max_sectors: u32,
}

impl IoSize {
    /// What the device allows of `max_sectors`.
    pub(crate) fn new(caps: &DeviceCaps, max_sectors: u32) -> Self {
        let wanted = max_sectors.div_ceil(REGION_PAGE / SECTOR);
        let allowed = caps.max_region_pages.saturating_sub(spare_pages(caps));
        let sg_tablesize = wanted.min(allowed).clamp(1, MAX_SG_TABLESIZE);
        Self {
            sg_tablesize,
            max_sectors: max_sectors.min(sg_tablesize * (REGION_PAGE / SECTOR)),
        }
    }

    /// What an entry of a scatterlist may not cross, for devices without gaps.
    pub(crate) fn virt_boundary(caps: &DeviceCaps) -> usize {
        if caps.sg_gaps {
            0
        } else {
            REGION_PAGE as usize - 1
        }
    }
}

/// Without gaps a list that begins inside a page takes one page more.
fn spare_pages(caps: &DeviceCaps) -> u32 {
    u32::from(!caps.sg_gaps)
}

/// The pages of a memory region for the commands of a session, if the device has as
/// many and may have the gaps that the session's host allows.
pub(crate) fn region_pages(caps: &DeviceCaps, limits: &SessionLimits) -> Option<u32> {
    let pages = limits.sg_tablesize.checked_add(spare_pages(caps))?;
    let gaps = limits.virt_boundary_mask == 0;
    (pages <= caps.max_region_pages && (caps.sg_gaps || !gaps)).then_some(pages)
}

/// The channel of a session with `tasks` tasks.
pub(crate) fn channel(tasks: u32, region_pages: u32) -> ChannelConfig {
    ChannelConfig {
        slots: tasks,
        region_pages,
        receives: tasks + UNSOLICITED_RECEIVES,
        receive_len: wire::HEADERS_LEN + wire::RECV_DATA_SEGMENT,
        large_receive_len: wire::HEADERS_LEN + wire::LOGIN_DATA_SEGMENT,
        control_len: wire::LOGIN_DATA_SEGMENT,
    }
}

/// How many Data-Out PDUs a command can have, when the first `immediate` bytes of
/// `unsolicited` ones go with the command itself.
pub(crate) fn data_outs(unsolicited: u32, immediate: u32, segment: u32) -> u32 {
    unsolicited
        .saturating_sub(immediate)
        .div_ceil(segment.max(1))
}
