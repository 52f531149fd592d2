// SPDX-License-Identifier: GPL-2.0

//! How slow the machine is: what the tests multiply their own limits with, too.

use std::{sync::OnceLock, time::Duration};

fn factor(text: Option<&str>) -> f64 {
    text.and_then(|text| text.parse().ok())
        .filter(|factor| (1.0..=1000.0).contains(factor))
        .unwrap_or(1.0)
}

/// A time for this machine: ISER_SLOWNESS times as long.
pub fn slow(time: Duration) -> Duration {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    let text = || std::env::var("ISER_SLOWNESS").ok();
    time.mul_f64(*FACTOR.get_or_init(|| factor(text().as_deref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        let table = [
            (None, 1.0),
            (Some("6"), 6.0),
            (Some("1.5"), 1.5),
            (Some("fast"), 1.0),
            (Some("0"), 1.0),
            (Some("-2"), 1.0),
            (Some("inf"), 1.0),
        ];
        for (text, expected) in table {
            assert_eq!(factor(text), expected, "{text:?}");
        }
    }
}
