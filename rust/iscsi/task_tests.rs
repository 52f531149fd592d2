// SPDX-License-Identifier: GPL-2.0

//! Which responses may still reach a task: those to what it is, not those to what it was.

#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(iscsi_task))]
mod tests {
    use crate::{bindings, task::TaskData, vtable::cleanup_task};
    use core::ptr::NonNull;
    use kernel::prelude::*;

    /// A task and what is behind it.
    struct Task {
        task: bindings::iscsi_task,
        data: TaskData,
    }

    impl Task {
        fn new() -> Result<KBox<Self>> {
            let mut task = KBox::new(
                Self {
                    task: bindings::iscsi_task::default(),
                    data: TaskData::new(),
                },
                GFP_KERNEL,
            )?;
            task.task.dd_data = (&raw mut task.data).cast();
            Ok(task)
        }

        fn raw(&mut self) -> NonNull<bindings::iscsi_task> {
            NonNull::from(&mut self.task)
        }
    }

    #[test]
    fn late_responses_are_refused() -> Result {
        let (mut first, mut second) = (Task::new()?, Task::new()?);
        let mut cmds = [first.raw().as_ptr(), second.raw().as_ptr()];
        let mut session = KBox::new(bindings::iscsi_session::default(), GFP_KERNEL)?;
        session.cmds = cmds.as_mut_ptr();
        session.cmds_max = 2;
        let session = NonNull::from(&mut *session);
        // SAFETY: The session has two tasks with our data, and nobody else knows it.
        let is_in = |tag, incarnation| unsafe { TaskData::is_in(session, tag, incarnation) };
        // SAFETY: As above.
        let sent = unsafe { TaskData::incarnation(first.raw()) };
        assert!(is_in(0, sent));
        // It is freed, and carries another command.
        // SAFETY: As above.
        unsafe { cleanup_task(first.raw().as_ptr()) };
        // SAFETY: As above.
        let again = unsafe { TaskData::incarnation(first.raw()) };
        for (tag, incarnation, current) in [
            (0, sent, false),
            (0, again, true),
            // The other task is what it was.
            (1, sent, true),
            (1, again, false),
            // No such task.
            (2, sent, false),
            (u32::MAX, again, false),
            // The session's age is in the upper bits.
            (0x3000_0000, again, true),
        ] {
            assert_eq!(is_in(tag, incarnation), current);
        }
        Ok(())
    }
}
