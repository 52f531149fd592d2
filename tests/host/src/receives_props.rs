// SPDX-License-Identifier: GPL-2.0

//! The accounting of receive buffers against a queue that completes in any order, and between
//! processors.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::models::receives::{play, Step};
use crate::recv_account::Holder;

fn any_step() -> impl Strategy<Value = Step> {
    let number = || 0usize..1000;
    prop_oneof![
        2 => (number(), any::<bool>()).prop_map(|(buffer, taken)| Step::Post { buffer, taken }),
        6 => (number(), prop::bool::weighted(0.1))
            .prop_map(|(request, keep)| Step::Complete { request, keep }),
        1 => number().prop_map(|request| Step::Flush { request }),
    ]
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes; the corpus does the same")]
    fn none_twice_and_none_lost(count in 0usize..40, steps in vec(any_step(), 0..300)) {
        play(count, steps);
    }
}

/// Two processors post a buffer that completes at once. One of them gets it each time, and sees
/// what was written to it before.
#[test]
fn posted_from_two_processors() {
    let rounds = if cfg!(miri) { 100 } else { 50_000u32 };
    let holder = Holder::new();
    let written = AtomicU32::new(0);
    let post = || {
        let mut posted = 0;
        while written.load(Ordering::Relaxed) < rounds {
            if !holder.is_idle() || !holder.post() {
                std::thread::yield_now();
                continue;
            }
            // The device, and then the handler, have the buffer for themselves.
            let seen = written.load(Ordering::Relaxed);
            holder.reading();
            let stolen = holder.post();
            written.store(seen + 1, Ordering::Relaxed);
            posted += 1;
            holder.idle();
            assert!(!stolen);
        }
        posted
    };
    let posted = std::thread::scope(|scope| {
        let threads = [scope.spawn(post), scope.spawn(post)];
        threads
            .map(|thread| thread.join().unwrap())
            .iter()
            .sum::<u32>()
    });
    assert_eq!(written.into_inner(), posted);
}
