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
/// each of half of the most tasks, or longer chains for fewer. A request is done when the
/// target has acknowledged it, long before its command is. With one each for invalidation and
/// for draining the queue keeps below a power of two, to which devices round it up.
const SEND_SHARE: u32 = MAX_TASKS - 16;

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

    /// Most bytes of an entry. SCSI makes it a limit of the whole device's DMA, other users' too.
    pub(crate) fn max_segment_size(caps: &DeviceCaps) -> u32 {
        if caps.sg_gaps {
            caps.max_segment_size
        } else {
            // A boundary needs entries without a limit: where one of 64 KiB, say, ends within
            // a page, an IOMMU leaves a gap, and the list cannot be registered.
            u32::MAX
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

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_sizes))]
mod tests {
    use super::*;

    const CAPS: DeviceCaps = DeviceCaps {
        max_qp_wr: 16384,
        max_send_sge: 16,
        max_qp_rd_atom: 16,
        max_region_pages: 512,
        max_segment_size: 1 << 31,
        fast_registration: true,
        sg_gaps: false,
        checks_invalidation: true,
    };

    #[test]
    fn tasks_of_a_queue_pair() {
        // Send and receive requests; tasks.
        let table = [
            (QP.max_send_wr, QP.max_recv_wr, MAX_TASKS),
            (u32::MAX, u32::MAX, MAX_TASKS),
            (MIN_SEND_SHARE + 100, QP.max_recv_wr, 100),
            (QP.max_send_wr, UNSOLICITED_RECEIVES + EXTRA_RECEIVES + 7, 7),
            (MIN_SEND_SHARE, QP.max_recv_wr, 0),
            (QP.max_send_wr, 1, 0),
            (0, 0, 0),
        ];
        for (max_send_wr, max_recv_wr, tasks) in table {
            let qp = QpConfig {
                max_send_wr,
                max_recv_wr,
                ..QP
            };
            assert_eq!(max_tasks(&qp), tasks);
            if tasks > 0 {
                // Every task may be answered, and the target may speak unasked, at once.
                let receives = channel(tasks, 1).receives;
                assert_eq!(receives, tasks + UNSOLICITED_RECEIVES);
                assert!(receives + EXTRA_RECEIVES <= max_recv_wr);
                // Every key may be invalidated while a command of the most PDUs is sent.
                assert!(max_send_wr - tasks >= MIN_SEND_SHARE);
            }
        }
    }

    #[test]
    fn commands_fit_the_regions() {
        // Pages of a region, gaps, max_sectors; entries, sectors.
        let table = [
            (512, false, 1024, 128, 1024),
            (512, true, 1024, 128, 1024),
            // A list that begins inside a page takes a page more.
            (512, false, 8192, 511, 4088),
            (512, true, 8192, 512, 4096),
            (8192, true, u32::MAX, 4096, 32768),
            (512, false, 1, 1, 1),
            (512, false, 9, 2, 9),
            (1, false, 1024, 1, 8),
            // A device without a limit.
            (u32::MAX, false, 1024, 128, 1024),
            (u32::MAX, true, u32::MAX, 4096, 32768),
        ];
        for (max_region_pages, sg_gaps, max_sectors, entries, sectors) in table {
            let caps = DeviceCaps {
                max_region_pages,
                sg_gaps,
                ..CAPS
            };
            let io = IoSize::new(&caps, max_sectors);
            assert_eq!((io.sg_tablesize, io.max_sectors), (entries, sectors));
            let (boundary, segment) = if sg_gaps {
                (0, 1 << 31)
            } else {
                (4095, u32::MAX)
            };
            assert_eq!(IoSize::virt_boundary(&caps), boundary);
            assert_eq!(IoSize::max_segment_size(&caps), segment);
        }
    }

    #[test]
    fn a_session_on_another_device() {
        // Entries and boundary of the session; pages and gaps of the device; pages of a region.
        let table = [
            (128, 4095, 512, false, Some(129)),
            (128, 4095, 512, true, Some(128)),
            (128, 0, 512, true, Some(128)),
            // Its lists have gaps that this device does not take.
            (128, 0, 512, false, None),
            (511, 4095, 512, false, Some(512)),
            (512, 4095, 512, false, None),
            (512, 4095, 512, true, Some(512)),
            (u32::MAX, 4095, u32::MAX, false, None),
            (128, 4095, u32::MAX, false, Some(129)),
        ];
        for (sg_tablesize, virt_boundary_mask, max_region_pages, sg_gaps, pages) in table {
            let caps = DeviceCaps {
                max_region_pages,
                sg_gaps,
                ..CAPS
            };
            let limits = SessionLimits {
                cmds_max: 128,
                scsi_cmds_max: 113,
                sg_tablesize,
                virt_boundary_mask,
            };
            assert_eq!(region_pages(&caps, &limits), pages);
        }
    }

    #[test]
    fn data_outs_of_a_command() {
        // Unsolicited bytes, immediate ones of them, length of a segment; PDUs.
        let table = [
            (65536, 0, 8192, 8),
            (65536, 8192, 8192, 7),
            (65536, 65536, 8192, 0),
            (65536, 65535, 8192, 1),
            (8193, 0, 8192, 2),
            (0, 0, 8192, 0),
            // A target that says nonsense.
            (100, 0, 0, 100),
            (0, 100, 0, 0),
        ];
        for (unsolicited, immediate, segment, pdus) in table {
            assert_eq!(data_outs(unsolicited, immediate, segment), pdus);
        }
    }
}
