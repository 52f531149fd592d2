// SPDX-License-Identifier: GPL-2.0

//! A command slot from one command to the next: its region gets another key each time, also when
//! mapping fails, and its memory is let go once.

#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_slot))]
mod tests {
    use crate::{
        bindings,
        channel::{Channel, ChannelOps, Next, Received},
        cm::{self, Handler},
        dma::{Direction, SgMapping},
        failure::Failure,
        fake::{Device, FakeRegion, List, FAILING},
        prepared::Claimed,
        response::Violation,
        slot::{Memory, Owned, Slot},
        slot_state::{Action, SlotState},
        ScatterlistOwner,
    };
    use core::{
        mem::ManuallyDrop,
        ptr::NonNull,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
    };
    use kernel::{
        prelude::*,
        sync::{Arc, ArcBorrow},
    };

    /// An upper layer that is never called.
    struct Ops;

    impl Handler for Ops {
        fn event(_id: ArcBorrow<'_, cm::Id<Self>>, _event: &cm::Event<'_, Self>) {}
    }

    impl ChannelOps for Ops {
        type Owner = Owner;
        type Token = ();
        type Cm = Self;
        const HEADER_LEN: usize = 76;

        fn received(_channel: &Channel<Self>, _message: &Received<'_, Self>) -> Next {
            Next::Keep
        }

        fn sent(_channel: &Channel<Self>, _token: (), _ok: bool) {}

        fn failed(_channel: &Channel<Self>, _failure: Failure) {}
    }

