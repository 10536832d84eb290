//! [`Stage`]: a rate that holds, or goes from one to another in a straight line; and when requests are due under
//! several of them, exactly.
//!
//! The n-th arrival is due when the rate's integral over time, Λ(t), reaches the n-th level: n + ½ for constant
//! arrivals, the n-th sum of exponential draws of mean 1 for Poisson's (time-rescaling: Λ of the arrivals of an
//! inhomogeneous Poisson process are those of a homogeneous one; Çinlar, Introduction to Stochastic Processes, 4.7).
//! Nothing is stepped, so nothing drifts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ns;

/// A part of an open loop, written as `30s:500` or `30s:500..2000`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stage {
    /// How long it is.
    #[serde(rename = "duration_ns", with = "ns")]
    pub duration: Duration,
    /// Requests per second at its beginning.
    pub from: f64,
    /// Requests per second at its end.
    pub to: f64,
}

impl Stage {
    /// A rate that holds.
    pub fn constant(duration: Duration, rate: f64) -> Stage {
        Stage { duration, from: rate, to: rate }
    }

    /// How many requests are due in it, on average: the trapezium under the rate.
    pub fn requests(&self) -> f64 {
        self.duration.as_secs_f64() * (self.from + self.to) / 2.0
    }

    /// After how many seconds of the stage so many requests are due.
    fn seconds_until(&self, requests: f64) -> f64 {
        let slope = (self.to - self.from) / self.duration.as_secs_f64();
        // from·t + slope·t²/2 = requests, solved without the difference of two nearly equal numbers.
        let root = (self.from * self.from + 2.0 * slope * requests).max(0.0).sqrt();
        if self.from + root > 0.0 { 2.0 * requests / (self.from + root) } else { 0.0 }
    }
}

/// How long all of them are.
pub fn duration(stages: &[Stage]) -> Duration {
    stages.iter().map(|stage| stage.duration).sum()
}

/// Requests per second over all of them.
pub fn mean_rate(stages: &[Stage]) -> f64 {
    stages.iter().map(Stage::requests).sum::<f64>() / duration(stages).as_secs_f64()
}

/// Which stage a time from the beginning of the first belongs to.
pub(crate) fn stage_at(stages: &[Stage], time: Duration) -> usize {
    let mut end = Duration::ZERO;
    let ends = stages.iter().map(|stage| {
        end += stage.duration;
        end
    });
    ends.take_while(|&end| end <= time).count().min(stages.len().saturating_sub(1))
}

/// The inverse of the integrated rate, for levels that only rise.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    stages: Vec<Stage>,
    current: usize,
    /// Requests and seconds before the current stage.
    requests: f64,
    seconds: f64,
}

impl Curve {
    pub(super) fn new(stages: Vec<Stage>) -> Curve {
        Curve { stages, current: 0, requests: 0.0, seconds: 0.0 }
    }

    /// When so many requests have become due, in seconds; `None`: so many never do.
    pub(super) fn due(&mut self, requests: f64) -> Option<f64> {
        loop {
            let stage = self.stages.get(self.current)?;
            let within = requests - self.requests;
            if within <= stage.requests() {
                return Some(self.seconds + stage.seconds_until(within));
            }
            self.requests += stage.requests();
            self.seconds += stage.duration.as_secs_f64();
            self.current += 1;
        }
    }
}

impl FromStr for Stage {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong, with the cure.
    fn from_str(text: &str) -> Result<Stage, String> {
        let wrong =
            |why: &str| format!("`{text}` {why}: write TIME:RATE or TIME:FROM..TO, such as 30s:500..2000");
        let (time, rates) = text.split_once(':').ok_or_else(|| wrong("is no stage"))?;
        let duration = crate::duration::parse(time).map_err(|_| wrong("does not begin with a duration"))?;
        if duration.is_zero() {
            return Err(wrong("has no duration"));
        }
        let rate = |text: &str| text.parse().ok().filter(|rate: &f64| (0.0..=MOST).contains(rate));
        let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
        match (rate(from), rate(to)) {
            (Some(from), Some(to)) => Ok(Stage { duration, from, to }),
            _ => Err(wrong("has no rate from 0 to 1000000")),
        }
    }
}

