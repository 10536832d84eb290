//! One metric of the control against one arm, from paired rounds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{ArmSummary, CONFIDENCE};
use crate::estimate::{Interval, hodges_lehmann, paired_log_ratios, rounds_needed};
use crate::histogram::Histogram;
use crate::measurement::Slot;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Median response time.
    P50,
    /// 90th percentile of the response time.
    P90,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// Longest response time.
    Max,
    /// Mean response time.
    Mean,
    /// Client processor time per request.
    ClientCpu,
    /// Answers per second.
    RequestsPerS,
}

impl Metric {
    /// Every metric, in the order of the report.
    pub const ALL: [Metric; 8] = [
        Metric::P50,
        Metric::P90,
        Metric::P99,
        Metric::P999,
        Metric::Max,
        Metric::Mean,
        Metric::ClientCpu,
        Metric::RequestsPerS,
    ];

    /// The metric as a key.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P99 => "p99",
            Metric::P999 => "p99_9",
            Metric::Max => "max",
            Metric::Mean => "mean",
            Metric::ClientCpu => "client_cpu",
            Metric::RequestsPerS => "requests_per_s",
        }
    }

    /// Which quantile of the response time it is.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P90 => Some(0.9),
            Metric::P99 => Some(0.99),
            Metric::P999 => Some(0.999),
            Metric::Max | Metric::Mean | Metric::ClientCpu | Metric::RequestsPerS => None,
        }
    }

    /// Whether it is a time, so that a difference can be told in nanoseconds.
    pub fn is_time(self) -> bool {
        self != Metric::RequestsPerS
    }
}

/// The control against an arm in one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The control's name.
    pub control: String,
    /// The arm's name.
    pub arm: String,
    /// What is compared.
    pub metric: Metric,
    /// The arm's own value over all its slots: what the saving is a share of.
    pub base: f64,
    /// Control divided by arm: below 1 the control takes less. `None` when one of them has nothing to show.
    pub ratio: Option<f64>,
    /// Bounds of the ratio, or why there are none.
    pub interval: Result<Interval, Missing>,
    /// The paired units the interval rests on: rounds, or blocks of them.
    pub units: usize,
    /// How many rounds make one unit.
    pub rounds_per_unit: usize,
}

impl Difference {
    /// What the control saves of the arm's time: negative where it costs. `None` for what is no time.
    pub fn saved_ns(&self) -> Option<f64> {
        self.metric.is_time().then(|| self.ratio.map(|ratio| self.base * (1.0 - ratio))).flatten()
    }

    /// Bounds of [`Difference::saved_ns`], the lower first.
    pub fn saved_interval_ns(&self) -> Option<(f64, f64)> {
        let interval = self.interval.as_ref().ok().filter(|_| self.metric.is_time())?;
        Some((self.base * (1.0 - interval.upper), self.base * (1.0 - interval.lower)))
    }

    /// Whether the interval excludes that there is no difference; `None` without an interval.
    pub fn is_clear(&self) -> Option<bool> {
        self.interval.as_ref().ok().map(|interval| interval.upper < 1.0 || interval.lower > 1.0)
    }
}

/// Why there is no interval.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// Too few complete rounds.
    Rounds {
        /// So many there are.
        have: usize,
        /// So many it takes.
        need: usize,
    },
    /// Too few requests beyond the quantile.
    Tail {
        /// So many per arm there are.
        have: u64,
        /// So many it takes.
        need: u64,
    },
    /// A maximum is one request: nothing can be said about how it would repeat.
    Maximum,
    /// A value was zero, and has no ratio.
    Zero,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Rounds { have, need } => {
                write!(f, "only {have} complete rounds, and an interval takes {need}: raise --rounds")
            }
            Missing::Tail { have, need } => write!(
                f,
                "only {have} requests beyond it, and an interval takes {need}: more --rounds, a longer --slot or \
                 a higher --rate"
            ),
            Missing::Maximum => f.write_str("a maximum is a single request, and has no interval"),
            Missing::Zero => f.write_str("a value of zero has no ratio"),
        }
    }
}

/// A round in which both arms were what they say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    control: &'a Slot,
    arm: &'a Slot,
}

