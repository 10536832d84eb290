//! Latency histograms as text, one above the other over one logarithmic time axis, so that a shift is a shift on the
//! page. A constant factor is the same distance everywhere.

use std::time::Duration;

use super::units::{tick, time};
use super::wrap::{cut, length};
use crate::histogram::Histogram;

/// How many lines high one histogram is; each line has eight levels.
const ROWS: usize = 3;
pub(super) const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The axis is never shorter than this factor, so that a bucket of the histogram is narrower than a column and the
/// axis holds a tick.
const SHORTEST: f64 = 4.0;
/// The widest name beside a histogram.
const WIDEST_NAME: usize = 14;

/// The histograms of all that hold anything. Every one fills its own height: what can be compared is where they
/// stand and how wide they are.
pub(super) fn histograms(arms: &[(&str, &Histogram)], width: usize) -> Vec<String> {
    let arms: Vec<_> = arms.iter().filter(|(_, histogram)| !histogram.is_empty()).collect();
    let name_width = arms.iter().map(|(name, _)| length(name) + 1).max().unwrap_or(0).min(WIDEST_NAME);
    let Some(axis) = Axis::over(arms.iter().map(|(_, histogram)| *histogram), width - name_width) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (name, histogram) in arms {
        for (nth, row) in axis.rows(histogram).into_iter().enumerate() {
            let name = if nth + 1 == ROWS { cut(name, name_width - 1) } else { String::new() };
            lines.push(format!("{name:<name_width$}{row}"));
        }
        lines.push(" ".repeat(name_width) + &axis.median(histogram));
    }
    lines.extend(axis.ticks().into_iter().map(|line| " ".repeat(name_width) + &line));
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// A logarithmic time axis.
struct Axis {
    /// Its left end in nanoseconds.
    low: f64,
    /// The logarithm of right end by left end.
    span: f64,
    columns: usize,
}

impl Axis {
    /// The axis that holds every value, with a little room at either end.
    fn over<'a>(histograms: impl Iterator<Item = &'a Histogram>, columns: usize) -> Option<Axis> {
        let mut ends: Option<(f64, f64)> = None;
        for histogram in histograms {
            let (min, max) = (ns(histogram.min()?).max(1.0), ns(histogram.max()?).max(1.0));
            let (low, high) = ends.unwrap_or((min, max));
            ends = Some((low.min(min), high.max(max)));
        }
        let (low, high) = ends.map(|(low, high)| (low / 1.02, high * 1.02))?;
        let missing = (SHORTEST / (high / low)).max(1.0).sqrt();
        let low = (low / missing).max(0.5);
        let span = (high * missing).max(low * SHORTEST) / low;
        Some(Axis { low, span: span.ln(), columns })
    }

    /// Where column `nth` begins.
    fn edge(&self, nth: usize) -> f64 {
        self.low * (self.span * nth as f64 / self.columns as f64).exp()
    }

    /// The column in which a time stands.
    fn column(&self, ns: f64) -> usize {
        let share = (ns.max(self.low) / self.low).ln() / self.span;
        ((share * self.columns as f64) as usize).min(self.columns - 1)
    }

    fn rows(&self, histogram: &Histogram) -> Vec<String> {
        let counts: Vec<u64> = (0..self.columns).map(|nth| self.count(histogram, nth)).collect();
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let heights: Vec<usize> =
            counts.iter().map(|&n| (n as f64 / most as f64 * (ROWS * 8) as f64).ceil() as usize).collect();
        let row =
            |below: usize| heights.iter().map(|height| LEVELS[height.saturating_sub(below).min(8)]).collect();
        (0..ROWS).rev().map(|nth| row(nth * 8)).collect()
    }

    /// How many stand in a column; the last one is open, since a bucket may reach beyond the largest value.
    fn count(&self, histogram: &Histogram, nth: usize) -> u64 {
        let at = |edge: usize| Duration::from_nanos(self.edge(edge).round() as u64);
        let low = if nth == 0 { Duration::ZERO } else { at(nth) };
        let high = if nth + 1 == self.columns { Duration::MAX } else { at(nth + 1) };
        histogram.count_between(low, high)
    }

    /// A mark below the median, with its value on the side where there is room.
    fn median(&self, histogram: &Histogram) -> String {
        let Some(median) = histogram.quantile(0.5) else { return String::new() };
        let column = self.column(ns(median));
        let text = format!("p50 {}", time(median));
        if column + 2 + length(&text) <= self.columns {
            return format!("{}▲ {text}", " ".repeat(column));
        }
        format!("{text:>before$} ▲", before = column.saturating_sub(1))
    }

    /// The axis itself: a rule with marks, and below it their times.
    fn ticks(&self) -> Vec<String> {
        let mut rule: Vec<char> = vec!['─'; self.columns];
        let mut labels: Vec<char> = vec![' '; self.columns];
        for at in self.round_times() {
            let (column, label) = (self.column(at), tick(at));
            let from = column.saturating_sub(length(&label) / 2);
            let to = from + length(&label);
            let is_free = |room: &[char]| room.iter().all(|&taken| taken == ' ');
            // two blanks keep labels apart
            if to > self.columns || !is_free(&labels[from.saturating_sub(2)..(to + 2).min(self.columns)]) {
                continue;
            }
            rule[column] = '┴';
            labels.splice(from..to, label.chars());
        }
        vec![rule.into_iter().collect(), labels.into_iter().collect()]
    }

    /// Round times on the axis, those first that should have a label before others: powers of ten, then fives and
    /// twos where the axis is short.
    fn round_times(&self) -> Vec<f64> {
        let steps: &[f64] = if self.span > 3.0 * 10_f64.ln() { &[1.0] } else { &[1.0, 5.0, 2.0] };
        let (low, high) = (self.low, self.edge(self.columns));
        let all = steps.iter().flat_map(|step| (0..20).map(move |power| step * 10_f64.powi(power)));
        all.filter(|&at| low <= at && at <= high).collect()
    }
}

