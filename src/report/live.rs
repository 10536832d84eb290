//! A run while it runs: a line for a log, a view for a terminal, and Prometheus' text. Pure: readings bring their time.

use std::collections::VecDeque;
use std::time::Duration;

use super::units::{count, three_digits};
use crate::load::live::{Counts, Reading};

mod prometheus;
mod view;

pub use prometheus::prometheus;
pub use view::{Now, view};

/// So many seconds have a bar in the view at most.
const SECONDS: usize = 240;

/// What was seen of a run.
#[derive(Debug)]
pub struct Watch {
    /// Where a number of requests ends the run, that number.
    requests: Option<u64>,
    /// What "lately" is.
    lately: Duration,
    /// The newest reading last; the first is the one that "lately" is counted from.
    readings: VecDeque<Reading>,
    /// The reading from which the next second is counted.
    second: Option<Reading>,
    seconds: VecDeque<Lately>,
}

/// What happened in the last seconds, or in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Lately {
    per_s: f64,
    p50: Option<Duration>,
    p99: Option<Duration>,
}

impl Lately {
    fn between(earlier: &Reading, later: &Reading) -> Lately {
        let counts = later.all().since(&earlier.all());
        let seconds = later.at.saturating_duration_since(earlier.at).as_secs_f64();
        Lately {
            per_s: if seconds > 0.0 { counts.completed as f64 / seconds } else { 0.0 },
            p50: counts.response.quantile(0.5),
            p99: counts.response.quantile(0.99),
        }
    }
}

impl Watch {
    /// Of a run that has seen nothing yet; rates and quantiles are those of the time `lately`.
    pub fn new(requests: Option<u64>, lately: Duration) -> Watch {
        Watch { requests, lately, readings: VecDeque::new(), second: None, seconds: VecDeque::new() }
    }

    /// Sees a reading, later than all before.
    pub fn see(&mut self, reading: Reading) {
        let is_old = |nth: &Reading| reading.at.saturating_duration_since(nth.at) >= self.lately;
        while self.readings.get(1).is_some_and(is_old) {
            self.readings.pop_front();
        }
        match &self.second {
            Some(second) if reading.at.saturating_duration_since(second.at) < Duration::from_secs(1) => {}
            before => {
                if let Some(before) = before {
                    self.seconds.push_back(Lately::between(before, &reading));
                }
                if self.seconds.len() > SECONDS {
                    self.seconds.pop_front();
                }
                self.second = Some(reading.clone());
            }
        }
        self.readings.push_back(reading);
    }

    /// How far the run is and what happened lately, as a sentence for a log; `None`: nothing is measured yet.
    pub fn line(&self) -> Option<String> {
        let (newest, lately) = (self.readings.back()?, self.lately()?);
        let (counts, all) = (newest.measured(), newest.all());
        let mut facts = vec![format!("{} requests/s", rate(lately.per_s))];
        facts.push(format!("{} in flight", count(all.in_flight())));
        if all.waiting() > 0 {
            facts.push(format!("{} waiting", count(all.waiting())));
        }
        let quantiles = [("p50", lately.p50), ("p99", lately.p99)];
        facts.extend(quantiles.into_iter().filter_map(|(name, q)| Some(format!("{name} {}", about(q?)))));
        facts.push(plural(counts.failed(), "error"));
        facts.push(format!("{} opened", plural(counts.opened, "connection")));
        Some(format!("{}: {}", self.how_far(newest, &counts)?, facts.join(", ")))
    }

    fn lately(&self) -> Option<Lately> {
        Some(Lately::between(self.readings.front()?, self.readings.back()?))
    }

    /// `10 s of 30 s`, or `1,200 of 3,000 requests`.
    fn how_far(&self, newest: &Reading, counts: &Counts) -> Option<String> {
        let window = newest.window?;
        if let Some(requests) = self.requests {
            return Some(format!("{} of {} requests", count(counts.over()), count(requests)));
        }
        let passed = newest.at.saturating_duration_since(window.opens).min(window.lasts);
        Some(format!("{} of {}", seconds(passed, window.lasts), seconds(window.lasts, window.lasts)))
    }
}

/// Whole seconds that have passed, and tenths of what is no whole number of seconds itself.
fn seconds(time: Duration, of: Duration) -> String {
    if of.subsec_nanos() == 0 {
        return format!("{} s", time.as_secs());
    }
    format!("{:.1} s", (time.as_secs_f64() * 10.0).floor() / 10.0)
}

/// A time to the two digits that a sketch knows: `1.2 ms`.
fn about(time: Duration) -> String {
    let ns = time.as_nanos() as f64;
    let units = [(1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    // 995 µs would be rounded to 1000 µs: that is 1.0 ms.
    let (unit, name) = units.into_iter().find(|(unit, _)| ns < unit * 995.0).unwrap_or(units[2]);
    match ns / unit {
        value @ ..9.95 => format!("{value:.1} {name}"),
        value @ ..99.5 => format!("{value:.0} {name}"),
        value => format!("{:.0} {name}", (value / 10.0).round() * 10.0),
    }
}

fn rate(per_s: f64) -> String {
    if per_s < 100.0 && per_s.fract() != 0.0 { three_digits(per_s) } else { count(per_s.round() as u64) }
}

fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
