//! [`Timeline`]: how a slot went from one interval to the next. A request belongs to the interval in which it was
//! due, whenever it was answered: a stall shows where it was felt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::nanoseconds;
use crate::histogram::Histogram;

/// A slot is cut into so many intervals at most: each holds a histogram.
const MOST: u64 = 120;

/// So many intervals settle when one begins, at most, so that nobody waits for it: settling takes some ten microseconds.
const AT_ONCE: usize = 2;

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
    /// Answers that came in this interval, whenever their requests were due; 0 in results of before this was counted.
    #[serde(default)]
    pub answered: u64,
    /// How late the generator issued those that were due, summed; 0 in results of before this was kept, as the next.
    #[serde(default)]
    pub lag_ns: u64,
    /// How late it issued one of them at most.
    #[serde(rename = "lag_max_ns", default, with = "crate::plan::ns")]
    pub lag_max: Duration,
    /// Response times, as [`Slot::response`](crate::measurement::Slot::response); those of a time line to two digits.
    pub response: Histogram,
}

impl Interval {
    /// One of many.
    fn coarse() -> Interval {
        Interval { response: Histogram::coarse(), ..Interval::default() }
    }

    /// One of those due was issued so late.
    pub fn issued(&mut self, lag: Duration) {
        self.lag_ns += nanoseconds(lag);
        self.lag_max = self.lag_max.max(lag);
    }

    /// How late they were issued on average.
    pub(crate) fn lag_mean(&self) -> Duration {
        Duration::from_nanos(self.lag_ns.checked_div(self.scheduled).unwrap_or(0))
    }

    /// Whether the share `q` of its response times lies within one that is known only to be at least so long: requests that
    /// had no answer when their time was up are among them.
    pub(crate) fn is_at_least(&self, q: f64) -> bool {
        q > self.response.share_of(self.completed)
    }

    /// Adds another account of the same time.
    pub fn merge(&mut self, other: &Interval) {
        self.scheduled += other.scheduled;
        self.completed += other.completed;
        self.failed += other.failed;
        self.opened += other.opened;
        self.answered += other.answered;
        self.lag_ns += other.lag_ns;
        self.lag_max = self.lag_max.max(other.lag_max);
        self.response.merge(&other.response);
    }
}

impl Timeline {
    /// A time line in whole seconds for what may take as long as `window`; `None` when that is too short for two of them.
    pub fn over(window: Duration) -> Option<Timeline> {
        (window >= Duration::from_secs(2))
            .then(|| Timeline { interval: Duration::from_secs(1), intervals: Vec::new() })
    }

    /// The interval that holds what was due so long after the beginning. When there are too many, each two become one: how
    /// long a run of so many requests takes is known when it is over.
    pub fn at(&mut self, due: Duration) -> &mut Interval {
        // Both in whole seconds, for this is asked twice for each request.
        let mut nth = due.as_secs() / self.interval.as_secs().max(1);
        while nth >= MOST {
            self.coarsen();
            nth /= 2;
        }
        let nth = nth as usize;
        if self.intervals.len() <= nth {
            self.settle_some();
            self.intervals.resize_with(nth + 1, Interval::coarse);
        }
        &mut self.intervals[nth]
    }

    /// An interval begins, so those before the last are over, but for what comes late: they settle, or a long run would
    /// hold a hundred times what a short one holds.
    fn settle_some(&mut self) {
        let over = self.intervals.len().saturating_sub(1);
        let open = self.intervals[..over].iter_mut().filter(|one| !one.response.is_settled());
        open.take(AT_ONCE).for_each(|one| one.response.settle());
    }

    fn coarsen(&mut self) {
        self.interval *= 2;
        let mut all = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut pair) = all.next() {
            if let Some(second) = all.next() {
                pair.merge(&second);
            }
            self.intervals.push(pair);
        }
    }

    /// Adds another worker's account of the same slot.
    pub fn merge(&mut self, other: &Timeline) {
        while self.interval < other.interval {
            self.coarsen();
        }
        for (nth, from) in (0..).zip(&other.intervals) {
            self.at(other.interval * nth).merge(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_no_more_intervals_than_a_short_one_and_loses_nothing() {
        assert!(Timeline::over(Duration::from_millis(1_999)).is_none());
        let run = |seconds: u64| {
            let mut line = Timeline::over(Duration::from_secs(3_600)).unwrap();
            (0..seconds).for_each(|second| line.at(Duration::from_secs(second)).completed += 1);
            assert_eq!(line.intervals.iter().map(|one| one.completed).sum::<u64>(), seconds);
            (line.interval.as_secs(), line.intervals.len())
        };
        assert_eq!([3, 120, 121, 3_600].map(run), [(1, 3), (1, 120), (2, 61), (32, 113)]);
    }

    #[test]
    fn a_workers_line_that_ended_sooner_joins_a_coarser_one_either_way() {
        let of = |second: u64| {
            let mut line = Timeline::over(Duration::from_secs(3_600)).unwrap();
            line.at(Duration::from_secs(second)).completed += 1;
            line
        };
        let (mut short, mut long) = (of(3), of(300));
        let (to_short, to_long) = (long.clone(), short.clone());
        short.merge(&to_short);
        long.merge(&to_long);
        for line in [short, long] {
            let counts: Vec<u64> = line.intervals.iter().map(|one| one.completed).collect();
            assert_eq!((line.interval.as_secs(), counts.len()), (4, 76));
            assert_eq!((counts[0], counts[75]), (1, 1));
        }
    }

    #[test]
    fn what_is_over_has_settled_and_what_comes_late_is_counted_there_all_the_same() {
        let mut line = Timeline::over(Duration::from_secs(3_600)).unwrap();
        let answered = |line: &mut Timeline, second| {
            line.at(Duration::from_secs(second)).response.record(Duration::from_millis(1));
        };
        (0..100).for_each(|second| answered(&mut line, second));
        let open = |line: &Timeline| line.intervals.iter().filter(|one| !one.response.is_settled()).count();
        assert_eq!(open(&line), 2);
        (0..100).for_each(|second| answered(&mut line, second));
        assert!(line.intervals.iter().all(|one| one.response.len() == 2));
        // As many intervals settle in each as may, until none is left to.
        (100..200).for_each(|second| answered(&mut line, second));
        assert_eq!(open(&line), 2);
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
        one.at(Duration::ZERO).issued(Duration::from_micros(30));
        let mut two = one.clone();
        two.at(Duration::ZERO).issued(Duration::from_micros(10));
        two.at(Duration::from_secs(4)).response.record(Duration::from_millis(1));
        one.merge(&two);
        assert_eq!((one.intervals[0].scheduled, one.intervals.len()), (4, 5));
        assert_eq!(one.intervals[4].response.len(), 1);
        let first = &one.intervals[0];
        assert_eq!(
            (first.lag_mean(), first.lag_max),
            (Duration::from_nanos(17_500), Duration::from_micros(30))
        );
    }
}
