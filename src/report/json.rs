//! The summary as JSON: what a script wants to know, without the histograms. Names that end in `_ns`, and everything
//! within them, are whole nanoseconds. What there is none of is `null`, never 0.

use std::collections::BTreeMap;

use serde::Serialize;

use super::stages::StageLine;
use super::targets::TargetLine;
use crate::compare::{ArmSummary, Comparison, Difference, Quantiles, Severity};
use crate::duration::nanoseconds;
use crate::machine::Machine;
use crate::measurement::{Ledger, Measurement, Offered, Searched, TargetFacts, Tool};
use crate::plan::Plan;
use crate::powers::Powers;

/// The version of the summary's form.
pub const SCHEMA: &str = "keeplive.summary/1";

/// The summary, to be serialized.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary<'a> {
    schema: &'static str,
    tool: &'a Tool,
    started: &'a str,
    command: &'a [String],
    headline: String,
    /// Whether the numbers can be trusted; `validity` says why not.
    valid: bool,
    target: &'a TargetFacts,
    plan: &'a Plan,
    offered: &'a Offered,
    machine: &'a Machine,
    interrupted: bool,
    complete_rounds: usize,
    arms: Vec<Arm<'a>>,
    differences: Vec<Delta<'a>>,
    /// The plan's stages, one by one; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<StageLine>,
    /// The plan's several targets, in each arm; left out where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<TargetLine<'a>>,
    /// How the rate was found; left out where it was not searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<&'a Searched>,
    /// The sign of delayed acknowledgements; `None`: there is none.
    delayed_ack: Option<DelayedAck<'a>>,
    /// What was sent outside the slots: the first look, the warm-up and the search.
    outside: &'a Ledger,
    validity: Validity<'a>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Arm<'a> {
    name: &'a str,
    requests: u64,
    completed: u64,
    requests_per_s: f64,
    errors: &'a BTreeMap<String, u64>,
    censored: u64,
    response_ns: Option<Points>,
    /// The share of the response times at whose end there was an answer: a quantile beyond it, and below 1 the largest and
    /// the mean, are at least what is said.
    response_answered: Option<f64>,
    service_ns: Option<Points>,
    lag_ns: Option<Points>,
    phases_mean_ns: BTreeMap<&'static str, u64>,
    connections: &'a Ledger,
    #[serde(skip_serializing_if = "Powers::is_empty")]
    idle_at_failure_ns: &'a Powers,
    reuse_ratio: Option<f64>,
    handshakes_avoided_per_s: Option<f64>,
    client_cpu_ns_per_request: Option<u64>,
    slots: Slots,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Points {
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
    mean: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Slots {
    pure: usize,
    impure: usize,
    cut_short: usize,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Delta<'a> {
    control: &'a str,
    arm: &'a str,
    metric: &'static str,
    comparable: bool,
    saved_ns: Option<i64>,
    saved_interval_ns: Option<(i64, i64)>,
    ratio: Option<f64>,
    interval: Option<(f64, f64)>,
    confidence: f64,
    reason: Option<&'a str>,
    rounds: usize,
    rounds_per_block: usize,
}

/// See [`crate::compare::DelayedAck`].
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DelayedAck<'a> {
    arm: &'a str,
    against: &'a str,
    share: f64,
    median_ns: u64,
    delay_ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Validity<'a> {
    ok: bool,
    /// What makes the measurement invalid; empty when it is valid.
    reasons: Vec<&'a str>,
    /// What else to know.
    notes: Vec<&'a str>,
}

/// The summary of a measurement.
pub fn summary<'a>(measurement: &'a Measurement, comparison: &'a Comparison) -> Summary<'a> {
    Summary {
        schema: SCHEMA,
        tool: &measurement.tool,
        started: &measurement.started,
        command: &measurement.command,
        headline: super::headline(measurement, comparison),
        valid: comparison.validity.ok,
        target: &measurement.target,
        plan: &measurement.plan,
        offered: &measurement.offered,
        machine: &measurement.machine,
        interrupted: measurement.interrupted,
        complete_rounds: comparison.complete_rounds,
        arms: comparison.arms.iter().map(arm).collect(),
        differences: comparison.differences.iter().map(delta).collect(),
        stages: super::stages::values(measurement),
        targets: super::targets::values(measurement),
        search: measurement.search.as_ref(),
        delayed_ack: comparison.delayed_ack.as_ref().map(delayed_ack),
        outside: &measurement.outside,
        validity: Validity {
            ok: comparison.validity.ok,
            reasons: comparison.validity.texts(Severity::Invalid).collect(),
            notes: comparison.validity.texts(Severity::Note).collect(),
        },
    }
}

fn delayed_ack(it: &crate::compare::DelayedAck) -> DelayedAck<'_> {
    DelayedAck {
        arm: &it.arm,
        against: &it.against,
        share: it.share,
        median_ns: nanoseconds(it.median),
        delay_ns: nanoseconds(it.delay),
    }
}

