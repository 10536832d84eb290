//! [`Difference`]: the control against another arm in one metric, with the interval that the rounds carry.

use std::borrow::Cow;
use std::time::Duration;

use super::visits::Visits;
use super::{CONFIDENCE, saved_share};
use crate::estimate::{Interval, hodges_lehmann, paired_log_ratios, rounds_needed};
use crate::histogram::Histogram;
use crate::measurement::{Slot, client_cpu_ns_per_request, requests_per_s};

/// A tail must hold so many samples for its quantile to mean something: with fewer, the quantile of one round is
/// little more than the place of its slowest request.
const TAIL_SAMPLES: u64 = 10;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The median response time.
    P50,
    /// Nine in ten responses.
    P90,
    /// 99 in 100.
    P99,
    /// 999 in 1000.
    P999,
    /// The slowest.
    Max,
    /// The mean response time.
    Mean,
    /// The client's processor time for a request.
    ClientCpu,
    /// Requests completed per second.
    RequestsPerS,
}

impl Metric {
    /// Every metric, in the order of reports.
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

    /// Whether it is a time, of which some can be saved.
    pub fn is_time(self) -> bool {
        self != Metric::RequestsPerS
    }

    /// Whether it is a response time.
    pub fn is_latency(self) -> bool {
        !matches!(self, Metric::ClientCpu | Metric::RequestsPerS)
    }

    /// For a quantile: the quantile, and how many of 1000 samples lie above it.
    fn quantile(self) -> Option<(f64, u64)> {
        match self {
            Metric::P50 => Some((0.5, 500)),
            Metric::P90 => Some((0.9, 100)),
            Metric::P99 => Some((0.99, 10)),
            Metric::P999 => Some((0.999, 1)),
            _ => None,
        }
    }

    /// Its value over some slots; nanoseconds for a time.
    fn of(self, slots: &[&Slot]) -> Option<f64> {
        let ns = |time: Duration| time.as_nanos() as f64;
        match self {
            Metric::Max => response(slots).max().map(ns),
            Metric::Mean => response(slots).mean().map(ns),
            Metric::ClientCpu => client_cpu_ns_per_request(slots),
            Metric::RequestsPerS => requests_per_s(slots).filter(|per_s| *per_s > 0.0),
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 => {
                let (q, _) = self.quantile()?;
                response(slots).quantile(q).map(ns)
            }
        }
    }
}

fn response<'a>(slots: &[&'a Slot]) -> Cow<'a, Histogram> {
    match slots {
        [] => Cow::Owned(Histogram::new()),
        [slot] => Cow::Borrowed(&slot.response),
        [first, rest @ ..] => {
            let mut merged = first.response.clone();
            rest.iter().for_each(|slot| merged.merge(&slot.response));
            Cow::Owned(merged)
        }
    }
}

/// The control against another arm in one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The control's name.
    pub control: String,
    /// The other arm's.
    pub arm: String,
    /// What is compared.
    pub metric: Metric,
    /// The other arm's value over all its slots that count: nanoseconds, or requests per second.
    pub arm_value: Option<f64>,
    /// The control's value divided by the arm's: from the rounds where they carry an interval, so that it lies
    /// inside; else plainly of all slots. `None` where an arm has no value.
    pub ratio: Option<f64>,
    /// Where the ratio lies.
    pub interval: Option<Interval>,
    /// Where each round, or block of rounds, has it: what the interval was made from.
    pub by_round: Vec<RoundValues>,
    /// Why there is no interval.
    pub reason: Option<String>,
    /// Rounds used: those in which both arms were pure and measured to the end.
    pub rounds: usize,
    /// How many rounds were taken together for one value.
    pub rounds_per_block: usize,
    /// Whether the two values may be set against each other at all.
    pub comparable: bool,
}

/// What both arms did in one round, or in a block of consecutive ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundValues {
    /// The (first) round, from 0.
    pub round: u32,
    /// The control's value: nanoseconds, or requests per second.
    pub control: f64,
    /// The arm's.
    pub arm: f64,
}

/// What the control saves of a time; negative where it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saving {
    /// Nanoseconds.
    pub ns: i64,
    /// As a share of the arm's time.
    pub share: f64,
    /// The bounds in nanoseconds.
    pub interval_ns: Option<(i64, i64)>,
    /// The bounds of the share.
    pub share_interval: Option<Interval>,
}

