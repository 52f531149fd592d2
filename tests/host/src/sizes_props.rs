// SPDX-License-Identifier: GPL-2.0

//! What any device and any session get: never more than the device allows, and enough to go on.

use proptest::prelude::*;

use crate::cases;
use crate::sizes::{channel, data_outs, max_tasks, region_pages, IoSize, MAX_TASKS};
use crate::stubs::channel::EXTRA_RECEIVES;
use crate::stubs::device::DeviceCaps;
use crate::stubs::qp::QpConfig;
use crate::stubs::send::MAX_SEND_SGE;
use crate::stubs::SessionLimits;

fn any_caps() -> impl Strategy<Value = DeviceCaps> {
    let pages = prop_oneof![0u32..600, any::<u32>()];
    (pages, any::<bool>()).prop_map(|(max_region_pages, sg_gaps)| DeviceCaps {
        max_qp_wr: 4096,
        max_send_sge: MAX_SEND_SGE,
        max_qp_rd_atom: 16,
        max_region_pages,
        max_segment_size: 1 << 31,
        fast_registration: true,
        sg_gaps,
        checks_invalidation: true,
    })
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn queues_hold_the_tasks(
        max_send_wr in prop_oneof![0u32..2000, any::<u32>()],
        max_recv_wr in prop_oneof![0u32..2000, any::<u32>()],
    ) {
        let qp = QpConfig { max_send_wr, max_recv_wr, max_send_sge: MAX_SEND_SGE };
        let tasks = max_tasks(&qp);
        prop_assert!(tasks <= MAX_TASKS);
        if tasks > 0 {
            prop_assert!(channel(tasks, 1).receives + EXTRA_RECEIVES <= max_recv_wr);
            // An invalidation for each task, and the least capacity of a send queue.
            prop_assert!(tasks + 4 * 64 <= max_send_wr);
        }
        // One more of each is never fewer tasks.
        let more = QpConfig {
            max_send_wr: max_send_wr.saturating_add(1),
            max_recv_wr: max_recv_wr.saturating_add(1),
            ..qp
        };
        prop_assert!((tasks..=tasks + 1).contains(&max_tasks(&more)));
    }

    #[test]
    fn a_session_fits_the_device_it_was_made_on(caps in any_caps(), max_sectors in any::<u32>()) {
        let io = IoSize::new(&caps, max_sectors);
        prop_assert!(io.sg_tablesize >= 1 && io.max_sectors <= max_sectors);
        // Each entry may be of one page only.
        prop_assert!(io.max_sectors <= io.sg_tablesize * 8);
        let limits = SessionLimits {
            cmds_max: 128,
            scsi_cmds_max: 113,
            sg_tablesize: io.sg_tablesize,
            virt_boundary_mask: IoSize::virt_boundary(&caps),
        };
        // A list without gaps may begin inside a page.
        let needed = io.sg_tablesize + u32::from(!caps.sg_gaps);
        let fits = needed <= caps.max_region_pages;
        prop_assert_eq!(region_pages(&caps, &limits), fits.then_some(needed));
        // Only a device with too few pages for one entry does not.
        prop_assert!(fits || caps.max_region_pages < 2);
    }

    #[test]
    fn follow_up_sends_carry_the_rest(
        unsolicited in any::<u32>(),
        immediate in any::<u32>(),
        segment in any::<u32>(),
    ) {
        let pdus = u64::from(data_outs(unsolicited, immediate, segment));
        let (rest, segment) = (i64::from(unsolicited) - i64::from(immediate), u64::from(segment.max(1)));
        let rest = u64::try_from(rest).unwrap_or(0);
        prop_assert!(pdus * segment >= rest);
        prop_assert!(pdus == 0 || (pdus - 1) * segment < rest);
    }
}
