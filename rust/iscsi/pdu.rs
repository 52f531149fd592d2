// SPDX-License-Identifier: GPL-2.0

//! A PDU of the target, and the task that it is about.

use crate::bhs::Bhs;
use crate::tag::ended;

/// A PDU of the target.
///
/// # Invariants
///
/// libiscsi ends no task with this PDU but that of `tag`, and none if there is none.
#[derive(Clone, Copy)]
pub struct Pdu<'a> {
    pub(crate) bhs: &'a Bhs,
    pub(crate) data: &'a [u8],
    tag: Option<u32>,
}

impl<'a> Pdu<'a> {
    /// `data` is the data segment without padding.
    #[inline(always)]
    pub fn new(bhs: &'a Bhs, data: &'a [u8]) -> Self {
        // INVARIANT: That is what `ended` says.
        Self {
            bhs,
            data,
            tag: ended(bhs.as_bytes(), data),
        }
    }

    /// The Initiator Task Tag of the task that the PDU ends, if libiscsi finds it good.
    #[inline(always)]
    pub fn ends(&self) -> Option<u32> {
        self.tag
    }
}
