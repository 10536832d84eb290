//! [`Timeline`]: how a slot went from one interval to the next. A request belongs to the interval in which it was
//! due, whenever it was answered: a stall shows where it was felt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::nanoseconds;
use crate::histogram::Histogram;

/// A slot is cut into so many intervals at most: each holds a histogram.
const MOST: u32 = 120;

/// A slot, interval by interval.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeline {
    /// How long one interval is.
    #[serde(rename = "interval_ns", with = "crate::plan::ns")]
    pub interval: Duration,
    /// The intervals, from the beginning of the measured window.
    pub intervals: Vec<Interval>,
}

/// What became of the requests that were due in one interval.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interval {
    /// Requests due.
    pub scheduled: u64,
    /// Of those, answered completely.
    pub completed: u64,
    /// Of those, without a good answer.
    pub failed: u64,
    /// Of those, that opened a connection.
    pub opened: u64,
    /// Response times, as [`Slot::response`](crate::measurement::Slot::response).
    pub response: Histogram,
}

impl Interval {
    /// Adds another account of the same time.
    pub fn merge(&mut self, other: &Interval) {
        self.scheduled += other.scheduled;
        self.completed += other.completed;
        self.failed += other.failed;
        self.opened += other.opened;
        self.response.merge(&other.response);
    }
}

impl Timeline {
    /// A time line over `window` in whole seconds; `None` when it is too short for two of them.
    pub fn over(window: Duration) -> Option<Timeline> {
        let seconds = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
        if seconds < 2 {
            return None;
        }
        let interval = Duration::from_secs(u64::from(seconds.div_ceil(MOST)));
        Some(Timeline { interval, intervals: Vec::new() })
    }

    /// The interval that holds what was due so long after the beginning.
    pub fn at(&mut self, due: Duration) -> &mut Interval {
        let nth = (nanoseconds(due) / nanoseconds(self.interval).max(1)) as usize;
        // A schedule ends with its window; whatever is due later belongs to the last interval.
        let nth = nth.min(MOST as usize);
        if self.intervals.len() <= nth {
            self.intervals.resize_with(nth + 1, Interval::default);
        }
        &mut self.intervals[nth]
    }

    /// Adds another worker's account of the same slot.
    pub fn merge(&mut self, other: &Timeline) {
        for (nth, from) in (0..).zip(&other.intervals) {
            self.at(self.interval * nth).merge(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_no_more_intervals_than_a_short_one() {
        let interval =
            |seconds| Timeline::over(Duration::from_secs(seconds)).map(|line| line.interval.as_secs());
        assert_eq!([1, 2, 120, 121, 3600].map(interval), [None, Some(1), Some(1), Some(2), Some(30)]);
    }

    #[test]
    fn a_request_stands_in_the_interval_in_which_it_was_due() {
        let mut line = Timeline::over(Duration::from_secs(5)).unwrap();
        line.at(Duration::from_millis(2_999)).completed += 1;
        line.at(Duration::from_millis(3_000)).completed += 1;
        assert_eq!(line.intervals.iter().map(|i| i.completed).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }

    #[test]
    fn merging_adds_interval_by_interval() {
        let mut one = Timeline::over(Duration::from_secs(5)).unwrap();
        one.at(Duration::ZERO).scheduled = 2;
        let mut two = one.clone();
        two.at(Duration::from_secs(4)).response.record(Duration::from_millis(1));
        one.merge(&two);
        assert_eq!((one.intervals[0].scheduled, one.intervals.len()), (4, 5));
        assert_eq!(one.intervals[4].response.len(), 1);
    }
}