/// More than a machine can send.
const MOST: f64 = 1e6;

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.duration, self.from)?;
        if self.to == self.from { Ok(()) } else { write!(f, "..{}", self.to) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Arrivals, Pacer};
    use super::*;

    fn stages(texts: &[&str]) -> Vec<Stage> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn dues(stages: &[Stage], arrivals: Arrivals, worker: usize, workers: usize) -> Vec<f64> {
        let mut pacer = Pacer::staged(stages.to_vec(), arrivals, worker, workers, 7);
        let end = duration(stages);
        std::iter::from_fn(|| Some(pacer.next_due()).filter(|&due| due < end))
            .map(|due| due.as_secs_f64())
            .collect()
    }

    #[test]
    fn the_nth_arrival_of_a_ramp_is_due_at_the_root_of_its_number() {
        // Λ(t) = 50 t², so the n-th of constant arrivals is due at sqrt((n + ½)/50).
        let ramp = dues(&stages(&["10s:0..1000"]), Arrivals::Constant, 0, 1);
        assert_eq!(ramp.len(), 5_000);
        for (n, due) in (0..).map(f64::from).zip(&ramp) {
            assert!((due - ((n + 0.5) / 50.0).sqrt()).abs() < 2e-9, "{n}: {due}");
        }
    }

    #[test]
    fn a_falling_ramp_mirrors_a_rising_one() {
        let rising = dues(&stages(&["10s:0..1000"]), Arrivals::Constant, 0, 1);
        let falling = dues(&stages(&["10s:1000..0"]), Arrivals::Constant, 0, 1);
        for (up, down) in rising.iter().zip(falling.iter().rev()) {
            assert!((up + down - 10.0).abs() < 1e-6, "{up} and {down}");
        }
    }

    #[test]
    fn a_stage_of_no_requests_is_a_pause() {
        let due = dues(&stages(&["1s:10", "2s:0", "1s:10"]), Arrivals::Constant, 0, 1);
        assert_eq!(due.len(), 20);
        assert!((due[9] - 0.95).abs() < 1e-9 && (due[10] - 3.05).abs() < 1e-9, "{due:?}");
    }

    /// Within four standard deviations of each stage's mean; the seed is fixed.
    #[test]
    fn poisson_arrivals_are_as_many_as_the_rate_says_in_every_part_of_a_ramp() {
        let due = dues(&stages(&["20s:0..2000"]), Arrivals::Poisson, 0, 1);
        for part in 0..10 {
            let (from, to) = (f64::from(part) * 2.0, f64::from(part + 1) * 2.0);
            let mean = 50.0 * (to * to - from * from);
            let n = due.iter().filter(|due| (from..to).contains(*due)).count() as f64;
            assert!((n - mean).abs() < 4.0 * mean.sqrt(), "part {part}: {n}, not {mean}");
        }
    }

    #[test]
    fn a_stage_is_a_duration_and_one_or_two_rates() {
        let stage: Stage = "30s:500..2000".parse().unwrap();
        assert_eq!(
            (stage.duration.as_secs(), stage.from, stage.to, stage.requests()),
            (30, 500.0, 2000.0, 37_500.0)
        );
        assert_eq!("1m:5".parse::<Stage>().unwrap().to, 5.0);
        for wrong in ["30s", "30s:", "0:5", "x:5", "30s:-1", "30s:1..nan", "30s:1..2..3", "30s:1e9"] {
            assert!(wrong.parse::<Stage>().unwrap_err().contains("30s:500..2000"), "{wrong}");
        }
        let three = stages(&["1s:1", "2s:2", "3s:3"]);
        let at = [0, 999, 1000, 2999, 3000, 5999, 9999].map(|ms| stage_at(&three, Duration::from_millis(ms)));
        assert_eq!(at, [0, 0, 1, 1, 2, 2, 2]);
    }

    proptest! {
        #[test]
        fn workers_together_send_what_one_would(
            parts in prop::collection::vec((1_u64..4000, 0.0..500.0_f64, 0.0..500.0_f64), 1..5),
            workers in 1_usize..4,
        ) {
            let stages: Vec<Stage> = parts
                .into_iter()
                .map(|(ms, from, to)| Stage { duration: Duration::from_millis(ms), from, to })
                .collect();
            let mut all: Vec<f64> = (0..workers).flat_map(|worker| dues(&stages, Arrivals::Constant, worker, workers)).collect();
            all.sort_by(f64::total_cmp);
            let one = dues(&stages, Arrivals::Constant, 0, 1);
            prop_assert!(all.len().abs_diff(one.len()) <= 1);
            // An arrival at the end of a stage from or to 0 is the root of a small number.
            prop_assert!(all.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-6));
            let expected: f64 = stages.iter().map(Stage::requests).sum();
            prop_assert!((one.len() as f64 - expected).abs() <= 1.0);
        }
    }
}
