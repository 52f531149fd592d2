// SPDX-License-Identifier: GPL-2.0

//! The states of a connection, and which may follow which.
//!
//! A connection goes forward only: it is resolved, connected, bound to an iSCSI connection,
//! terminated and down. Any state may be cut short. Reconnecting makes a new connection.

use core::fmt;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum ConnState {
    /// Nothing was asked of the connection manager yet.
    Idle,
    /// The target's address is being resolved to a device and port.
    ResolvingAddress,
    /// The path to it is being resolved.
    ResolvingRoute,
    /// The queue pair exists, the connection request is on its way.
    Connecting,
    /// The target has accepted.
    Established,
    /// An iSCSI connection is bound to it.
    Bound,
    /// It is being torn down: nothing new is posted, the queue pair drains.
    Terminating,
    /// The queue pair is drained or never was. The end.
    Down,
}

/// What `ep_poll` has to say of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// It can be bound.
    Ready,
    /// It is under way.
    NotYet,
    /// It will never be ready.
    Failed,
}

impl ConnState {
    /// Whether the connection is being torn down, or was.
    #[inline]
    pub(crate) const fn is_ending(self) -> bool {
        matches!(self, Self::Terminating | Self::Down)
    }

    /// Whether the target has accepted, and the connection is not being torn down.
    #[inline]
    pub(crate) const fn is_connected(self) -> bool {
        matches!(self, Self::Established | Self::Bound)
    }

    /// The answer to `ep_poll`.
    pub(crate) const fn poll(self) -> Poll {
        match self {
            Self::Established | Self::Bound => Poll::Ready,
            Self::Terminating | Self::Down => Poll::Failed,
            Self::Idle | Self::ResolvingAddress | Self::ResolvingRoute | Self::Connecting => {
                Poll::NotYet
            }
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::ResolvingAddress => "resolving address",
            Self::ResolvingRoute => "resolving route",
            Self::Connecting => "connecting",
            Self::Established => "established",
            Self::Bound => "bound",
            Self::Terminating => "terminating",
            Self::Down => "down",
        })
    }
}

/// The states that may follow a state.
const fn successors(from: ConnState) -> u8 {
    use ConnState::*;

    const END: u8 = Terminating.bit() | Down.bit();

    match from {
        Idle => ResolvingAddress.bit() | END,
        ResolvingAddress => ResolvingRoute.bit() | END,
        ResolvingRoute => Connecting.bit() | END,
        Connecting => Established.bit() | END,
        // Work requests are posted from here on, so the queue pair has to drain first.
        Established => Bound.bit() | Terminating.bit(),
        Bound => Terminating.bit(),
        Terminating => Down.bit(),
        Down => 0,
    }
}

/// Whether a connection may go from one state to the other.
const fn allowed(from: ConnState, to: ConnState) -> bool {
    successors(from) & to.bit() != 0
}

/// A transition that the table does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The state the connection is in and stays in.
    pub(crate) from: ConnState,
    /// The state that was asked for.
    pub(crate) to: ConnState,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection cannot go from {} to {}", self.from, self.to)
    }
}

/// The state machine of one connection.
#[derive(Debug)]
pub(crate) struct Machine {
    state: ConnState,
}

impl Machine {
    /// An idle connection.
    pub(crate) const fn new() -> Self {
        Self {
            state: ConnState::Idle,
        }
    }

    /// Where the connection is.
    #[inline]
    pub(crate) const fn state(&self) -> ConnState {
        self.state
    }

    /// Goes to another state and returns the old one.
    ///
    /// Teardown comes from many sides, in any order, so asking for the end again is no error: a
    /// connection that is `Terminating` or `Down` accepts `Terminating`, one that is `Down` accepts
    /// `Down`, and both stay as they are. Whoever asks for `Terminating` and gets an old state that
    /// [is not ending](ConnState::is_ending) is the first and has the work to do.
    pub(crate) fn advance(&mut self, to: ConnState) -> Result<ConnState, Refused> {
        let from = self.state;
        if to.is_ending() && from >= to {
            return Ok(from);
        }
        if !allowed(from, to) {
            return Err(Refused { from, to });
        }
        self.state = to;
        Ok(from)
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_state))]
mod tests {
    use super::*;

    const ALL: [ConnState; 8] = [
        ConnState::Idle,
        ConnState::ResolvingAddress,
        ConnState::ResolvingRoute,
        ConnState::Connecting,
        ConnState::Established,
        ConnState::Bound,
        ConnState::Terminating,
        ConnState::Down,
    ];

    /// One row for each old state, one column for each new one, both in the order of `ALL`.
    const TABLE: [&[u8; 8]; 8] = [
        b".A....AA",
        b"..A...AA",
        b"...A..AA",
        b"....A.AA",
        b".....AA.",
        b"......A.",
        // Asking for the end again changes nothing and is no error.
        b"......=A",
        b"......==",
    ];

    #[test]
    fn every_transition() {
        for (row, from) in TABLE.iter().zip(ALL) {
            for (&expected, to) in row.iter().zip(ALL) {
                let mut machine = Machine { state: from };
                let result = machine.advance(to);

                assert_eq!(allowed(from, to), expected == b'A');
                if expected == b'.' {
                    assert_eq!(result, Err(Refused { from, to }));
                } else {
                    assert_eq!(result, Ok(from));
                }
                let moved = expected == b'A';
                assert_eq!(machine.state(), if moved { to } else { from });
            }
        }
    }

    #[test]
    fn what_userspace_is_told() {
        use Poll::{Failed, NotYet, Ready};

        let answers = [NotYet, NotYet, NotYet, NotYet, Ready, Ready, Failed, Failed];
        for (state, answer) in ALL.into_iter().zip(answers) {
            assert_eq!(state.poll(), answer);
            assert_eq!(state.is_ending(), answer == Failed);
            assert_eq!(state.is_connected(), answer == Ready);
        }
        assert_eq!(Machine::new().state(), ConnState::Idle);
    }
}
