// SPDX-License-Identifier: GPL-2.0

//! The basic header segment of a PDU, as 48 aligned bytes.

use crate::bindings;
use crate::tag::BHS_LEN;
use core::ptr;

/// A basic header segment, as it is on the wire.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub struct Bhs(pub [u8; BHS_LEN]);

const _: () = assert!(size_of::<bindings::iscsi_hdr>() == BHS_LEN);
const _: () = assert!(align_of::<bindings::iscsi_hdr>() <= align_of::<Bhs>());
const _: () = assert!(size_of::<Bhs>() == BHS_LEN);

impl Bhs {
    /// A header of zeroes.
    pub const ZERO: Self = Self([0; BHS_LEN]);

    /// Copies a header.
    #[inline]
    pub const fn new(bytes: &[u8; BHS_LEN]) -> Self {
        Self(*bytes)
    }

    /// Looks at the first 48 bytes of `bytes` as a header, without a copy.
    ///
    /// Returns [`None`] if there are fewer, or if they are not aligned to 4 bytes.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Option<&Self> {
        let ptr = bytes.as_ptr().cast::<Self>();
        if bytes.len() < BHS_LEN || !ptr.is_aligned() {
            return None;
        }
        // SAFETY: Length and alignment were just checked, every bit pattern is valid, and the
        // lifetime is that of `bytes`.
        Some(unsafe { &*ptr })
    }

    /// Returns the bytes.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; BHS_LEN] {
        &self.0
    }

    #[inline]
    fn opcode(&self) -> u32 {
        let [opcode, ..] = self.0;
        u32::from(opcode) & bindings::ISCSI_OPCODE_MASK
    }

    /// Whether this is a Login or Text Request.
    pub(crate) fn is_negotiation_request(&self) -> bool {
        [bindings::ISCSI_OP_LOGIN, bindings::ISCSI_OP_TEXT].contains(&self.opcode())
    }

    /// Whether this is a Login or Text Response.
    #[inline]
    pub(crate) fn is_negotiation_response(&self) -> bool {
        [bindings::ISCSI_OP_LOGIN_RSP, bindings::ISCSI_OP_TEXT_RSP].contains(&self.opcode())
    }

    /// Returns the header as libiscsi takes it. It must not be written through.
    #[inline]
    pub(crate) fn as_hdr(&self) -> *mut bindings::iscsi_hdr {
        ptr::from_ref(self).cast_mut().cast()
    }
}
