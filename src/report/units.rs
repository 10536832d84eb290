//! Numbers as a reader likes them: three significant digits, a unit that fits, thousands apart.

use std::time::Duration;

use crate::estimate::Interval;

/// Nanoseconds, hundreds of them at most, up to seconds.
const UNITS: [(f64, &str); 4] = [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];

/// A time to three significant digits: `41.2 ms`.
pub(super) fn time(time: Duration) -> String {
    nanoseconds(time.as_nanos() as f64)
}

/// The same, with a mark where it is known only to be at least so long.
pub(super) fn time_or_more(least: Duration, is_at_least: bool) -> String {
    if is_at_least { format!("≥ {}", time(least)) } else { time(least) }
}

/// The same from nanoseconds, which may be negative or a fraction: `−1.20 ms`.
pub(super) fn nanoseconds(ns: f64) -> String {
    let sign = if ns < 0.0 { "−" } else { "" };
    let ns = ns.abs();
    // 999.5 µs would be rounded to 1000 µs: that is 1.00 ms.
    let fits = |&&(unit, _): &&(f64, &str)| ns / unit < 999.5;
    let (unit, name) = UNITS.iter().find(fits).unwrap_or(&UNITS[3]);
    let value = ns / unit;
    if *name == "ns" && (value.fract() == 0.0 || value >= 100.0) {
        return format!("{sign}{value:.0} ns");
    }
    format!("{sign}{} {name}", three_digits(value))
}

/// A time on an axis, a round one: `10 ms`.
pub(super) fn tick(ns: f64) -> String {
    let (unit, name) = UNITS.iter().rev().find(|(unit, _)| ns >= unit * 0.999).unwrap_or(&UNITS[0]);
    format!("{} {name}", count((ns / unit).round() as u64))
}

/// A value to three significant digits, and all digits before the point: `41.2`, `1,234`.
pub(super) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => return whole(value),
    };
    format!("{value:.decimals$}").replace('-', "−")
}

fn whole(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}", count(value.abs().round() as u64))
}

/// A count with its thousands apart: `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as percent: `65 %`, and `99.98 %` where 100 % would be untrue.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", percent_digits(share, decimals_near_an_end(share)))
}

/// A share in percent with as many digits as its bounds have: `65 %`, `65.4 %`.
pub(super) fn percent_beside(share: f64, bounds: Option<Interval>) -> String {
    let decimals = bounds.map_or(0, decimals_of).max(decimals_near_an_end(share));
    format!("{} %", percent_digits(share, decimals))
}

/// The bounds of a share in percent: `64–66 %`, `−3 to 2 %`; with a decimal where they are close to each other or
/// to all there is.
pub(super) fn percent_range(share: Interval) -> String {
    let decimals = decimals_of(share);
    let (lower, upper) = (percent_digits(share.lower, decimals), percent_digits(share.upper, decimals));
    range(&lower, &upper, share.lower, "%")
}

fn decimals_of(bounds: Interval) -> usize {
    let near = decimals_near_an_end(bounds.lower).max(decimals_near_an_end(bounds.upper));
    near.max(usize::from(bounds.upper - bounds.lower < 0.02))
}

/// The bounds of a factor: `3.10–3.30`.
pub(super) fn factor_range(ratio: Interval) -> String {
    range(&three_digits(ratio.lower), &three_digits(ratio.upper), ratio.lower, "").trim_end().to_owned()
}

/// A dash between two numbers reads as a minus where one is negative.
fn range(lower: &str, upper: &str, least: f64, unit: &str) -> String {
    match lower == upper {
        true => format!("{lower} {unit}"),
        false if least < 0.0 => format!("{lower} to {upper} {unit}"),
        false => format!("{lower}–{upper} {unit}"),
    }
}

fn percent_digits(share: f64, decimals: usize) -> String {
    let percent = share * 100.0;
    if percent.abs() >= 1000.0 {
        return whole(percent);
    }
    let text = format!("{percent:.decimals$}");
    // -0 is what a small loss is rounded to
    let is_zero = !text.contains(|digit: char| ('1'..='9').contains(&digit));
    if is_zero { text.replace('-', "") } else { text.replace('-', "−") }
}

fn decimals_near_an_end(share: f64) -> usize {
    match (share.abs(), 1.0 - share.abs()) {
        (near, far) if near == 0.0 || far == 0.0 => 0,
        (near, far) if near < 0.001 || (0.0..0.001).contains(&far) => 2,
        (near, far) if near < 0.01 || (0.0..0.01).contains(&far) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_the_unit_that_fits() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (7.0, "7 ns"),
            (12.34, "12.3 ns"),
            (999.0, "999 ns"),
            (999.6, "1.00 µs"),
            (1_000.0, "1.00 µs"),
            (41_234_567.0, "41.2 ms"),
            (999_499_999.0, "999 ms"),
            (999_500_000.0, "1.00 s"),
            (9_996_000.0, "10.0 ms"),
            (125e9, "125 s"),
            (3_600e9, "3,600 s"),
            (-1_200_000.0, "−1.20 ms"),
        ] {
            assert_eq!(nanoseconds(ns), text, "{ns}");
        }
        assert_eq!(time(Duration::from_micros(63_000)), "63.0 ms");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing_or_to_all() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.654, "65 %"),
            (0.9998, "99.98 %"),
            (0.995, "99.5 %"),
            (1.0, "100 %"),
            (0.0004, "0.04 %"),
            (-0.4, "−40 %"),
            (-12.5, "−1,250 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn a_range_shows_as_many_digits_as_keep_its_bounds_apart() {
        let range = |lower, upper| percent_range(Interval { lower, upper, confidence: 0.95 });
        assert_eq!(range(0.64, 0.66), "64–66 %");
        assert_eq!(range(0.646, 0.652), "64.6–65.2 %");
        assert_eq!(range(0.9991, 0.9998), "99.91–99.98 %");
        assert_eq!(range(-0.03, 0.02), "−3 to 2 %");
        assert_eq!(range(0.5, 0.5), "50.0 %");
        let bounds = Some(Interval { lower: 0.646, upper: 0.652, confidence: 0.95 });
        assert_eq!([percent_beside(0.65, bounds), percent_beside(0.65, None)], ["65.0 %", "65 %"]);
        assert_eq!(factor_range(Interval { lower: 3.1, upper: 3.3, confidence: 0.95 }), "3.10–3.30");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            [tick(1.0), tick(20e3), tick(1e6), tick(100e9), tick(5e12)].join(" "),
            "1 ns 20 µs 1 ms 100 s 5,000 s"
        );
    }
}