/// The same without what was measured: `arms` is empty.
pub fn withheld<'a>(measurement: &'a Measurement, comparison: &'a Comparison) -> Summary<'a> {
    Summary {
        headline: super::withheld::HEADLINE.into(),
        arms: Vec::new(),
        differences: Vec::new(),
        stages: Vec::new(),
        targets: Vec::new(),
        search: None,
        delayed_ack: None,
        ..summary(measurement, comparison)
    }
}

fn arm(arm: &ArmSummary) -> Arm<'_> {
    Arm {
        name: &arm.name,
        requests: arm.requests,
        completed: arm.completed,
        requests_per_s: arm.requests_per_s,
        errors: &arm.errors,
        censored: arm.censored,
        response_ns: arm.response.map(points),
        response_answered: arm.response.map(|points| points.answered),
        service_ns: arm.service.map(points),
        lag_ns: arm.lag.map(points),
        phases_mean_ns: arm
            .phases
            .mean()
            .into_iter()
            .map(|(name, mean)| (name, mean.round() as u64))
            .collect(),
        connections: &arm.connections,
        idle_at_failure_ns: &arm.idle_at_failure_ns,
        reuse_ratio: arm.reuse_ratio,
        handshakes_avoided_per_s: arm.handshakes_avoided_per_s,
        client_cpu_ns_per_request: arm.client_cpu_per_request.map(nanoseconds),
        slots: Slots { pure: arm.slots.pure, impure: arm.slots.impure, cut_short: arm.slots.cut_short },
    }
}

fn points(of: Quantiles) -> Points {
    let Quantiles { p50, p90, p99, p99_9, max, mean, .. } = of;
    Points {
        p50: nanoseconds(p50),
        p90: nanoseconds(p90),
        p99: nanoseconds(p99),
        p99_9: nanoseconds(p99_9),
        max: nanoseconds(max),
        mean: nanoseconds(mean),
    }
}

