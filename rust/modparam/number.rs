// SPDX-License-Identifier: GPL-2.0

//! Numbers as an administrator writes them, as pure code.

use core::str::FromStr;

/// Reads a decimal number that is at least `min`. Nothing else is accepted: no
/// spaces, no other base.
pub(crate) fn parse<T: FromStr + PartialOrd>(text: &str, min: T) -> Option<T> {
    text.parse().ok().filter(|value| *value >= min)
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(modparam_number))]
mod tests {
    use super::*;

    #[test]
    fn unsigned() {
        let table = [
            ("1", Some(1)),
            ("512", Some(512)),
            ("4294967295", Some(u32::MAX)),
            ("0", None),
            ("4294967296", None),
            ("-1", None),
            ("", None),
            ("\n", None),
            ("5\n", None),
            (" 5", None),
            ("0x10", None),
            ("many", None),
        ];
        for (text, value) in table {
            assert_eq!(parse(text, 1u32), value);
        }
        assert_eq!(parse("0", 0u32), Some(0));
    }

    #[test]
    fn signed() {
        let table = [
            ("-3", Some(-3)),
            ("0", Some(0)),
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("-", None),
        ];
        for (text, value) in table {
            assert_eq!(parse(text, i32::MIN), value);
        }
    }
}