/// Which way a difference points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The control is better: the whole interval says so.
    Better,
    /// The control is worse.
    Worse,
    /// The interval holds "no difference".
    Level,
    /// There is no interval.
    Unsure,
}

impl Difference {
    /// What the control saves: the arm's value times one minus the ratio, so that ratio, share and time agree.
    /// `None` for what is no time.
    pub fn saving(&self) -> Option<Saving> {
        let (arm, ratio) = (self.arm_value?, self.ratio?);
        if !self.metric.is_time() {
            return None;
        }
        let ns = |share: f64| (arm * share).round() as i64;
        let share_interval = self.interval.map(saved_share);
        Some(Saving {
            ns: ns(1.0 - ratio),
            share: 1.0 - ratio,
            interval_ns: share_interval.map(|share| (ns(share.lower), ns(share.upper))),
            share_interval,
        })
    }

    /// Which way it points: less time is better, and more requests per second are.
    pub fn direction(&self) -> Direction {
        let Some(interval) = self.interval else { return Direction::Unsure };
        let (less, more) = (interval.upper < 1.0, interval.lower > 1.0);
        let (better, worse) = if self.metric.is_time() { (less, more) } else { (more, less) };
        match (better, worse) {
            (true, _) => Direction::Better,
            (_, true) => Direction::Worse,
            _ => Direction::Level,
        }
    }
}

/// One round's slots of both arms.
#[derive(Clone, Copy)]
struct Pair<'a> {
    control: &'a Slot,
    arm: &'a Slot,
}

pub(super) fn between(control: &Visits<'_>, arm: &Visits<'_>, latencies_comparable: bool) -> Vec<Difference> {
    let by_round = arm.by_round();
    let rounds: Vec<Pair<'_>> = control
        .by_round()
        .into_iter()
        .filter_map(|(round, control)| Some(Pair { control, arm: by_round.get(&round)? }))
        .collect();
    let one = |metric| difference(control, arm, &rounds, metric, latencies_comparable);
    Metric::ALL.into_iter().map(one).collect()
}

