//! From a [`Measurement`] to what it says: arm against arm, with intervals, and whether it may be believed.
//! Pure: the same measurement always says the same.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::measurement::{Ledger, Measurement, PhaseSums, Reuse, Slot};
use crate::plan::Model;

mod difference;
mod validity;

pub use difference::{Difference, Metric, Missing};
pub use validity::{Reason, Severity, Validity};

/// The confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// What a measurement says.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// One summary per arm, in the plan's order; the first is the control.
    pub arms: Vec<ArmSummary>,
    /// The control against every other arm, metric by metric.
    pub differences: Vec<Difference>,
    /// Whether latencies may be compared between arms: in a closed loop the arms run at different loads.
    pub latencies_comparable: bool,
    /// Whether it may be believed.
    pub validity: Validity,
}

/// What one arm did.
#[derive(Clone, Debug)]
pub struct ArmSummary {
    /// The arm's name.
    pub name: String,
    /// Whether its connections are kept.
    pub keep_alive: bool,
    /// Slots that were what the arm says.
    pub pure_slots: usize,
    /// Slots that were not; they are left out of everything but the ledger, unless there are no others.
    pub impure_slots: usize,
    /// Time over which it was measured.
    pub measured: Duration,
    /// Requests due in that time.
    pub requests: u64,
    /// Of those, answered completely.
    pub completed: u64,
    /// Of those, unanswered at the end.
    pub censored: u64,
    /// Requests without a good answer, by kind.
    pub errors: BTreeMap<String, u64>,
    /// From when a request was due until its last byte.
    pub response: Histogram,
    /// From when it was taken in hand until its last byte.
    pub service: Histogram,
    /// From when it was due until it was issued.
    pub lag: Histogram,
    /// Where the time went.
    pub phases: PhaseSums,
    /// How the measured requests came by their connections.
    pub reuse: Reuse,
    /// The pool's account of all its slots, washouts included.
    pub connections: Ledger,
    /// Processor time of the sending threads.
    pub cpu_ns: u64,
    /// Wall time over which that was spent.
    pub wall_ns: u64,
    /// Time in which a sending thread was ready and had no processor.
    pub run_queue_ns: u64,
    /// Time for which the control group was throttled.
    pub throttled_ns: u64,
    /// Most sockets in TIME_WAIT on this machine at the end of any slot.
    pub time_wait: u64,
}

impl ArmSummary {
    fn of(name: &str, keep_alive: bool, slots: &[&Slot]) -> ArmSummary {
        let pure_slots = slots.iter().filter(|slot| slot.pure).count();
        let all = || slots.iter().copied();
        // Without a single pure slot there is nothing better to show; the validity says what they are.
        let mut whole = Slot::default();
        let mut measured = Duration::ZERO;
        for slot in all().filter(|slot| slot.pure || pure_slots == 0) {
            whole.merge(slot);
            measured += slot.duration;
        }
        let mut connections = Ledger::default();
        all().for_each(|slot| connections.merge(&slot.connections));
        ArmSummary {
            name: name.to_owned(),
            keep_alive,
            pure_slots,
            impure_slots: slots.len() - pure_slots,
            measured,
            requests: whole.scheduled,
            completed: whole.completed,
            censored: whole.censored,
            errors: whole.errors,
            response: whole.response,
            service: whole.service,
            lag: whole.lag,
            phases: whole.phases,
            reuse: whole.reuse,
            connections,
            cpu_ns: whole.client.cpu_ns,
            wall_ns: whole.client.wall_ns,
            run_queue_ns: whole.client.run_queue_ns,
            throttled_ns: all().map(|slot| slot.client.throttled_ns).sum(),
            time_wait: all().map(|slot| slot.client.time_wait_after).max().unwrap_or(0),
        }
    }

    /// Answers per second.
    pub fn requests_per_s(&self) -> f64 {
        per_second(self.completed, self.measured)
    }

    /// Share of the answered requests that went over a used connection; `None` without any.
    pub fn reuse_ratio(&self) -> Option<f64> {
        let all = self.reuse.reused + self.reuse.opened;
        (all > 0).then(|| self.reuse.reused as f64 / all as f64)
    }

    /// Processor time of the sending threads per request; `None` without any.
    pub fn cpu_per_request(&self) -> Option<Duration> {
        (self.requests > 0).then(|| Duration::from_nanos(self.cpu_ns / self.requests))
    }

    /// Connections opened for measured requests, per second.
    pub fn connects_per_s(&self) -> f64 {
        per_second(self.reuse.opened, self.measured)
    }

    /// TLS handshakes made for measured requests, per second.
    pub fn handshakes_per_s(&self) -> f64 {
        per_second(self.reuse.handshakes_full + self.reuse.handshakes_resumed, self.measured)
    }

    /// Requests without a good answer.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// How busy the sending threads were, 0 to 1.
    pub fn client_busy(&self) -> f64 {
        self.cpu_ns as f64 / self.wall_ns.max(1) as f64
    }
}

fn per_second(n: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() }
}

/// Compares the arms of one measurement.
pub fn arms(measurement: &Measurement) -> Comparison {
    let plan = &measurement.plan;
    let slots_of =
        |name: &str| -> Vec<&Slot> { measurement.slots.iter().filter(|slot| slot.arm == name).collect() };
    let arms: Vec<ArmSummary> =
        plan.arms.iter().map(|arm| ArmSummary::of(&arm.name, arm.keep_alive, &slots_of(&arm.name))).collect();
    let mut differences = Vec::new();
    if let Some((control, others)) = arms.split_first() {
        let control_slots = slots_of(&control.name);
        for arm in others {
            let rounds = difference::paired(&control_slots, &slots_of(&arm.name));
            differences.extend(Metric::ALL.map(|metric| difference::of(metric, control, arm, &rounds)));
        }
    }
    let validity = validity::of(measurement, &arms, &differences);
    Comparison { arms, differences, latencies_comparable: plan.model != Model::Closed, validity }
}

impl Comparison {
    /// The control, if the plan had any arm.
    pub fn control(&self) -> Option<&ArmSummary> {
        self.arms.first()
    }

    /// One metric's difference between the control and an arm.
    pub fn difference(&self, arm: &str, metric: Metric) -> Option<&Difference> {
        self.differences.iter().find(|difference| difference.arm == arm && difference.metric == metric)
    }
}

#[cfg(test)]
pub(crate) mod samples;
