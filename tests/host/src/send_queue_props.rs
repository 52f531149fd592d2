// SPDX-License-Identifier: GPL-2.0

//! The accounting of the send queue against a device that does what the verbs say.

use std::collections::VecDeque;
use std::sync::mpsc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::send_queue::{marks_len, Chain, Refusal, SqProducer, SqShared, MAX_CHAIN};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Posts a chain. The device completes so much of what it has before the commit.
    Post {
        wrs: u32,
        chain: Chain,
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

fn any_chain() -> impl Strategy<Value = (u32, Chain)> {
    // Most chains are short.
    let wrs = prop_oneof![3 => 1..=4u32, 1 => 1..=MAX_CHAIN];
    (
        wrs,
        prop_oneof![4 => Just(Chain::Plain), 1 => Just(Chain::Guarded)],
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_chain(), 0usize..10)
            .prop_map(|((wrs, chain), early)| Step::Post { wrs, chain, early }),
        1 => any_chain().prop_map(|(wrs, chain)| Step::Drop { wrs, chain }),
        3 => (0usize..40).prop_map(Step::Complete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn never_over_and_never_stuck(
        capacity in 4 * MAX_CHAIN..600,
        age in prop_oneof![Just(0), any::<u32>(), (u32::MAX - 300)..=u32::MAX],
        steps in vec(any_step(), 0..300),
    ) {
        let shared = SqShared::new();
        let marks = vec![0; marks_len(capacity)];
        let mut producer = SqProducer::new(marks, capacity).unwrap();
        producer.age(&shared, age);
        let mut device = Device::default();

        for step in steps {
            match step {
                Step::Complete(count) => device.complete(count, &shared),
                Step::Drop { wrs, chain } => {
                    let before = producer.in_flight();
                    let planned = producer.plan(&shared, wrs, chain).is_ok();
                    prop_assert!(!planned || producer.in_flight() <= before);
                }
                Step::Post { wrs, chain, early } => match producer.plan(&shared, wrs, chain) {
                    Ok(plan) => {
                        let signalled = plan.is_signalled();
                        prop_assert!(signalled || chain == Chain::Plain);
                        device.post(wrs, signalled);
                        prop_assert!(device.0.len() <= capacity as usize);
                        device.complete(early, &shared);
                        plan.commit();
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::Full);
                        // Something that makes room is under way.
                        prop_assert!(device.0.contains(&true));
                    }
                },
            }
            prop_assert!(producer.in_flight() as usize >= device.0.len());
            prop_assert!(producer.in_flight() <= capacity);
        }

        // When the device is idle, there is room for the longest chain.
        device.complete(usize::MAX, &shared);
        prop_assert!(producer.plan(&shared, MAX_CHAIN, Chain::Plain).is_ok());
    }
}

/// A device on a thread of its own, often faster than the producer.
#[test]
fn device_on_another_processor() {
    const CAPACITY: u32 = 4 * MAX_CHAIN;

    let shared = SqShared::new();
    let (queue, device) = mpsc::channel::<bool>();
    let mut producer = SqProducer::new(vec![0; marks_len(CAPACITY)], CAPACITY).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for signalled in device {
                if signalled {
                    shared.retire();
                }
            }
        });
        for round in 0..200_000u32 {
            let chain = if round % 7 == 0 {
                Chain::Guarded
            } else {
                Chain::Plain
            };
            loop {
                match producer.plan(&shared, 2, chain) {
                    Ok(plan) => {
                        queue.send(false).unwrap();
                        queue.send(plan.is_signalled()).unwrap();
                        plan.commit();
                        break;
                    }
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::Full);
                        std::thread::yield_now();
                    }
                }
            }
            assert!(producer.in_flight() <= CAPACITY);
        }
        drop(queue);
    });
}