/// The rounds in which both arms have a pure slot.
pub(super) fn paired<'a>(control: &[&'a Slot], arm: &[&'a Slot]) -> Vec<Pair<'a>> {
    let pure = |slots: &[&'a Slot]| -> BTreeMap<u32, &'a Slot> {
        slots.iter().filter(|slot| slot.pure && slot.scheduled > 0).map(|slot| (slot.round, *slot)).collect()
    };
    let arm = pure(arm);
    pure(control)
        .into_iter()
        .filter_map(|(round, control)| arm.get(&round).map(|&arm| Pair { control, arm }))
        .collect()
}

/// Requests beyond a quantile that a unit must hold: with fewer, its quantile is its maximum or next to it, and
/// says more about how many requests there were than about how long they took.
const TAIL: f64 = 10.0;

pub(super) fn of(metric: Metric, control: &ArmSummary, arm: &ArmSummary, rounds: &[Pair<'_>]) -> Difference {
    let base = overall(metric, arm);
    let plain = ratio(overall(metric, control), base);
    let blocks = match blocks(metric, rounds) {
        Ok(size) => size,
        Err(missing) => {
            return difference(metric, control, arm, base, plain, Err(missing), 0, 1);
        }
    };
    let values = |slot: for<'a> fn(&Pair<'a>) -> &'a Slot| -> Vec<f64> {
        rounds
            .chunks_exact(blocks)
            .map(|block| value(metric, &block.iter().map(slot).collect::<Vec<_>>()))
            .collect()
    };
    let ratios = paired_log_ratios(&values(|pair| pair.control), &values(|pair| pair.arm));
    let units = ratios.differences.len();
    let need = rounds_needed(CONFIDENCE);
    match hodges_lehmann(&ratios.differences, CONFIDENCE) {
        Some(estimate) => {
            let interval = estimate.interval.map(|interval| Interval {
                lower: interval.lower.exp(),
                upper: interval.upper.exp(),
                confidence: interval.confidence,
            });
            let interval = interval.ok_or(Missing::Rounds { have: units, need });
            difference(metric, control, arm, base, Some(estimate.point.exp()), interval, units, blocks)
        }
        None => difference(metric, control, arm, base, plain, Err(Missing::Zero), units, blocks),
    }
}

#[expect(clippy::too_many_arguments, reason = "each is one field")]
fn difference(
    metric: Metric,
    control: &ArmSummary,
    arm: &ArmSummary,
    base: f64,
    ratio: Option<f64>,
    interval: Result<Interval, Missing>,
    units: usize,
    rounds_per_unit: usize,
) -> Difference {
    let (control, arm) = (control.name.clone(), arm.name.clone());
    Difference { control, arm, metric, base, ratio, interval, units, rounds_per_unit }
}

/// How many rounds must be taken together so that each unit holds enough of the tail.
fn blocks(metric: Metric, rounds: &[Pair<'_>]) -> Result<usize, Missing> {
    let need = rounds_needed(CONFIDENCE);
    if metric == Metric::Max {
        return Err(Missing::Maximum);
    }
    if rounds.len() < need {
        return Err(Missing::Rounds { have: rounds.len(), need });
    }
    let Some(q) = metric.quantile() else { return Ok(1) };
    let fewest = |of: fn(&Pair<'_>) -> u64| rounds.iter().map(of).min().unwrap_or(0);
    let smallest = fewest(|pair| pair.control.response.len()).min(fewest(|pair| pair.arm.response.len()));
    let size = (TAIL / (smallest.max(1) as f64 * (1.0 - q))).ceil().max(1.0) as usize;
    if rounds.len() / size < need {
        let total = |of: fn(&Pair<'_>) -> u64| rounds.iter().map(of).sum::<u64>();
        let requests = total(|pair| pair.control.response.len()).min(total(|pair| pair.arm.response.len()));
        let have = (requests as f64 * (1.0 - q)).round() as u64;
        return Err(Missing::Tail { have, need: (TAIL as u64) * need as u64 });
    }
    Ok(size)
}

/// A metric over some slots taken together.
fn value(metric: Metric, slots: &[&Slot]) -> f64 {
    let sum = |of: fn(&Slot) -> u64| slots.iter().map(|slot| of(slot)).sum::<u64>() as f64;
    match metric {
        Metric::ClientCpu => sum(|slot| slot.client.cpu_ns) / sum(|slot| slot.scheduled).max(1.0),
        Metric::RequestsPerS => {
            let time: Duration = slots.iter().map(|slot| slot.duration).sum();
            sum(|slot| slot.completed) / time.as_secs_f64()
        }
        _ => match slots {
            [one] => of_response(metric, &one.response),
            many => {
                let mut whole = Histogram::new();
                many.iter().for_each(|slot| whole.merge(&slot.response));
                of_response(metric, &whole)
            }
        },
    }
}

fn overall(metric: Metric, arm: &ArmSummary) -> f64 {
    match metric {
        Metric::ClientCpu => arm.cpu_per_request().map_or(0.0, |cpu| cpu.as_nanos() as f64),
        Metric::RequestsPerS => arm.requests_per_s(),
        _ => of_response(metric, &arm.response),
    }
}

fn of_response(metric: Metric, response: &Histogram) -> f64 {
    let time = match metric {
        Metric::Max => response.max(),
        Metric::Mean => response.mean(),
        _ => metric.quantile().and_then(|q| response.quantile(q)),
    };
    time.map_or(0.0, |time| time.as_nanos() as f64)
}

fn ratio(control: f64, arm: f64) -> Option<f64> {
    (control > 0.0 && arm > 0.0).then(|| control / arm)
}

#[cfg(test)]
mod tests {
    use super::super::{arms, samples};
    use super::*;

    #[test]
    fn a_known_ratio_is_found_and_its_interval_holds_it() {
        let comparison = arms(&samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        let p50 = comparison.difference("off", Metric::P50).unwrap();
        let interval = p50.interval.as_ref().unwrap();
        assert!((p50.ratio.unwrap() - 0.25).abs() < 0.01, "{p50:?}");
        assert!(interval.lower <= 0.25 + 0.01 && 0.25 - 0.01 <= interval.upper, "{p50:?}");
        assert_eq!((p50.units, p50.rounds_per_unit, p50.is_clear()), (20, 1, Some(true)));
        let (low, high) = p50.saved_interval_ns().unwrap();
        let saved = p50.saved_ns().unwrap();
        assert!(low <= saved && saved <= high);
    }

    #[test]
    fn rounds_are_taken_together_until_each_unit_holds_ten_requests_of_the_tail() {
        let comparison = arms(&samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        let p99 = comparison.difference("off", Metric::P99).unwrap();
        // 500 requests have 5 beyond p99: two rounds make a unit.
        assert_eq!((p99.rounds_per_unit, p99.units), (2, 10));
        assert!(p99.interval.is_ok());
    }

    #[test]
    fn a_tail_that_is_too_thin_has_no_interval_and_says_what_it_takes() {
        let comparison = arms(&samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        let p999 = comparison.difference("off", Metric::P999).unwrap();
        assert_eq!(p999.interval, Err(Missing::Tail { have: 10, need: 60 }));
        assert!(p999.ratio.is_some());
    }

    #[test]
    fn five_rounds_carry_no_interval_and_six_do() {
        for (rounds, carries) in [(5, false), (6, true)] {
            let comparison = arms(&samples::run(rounds, 500).arm("on", 1.0).arm("off", 4.0).measurement());
            let p50 = comparison.difference("off", Metric::P50).unwrap();
            assert_eq!(p50.interval.is_ok(), carries);
        }
    }

    #[test]
    fn a_maximum_has_no_interval() {
        let comparison = arms(&samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        let max = comparison.difference("off", Metric::Max).unwrap();
        assert_eq!(max.interval, Err(Missing::Maximum));
    }

    #[test]
    fn a_round_with_an_impure_slot_is_left_out() {
        let mut measurement = samples::run(8, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        measurement.slots[0].pure = false;
        let comparison = arms(&measurement);
        assert_eq!(comparison.difference("off", Metric::P50).unwrap().units, 7);
    }
}
