// SPDX-License-Identifier: GPL-2.0

//! What the crates above agree on without knowing each other.
//!
//! `rdma` maps memory that `iscsi` lends it. Neither sees the other, so the promise that
//! passes between them is a trait of this crate.

use kernel::bindings::scatterlist;

/// A scatterlist that is lent for as long as its owner lives.
///
/// Who maps the list for a device keeps the owner until the device is done with the memory,
/// and drops it then; that is all the bookkeeping there is.
///
/// # Safety
///
/// From the moment the owner exists until it is dropped:
///
/// - [`sgl`] returns a pointer to a valid, properly terminated list of [`nents`] entries, always
///   the same one, or [`nents`] is zero;
/// - the list, and the pages it names, stay allocated, unmoved and in no other use: nothing else
///   frees them, hands them to another request, or gives them back to user space as completed;
/// - nothing but the holder of the owner changes the DMA fields of the list;
/// - [`len`] is the sum of the lengths of those entries that hold data, in bytes, or less.
///
/// Dropping the owner on any CPU must be allowed, in every context for which the owner's type
/// documents it.
///
/// [`sgl`]: ScatterlistOwner::sgl
/// [`nents`]: ScatterlistOwner::nents
/// [`len`]: ScatterlistOwner::len
pub unsafe trait ScatterlistOwner: Send {
    /// Returns the first entry.
    fn sgl(&self) -> *mut scatterlist;

    /// Returns the number of entries.
    fn nents(&self) -> u32;

    /// Returns the length of the data in bytes.
    fn len(&self) -> u32;

    /// Returns whether there is no data.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
