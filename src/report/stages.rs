//! What became of each stage: as rows of text, and as values for JSON.

use std::time::Duration;

use serde::Serialize;

use super::units::{count, three_digits, time, time_or_more};
use crate::measurement::Measurement;
use crate::plan::Stage;
use crate::timeline::Interval;

/// One stage's figures.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct StageLine {
    from: f64,
    to: f64,
    duration_ns: u64,
    scheduled: u64,
    completed: u64,
    failed: u64,
    response_p50_ns: Option<u64>,
    response_p99_ns: Option<u64>,
}

/// The stages of a run that has one slot, which is how they are run.
fn stages(measurement: &Measurement) -> impl Iterator<Item = (&Stage, &Interval)> {
    let slot = measurement.slots.first();
    let accounts = slot.map_or(&[][..], |slot| slot.stages.as_slice());
    measurement.plan.stages.iter().zip(accounts)
}

pub(super) fn values(measurement: &Measurement) -> Vec<StageLine> {
    let ns = |time: Option<Duration>| time.map(|time| time.as_nanos() as u64);
    let line = |(stage, seen): (&Stage, &Interval)| StageLine {
        from: stage.from,
        to: stage.to,
        duration_ns: stage.duration.as_nanos() as u64,
        scheduled: seen.scheduled,
        completed: seen.completed,
        failed: seen.failed,
        response_p50_ns: ns(seen.response.quantile(0.5)),
        response_p99_ns: ns(seen.response.quantile(0.99)),
    };
    stages(measurement).map(line).collect()
}

pub(super) fn lines(measurement: &Measurement) -> Vec<String> {
    stages(measurement).map(|(stage, seen)| line(stage, seen)).collect()
}

fn line(stage: &Stage, seen: &Interval) -> String {
    let rates = if stage.from == stage.to {
        format!("{}/s", three_digits(stage.from))
    } else {
        format!("{} to {}/s", three_digits(stage.from), three_digits(stage.to))
    };
    let point = |q| {
        let least = seen.response.quantile(q);
        least.map_or_else(|| "-".into(), |least| time_or_more(least, seen.is_at_least(q)))
    };
    format!(
        "  {:>7} {rates:<18} {:>9} due, {:>9} answered, {} failed, p50 {}, p99 {}",
        time(stage.duration),
        count(seen.scheduled),
        count(seen.completed),
        count(seen.failed),
        point(0.5),
        point(0.99)
    )
}
