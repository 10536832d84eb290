//! The tables of a measurement: the same in a terminal and on a page.

use std::collections::BTreeSet;
use std::time::Duration;

use super::table::Table;
use super::units::{
    count, factor_range, nanoseconds, percent, percent_beside, percent_range, three_digits, time,
    time_or_more,
};
use crate::compare::{ArmSummary, Comparison, Difference, Metric, Quantiles};
use crate::measurement::{Ledger, PhaseSums};
use crate::phase::Phase;
use crate::powers::Powers;

/// What stands where there is no value.
const NOTHING: &str = "–";
/// What stands before a value without an interval.
const ABOUT: &str = "≈";

fn names(comparison: &Comparison) -> impl Iterator<Item = String> {
    comparison.arms.iter().map(|arm| arm.name.clone())
}

pub(super) fn times(comparison: &Comparison) -> Table {
    let mut table = Table::new("Response time", names(comparison));
    for point in &POINTS {
        table.row(&format!("  {}", point.name), each(comparison, |arm| point.of(arm)));
    }
    table
}

/// A point of the response times.
pub(super) struct Point {
    pub(super) name: &'static str,
    /// The share that lies at or below it.
    q: f64,
    of: fn(&Quantiles) -> Duration,
}

pub(super) const POINTS: [Point; 6] = [
    Point { name: "p50", q: 0.5, of: |points| points.p50 },
    Point { name: "p90", q: 0.9, of: |points| points.p90 },
    Point { name: "p99", q: 0.99, of: |points| points.p99 },
    Point { name: "p99.9", q: 0.999, of: |points| points.p99_9 },
    Point { name: "max", q: 1.0, of: |points| points.max },
    Point { name: "mean", q: 1.0, of: |points| points.mean },
];

impl Point {
    pub(super) fn of(&self, arm: &ArmSummary) -> Option<String> {
        let points = arm.response.filter(|points| points.reaches(self.q))?;
        Some(time_or_more((self.of)(&points), points.is_at_least(self.q)))
    }
}

/// A value of every arm, or a dash.
fn each(comparison: &Comparison, of: impl Fn(&ArmSummary) -> Option<String>) -> Vec<String> {
    comparison.arms.iter().map(|arm| of(arm).unwrap_or_else(|| NOTHING.into())).collect()
}

/// What the control saves against every other arm: time, share, and the interval of the share.
pub(super) fn savings(control: &ArmSummary, comparison: &Comparison) -> Table {
    let others: Vec<&ArmSummary> = comparison.arms.iter().skip(1).collect();
    let title = format!("Saved by `{}`", control.name);
    let mut table = Table::new(&title, others.iter().map(|arm| format!("against {} [95 %]", arm.name)));
    for metric in shown(comparison) {
        let saved = |arm: &&ArmSummary| comparison.difference(&arm.name, metric).and_then(saved);
        table.row(
            &format!("  {}", label(metric)),
            others.iter().map(|arm| saved(arm).unwrap_or_else(|| NOTHING.into())),
        );
    }
    table
}

/// The metrics that may be set against each other. At one offered rate all arms have the same requests per second.
pub(super) fn shown(comparison: &Comparison) -> impl Iterator<Item = Metric> {
    let open = comparison.latencies_comparable;
    Metric::ALL.into_iter().filter(move |metric| match metric {
        Metric::ClientCpu => true,
        Metric::RequestsPerS => !open,
        _ => open,
    })
}

pub(super) fn label(metric: Metric) -> &'static str {
    match metric {
        Metric::P999 => "p99.9",
        Metric::ClientCpu => "client CPU",
        Metric::RequestsPerS => "requests/s",
        other => other.as_str(),
    }
}

pub(super) fn saved(difference: &Difference) -> Option<String> {
    let Some(saving) = difference.saving() else {
        let interval = difference.interval.map_or_else(|| NOTHING.into(), factor_range);
        return Some(format!("{} times [{interval}]", three_digits(difference.ratio?)));
    };
    let share = percent_beside(saving.share, saving.share_interval);
    let ns = nanoseconds(saving.ns as f64);
    Some(match saving.share_interval {
        Some(interval) => format!("{ns}  {share:>5} [{}]", percent_range(interval)),
        None => format!("{ABOUT} {ns}  {share:>5} [{NOTHING}]"),
    })
}

/// One reason for having no interval, with where it holds.
struct Missing<'a> {
    reason: &'a str,
    arms: BTreeSet<&'a str>,
    metrics: Vec<&'static str>,
}

/// What a saving is, and why some have no interval, each reason once.
pub(super) fn reasons(comparison: &Comparison) -> Vec<String> {
    let mut missing: Vec<Missing<'_>> = Vec::new();
    let of = |metric| comparison.differences.iter().filter(move |difference| difference.metric == metric);
    for difference in shown(comparison).flat_map(of) {
        let Some(reason) = difference.reason.as_deref() else { continue };
        let nth = missing.iter().position(|known| known.reason == reason).unwrap_or_else(|| {
            missing.push(Missing { reason, arms: BTreeSet::new(), metrics: Vec::new() });
            missing.len() - 1
        });
        missing[nth].arms.insert(&difference.arm);
        missing[nth].metrics.push(label(difference.metric));
        missing[nth].metrics.dedup();
    }
    let others = comparison.arms.len().saturating_sub(1);
    let typical = comparison.differences.iter().any(|it| it.interval.is_some() && it.metric.is_time()).then(|| {
        "What is saved is the typical ratio of the rounds (Hodges and Lehmann) times the arm's value: it need not be the \
         difference of the columns above."
            .to_owned()
    });
    typical.into_iter().chain(missing.iter().map(|missing| missing.sentence(others))).collect()
}