fn delta(difference: &Difference) -> Delta<'_> {
    let saving = difference.saving();
    Delta {
        control: &difference.control,
        arm: &difference.arm,
        metric: difference.metric.as_str(),
        comparable: difference.comparable,
        saved_ns: saving.map(|saving| saving.ns),
        saved_interval_ns: saving.and_then(|saving| saving.interval_ns),
        ratio: difference.ratio,
        interval: difference.interval.map(|interval| (interval.lower, interval.upper)),
        confidence: crate::compare::CONFIDENCE,
        reason: difference.reason.as_deref(),
        rounds: difference.rounds,
        rounds_per_block: difference.rounds_per_block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{self, samples};
    use serde_json::Value;

    fn document() -> Value {
        let run = samples::run(20, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0);
        of(&run.measurement())
    }

    fn of(measurement: &Measurement) -> Value {
        serde_json::to_value(summary(measurement, &compare::arms(measurement)))
            .expect("a summary has a JSON form")
    }

    #[track_caller]
    fn has(value: &Value, keys: &[&str]) {
        for key in keys {
            assert!(value.get(key).is_some(), "no {key} in {value}");
        }
    }

    #[test]
    fn every_key_is_there() {
        let document = document();
        has(
            &document,
            &[
                "schema",
                "tool",
                "started",
                "command",
                "target",
                "plan",
                "offered",
                "machine",
                "arms",
                "differences",
                "validity",
            ],
        );
        assert_eq!(document["schema"], "keeplive.summary/1");
        let arm = &document["arms"][0];
        has(
            arm,
            &[
                "name",
                "requests",
                "requests_per_s",
                "errors",
                "censored",
                "response_ns",
                "service_ns",
                "lag_ns",
                "phases_mean_ns",
                "connections",
                "reuse_ratio",
                "client_cpu_ns_per_request",
                "slots",
            ],
        );
        let points = ["p50", "p90", "p99", "p99_9", "max", "mean"];
        has(&arm["response_ns"], &points);
        has(&arm["service_ns"], &points);
        has(&arm["lag_ns"], &points);
        has(
            &arm["phases_mean_ns"],
            &["lag", "blocked", "dns", "connect", "proxy", "tls", "send", "wait", "receive"],
        );
        has(
            &arm["connections"],
            &[
                "opened",
                "reused",
                "handshakes_full",
                "handshakes_resumed",
                "closed",
                "exchanges",
                "peer_closed_first",
                "closed_first",
            ],
        );
        has(
            &document["differences"][0],
            &[
                "control",
                "arm",
                "metric",
                "saved_ns",
                "saved_interval_ns",
                "ratio",
                "interval",
                "confidence",
                "reason",
                "rounds",
            ],
        );
        has(&document["validity"], &["ok", "reasons", "notes"]);
    }

    /// Every number below a name that ends in `_ns`.
    fn nanoseconds<'a>(value: &'a Value, within: bool, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(fields) => {
                fields
                    .iter()
                    .for_each(|(key, value)| nanoseconds(value, within || key.ends_with("_ns"), found));
            }
            Value::Array(values) => values.iter().for_each(|value| nanoseconds(value, within, found)),
            Value::Number(_) if within => found.push(value),
            _ => {}
        }
    }

    #[test]
    fn nanoseconds_are_whole_numbers_wherever_they_stand() {
        let document = document();
        let mut found = Vec::new();
        nanoseconds(&document, false, &mut found);
        assert!(found.len() > 100);
        assert!(found.iter().all(|number| number.is_u64() || number.is_i64()), "{found:?}");
    }

    fn difference<'a>(document: &'a Value, arm: &str, metric: &str) -> &'a Value {
        let all = document["differences"].as_array().expect("a list");
        all.iter().find(|it| it["arm"] == arm && it["metric"] == metric).expect("every metric is there")
    }

    #[test]
    fn differences_tell_what_is_saved_or_why_it_is_not_sure() {
        let document = document();
        let p50 = difference(&document, "off-full", "p50");
        assert!(p50["saved_ns"].as_i64().is_some_and(|ns| (2_900_000..3_100_000).contains(&ns)), "{p50}");
        assert_eq!(p50["interval"].as_array().map(Vec::len), Some(2));
        assert_eq!((&p50["reason"], &p50["confidence"]), (&Value::Null, &Value::from(0.95)));
        let max = difference(&document, "off-full", "max");
        assert_eq!((&max["interval"], &max["reason"]), (&Value::Null, &"a maximum has no interval".into()));
        let rate = difference(&document, "off-resumed", "requests_per_s");
        assert_eq!((&rate["saved_ns"], &rate["saved_interval_ns"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn a_cost_is_a_negative_saving() {
        let document = of(&samples::run(20, 500).arm("on", 4.0).arm("off", 1.0).measurement());
        assert!(difference(&document, "off", "p50")["saved_ns"].as_i64().is_some_and(|ns| ns < -2_900_000));
    }

    #[test]
    fn what_was_never_measured_is_null() {
        let mut measurement = samples::run(8, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        measurement.slots.retain(|slot| slot.arm == "on");
        let document = of(&measurement);
        assert_eq!(document["arms"][1]["response_ns"], Value::Null);
        assert_eq!(difference(&document, "off", "p50")["ratio"], Value::Null);
        assert_eq!(document["validity"]["ok"], false);
        assert!(
            document["validity"]["reasons"][0].as_str().is_some_and(|text| text.contains("never measured"))
        );
    }
}
