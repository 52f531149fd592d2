// SPDX-License-Identifier: GPL-2.0

//! The module parameters: their defaults, what they may be, and what they mean.
//!
//! Names, types and defaults are those of the C driver. Reading and writing them is the business
//! of the module loader.

use core::fmt;

/// Default of `always_register`: even memory that is one piece gets a region of its own.
pub(crate) const ALWAYS_REGISTER: bool = true;
/// Default of `pi_enable`: protection information is not offloaded.
pub(crate) const PI_ENABLE: bool = false;
/// Default of `debug_level`: errors alone are logged.
pub(crate) const DEBUG_LEVEL: i32 = 0;

/// Highest number of LUNs of a session.
pub(crate) const MAX_LUN: Bounds = Bounds {
    name: "max_lun",
    min: 1,
    max: u32::MAX,
    default: 512,
};

/// Highest number of 512-byte sectors of a command. The device may allow less.
pub(crate) const MAX_SECTORS: Bounds = Bounds {
    name: "max_sectors",
    min: 1,
    max: u32::MAX,
    default: 1024,
};

/// The values that an unsigned parameter may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Name of the parameter.
    pub(crate) name: &'static str,
    /// Least value.
    pub(crate) min: u32,
    /// Greatest value.
    pub(crate) max: u32,
    /// Value when nobody sets it.
    pub(crate) default: u32,
}

impl Bounds {
    /// Checks a value.
    pub(crate) fn check(&self, value: u32) -> Result<u32, Invalid<'static>> {
        if (self.min..=self.max).contains(&value) {
            Ok(value)
        } else {
            Err(self.invalid(Given::Number(value)))
        }
    }

    /// Reads and checks a value: decimal digits, perhaps a sign before and a newline behind them,
    /// as the kernel's own parsers take it.
    pub(crate) fn parse<'a>(&self, text: &'a str) -> Result<u32, Invalid<'a>> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        match line.parse() {
            Ok(value) => self.check(value),
            Err(_) => Err(self.invalid(Given::Text(line))),
        }
    }

    const fn invalid<'a>(&self, given: Given<'a>) -> Invalid<'a> {
        Invalid {
            given,
            bounds: *self,
        }
    }
}

/// What was given for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given<'a> {
    Number(u32),
    Text(&'a str),
}

/// A value that a parameter cannot have. Its text names the value and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid<'a> {
    given: Given<'a>,
    bounds: Bounds,
}

impl fmt::Display for Invalid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { name, min, max, .. } = self.bounds;
        match self.given {
            Given::Number(value) => write!(f, "{name}={value}")?,
            Given::Text(text) => write!(f, "{name}={text:?}")?,
        }
        write!(f, " is invalid, allowed is a number from {min} to {max}")
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
        let table = [
            ("1", Some(1)),
            ("512\n", Some(512)),
            ("+7", Some(7)),
            ("4294967295", Some(u32::MAX)),
            ("0", None),
            ("0\n", None),
            ("4294967296", None),
            ("-1", None),
            ("", None),
            ("\n", None),
            ("5\n\n", None),
            (" 5", None),
            ("0x10", None),
            ("many", None),
        ];
        for bounds in [MAX_LUN, MAX_SECTORS] {
            for (text, value) in table {
                assert_eq!(bounds.parse(text).ok(), value);
            }
            assert_eq!(bounds.check(bounds.default), Ok(bounds.default));
            assert!(bounds.check(0).is_err());
        }
    }

    #[test]
    fn verbosity() {
        let table = [
            (i32::MIN, Verbosity::Errors),
            (-1, Verbosity::Errors),
            (DEBUG_LEVEL, Verbosity::Errors),
            (1, Verbosity::Warnings),
            (2, Verbosity::Info),
            (3, Verbosity::Debug),
            (i32::MAX, Verbosity::Debug),
        ];
        for (level, verbosity) in table {
            assert_eq!(Verbosity::new(level), verbosity);
        }
    }
}