impl Missing<'_> {
    fn sentence(&self, others: usize) -> String {
        let arms: Vec<&str> = self.arms.iter().copied().collect();
        let against =
            if arms.len() == others { String::new() } else { format!(" against {}", arms.join(", ")) };
        format!("{ABOUT} No interval for {}{against}: {}.", self.metrics.join(", "), self.reason)
    }
}

pub(super) fn phases(comparison: &Comparison) -> Table {
    let mut table = Table::new("Mean time by phase", names(comparison));
    let means: Vec<_> = comparison.arms.iter().map(|arm| arm.phases.mean()).collect();
    for (nth, (name, _)) in PhaseSums::default().parts().iter().enumerate() {
        // Few measure through a proxy: its line is there when they do.
        if *name == Phase::Proxy.as_str() && means.iter().all(|means| means[nth].1 == 0.0) {
            continue;
        }
        table.row(&format!("  {name}"), means.iter().map(|means| phase(means[nth].1)));
    }
    table.row("  = mean", each(comparison, |arm| arm.response.map(|response| time(response.mean))));
    table
}

/// A phase that did not happen is empty, not a time of nothing.
fn phase(mean_ns: f64) -> String {
    if mean_ns > 0.0 { nanoseconds(mean_ns) } else { NOTHING.into() }
}

pub(super) fn connections(comparison: &Comparison) -> Table {
    let mut table = Table::new("Requests and connections", names(comparison));
    let mut row =
        |name: &str, of: &dyn Fn(&ArmSummary) -> Option<String>| table.row(name, each(comparison, of));
    row("  requests", &|arm| Some(count(arm.requests)));
    row("  requests/s", &|arm| Some(three_digits(arm.requests_per_s)));
    for kind in keys(comparison, |arm| arm.errors.keys()) {
        row(&format!("  error: {kind}"), &|arm| arm.errors.get(&kind).map(|&n| count(n)));
    }
    if comparison.arms.iter().any(|arm| arm.censored > 0) {
        row("  unanswered", &|arm| Some(count(arm.censored)));
    }
    row("  client CPU/request", &|arm| arm.client_cpu_per_request.map(time));
    row("  on a used connection", &|arm| arm.reuse_ratio.map(percent));
    row("  avoidable handshakes/s", &|arm| arm.handshakes_avoided_per_s.map(three_digits));
    row("  connections opened *", &|arm| Some(count(arm.connections.opened)));
    if comparison.arms.iter().any(|arm| arm.connections.failed_to_open > 0) {
        row("  failed to open *", &|arm| Some(count(arm.connections.failed_to_open)));
    }
    row("  times reused *", &|arm| Some(count(arm.connections.reused)));
    row("  requests each *", &|arm| spread(&arm.connections.exchanges_per_connection, three_digits));
    let tls = |arm: &ArmSummary| arm.connections.handshakes_full + arm.connections.handshakes_resumed;
    if comparison.arms.iter().any(|arm| tls(arm) > 0) {
        row("  full handshakes *", &|arm| Some(count(arm.connections.handshakes_full)));
        row("  resumed handshakes *", &|arm| Some(count(arm.connections.handshakes_resumed)));
    }
    for reason in keys(comparison, |arm| arm.connections.closed.keys()) {
        let name = format!("  closed: {} *", reason.replace('_', " "));
        row(&name, &|arm| arm.connections.closed.get(&reason).map(|&n| count(n)));
    }
    for (name, of) in [
        ("  server closed first *", (|ledger| ledger.peer_closed_first) as fn(&Ledger) -> u64),
        ("  client closed first *", |ledger| ledger.closed_first),
    ] {
        if comparison.arms.iter().any(|arm| of(&arm.connections) > 0) {
            row(name, &|arm| Some(count(of(&arm.connections))));
        }
    }
    if comparison.arms.iter().any(|arm| !arm.idle_at_failure_ns.is_empty()) {
        row("  failed after idling", &|arm| Some(count(arm.idle_at_failure_ns.len())));
        row("    for", &|arm| spread(&arm.idle_at_failure_ns, nanoseconds));
    }
    table.row("* with washouts", std::iter::empty());
    table
}

/// The mean, and the range where there is one.
fn spread(powers: &Powers, say: impl Fn(f64) -> String) -> Option<String> {
    let (min, mean, max) = (powers.min()?, powers.mean()?, powers.max()?);
    let mean = say(mean);
    Some(if min == max { mean } else { format!("{mean} ({}–{})", say(min as f64), say(max as f64)) })
}

fn keys<'a, K: Iterator<Item = &'a String>>(
    comparison: &'a Comparison,
    of: impl Fn(&'a ArmSummary) -> K,
) -> BTreeSet<String> {
    comparison.arms.iter().flat_map(of).cloned().collect()
}
