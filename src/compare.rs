//! [`arms`]: from a measurement to what its arms did, how far they are apart, how sure that is, and whether the
//! measurement can be trusted at all. Pure. What any of it should look like belongs to the report.

use crate::estimate::Interval;
use crate::measurement::Measurement;
use crate::plan::Model;

mod arm;
mod delayed_ack;
mod difference;
pub mod side_by_side;
mod validity;
mod visits;

#[cfg(test)]
pub(crate) mod samples;

pub use arm::{ArmSummary, Quantiles, SlotCounts};
pub use delayed_ack::DelayedAck;
pub use difference::{Difference, Direction, Metric, RoundValues, Saving};
pub(crate) use validity::ORDINARY_LAG;
pub use validity::{ArmFacts, Doing, Reason, Severity, Validity};

/// The confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// What a measurement says of its arms.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Every arm, in the plan's order; the first is the control.
    pub arms: Vec<ArmSummary>,
    /// The control against every other arm, metric by metric.
    pub differences: Vec<Difference>,
    /// Whether the arms' latencies may be set against each other. In a closed loop every arm runs at a load of its
    /// own, so that only requests per second and processor time may.
    pub latencies_comparable: bool,
    /// Rounds in which every arm was measured to the end and was pure.
    pub complete_rounds: usize,
    /// Kept connections that are slower than new ones because acknowledgements are delayed.
    pub delayed_ack: Option<DelayedAck>,
    /// Whether all this can be trusted, and what to know about it.
    pub validity: Validity,
}

impl Comparison {
    /// The control.
    pub fn control(&self) -> Option<&ArmSummary> {
        self.arms.first()
    }

    /// An arm by its name.
    pub fn arm(&self, name: &str) -> Option<&ArmSummary> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The control against `arm` in one metric.
    pub fn difference(&self, arm: &str, metric: Metric) -> Option<&Difference> {
        self.differences.iter().find(|difference| difference.arm == arm && difference.metric == metric)
    }
}

/// Compares the arms of a measurement.
///
/// A slot whose arm was not what its name says, or that was cut short, is counted and otherwise left out; only if
/// an arm has no other slots are they used, and then the validity says so.
pub fn arms(measurement: &Measurement) -> Comparison {
    let all = visits::by_arm(measurement);
    let latencies_comparable = measurement.plan.model != Model::Closed;
    let control = all.first();
    let arms = all.iter().map(|visits| ArmSummary::of(visits, control)).collect();
    let differences = all
        .iter()
        .skip(1)
        .zip(control.into_iter().cycle())
        .flat_map(|(arm, control)| difference::between(control, arm, latencies_comparable))
        .collect();
    let complete_rounds = visits::complete_rounds(&all);
    let delayed_ack = delayed_ack::find(&all, &measurement.machine.os);
    let validity = Validity::of(measurement, &all, complete_rounds, delayed_ack.as_ref());
    Comparison { arms, differences, latencies_comparable, complete_rounds, delayed_ack, validity }
}

