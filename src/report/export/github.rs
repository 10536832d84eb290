//! github-action-benchmark's `customSmallerIsBetter`: a list of named values where less is better.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::QUANTILES;
use crate::compare::{ArmSummary, Comparison};

pub(super) fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let values: Vec<Value> = comparison.arms.iter().flat_map(values).collect();
    serde_json::to_writer_pretty(&mut *out, &values)?;
    writeln!(out)
}

fn values(arm: &ArmSummary) -> Vec<Value> {
    let extra = format!(
        "{} requests, {:.1} answers/s, {} connections opened",
        arm.requests, arm.requests_per_s, arm.connections.opened
    );
    let named = |name: &str, ns: u128, unit: &str, scale: f64| json!({ "name": format!("{}: {name}", arm.name), "unit": unit, "value": ns as f64 / scale, "extra": extra });
    let times = QUANTILES.iter().filter_map(|&(q, name)| {
        Some(named(name, arm.response_histogram.quantile(q)?.as_nanos(), "ms", 1e6))
    });
    let cpu =
        arm.client_cpu_per_request.map(|cpu| named("client CPU per request", cpu.as_nanos(), "µs", 1e3));
    times.chain(cpu).collect()
}