fn ns(time: Duration) -> f64 {
    time.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(median_us: u64) -> Histogram {
        let mut histogram = Histogram::new();
        for nth in 0..1000_u64 {
            histogram.record(Duration::from_nanos(median_us * (800 + nth * 400 / 1000)));
        }
        histogram
    }

    fn drawn(arms: &[(&str, &Histogram)], width: usize) -> Vec<String> {
        let lines = histograms(arms, width);
        assert!(lines.iter().all(|line| length(line) <= width), "{lines:#?}");
        lines
    }

    #[test]
    fn a_slower_arm_stands_further_right_on_the_same_axis() {
        let (on, off) = (around(1_000), around(10_000));
        let lines = drawn(&[("on", &on), ("off", &off)], 80);
        let mark = |nth: usize| lines[nth].chars().position(|c| c == '▲').unwrap();
        assert!(mark(3) + 40 < mark(7), "{lines:#?}");
        assert!(lines[3].contains("p50 999 µs") && lines[7].contains("p50 9.99 ms"), "{lines:#?}");
        assert!(
            lines.last().unwrap().contains("1 ms") && lines.last().unwrap().contains("10 ms"),
            "{lines:#?}"
        );
    }

    #[test]
    fn every_count_stands_in_some_column() {
        for histogram in [around(1_000), around(1), {
            let mut extreme = around(3);
            extreme.record(Duration::ZERO);
            extreme.record(Duration::from_secs(7200));
            extreme
        }] {
            let axis = Axis::over([&histogram].into_iter(), 66).unwrap();
            let drawn: u64 = (0..66).map(|nth| axis.count(&histogram, nth)).sum();
            assert_eq!(drawn, histogram.len());
        }
    }

    #[test]
    fn a_single_value_has_a_place_and_ticks() {
        let mut one = Histogram::new();
        one.record(Duration::from_micros(300));
        let lines = drawn(&[("an arm with quite a long name", &one)], 80);
        assert!(lines.concat().contains('█') && lines.concat().contains("p50 300 µs"));
        assert!(lines.last().unwrap().contains("200 µs"), "{lines:#?}");
    }

    #[test]
    fn a_power_of_ten_has_its_label_before_its_neighbours() {
        let axis = Axis { low: 480e3, span: 400_f64.ln(), columns: 68 };
        let labels = &axis.ticks()[1];
        assert!(labels.contains(" 1 ms ") && labels.contains(" 10 ms "), "{labels}");
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        assert!(histograms(&[("on", &Histogram::new())], 80).is_empty());
        assert!(histograms(&[], 80).is_empty());
    }
}
