// SPDX-License-Identifier: GPL-2.0

//! Messages to the administrator, rate-limited: a target that is gone and a daemon that
//! tries again must not fill the log.

/// As `pr_err!`, rate-limited.
#[macro_export]
macro_rules! err {
    ($($arg:tt)*) => {
        if $crate::message_allowed() {
            ::kernel::pr_err!($($arg)*)
        }
    };
}

/// As `pr_notice!`, rate-limited.
#[macro_export]
macro_rules! notice {
    ($($arg:tt)*) => {
        if $crate::message_allowed() {
            ::kernel::pr_notice!($($arg)*)
        }
    };
}
