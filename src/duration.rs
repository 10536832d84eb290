//! Durations as people write and read them: `75s`, `500ms`, `75.02 s`. The same at the command line, in an
//! expectation and in a sentence.

use std::time::Duration;

/// Reads a duration in curl's form (seconds, with a fraction if need be) or with a unit.
///
/// # Errors
///
/// A sentence that shows what may be written.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write 2.5 (seconds), 500ms, 5s or 1m");
    let seconds = match text.find(|c: char| c.is_ascii_alphabetic()) {
        None => text.parse::<f64>().map_err(|_| wrong())?,
        Some(unit_at) => {
            let (number, unit) = text.split_at(unit_at);
            let factor = match unit {
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
            number.trim().parse::<f64>().map_err(|_| wrong())? * factor
        }
    };
    // Rounded to whole nanoseconds, so that 0.1 s is 100 ms and not a hair less.
    let nanos = (seconds * 1e9).round();
    if (0.0..=1e18).contains(&nanos) { Ok(Duration::from_nanos(nanos as u64)) } else { Err(wrong()) }
}

/// In whole nanoseconds, as counted and saved; what is too long to count, 584 years, is the longest.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in a sentence about timers: seconds with two digits after the point where they are not zero
/// (`75.02 s`, `75 s`), below a second milliseconds, below ten of those with two digits (`1.25 ms`).
pub fn say(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    // 0.9996 s would be rounded to 1000 ms.
    if seconds >= 0.9995 {
        format!("{} s", trimmed(seconds, 2))
    } else if seconds >= 0.01 || duration.is_zero() {
        format!("{} ms", trimmed(seconds * 1e3, 0))
    } else {
        format!("{} ms", trimmed(seconds * 1e3, 2))
    }
}

/// Two durations with one unit where both have the same: `75–75.04 s`.
pub fn say_range(lower: Duration, upper: Duration) -> String {
    let (from, to) = (say(lower), say(upper));
    if from == to {
        return from;
    }
    match (from.rsplit_once(' '), to.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}–{to}"),
        _ => format!("{from} to {to}"),
    }
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_as_in_curl_or_carry_their_unit() {
        for (text, ms) in
            [("2.5", 2500), ("500ms", 500), ("5s", 5000), ("1m", 60_000), ("0", 0), ("0.1", 100)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "abc", "-1", "5 parsecs", "1e30", "nan", "inf"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timers_are_told_in_seconds_to_a_hundredth() {
        for (nanos, text) in [
            (75_020_000_000, "75.02 s"),
            (75_000_400_000, "75 s"),
            (75_500_000_000, "75.5 s"),
            (600_000_000_000, "600 s"),
            (999_700_000, "1 s"),
            (250_000_000, "250 ms"),
            (1_250_000, "1.25 ms"),
            (0, "0 ms"),
        ] {
            assert_eq!(say(Duration::from_nanos(nanos)), text);
        }
        let range = |from, to| say_range(Duration::from_millis(from), Duration::from_millis(to));
        assert_eq!([range(75_000, 75_040), range(75_000, 75_001)], ["75–75.04 s", "75 s"]);
        assert_eq!(range(900, 1100), "900 ms to 1.1 s");
    }
}
