//! Numbers for people: three significant digits, with a unit.

/// A time in nanoseconds: `165 µs`, `1.30 ms`, `-2.00 s`.
pub(super) fn time(ns: f64) -> String {
    let size = ns.abs();
    let (value, unit) = match size {
        _ if size < 999.5 => (ns, "ns"),
        _ if size < 999.5e3 => (ns / 1e3, "µs"),
        _ if size < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A number with three significant digits and no exponent.
pub(super) fn three_digits(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 99.95 || size == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// A whole number in groups of three: `12 345`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A rate: `880`, `12 345`, `7.70`.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 999.5 { grouped(per_second.round() as u64) } else { three_digits(per_second) }
}

/// A share as percent, without needless digits: `65 %`, `99.98 %`, `0.12 %`.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let from_the_ends = value.abs().min((100.0 - value).abs());
    let decimals = match from_the_ends {
        0.0 => 0,
        near if near < 1.0 => 2,
        near if near < 10.0 && value > 50.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_change_their_unit_where_they_would_have_four() {
        let rows = [
            (0.0, "0 ns"),
            (5.4, "5.40 ns"),
            (999.4, "999 ns"),
            (999.6, "1.00 µs"),
            (165_432.0, "165 µs"),
            (1_304_000.0, "1.30 ms"),
            (63_049_000.0, "63.0 ms"),
            (999_700_000.0, "1.00 s"),
            (-2_000_000_000.0, "-2.00 s"),
            (3_600e9, "3600 s"),
        ];
        for (ns, text) in rows {
            assert_eq!(time(ns), text, "{ns}");
        }
    }

    #[test]
    fn counts_are_grouped_and_shares_keep_the_digits_that_tell() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
        for (share, text) in
            [(0.65, "65 %"), (0.9998, "99.98 %"), (1.0, "100 %"), (0.0, "0 %"), (0.0012, "0.12 %")]
        {
            assert_eq!(percent(share), text);
        }
    }
}
