// SPDX-License-Identifier: GPL-2.0

//! A receive queue that completes in any order, for the accounting of receive buffers.

use crate::recv_account::{ring_len, Batch, Holder, EXTRA, LARGE};

/// What the session, the device and the completion handler do. Buffers are named by any number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Posts a buffer if it is idle. The provider takes it or does not.
    Post { buffer: usize, taken: bool },
    /// A request completes. While its message is read, somebody wants to post the buffer;
    /// then the handler posts it again, or keeps it.
    Complete { request: usize, keep: bool },
    /// A request is flushed: nothing is read.
    Flush { request: usize },
}

/// The buffers of a ring, and the large ones behind them.
struct Receives {
    holders: Vec<Holder>,
    ring: usize,
    batch: Batch<usize>,
    /// Each buffer's link to another, for a chain.
    links: Vec<Option<usize>>,
    /// What the device has.
    queue: Vec<usize>,
    /// What waits, in the order in which it came.
    waiting: Vec<usize>,
    /// What nobody has posted since it was kept, flushed or refused.
    idle: Vec<usize>,
}

impl Receives {
    fn new(count: usize) -> Self {
        let ring = ring_len(count);
        let len = ring + LARGE;
        Self {
            holders: (0..len).map(|_| Holder::new()).collect(),
            ring,
            batch: Batch::new(),
            links: vec![None; len],
            queue: Vec::new(),
            waiting: Vec::new(),
            idle: (0..len).collect(),
        }
    }

    fn post(&mut self, buffer: usize, taken: bool) {
        let ours = self.holders[buffer].post();
        let at = self.idle.iter().position(|&idle| idle == buffer);
        assert_eq!(ours, at.is_some());
        match at {
            Some(at) if taken => self.queue.push(self.idle.swap_remove(at)),
            Some(_) => self.holders[buffer].refused(),
            None => (),
        }
    }

    fn idle(&mut self, buffer: usize) {
        self.holders[buffer].idle();
        self.idle.push(buffer);
    }

    fn again(&mut self, buffer: usize) {
        if buffer >= self.ring {
            self.idle(buffer);
            return self.post(buffer, true);
        }
        self.holders[buffer].again();
        self.waiting.push(buffer);
        self.links[buffer] = self.batch.add(buffer);
        if !self.batch.take() {
            return;
        }
        // The device gets what waited, each once, and nothing waits any more.
        let chain: Vec<_> = std::iter::successors(Some(buffer), |&at| self.links[at])
            .take(self.ring + 1)
            .collect();
        self.waiting.reverse();
        assert_eq!(chain, self.waiting);
        self.queue.append(&mut self.waiting);
    }

    fn completed(&mut self, buffer: usize, step: Step) {
        let Step::Complete { keep, .. } = step else {
            return self.idle(buffer);
        };
        self.holders[buffer].reading();
        let holder = &self.holders[buffer];
        assert!(!holder.is_idle() && !holder.is_posted());
        // Nobody else gets what is being read.
        self.post(buffer, true);
        if keep {
            self.idle(buffer);
        } else {
            self.again(buffer);
        }
    }

    fn check(&self) {
        // So many may always wait, and so there is room in the queue for all.
        assert!(self.waiting.len() < EXTRA as usize - LARGE + 1);
        // Somebody has each, and nobody else.
        let mut holders = vec![None; self.holders.len()];
        for (list, idle) in [
            (&self.queue, false),
            (&self.waiting, false),
            (&self.idle, true),
        ] {
            for &buffer in list {
                assert_eq!(holders[buffer].replace(idle), None);
            }
        }
        for (holder, idle) in self.holders.iter().zip(holders) {
            assert_eq!(Some(holder.is_idle()), idle);
            assert_eq!(Some(!holder.is_posted()), idle);
        }
    }
}

/// Takes these steps with new buffers, of which the session wants `count` posted.
pub(crate) fn play(count: usize, steps: impl IntoIterator<Item = Step>) {
    let mut receives = Receives::new(count);
    for buffer in 0..receives.holders.len() {
        receives.post(buffer, true);
    }
    for step in steps {
        match step {
            Step::Post { buffer, taken } => {
                receives.post(buffer % receives.holders.len(), taken);
            }
            Step::Complete { request, .. } | Step::Flush { request } => {
                if receives.queue.is_empty() {
                    continue;
                }
                let at = request % receives.queue.len();
                let buffer = receives.queue.swap_remove(at);
                receives.completed(buffer, step);
            }
        }
        receives.check();
        // What was asked for is with the device, but for what somebody keeps.
        assert!(receives.queue.len() + receives.idle.len() >= count + LARGE);
    }
    // All that are idle can be posted at any time, and then nothing is missing.
    for buffer in 0..receives.holders.len() {
        receives.post(buffer, true);
    }
    receives.check();
    assert!(receives.idle.is_empty());
    assert!(receives.queue.len() >= count + LARGE);
}