fn difference(
    control: &Visits<'_>,
    arm: &Visits<'_>,
    rounds: &[Pair<'_>],
    metric: Metric,
    latencies_comparable: bool,
) -> Difference {
    let arm_value = metric.of(&arm.counted);
    let pooled = metric.of(&control.counted).zip(arm_value).map(|(control, arm)| control / arm);
    let blank = Difference {
        control: control.arm.name.clone(),
        arm: arm.arm.name.clone(),
        metric,
        arm_value,
        ratio: pooled.filter(|ratio| ratio.is_finite()),
        interval: None,
        by_round: Vec::new(),
        reason: None,
        rounds: rounds.len(),
        rounds_per_block: 1,
        comparable: latencies_comparable || !metric.is_latency(),
    };
    if let Some(name) = unended(metric, [control, arm]) {
        let why = format!(
            "in arm {name} so many requests had no answer when their time was up that this is known only to be at least what \
             stands above; raise --max-time, or lower --rate"
        );
        return Difference { ratio: None, reason: Some(why), ..blank };
    }
    match estimate(metric, rounds) {
        Ok(found) => Difference {
            ratio: Some(found.ratio),
            interval: Some(found.interval),
            by_round: found.by_round,
            rounds: found.rounds,
            rounds_per_block: found.rounds_per_block,
            ..blank
        },
        Err(reason) => Difference { reason: Some(reason), ..blank },
    }
}

/// The arm whose quantile lies among requests that had no answer, so that nobody knows it.
fn unended<'a>(metric: Metric, arms: [&'a Visits<'_>; 2]) -> Option<&'a str> {
    let (q, _) = metric.quantile()?;
    let is_beyond = |Slot { response, completed, .. }: &Slot| q > response.share_of(*completed);
    let arm = arms.into_iter().find(|visits| !visits.total.response.is_empty() && is_beyond(&visits.total));
    arm.map(|visits| visits.arm.name.as_str())
}

struct Found {
    ratio: f64,
    interval: Interval,
    by_round: Vec<RoundValues>,
    rounds: usize,
    rounds_per_block: usize,
}

/// The ratio with its interval, or why the rounds do not carry one.
fn estimate(metric: Metric, rounds: &[Pair<'_>]) -> Result<Found, String> {
    let rounds_per_block = rounds_per_block(metric, rounds)?;
    let blocks = blocks(rounds, rounds_per_block);
    let values = |of: for<'a> fn(&Pair<'a>) -> &'a Slot| -> Vec<f64> {
        let value = |block: &&[Pair<'_>]| metric.of(&block.iter().map(of).collect::<Vec<_>>());
        blocks.iter().map(|block| value(block).unwrap_or(0.0)).collect()
    };
    let (control, arm) = (values(|pair| pair.control), values(|pair| pair.arm));
    let ratios = paired_log_ratios(&control, &arm);
    let needed = rounds_needed(CONFIDENCE);
    let estimate = hodges_lehmann(&ratios.differences, CONFIDENCE);
    match estimate.and_then(|estimate| estimate.interval.map(|interval| (estimate.point, interval))) {
        Some((point, interval)) => Ok(Found {
            ratio: point.exp(),
            interval: Interval { lower: interval.lower.exp(), upper: interval.upper.exp(), ..interval },
            by_round: by_round(&blocks, &control, &arm),
            rounds: rounds.len() - ratios.skipped * rounds_per_block,
            rounds_per_block,
        }),
        None => Err(format!(
            "only {} of {} rounds have a value in both arms: at least {needed} needed",
            ratios.differences.len(),
            blocks.len()
        )),
    }
}

/// The pairs that have a ratio.
fn by_round(blocks: &[&[Pair<'_>]], control: &[f64], arm: &[f64]) -> Vec<RoundValues> {
    let rounds = blocks.iter().filter_map(|block| Some(block.first()?.control.round));
    let all = rounds.zip(control.iter().zip(arm));
    all.map(|(round, (&control, &arm))| RoundValues { round, control, arm })
        .filter(|both| both.control > 0.0 && both.arm > 0.0)
        .collect()
}

/// The fewest rounds that must be taken together so that every block's tail holds [`TAIL_SAMPLES`] in both arms.
fn rounds_per_block(metric: Metric, rounds: &[Pair<'_>]) -> Result<usize, String> {
    if metric == Metric::Max {
        return Err("a maximum has no interval".into());
    }
    let needed = rounds_needed(CONFIDENCE);
    if rounds.len() < needed {
        return Err(format!("only {} complete rounds: at least {needed} needed", rounds.len()));
    }
    let Some((_, tail_of_1000)) = metric.quantile() else { return Ok(1) };
    let enough = |block: &&[Pair<'_>]| smaller(block) * tail_of_1000 >= TAIL_SAMPLES * 1000;
    let most = rounds.len() / needed;
    (1..=most).find(|&k| blocks(rounds, k).iter().all(enough)).ok_or_else(|| {
        let tail = smaller(rounds) * tail_of_1000 / 1000;
        let name = metric.as_str().replace('_', ".");
        let wanted = TAIL_SAMPLES * needed as u64;
        let cure = "more rounds, longer slots or a higher rate";
        if tail < wanted {
            let samples = if tail == 1 { "sample" } else { "samples" };
            format!("only {tail} {samples} above {name}: at least {wanted} needed ({cure})")
        } else {
            format!("the {tail} samples above {name} do not fill {needed} blocks of rounds evenly ({cure})")
        }
    })
}

/// Consecutive rounds, `k` at a time; what is left over joins the last block.
fn blocks<'a, 'b>(rounds: &'a [Pair<'b>], k: usize) -> Vec<&'a [Pair<'b>]> {
    let n = rounds.len() / k;
    (0..n).map(|nth| &rounds[nth * k..if nth + 1 == n { rounds.len() } else { (nth + 1) * k }]).collect()
}

/// How many samples the arm with fewer has in these rounds.
fn smaller(rounds: &[Pair<'_>]) -> u64 {
    let samples = |of: fn(&Pair<'_>) -> u64| -> u64 { rounds.iter().map(of).sum() };
    samples(|pair| pair.control.response.len()).min(samples(|pair| pair.arm.response.len()))
}

#[cfg(test)]
mod tests {
    use super::super::{arms, samples};
    use super::*;
    use crate::measurement::Measurement;

    fn run(rounds: u32, requests: u64) -> Measurement {
        samples::run(rounds, requests).arm("on", 1.0).arm("off", 4.0).measurement()
    }

    fn one(measurement: &Measurement, metric: Metric) -> Difference {
        arms(measurement).difference("off", metric).expect("every metric is compared").clone()
    }

    #[test]
    fn a_known_ratio_is_found_and_ratio_saving_and_share_agree() {
        let p50 = one(&run(20, 500), Metric::P50);
        let (ratio, interval) = (p50.ratio.unwrap(), p50.interval.unwrap());
        assert!((ratio - 0.25).abs() < 0.01, "{p50:?}");
        assert!(interval.lower <= ratio && ratio <= interval.upper);
        assert_eq!((p50.rounds, p50.rounds_per_block, p50.direction()), (20, 1, Direction::Better));
        let saving = p50.saving().unwrap();
        assert!((saving.share - (1.0 - ratio)).abs() < 1e-12);
        assert!((saving.ns as f64 - p50.arm_value.unwrap() * saving.share).abs() <= 0.5);
        let (low, high) = saving.interval_ns.unwrap();
        assert!(low <= saving.ns && saving.ns <= high && low > 0);
    }

    #[test]
    fn what_costs_has_a_negative_saving_and_what_is_equal_is_level() {
        let slower = samples::run(20, 500).arm("on", 4.0).arm("off", 1.0).measurement();
        let p50 = one(&slower, Metric::P50);
        assert_eq!(p50.direction(), Direction::Worse);
        assert!(p50.saving().unwrap().ns < -2_900_000);
        let equal = samples::run(20, 500).arm("on", 1.0).arm("off", 1.0).measurement();
        assert_eq!(one(&equal, Metric::ClientCpu).direction(), Direction::Level);
    }

    #[test]
    fn more_requests_per_second_are_better_and_are_no_time() {
        let mut measurement = run(8, 500);
        for slot in measurement.slots.iter_mut().filter(|slot| slot.arm == "on") {
            slot.completed *= 3;
        }
        let rate = one(&measurement, Metric::RequestsPerS);
        assert!((rate.ratio.unwrap() - 3.0).abs() < 1e-9);
        assert_eq!((rate.direction(), rate.saving()), (Direction::Better, None));
    }

    #[test]
    fn rounds_are_taken_together_until_each_block_holds_ten_samples_of_the_tail() {
        // 500 requests have 5 above p99: two rounds make a block, and 100 have 10 above p90
        let measurement = run(21, 500);
        let p99 = one(&measurement, Metric::P99);
        assert_eq!((p99.rounds, p99.rounds_per_block), (21, 2));
        assert!(p99.interval.is_some());
        assert_eq!(one(&run(6, 100), Metric::P90).rounds_per_block, 1);
    }

    #[test]
    fn a_tail_that_is_too_thin_has_a_point_and_the_reason_for_no_interval() {
        let p999 = one(&run(20, 500), Metric::P999);
        assert_eq!(p999.interval, None);
        let reason = p999.reason.clone().unwrap();
        assert!(reason.starts_with("only 10 samples above p99.9: at least 60 needed"), "{reason}");
        assert!(p999.saving().unwrap().interval_ns.is_none() && p999.ratio.is_some());
    }

    #[test]
    fn five_rounds_carry_no_interval_and_six_do() {
        assert_eq!(
            one(&run(5, 500), Metric::P50).reason.unwrap(),
            "only 5 complete rounds: at least 6 needed"
        );
        assert!(one(&run(6, 500), Metric::P50).interval.is_some());
    }

    #[test]
    fn a_maximum_never_has_an_interval() {
        assert_eq!(one(&run(20, 500), Metric::Max).reason.unwrap(), "a maximum has no interval");
    }

    #[test]
    fn a_round_without_one_of_the_arms_is_no_pair() {
        let mut measurement = run(9, 500);
        measurement.slots.pop();
        assert_eq!(one(&measurement, Metric::Mean).rounds, 8);
    }

    #[test]
    fn unknown_processor_time_is_no_value_rather_than_nothing_used() {
        let mut measurement = run(9, 500);
        measurement.slots.iter_mut().for_each(|slot| slot.client.cpu_ns = 0);
        let cpu = one(&measurement, Metric::ClientCpu);
        assert_eq!((cpu.ratio, cpu.saving()), (None, None));
        assert!(cpu.reason.unwrap().starts_with("only 0 of 9 rounds have a value"));
    }

    #[test]
    fn what_is_left_over_joins_the_last_block() {
        let measurement = run(7, 10);
        let slot = &measurement.slots[0];
        let rounds = [Pair { control: slot, arm: slot }; 7];
        let lengths: Vec<usize> = blocks(&rounds, 3).iter().map(|block| block.len()).collect();
        assert_eq!(lengths, [3, 4]);
    }
}
