//! The summary as JSON: schema `keeplive.summary/1`. Names that end in `_ns` hold whole nanoseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::compare::{ArmSummary, Comparison, Difference, Severity};
use crate::histogram::Histogram;
use crate::measurement::Measurement;

/// The version of the summary's form.
pub const SCHEMA: &str = "keeplive.summary/1";

/// The summary of a comparison.
pub fn summary(measurement: &Measurement, comparison: &Comparison) -> Value {
    let texts = |severity: Severity| -> Vec<&str> {
        let all = comparison.validity.reasons.iter();
        all.filter(|reason| reason.severity == severity).map(|reason| reason.text.as_str()).collect()
    };
    json!({
        "schema": SCHEMA,
        "tool": measurement.tool,
        "command": measurement.command,
        "started": measurement.started,
        "interrupted": measurement.interrupted,
        "target": measurement.target,
        "plan": measurement.plan,
        "plan_id": measurement.plan_id,
        "offered": measurement.offered,
        "machine": measurement.machine,
        "arms": comparison.arms.iter().map(arm).collect::<Vec<_>>(),
        "latencies_comparable": comparison.latencies_comparable,
        "differences": comparison.differences.iter().map(difference).collect::<Vec<_>>(),
        "outside": measurement.outside,
        "validity": {
            "ok": comparison.validity.ok,
            "reasons": texts(Severity::Invalid),
            "notes": texts(Severity::Note),
        },
    })
}

fn arm(arm: &ArmSummary) -> Value {
    let phases: BTreeMap<&str, u64> =
        arm.phases.mean().into_iter().map(|(name, mean)| (name, mean.round() as u64)).collect();
    json!({
        "name": arm.name,
        "slots": { "pure": arm.pure_slots, "impure": arm.impure_slots },
        "measured_ns": ns(Some(arm.measured)),
        "requests": arm.requests,
        "completed": arm.completed,
        "censored": arm.censored,
        "requests_per_s": arm.requests_per_s(),
        "errors": arm.errors,
        "response_ns": quantiles(&arm.response),
        "service_ns": quantiles(&arm.service),
        "lag_ns": quantiles(&arm.lag),
        "phases_mean_ns": phases,
        "connections": arm.connections,
        "reuse": arm.reuse,
        "reuse_ratio": arm.reuse_ratio(),
        "connects_per_s": arm.connects_per_s(),
        "handshakes_per_s": arm.handshakes_per_s(),
        "client_cpu_ns_per_request": ns(arm.cpu_per_request()),
        "client_busy": arm.client_busy(),
    })
}

/// `null` where there was no request.
fn quantiles(histogram: &Histogram) -> Value {
    json!({
        "p50": ns(histogram.quantile(0.5)),
        "p90": ns(histogram.quantile(0.9)),
        "p99": ns(histogram.quantile(0.99)),
        "p99_9": ns(histogram.quantile(0.999)),
        "max": ns(histogram.max()),
        "mean": ns(histogram.mean()),
    })
}

fn ns(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn difference(difference: &Difference) -> Value {
    let whole = |ns: f64| ns.round() as i64;
    let interval = difference.interval.as_ref().ok();
    json!({
        "control": difference.control,
        "arm": difference.arm,
        "metric": difference.metric.as_str(),
        "ratio": difference.ratio,
        "interval": interval.map(|interval| [interval.lower, interval.upper]),
        "confidence": crate::compare::CONFIDENCE,
        "saved_ns": difference.saved_ns().map(whole),
        "saved_interval_ns": difference.saved_interval_ns().map(|(low, high)| [whole(low), whole(high)]),
        "units": difference.units,
        "rounds_per_unit": difference.rounds_per_unit,
        "no_interval_because": difference.interval.as_ref().err().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{arms, samples};

    fn sample() -> Value {
        let run = samples::run(8, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0);
        let measurement = run.measurement();
        summary(&measurement, &arms(&measurement))
    }

    #[test]
    fn every_promised_key_is_there() {
        let summary = sample();
        assert_eq!(summary["schema"], SCHEMA);
        for arm in summary["arms"].as_array().unwrap() {
            for key in [
                "name",
                "requests",
                "requests_per_s",
                "errors",
                "phases_mean_ns",
                "client_cpu_ns_per_request",
            ] {
                assert!(!arm[key].is_null(), "{key}");
            }
            for key in ["p50", "p90", "p99", "p99_9", "max", "mean"] {
                assert!(arm["response_ns"][key].is_u64() && arm["service_ns"][key].is_u64(), "{key}");
            }
            for key in ["opened", "reused", "handshakes_full", "handshakes_resumed", "closed"] {
                assert!(!arm["connections"][key].is_null(), "{key}");
            }
        }
        for difference in summary["differences"].as_array().unwrap() {
            for key in ["control", "arm", "metric", "saved_ns", "ratio", "interval", "confidence"] {
                assert!(difference.as_object().unwrap().contains_key(key), "{key}");
            }
        }
        assert!(summary["validity"]["ok"].is_boolean() && summary["validity"]["reasons"].is_array());
    }

    #[test]
    fn whatever_ends_in_ns_is_a_whole_number_or_null() {
        fn check(key: &str, value: &Value) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                    // `response_ns` and its like hold times under plain names.
                    let key = if key.ends_with("_ns") { key } else { name };
                    check(key, value);
                }),
                Value::Array(items) => items.iter().for_each(|item| check(key, item)),
                Value::Number(n) if key.ends_with("_ns") => assert!(n.is_u64() || n.is_i64(), "{key}: {n}"),
                _ => {}
            }
        }
        check("", &sample());
    }

    #[test]
    fn the_mean_phases_add_up_to_the_mean_response_time() {
        for arm in sample()["arms"].as_array().unwrap() {
            let sum: u64 =
                arm["phases_mean_ns"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            let mean = arm["response_ns"]["mean"].as_u64().unwrap();
            assert!(sum.abs_diff(mean) <= 8, "{sum} and {mean}");
        }
    }
}