    /// Memory that counts how often it was let go.
    struct Owner(List, Arc<AtomicU32>);

    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, Relaxed);
        }
    }

    // SAFETY: Passed on.
    unsafe impl ScatterlistOwner for Owner {
        fn sgl(&self) -> *mut bindings::scatterlist {
            self.0.sgl()
        }

        fn nents(&self) -> u32 {
            self.0.nents()
        }

        fn len(&self) -> u32 {
            self.0.len()
        }
    }

    unsafe extern "C" fn done(_cq: *mut bindings::ib_cq, _wc: *mut bindings::ib_wc) {}

    /// A slot with this region. Dropping it would drop the region.
    fn slot(fake: &mut FakeRegion) -> ManuallyDrop<Slot<Ops>> {
        let region = ManuallyDrop::into_inner(fake.region());
        let header = NonNull::dangling();
        ManuallyDrop::new(Slot::new(header, 0, region, done, done, done))
    }

    /// Claims the slot for a command with memory of this owner, and maps so many entries for the
    /// region. Returns the key, and whether that went well.
    ///
    /// # Safety
    ///
    /// The slot must be free and the caller its sender; `dev` must outlive what the slot owns.
    unsafe fn begin(
        slot: &Slot<Ops>,
        dev: *mut bindings::ib_device,
        owner: Owner,
        entries: i32,
    ) -> Result<(u32, bool)> {
        // SAFETY: By the contract.
        unsafe {
            assert!(slot.claim(SlotState::new(false)));
            let mapping = SgMapping::new(dev, &owner, Direction::FromDevice).ok_or(ENOMEM)?;
            *slot.owned() = Owned::Memory(Memory {
                mapping,
                _owner: owner,
            });
            let region = &mut *slot.region.get();
            let mapped = region.map((core::ptr::null_mut(), entries)).is_ok();
            Ok((region.rkey(), mapped))
        }
    }

    /// Says that the command is posted, with a key or without, and so many sends.
    ///
    /// # Safety
    ///
    /// The caller must be the sender that has claimed the slot.
    unsafe fn publish(slot: &Slot<Ops>, key_valid: bool, sends: u16) {
        let mut state = slot.state();
        assert!(state.posted(key_valid, sends).is_ok());
        // SAFETY: By the contract.
        unsafe { slot.publish(state) };
    }

    #[test]
    fn used_again_after_a_failed_map() -> Result {
        let mut device = Device::with_dma()?;
        let mut fake = FakeRegion::new(0xabcd_ef10)?;
        let slot = slot(&mut fake);
        let dropped = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        let mut keys = KVec::with_capacity(6, GFP_KERNEL)?;
        // Entries of one command after another, whether they map.
        let table = [
            (4, true),
            (5, false),
            (FAILING, false),
            (3, true),
            (5, false),
            (1, true),
        ];
        for (commands, (entries, maps)) in (0..).zip(table) {
            let owner = Owner(List::new(&[512, 512])?, dropped.clone());
            // SAFETY: The last command is over, and there is no other sender.
            let (key, mapped) = unsafe { begin(&slot, device.raw(), owner, entries) }?;
            assert_eq!(mapped, maps);
            assert!(!keys.contains(&key));
            keys.push(key, GFP_KERNEL)?;
            assert_eq!(dropped.load(Relaxed), commands);
            if !mapped {
                // What `Prepared` does when it is dropped.
                drop(Claimed(&slot));
                assert_eq!(dropped.load(Relaxed), commands + 1);
                continue;
            }
            // SAFETY: Just claimed.
            unsafe { publish(&slot, true, 1) };
            let fresh = SlotState::new(false);
            // The memory stays until the response, the send and the invalidation have come.
            let response = slot.respond(0, None);
            assert!(response == Ok((Action::Wait, 0)) && slot.is_sending());
            // SAFETY: We are the sender.
            assert!(unsafe { !slot.claim(fresh) });
            let sent = slot.send_done().ok_or(EINVAL)?;
            assert!(slot.settle(sent) == Action::LocalInvalidate);
            // SAFETY: We are the sender.
            assert!(unsafe { !slot.claim(fresh) });
            assert!(slot.update(SlotState::on_invalidated) == Action::Release);
            assert_eq!(dropped.load(Relaxed), commands);
            // SAFETY: As we are told.
            drop(unsafe { slot.release() });
            assert_eq!(dropped.load(Relaxed), commands + 1);
        }
        Ok(())
    }

    #[test]
    fn given_up_without_a_response() -> Result {
        let mut device = Device::with_dma()?;
        let mut fake = FakeRegion::new(1)?;
        let slot = slot(&mut fake);
        let dropped = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        for commands in 0..3 {
            let owner = Owner(List::new(&[512])?, dropped.clone());
            // SAFETY: Nothing of the last command is in flight, and there is no other sender.
            unsafe { begin(&slot, device.raw(), owner, 1) }?;
            // What the one before has left went with its slot.
            assert_eq!(dropped.load(Relaxed), commands);
            // SAFETY: Just claimed.
            unsafe { publish(&slot, false, 1) };
            assert!(slot.send_done().is_none());
            assert!(!slot.is_sending());
        }
        // SAFETY: As above; nothing was posted.
        unsafe {
            assert!(slot.claim(SlotState::new(false)));
            slot.give_back();
        }
        assert_eq!(dropped.load(Relaxed), 3);
        Ok(())
    }

    #[test]
    fn late_response_has_the_cookie_of_its_command() -> Result {
        let mut fake = FakeRegion::new(1)?;
        let slot = slot(&mut fake);
        // How many commands the slot has had when the response comes, and what that says.
        for (commands, response) in [
            (0, Err(Violation::ResponseUnsent)),
            (1, Ok((Action::Release, 1))),
            (2, Ok((Action::Release, 2))),
        ] {
            for number in 1..=commands {
                // SAFETY: The one before has no memory, and there is no other sender.
                unsafe { assert!(slot.claim(SlotState::new(false))) };
                // Nothing is accepted for a command before it is sent.
                assert_eq!(slot.respond(0, None), Err(Violation::ResponseUnsent));
                slot.cookie.store(number, Relaxed);
                // SAFETY: Just claimed.
                unsafe { publish(&slot, false, 0) };
            }
            assert_eq!(slot.respond(0, None), response);
            if response.is_ok() {
                assert_eq!(slot.respond(0, None), Err(Violation::DuplicateResponse));
                // SAFETY: As we were told.
                drop(unsafe { slot.release() });
            }
        }
        Ok(())
    }

    /// Begins a command of this key, and says that it is posted.
    fn send(slot: &Slot<Ops>, key: u32, key_valid: bool, sends: u16) {
        // SAFETY: There is no other sender.
        unsafe {
            assert!(slot.claim(SlotState::new(true)));
            slot.rkey.store(key, Relaxed);
            slot.tag.store(TAG, Relaxed);
            publish(slot, key_valid, sends);
        }
    }

    const TAG: u32 = 7;

    #[test]
    fn event_is_written_for_its_command_alone() -> Result {
        let mut fake = FakeRegion::new(1)?;
        let slot = slot(&mut fake);
        // With a key that dies first, and without one: then the slot is claimed from an answer.
        for (key, with_key) in [(1, true), (2, false), (3, true)] {
            send(&slot, key, with_key, 0);
            let own = key + 10;
            let runs = AtomicU32::new(0);
            let read = slot.state();
            let seen = slot.update(|state| {
                if runs.fetch_add(1, Relaxed) == 0 {
                    // Held up here, while the command is given up and the slot used again.
                    if with_key {
                        assert!(slot.update(SlotState::on_abort) == Action::LocalInvalidate);
                        assert!(slot.update(SlotState::on_invalidated) == Action::Release);
                        // SAFETY: As we are told.
                        drop(unsafe { slot.release() });
                    }
                    send(&slot, own, true, 0);
                }
                *state
            });
            assert_eq!(runs.load(Relaxed), 2);
            assert!(seen == slot.state() && !seen.is_of(read));
            // A response held up as long: what is dead is the first one's key, if it had any. The
            // second one's memory stays, whatever is there to compare with by then.
            for invalidated in [None, Some(key), Some(own)] {
                let response = slot.respond_in(read, TAG, invalidated);
                assert!(response.is_err());
                assert!(slot.state() == seen);
            }
            let response = slot.respond(TAG + 1, Some(own));
            assert_eq!(response, Err(Violation::UnknownCommand));
            let (key, response) = (key, slot.respond(TAG, Some(key)));
            assert_eq!(response, Err(Violation::ForeignKey { key, own }));
            assert!(slot.respond(TAG, Some(own)) == Ok((Action::Release, 0)));
            // SAFETY: As we are told.
            drop(unsafe { slot.release() });
        }
        Ok(())
    }

    #[test]
    fn settled_by_another_processor() -> Result {
        let mut fake = FakeRegion::new(1)?;
        let slot = slot(&mut fake);
        send(&slot, 1, false, 2);
        assert!(slot.respond(TAG, None) == Ok((Action::Wait, 0)));
        let first = slot.send_done().ok_or(EINVAL)?;
        let last = slot.send_done().ok_or(EINVAL)?;
        // Between the last send and what follows the slot is not free: its owner is not told yet.
        // SAFETY: We are the sender.
        assert!(unsafe { !slot.claim(SlotState::new(true)) });
        assert!(slot.settle(last) == Action::Release);
        // SAFETY: As we are told.
        drop(unsafe { slot.release() });
        // The one that was held up finds another command, in the state that it was to settle.
        send(&slot, 2, false, 1);
        assert!(slot.respond(TAG, None) == Ok((Action::Wait, 0)));
        let sent = slot.send_done().ok_or(EINVAL)?;
        assert!(slot.settle(first) == Action::Nothing);
        assert!(slot.settle(sent) == Action::Release);
        Ok(())
    }

    #[test]
    fn what_was_not_sent_has_a_number_of_its_own() -> Result {
        let mut fake = FakeRegion::new(1)?;
        let slot = slot(&mut fake);
        let mut states = KVec::with_capacity(8, GFP_KERNEL)?;
        for _ in 0..2 {
            // SAFETY: There is no other sender; the slot is published before it is taken back.
            unsafe {
                assert!(slot.claim(SlotState::new(true)));
                states.push(slot.state(), GFP_KERNEL)?;
                slot.give_back();
                states.push(slot.state(), GFP_KERNEL)?;
                assert!(slot.claim(SlotState::new(true)));
                publish(&slot, false, 1);
                states.push(slot.state(), GFP_KERNEL)?;
                assert!(slot.take_back());
                states.push(slot.state(), GFP_KERNEL)?;
            }
        }
        let mut rest = &states[..];
        while let [first, more @ ..] = rest {
            assert!(more.iter().all(|state| !state.is_of(*first)));
            rest = more;
        }
        Ok(())
    }

    #[test]
    fn refused_by_the_queue_pair() -> Result {
        let mut device = Device::with_dma()?;
        let mut fake = FakeRegion::new(1)?;
        let slot = slot(&mut fake);
        let dropped = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        for (answered, gone) in [(false, 1), (true, 1)] {
            let owner = Owner(List::new(&[512])?, dropped.clone());
            // SAFETY: The slot is free, and there is no other sender.
            let (key, _) = unsafe { begin(&slot, device.raw(), owner, 1) }?;
            // SAFETY: Just claimed.
            unsafe { publish(&slot, true, 1) };
            if answered {
                let response = slot.respond(0, None);
                assert!(response == Ok((Action::Wait, 0)));
            }
            // SAFETY: Published by us; nothing was posted.
            assert_eq!(unsafe { slot.take_back() }, !answered);
            // Of an answered one the memory stays until the drain.
            assert_eq!(dropped.load(Relaxed), gone);
        }
        assert!(slot.update(SlotState::on_drained) == Action::Release);
        // SAFETY: As we are told.
        drop(unsafe { slot.release() });
        assert_eq!(dropped.load(Relaxed), 2);
        Ok(())
    }
}
