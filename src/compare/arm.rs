//! [`ArmSummary`]: what one arm did.

use std::collections::BTreeMap;
use std::time::Duration;

use super::visits::Visits;
use crate::histogram::Histogram;
use crate::measurement::{Ledger, PhaseSums, Reuse, client_cpu_ns_per_request, requests_per_s};
use crate::powers::Powers;

/// What one arm did. Times, rates and phases are of the slots that count; requests, errors and connections are of
/// all its slots.
#[derive(Clone, Debug)]
pub struct ArmSummary {
    /// The arm's name.
    pub name: String,
    /// Requests that were due in the measured windows.
    pub requests: u64,
    /// Of those, answered completely, whatever the status.
    pub completed: u64,
    /// Answers for each second measured.
    pub requests_per_s: f64,
    /// Requests without a good answer, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Requests still unanswered at the end of a drain.
    pub censored: u64,
    /// From due to done: what a user feels.
    pub response: Option<Quantiles>,
    /// From taken in hand to done: what the target did.
    pub service: Option<Quantiles>,
    /// From due to issued: the generator's own lateness.
    pub lag: Option<Quantiles>,
    /// All response times.
    pub response_histogram: Histogram,
    /// Where the time went. The means of its parts add up to the mean response time.
    pub phases: PhaseSums,
    /// The pools' account of all visits, washouts included.
    pub connections: Ledger,
    /// How long, in nanoseconds, connections had been idle on which an attempt failed.
    pub idle_at_failure_ns: Powers,
    /// The share of the measured requests that went over a connection opened by an earlier one.
    pub reuse_ratio: Option<f64>,
    /// How many handshakes the control avoids for each second of this arm: TLS handshakes, or TCP handshakes where
    /// there is no TLS. `None` for the control itself.
    pub handshakes_avoided_per_s: Option<f64>,
    /// Processor time of the client for each measured request; `None` where that is not known.
    pub client_cpu_per_request: Option<Duration>,
    /// How many slots there were.
    pub slots: SlotCounts,
}

/// How many of an arm's slots were what they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Whole, and the arm was what its name says.
    pub pure: usize,
    /// The arm was not what its name says.
    pub impure: usize,
    /// Cut short by an interruption.
    pub cut_short: usize,
}

/// The points of a distribution that reports show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// The median.
    pub p50: Duration,
    /// Nine in ten are at or below it.
    pub p90: Duration,
    /// 99 in 100 are.
    pub p99: Duration,
    /// 999 in 1000 are.
    pub p99_9: Duration,
    /// The largest, exactly.
    pub max: Duration,
    /// The mean, exactly.
    pub mean: Duration,
    /// How many times there are.
    pub count: u64,
    /// The share of these times at whose end there was an answer. The others ended without one, and are known only to be no
    /// shorter.
    pub answered: f64,
}

impl Quantiles {
    /// The points of `histogram`, of which so many are of answers; `None` when it is empty.
    pub fn of(histogram: &Histogram, answers: u64) -> Option<Quantiles> {
        Some(Quantiles {
            count: histogram.len(),
            answered: histogram.share_of(answers),
            p50: histogram.quantile(0.5)?,
            p90: histogram.quantile(0.9)?,
            p99: histogram.quantile(0.99)?,
            p99_9: histogram.quantile(0.999)?,
            max: histogram.max()?,
            mean: histogram.mean()?,
        })
    }

    /// Whether at least one of the times lies beyond the share `q`, so that it is more than another name for the largest.
    pub fn reaches(&self, q: f64) -> bool {
        // A little less than one: 1 - q is no exact number.
        q == 1.0 || (1.0 - q) * self.count as f64 >= 0.999
    }

    /// Whether the share `q` was answered within a time that is known only to be at least what the point says: had those
    /// that had no answer waited for ever, it would be endless. The largest and the mean are of all, as of `q` = 1.
    pub fn is_at_least(&self, q: f64) -> bool {
        q > self.answered
    }
}

impl ArmSummary {
    pub(super) fn of(visits: &Visits<'_>, control: Option<&Visits<'_>>) -> ArmSummary {
        let total = &visits.total;
        let Reuse { reused, opened, .. } = total.reuse;
        let is_control = control.is_some_and(|control| control.arm.name == visits.arm.name);
        ArmSummary {
            name: visits.arm.name.clone(),
            requests: visits.count(|slot| slot.scheduled),
            completed: visits.count(|slot| slot.completed),
            requests_per_s: requests_per_s(&visits.counted).unwrap_or(0.0),
            errors: errors(visits),
            censored: visits.count(|slot| slot.censored),
            response: Quantiles::of(&total.response, total.completed),
            service: Quantiles::of(&total.service, total.completed),
            lag: Quantiles::of(&total.lag, total.lag.len()),
            response_histogram: total.response.clone(),
            phases: total.phases,
            connections: connections(visits),
            idle_at_failure_ns: idle_at_failure(visits),
            reuse_ratio: (reused + opened > 0).then(|| reused as f64 / (reused + opened) as f64),
            handshakes_avoided_per_s: control.filter(|_| !is_control).map(|control| avoided(control, visits)),
            client_cpu_per_request: client_cpu_ns_per_request(&visits.counted)
                .map(|ns| Duration::from_nanos(ns as u64)),
            slots: SlotCounts {
                pure: visits.slots.len() - visits.impure - visits.cut_short,
                impure: visits.impure,
                cut_short: visits.cut_short,
            },
        }
    }

    /// Requests that failed. Those [still unanswered](ArmSummary::censored) are not among them.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

fn errors(visits: &Visits<'_>) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    for (kind, n) in visits.slots.iter().flat_map(|slot| &slot.errors) {
        *errors.entry(kind.clone()).or_default() += n;
    }
    errors
}

fn idle_at_failure(visits: &Visits<'_>) -> Powers {
    let mut idle = Powers::default();
    visits.slots.iter().for_each(|slot| idle.merge(&slot.idle_at_failure_ns));
    idle
}

fn connections(visits: &Visits<'_>) -> Ledger {
    let mut connections = Ledger::default();
    for slot in &visits.slots {
        connections.merge(&slot.connections);
    }
    connections
}

/// Handshakes that the control saves each second. Every connection over TLS has a TLS handshake, full or resumed;
/// where there was none in either arm, the TCP handshake is what is saved.
fn avoided(control: &Visits<'_>, arm: &Visits<'_>) -> f64 {
    let tls = |reuse: &Reuse| reuse.handshakes_full + reuse.handshakes_resumed;
    let over_tls = tls(&control.total.reuse) + tls(&arm.total.reuse) > 0;
    let handshakes = |visits: &Visits<'_>| {
        let reuse = &visits.total.reuse;
        visits.per_second(if over_tls { tls(reuse) } else { reuse.opened })
    };
    handshakes(arm) - handshakes(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_among_those_without_an_answer_is_at_least_what_is_said() {
        let mut times = Histogram::new();
        (0..392).for_each(|nth| times.record(Duration::from_millis(if nth < 19 { 500 } else { 1 })));
        let points = Quantiles::of(&times, 373).unwrap();
        assert_eq!(
            [0.5, 0.9, 0.95, 0.99, 1.0].map(|q| points.is_at_least(q)),
            [false, false, false, true, true]
        );
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|q| points.reaches(q)), [true, true, false, true]);
        let all = Quantiles::of(&times, 392).unwrap();
        assert!(!all.is_at_least(1.0));
    }
}
