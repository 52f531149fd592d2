// SPDX-License-Identifier: GPL-2.0

//! A device that does what the verbs say, for the accounting of its send queue.

use std::collections::VecDeque;

use crate::send_account::SqShared;
use crate::send_queue::{marks_len, Chain, Refusal, Share, SqProducer, MAX_CHAIN, RESERVE};

/// What producer and device do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Posts a chain. The device completes so much of what it has before the commit.
    Post {
        wrs: u32,
        chain: Chain,
        share: Share,
        early: usize,
    },
    /// The posting fails.
    Drop { wrs: u32, chain: Chain },
    /// The device completes so many work requests.
    Complete(usize),
}

/// A send queue as the device has it: oldest first, whether each is signalled.
#[derive(Default)]
struct Device(VecDeque<bool>);

impl Device {
    fn complete(&mut self, count: usize, shared: &SqShared) {
        for _ in 0..count.min(self.0.len()) {
            if self.0.pop_front() == Some(true) {
                shared.retire();
            }
        }
    }

    fn post(&mut self, wrs: u32, signalled: bool) {
        self.0.extend((1..=wrs).map(|at| signalled && at == wrs));
    }
}

/// Takes these steps on a new queue, that `prepare` has made look used.
pub(crate) fn play(
    capacity: u32,
    prepare: impl FnOnce(&mut SqProducer<Vec<u32>>, &SqShared),
    steps: impl IntoIterator<Item = Step>,
) {
    let shared = SqShared::new();
    let mut producer = SqProducer::new(vec![0; marks_len(capacity)], capacity).unwrap();
    prepare(&mut producer, &shared);
    let mut device = Device::default();

    for step in steps {
        match step {
            Step::Complete(count) => device.complete(count, &shared),
            Step::Drop { wrs, chain } => {
                let before = producer.in_flight();
                let planned = producer
                    .plan(&shared, wrs, chain, Share::Urgent, || ())
                    .is_ok();
                assert!(!planned || producer.in_flight() <= before);
            }
            Step::Post {
                wrs,
                chain,
                share,
                early,
            } => match producer.plan(&shared, wrs, chain, share, || ()) {
                Ok(plan) => {
                    let signalled = plan.is_signalled();
                    assert!(signalled || chain == Chain::Plain);
                    device.post(wrs, signalled);
                    let most = match share {
                        Share::Common => capacity - RESERVE,
                        Share::Urgent => capacity,
                    };
                    assert!(device.0.len() <= most as usize);
                    device.complete(early, &shared);
                    plan.commit();
                }
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Full);
                    // Something that makes room is under way.
                    assert!(device.0.contains(&true));
                }
            },
        }
        assert!(producer.in_flight() as usize >= device.0.len());
        assert!(producer.in_flight() <= capacity);
    }

    // When the device is idle, there is room for the longest chain.
    device.complete(usize::MAX, &shared);
    assert!(producer
        .plan(&shared, MAX_CHAIN, Chain::Plain, Share::Common, || ())
        .is_ok());
}