/// A ratio's bounds as shares saved: a ratio of 0.35 saves 0.65. The bounds change places.
fn saved_share(ratio: Interval) -> Interval {
    Interval { lower: 1.0 - ratio.upper, upper: 1.0 - ratio.lower, ..ratio }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn three_arms() -> Measurement {
        samples::run(8, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0).measurement()
    }

    #[test]
    fn arms_keep_the_order_of_the_plan_and_every_other_one_is_set_against_the_first() {
        let comparison = arms(&three_arms());
        let names: Vec<&str> = comparison.arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["on", "off-resumed", "off-full"]);
        assert_eq!(comparison.differences.len(), 2 * Metric::ALL.len());
        assert!(comparison.differences.iter().all(|difference| difference.control == "on"));
    }

    #[test]
    fn an_impure_slot_is_counted_and_left_out_of_every_average() {
        let mut measurement = three_arms();
        measurement.slots[0].pure = false;
        measurement.slots[0].response.record(Duration::from_secs(1000));
        let comparison = arms(&measurement);
        let on = &comparison.arms[0];
        assert_eq!((on.slots.pure, on.slots.impure), (7, 1));
        assert!(on.response.unwrap().max < Duration::from_secs(1));
        assert_eq!(on.requests, 8 * 500, "no request is forgotten");
        assert_eq!(comparison.difference("off-full", Metric::P50).unwrap().rounds, 7);
        assert_eq!(comparison.complete_rounds, 7);
    }

    #[test]
    fn an_arm_without_a_pure_slot_is_shown_as_it_is_and_invalid() {
        let mut measurement = three_arms();
        measurement.slots.iter_mut().filter(|slot| slot.arm == "on").for_each(|slot| slot.pure = false);
        let comparison = arms(&measurement);
        assert!(comparison.arms[0].response.is_some());
        assert!(!comparison.validity.ok);
        assert_eq!(comparison.complete_rounds, 0);
    }

    #[test]
    fn a_slot_that_an_interruption_cut_short_is_left_out_and_one_that_is_merely_shorter_is_not() {
        let mut measurement = three_arms();
        measurement.slots.iter_mut().for_each(|slot| slot.duration -= Duration::from_millis(3));
        assert_eq!(arms(&measurement).complete_rounds, 8);
        measurement.interrupted = true;
        let comparison = arms(&measurement);
        assert_eq!(comparison.arms[2].slots, SlotCounts { pure: 7, impure: 0, cut_short: 1 });
        assert_eq!(comparison.complete_rounds, 7);
    }

    #[test]
    fn the_phases_add_up_to_the_mean_response_time() {
        for arm in arms(&three_arms()).arms {
            let sum: f64 = arm.phases.mean().iter().map(|(_, mean)| mean).sum();
            let mean = arm.response.unwrap().mean.as_nanos() as f64;
            assert!((sum - mean).abs() <= 1.0, "{}: {sum} and {mean}", arm.name);
        }
    }

    #[test]
    fn the_handshakes_that_keep_alive_avoids_are_counted_for_each_second() {
        let comparison = arms(&three_arms());
        let avoided: Vec<_> = comparison.arms.iter().map(|arm| arm.handshakes_avoided_per_s).collect();
        assert_eq!(avoided, [None, Some(1000.0), Some(1000.0)]);
        let plain = arms(&samples::run(8, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        assert_eq!(plain.arms[1].handshakes_avoided_per_s, Some(1000.0), "TCP handshakes");
    }

    #[test]
    fn rates_shares_and_processor_time_are_for_each_request_or_second() {
        let on = arms(&three_arms()).arms.remove(0);
        assert_eq!((on.requests_per_s, on.reuse_ratio), (1000.0, Some(1.0)));
        assert_eq!(on.client_cpu_per_request, Some(Duration::from_micros(200)));
    }

    #[test]
    fn in_a_closed_loop_latencies_are_not_comparable_and_requests_per_second_are() {
        let mut measurement = three_arms();
        measurement.plan.model = Model::Closed;
        let comparison = arms(&measurement);
        let comparable = |metric| comparison.difference("off-full", metric).unwrap().comparable;
        assert!(!comparison.latencies_comparable);
        assert!(
            !comparable(Metric::P50) && comparable(Metric::RequestsPerS) && comparable(Metric::ClientCpu)
        );
    }

    #[test]
    fn a_run_without_a_slot_has_nothing_to_show_and_is_invalid() {
        let mut measurement = three_arms();
        measurement.slots.clear();
        let comparison = arms(&measurement);
        assert!(comparison.arms.iter().all(|arm| arm.response.is_none() && arm.requests_per_s == 0.0));
        assert!(comparison.differences.iter().all(|difference| difference.ratio.is_none()));
        assert!(!comparison.validity.ok);
    }
}
