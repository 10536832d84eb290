//! Histograms drawn with block characters over one logarithmic axis.

use std::time::Duration;

use super::units;
use crate::histogram::Histogram;

/// A logarithmic axis of so many columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    columns: usize,
}

impl Axis {
    /// An axis on which all but the last thousandth of each distribution finds its place.
    pub(super) fn around<'a>(
        histograms: impl Iterator<Item = &'a Histogram>,
        columns: usize,
    ) -> Option<Axis> {
        let ns = |duration: Duration| (duration.as_nanos() as f64).max(1.0);
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for histogram in histograms {
            low = low.min(ns(histogram.min()?));
            high = high.max(ns(histogram.quantile(0.999)?));
        }
        // A little air on both sides, and some width even where all values are equal.
        (low.is_finite() && high > 0.0).then(|| Axis {
            low: low * 0.9,
            high: (high * 1.1).max(low * 1.5),
            columns,
        })
    }

    fn edge(&self, column: usize) -> f64 {
        let share = column as f64 / self.columns as f64;
        (self.low.ln() + share * (self.high.ln() - self.low.ln())).exp()
    }

    /// The column of a value, if it is on the axis.
    fn column(&self, ns: f64) -> Option<usize> {
        let share = (ns.ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        (0.0..1.0).contains(&share).then_some((share * self.columns as f64) as usize)
    }

    /// The axis itself: a line with marks, and what they mean.
    pub(super) fn lines(&self) -> [String; 2] {
        let mut line: Vec<char> = vec!['─'; self.columns];
        let mut words: Vec<char> = vec![' '; self.columns];
        let mut free_from = 0;
        for tick in ticks(self.low, self.high) {
            let Some(column) = self.column(tick) else { continue };
            let label = units::time(tick);
            let label: Vec<char> = label.replace(".00", "").replace(".0 ", " ").chars().collect();
            let start = column.saturating_sub(label.len() / 2);
            if start < free_from || start + label.len() > self.columns {
                continue;
            }
            line[column] = '┴';
            words[start..start + label.len()].copy_from_slice(&label);
            free_from = start + label.len() + 2;
        }
        [line.into_iter().collect(), words.into_iter().collect::<String>().trim_end().to_owned()]
    }

    /// A distribution as rows of blocks, the top row first, its highest column full.
    pub(super) fn bars(&self, histogram: &Histogram, rows: usize) -> Vec<String> {
        let at = |column: usize| Duration::from_nanos(self.edge(column) as u64);
        let counts: Vec<u64> =
            (0..self.columns).map(|column| histogram.count_between(at(column), at(column + 1))).collect();
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let eighths = |count: u64| {
            let height = count as f64 / most as f64 * (rows * 8) as f64;
            // What is there at all is seen.
            if count > 0 { (height.round() as usize).max(1) } else { 0 }
        };
        (0..rows)
            .rev()
            .map(|row| {
                let cell = |&count: &u64| BLOCKS[eighths(count).saturating_sub(row * 8).min(8)];
                counts.iter().map(cell).collect::<String>().trim_end().to_owned()
            })
            .collect()
    }

    /// A line that marks one value.
    pub(super) fn mark(&self, ns: f64, label: &str) -> String {
        let column = self.column(ns).unwrap_or(self.columns - 1);
        let length = label.chars().count();
        if column + 2 + length <= self.columns {
            format!("{}▼ {label}", " ".repeat(column))
        } else {
            format!("{}{label} ▼", " ".repeat(column.saturating_sub(length + 1)))
        }
    }
}

const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// 1, 2 and 5 of every decade.
fn ticks(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    (first..=last).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        ms.iter().for_each(|&ms| histogram.record(Duration::from_millis(ms)));
        histogram
    }

    #[test]
    fn a_slower_distribution_stands_further_right_on_the_same_axis() {
        let (fast, slow) = (of(&[1, 1, 2]), of(&[50, 60, 50]));
        let axis = Axis::around([&fast, &slow].into_iter(), 60).unwrap();
        let first = |histogram: &Histogram| {
            let bottom = axis.bars(histogram, 2).pop().unwrap();
            bottom.chars().position(|cell| cell != ' ').unwrap()
        };
        assert!(first(&fast) + 30 < first(&slow));
    }

    #[test]
    fn the_fullest_column_reaches_the_top_and_nothing_is_wider_than_the_axis() {
        let histogram = of(&[1, 2, 3, 3, 3, 4, 5, 100]);
        let axis = Axis::around([&histogram].into_iter(), 40).unwrap();
        let bars = axis.bars(&histogram, 3);
        assert!(bars[0].contains('█'));
        let lines = axis.lines();
        assert!(bars.iter().chain(&lines).all(|line| line.chars().count() <= 40), "{bars:?} {lines:?}");
        assert!(lines[1].contains("ms"), "{lines:?}");
    }

    #[test]
    fn one_single_value_has_an_axis_and_nothing_has_none() {
        assert!(Axis::around([&of(&[7])].into_iter(), 40).is_some());
        assert!(Axis::around([&of(&[])].into_iter(), 40).is_none());
    }
}
