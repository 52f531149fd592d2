// SPDX-License-Identifier: GPL-2.0

//! The module parameters: what they may be, and what they mean.
//!
//! Their names, types and defaults, which are those of the C driver, are in the module's
//! declaration. Reading and writing them is the business of the module loader.

use core::fmt;

/// Highest number of LUNs of a session.
pub(crate) const MAX_LUN: Bounds = Bounds {
    name: "max_lun",
    min: 1,
    max: u32::MAX,
};

/// Highest number of 512-byte sectors of a command. The device may allow less.
pub(crate) const MAX_SECTORS: Bounds = Bounds {
    name: "max_sectors",
    min: 1,
    max: u32::MAX,
};

/// The values that an unsigned parameter may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Name of the parameter.
    name: &'static str,
    /// Least value.
    min: u32,
    /// Greatest value.
    max: u32,
}

impl Bounds {
    /// Checks a value.
    pub(crate) fn check(&self, value: u32) -> Result<u32, Invalid<'_>> {
        if (self.min..=self.max).contains(&value) {
            Ok(value)
        } else {
            Err(Invalid {
                value,
                bounds: self,
            })
        }
    }
}

/// A value that a parameter cannot have. Its text names the value and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid<'a> {
    value: u32,
    bounds: &'a Bounds,
}

impl fmt::Display for Invalid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { name, min, max } = *self.bounds;
        write!(
            f,
            "{name}={} is invalid, allowed is a number from {min} to {max}",
            self.value
        )
    }
}

/// What is logged besides errors, each level more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing.
    Errors,
    /// Warnings.
    Warnings,
    /// What happens to connections.
    Info,
    /// Everything.
    Debug,
}

impl Verbosity {
    /// The meaning of a `debug_level`. Every number has one.
    pub(crate) const fn new(debug_level: i32) -> Self {
        match debug_level {
            i32::MIN..=0 => Self::Errors,
            1 => Self::Warnings,
            2 => Self::Info,
            3..=i32::MAX => Self::Debug,
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(ib_iser_params))]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for bounds in [MAX_LUN, MAX_SECTORS] {
            for value in [1, 512, u32::MAX] {
                assert_eq!(bounds.check(value), Ok(value));
            }
            let invalid = Invalid {
                value: 0,
                bounds: &bounds,
            };
            assert_eq!(bounds.check(0), Err(invalid));
        }
    }

    #[test]
    fn verbosity() {
        let table = [
            (i32::MIN, Verbosity::Errors),
            (-1, Verbosity::Errors),
            (0, Verbosity::Errors),
            (1, Verbosity::Warnings),
            (2, Verbosity::Info),
            (3, Verbosity::Debug),
            (i32::MAX, Verbosity::Debug),
        ];
        for (level, verbosity) in table {
            assert_eq!(Verbosity::new(level), verbosity);
        }
        assert!(Verbosity::Errors < Verbosity::Warnings);
        assert!(Verbosity::Warnings < Verbosity::Info);
        assert!(Verbosity::Info < Verbosity::Debug);
    }
}
