//! A time line as text: one row of bars for each thing that changes, with its least and its most.

use super::plot::LEVELS;
use super::units::{count, time_or_more};
use super::wrap::length;
use crate::compare::ORDINARY_LAG;
use crate::timeline::{Interval, Timeline};
use std::time::Duration;

/// The rows, none longer than `width`. Every row fills its own height.
pub(super) fn lines(line: &Timeline, width: usize) -> Vec<String> {
    // The last interval may be one that only the end of the window touches.
    let intervals = &line.intervals[..];
    let durations = |of: fn(&Interval) -> Option<Duration>| -> Vec<Option<f64>> {
        intervals.iter().map(|interval| of(interval).map(|time| time.as_nanos() as f64)).collect()
    };
    let counts = |of: fn(&Interval) -> u64| -> Vec<Option<f64>> {
        intervals.iter().map(|interval| Some(of(interval) as f64)).collect()
    };
    // The longest of a row is marked where it is of an interval in which so many had no answer.
    let as_time = |q: f64, of: &[Option<f64>]| {
        let most = of.iter().flatten().copied().fold(0.0, f64::max);
        let is_bound = |(one, ns): (&Interval, &Option<f64>)| *ns == Some(most) && one.is_at_least(q);
        let is_at_least = intervals.iter().zip(of).any(is_bound);
        move |ns: f64| time_or_more(Duration::from_nanos(ns as u64), is_at_least && ns == most)
    };
    let as_count = |n: f64| count(n as u64);
    let as_late = |ns: f64| time_or_more(Duration::from_nanos(ns as u64), false);
    let (p50, p99) = (
        durations(|interval| interval.response.quantile(0.5)),
        durations(|interval| interval.response.quantile(0.99)),
    );
    let (as_p50, as_p99) = (as_time(0.5, &p50), as_time(0.99, &p99));
    let rows = [
        ("due", counts(|interval| interval.scheduled), &as_count as &dyn Fn(f64) -> String),
        ("p50", p50, &as_p50),
        ("p99", p99, &as_p99),
        ("failed", counts(|interval| interval.failed), &as_count),
        ("opened", counts(|interval| interval.opened), &as_count),
        // The generator's own lateness, where it is more than a wake-up: what else stands out then may be its doing.
        ("late", durations(|interval| Some(interval.lag_max).filter(|late| *late > ORDINARY_LAG)), &as_late),
    ];
    rows.into_iter()
        .filter(|(name, values, _)| {
            matches!(*name, "due" | "p50" | "p99") || values.iter().flatten().any(|v| *v > 0.0)
        })
        .filter_map(|(name, values, unit)| row(name, &values, unit, width))
        .collect()
}

fn row(name: &str, values: &[Option<f64>], unit: &dyn Fn(f64) -> String, width: usize) -> Option<String> {
    let most = values.iter().flatten().copied().fold(f64::NAN, f64::max);
    let least = values.iter().flatten().copied().fold(f64::NAN, f64::min);
    if most.is_nan() {
        return None;
    }
    let range = if most > least { format!("{} to {}", unit(least), unit(most)) } else { unit(most) };
    let room = width.saturating_sub(length(&range) + 11).max(1);
    let bars: String = squeezed(values, room)
        .into_iter()
        .map(|value| match value {
            None => ' ',
            Some(value) if most > 0.0 => LEVELS[((value / most * 8.0).ceil() as usize).clamp(1, 8)],
            Some(_) => LEVELS[1],
        })
        .collect();
    Some(format!("  {name:<7}{bars} {range}"))
}

/// As many values as there is room for: each the largest of those that it stands for.
fn squeezed(values: &[Option<f64>], room: usize) -> Vec<Option<f64>> {
    let each = values.len().div_ceil(room).max(1);
    let largest = |chunk: &[Option<f64>]| chunk.iter().flatten().copied().reduce(f64::max);
    values.chunks(each).map(largest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_stands_out_and_no_row_is_wider_than_asked() {
        let mut line = Timeline::over(Duration::from_secs(100)).unwrap();
        for second in 0..100 {
            let interval = line.at(Duration::from_secs(second));
            (interval.scheduled, interval.completed) = (50, 1);
            interval.response.record(Duration::from_millis(if second == 40 { 800 } else { 100 }));
        }
        let rows = lines(&line, 80);
        assert_eq!(rows.len(), 3, "nothing failed and nothing was opened: {rows:#?}");
        assert!(rows.iter().all(|row| length(row) <= 80), "{rows:#?}");
        assert_eq!(rows[2].matches('█').count(), 1, "{}", rows[2]);
        assert!(rows[2].ends_with("100 ms to 800 ms") || rows[2].contains(" to 8"), "{}", rows[2]);
        assert!(rows[0].ends_with(" 50"), "{}", rows[0]);
        line.at(Duration::from_secs(40)).issued(Duration::from_millis(700));
        let late = lines(&line, 80);
        assert!(late.len() == 4 && late[3].trim_end().ends_with(" 700 ms"), "{late:#?}");
        line.at(Duration::from_secs(40)).completed = 0;
        let unanswered = lines(&line, 80);
        assert!(unanswered[2].contains(" to ≥ 8") && unanswered[2].chars().count() <= 80, "{unanswered:#?}");
    }
}
