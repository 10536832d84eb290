//! What became of each of several targets: as rows of text, and as values for JSON.

use std::time::Duration;

use serde::Serialize;

use super::units::{count, time_or_more};
use crate::measurement::{Measurement, TARGETS_APART};
use crate::plan::Plan;
use crate::timeline::Interval;

/// One target's figures in one arm.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct TargetLine<'a> {
    arm: &'a str,
    /// `null` for those that are counted together.
    method: Option<&'a str>,
    url: Option<&'a str>,
    requests: u64,
    completed: u64,
    errors: u64,
    response_p50_ns: Option<u64>,
    response_p99_ns: Option<u64>,
    /// Whether each of the two is known only to be at least so long.
    #[serde(skip)]
    at_least: [bool; 2],
}

/// What a run asks for, in a few words.
pub(super) fn asked(plan: &Plan) -> String {
    let first = format!("{} {}", plan.target.method, plan.target.url);
    match &plan.several {
        Some(several) => format!("{first} and {} more", count(several.targets.len() as u64 - 1)),
        None => first,
    }
}

/// For each arm that asks for several, its account of each.
fn accounts(measurement: &Measurement) -> Vec<(&str, Vec<Interval>)> {
    let of = |name: &str| {
        let mut all: Vec<Interval> = Vec::new();
        for slot in measurement.slots.iter().filter(|slot| slot.arm == name) {
            all.resize_with(all.len().max(slot.targets.len()), Interval::default);
            all.iter_mut().zip(&slot.targets).for_each(|(whole, part)| whole.merge(part));
        }
        all
    };
    measurement.plan.arms.iter().map(|arm| (arm.name.as_str(), of(&arm.name))).collect()
}

pub(super) fn values(measurement: &Measurement) -> Vec<TargetLine<'_>> {
    let Some(several) = &measurement.plan.several else { return Vec::new() };
    let ns = |time: Option<Duration>| time.map(|time| time.as_nanos() as u64);
    let apart = |nth: usize| several.targets.get(nth).filter(|_| nth < TARGETS_APART);
    let line = |arm, nth, seen: &Interval| TargetLine {
        arm,
        method: apart(nth).map(|target| target.method.as_str()),
        url: apart(nth).map(|target| target.url.as_str()),
        requests: seen.scheduled,
        completed: seen.completed,
        errors: seen.failed,
        response_p50_ns: ns(seen.response.quantile(0.5)),
        response_p99_ns: ns(seen.response.quantile(0.99)),
        at_least: [0.5, 0.99].map(|q| seen.is_at_least(q)),
    };
    let arm = |(name, seen): (_, Vec<Interval>)| {
        (0..).zip(&seen).map(|(nth, seen)| line(name, nth, seen)).collect::<Vec<_>>()
    };
    accounts(measurement).into_iter().flat_map(arm).collect()
}

/// So many are told as text; JSON has more.
const SHOWN: usize = 30;

pub(super) fn lines(measurement: &Measurement) -> Vec<String> {
    let all = values(measurement);
    let arms = measurement.plan.arms.len();
    let mut lines: Vec<String> = all.iter().take(SHOWN).map(|one| line(one, arms)).collect();
    if all.len() > SHOWN {
        lines.push(format!("and {} more: see --format json", count((all.len() - SHOWN) as u64)));
    }
    lines
}

fn line(of: &TargetLine<'_>, arms: usize) -> String {
    let arm = if arms > 1 { format!(" (arm `{}`)", of.arm) } else { String::new() };
    let name = match (of.method, of.url) {
        (Some(method), Some(url)) => format!("{method} {url}"),
        _ => "all others".to_owned(),
    };
    let point = |ns: Option<u64>, is_at_least| {
        ns.map_or_else(|| "-".into(), |ns| time_or_more(Duration::from_nanos(ns), is_at_least))
    };
    format!(
        "{name}{arm}: {} requests, {} answered, {} failed, p50 {}, p99 {}",
        count(of.requests),
        count(of.completed),
        count(of.errors),
        point(of.response_p50_ns, of.at_least[0]),
        point(of.response_p99_ns, of.at_least[1])
    )
}
