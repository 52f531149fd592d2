// SPDX-License-Identifier: GPL-2.0

//! The private data that iSER puts into the messages of the connection manager.
//!
//! Four bytes, of which only the first means something (the iSER annex of the InfiniBand
//! architecture, A12): each side says what it does *not* do. RFC 7145 leaves this to the transport.

/// Zero-based virtual addresses are not supported.
const ZBVA_NOT_SUPPORTED: u8 = 0x80;
/// Send with Invalidate is not supported.
const SEND_WITH_INVALIDATE_NOT_SUPPORTED: u8 = 0x40;

/// Length of the private data.
const LEN: usize = 4;

/// What the initiator says in its connection request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whether the target may invalidate the remote key of a command with its response.
    pub(crate) remote_invalidation: bool,
}

impl Request {
    /// The bytes to send. Base offsets are always plain addresses, as every target expects.
    pub(crate) const fn encode(self) -> [u8; LEN] {
        let mut flags = ZBVA_NOT_SUPPORTED;
        if !self.remote_invalidation {
            flags |= SEND_WITH_INVALIDATE_NOT_SUPPORTED;
        }
        [flags, 0, 0, 0]
    }

    /// What the target's answer to this request has settled.
    pub(crate) fn negotiate(self, answer: Response) -> bool {
        self.remote_invalidation && answer.remote_invalidation
    }
}

/// What the target says when it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Whether the target may use Send with Invalidate.
    pub(crate) remote_invalidation: bool,
}

/// Reads the private data of the target's answer.
///
/// Some transports hand on what was sent, others a field of fixed size with zeroes behind, so any
/// length is possible. A target that says nothing, or too little to be iSER's, is not taken to
/// invalidate. One that sends nothing over a transport that pads cannot be told from one that
/// sends zeroes, and that means: it may invalidate. The driver looks at each response anyway.
pub(crate) fn parse_response(data: &[u8]) -> Response {
    let remote_invalidation = match data.first_chunk::<LEN>() {
        Some([flags, ..]) => flags & SEND_WITH_INVALIDATE_NOT_SUPPORTED == 0,
        None => false,
    };
    Response {
        remote_invalidation,
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_cm_data))]
mod tests {
    use super::*;

    #[test]
    fn request_bytes() {
        let table = [(true, [0x80, 0, 0, 0]), (false, [0xc0, 0, 0, 0])];
        for (remote_invalidation, bytes) in table {
            let request = Request {
                remote_invalidation,
            };
            assert_eq!(request.encode(), bytes);
        }
    }

    #[test]
    fn answers() {
        let padded = [0u8; 196];
        let table: [(&[u8], bool); 8] = [
            // The Linux target with and without Send with Invalidate.
            (&[0x80, 0, 0, 0], true),
            (&[0xc0, 0, 0, 0], false),
            (&[0x40, 0, 0, 0], false),
            // Unknown bits and bytes mean nothing.
            (&[0xbf, 1, 2, 3, 4], true),
            (&padded, true),
            (&[], false),
            (&[0x80], false),
            (&[0x80, 0, 0], false),
        ];
        for (data, expected) in table {
            let answer = parse_response(data);
            assert_eq!(answer.remote_invalidation, expected);
            for remote_invalidation in [false, true] {
                let request = Request {
                    remote_invalidation,
                };
                assert_eq!(request.negotiate(answer), remote_invalidation && expected);
            }
        }
    }
}
