// SPDX-License-Identifier: GPL-2.0

//! Decimal numbers, digit by digit.

use crate::number::parse;

/// The number that a text is, by rules of its own.
fn value(text: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let (sign, digits) = match text.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] if *range.start() < 0 => (-1, digits),
        digits => (1, digits),
    };
    let mut sum = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Far above either type, and far from the end of this one.
        sum = (sum * 10 + i64::from(digit - b'0')).min(1 << 40);
    }
    let found = sign * sum;
    (!digits.is_empty() && range.contains(&found)).then_some(found)
}

/// Reads a text as both kinds of numbers that parameters have.
pub(crate) fn agree(text: &str, min: i32) {
    let unsigned = min.unsigned_abs();
    assert_eq!(
        parse(text, unsigned).map(i64::from),
        value(text, 0..=i64::from(u32::MAX)).filter(|v| *v >= i64::from(unsigned)),
    );
    assert_eq!(
        parse(text, min).map(i64::from),
        value(text, i64::from(i32::MIN)..=i64::from(i32::MAX)).filter(|v| *v >= i64::from(min)),
    );
}
