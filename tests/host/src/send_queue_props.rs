// SPDX-License-Identifier: GPL-2.0

//! The accounting of the send queue against a device that does what the verbs say.

use std::sync::mpsc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::models::send_queue::{play, Step};
use crate::send_account::SqShared;
use crate::send_queue::{marks_len, Chain, Refusal, Share, SqProducer, MAX_CHAIN};

fn any_chain() -> impl Strategy<Value = (u32, Chain)> {
    // Most chains are short.
    let wrs = prop_oneof![3 => 1..=4u32, 1 => 1..=MAX_CHAIN];
    (
        wrs,
        prop_oneof![4 => Just(Chain::Plain), 1 => Just(Chain::Guarded)],
    )
}

fn any_share() -> impl Strategy<Value = Share> {
    prop_oneof![3 => Just(Share::Common), 1 => Just(Share::Urgent)]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_chain(), any_share(), 0usize..10)
            .prop_map(|((wrs, chain), share, early)| Step::Post { wrs, chain, share, early }),
        1 => any_chain().prop_map(|(wrs, chain)| Step::Drop { wrs, chain }),
        3 => (0usize..40).prop_map(Step::Complete),
    ]
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes; the corpus does the same")]
    fn never_over_and_never_stuck(
        capacity in 4 * MAX_CHAIN..600,
        age in prop_oneof![Just(0), any::<u32>(), (u32::MAX - 300)..=u32::MAX],
        steps in vec(any_step(), 0..300),
    ) {
        play(capacity, |producer, shared| producer.age(shared, age), steps);
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
        let rounds = if cfg!(miri) { 200 } else { 200_000u32 };
        for round in 0..rounds {
            let chain = if round % 7 == 0 {
                Chain::Guarded
            } else {
                Chain::Plain
            };
            loop {
                match producer.plan(&shared, 2, chain, Share::Urgent, || ()) {
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
