//! Bencher Metric Format: `{benchmark: {measure: {value, lower_value, upper_value}}}`, in nanoseconds (Bencher's own
//! `latency` unit) and answers per second (its `throughput`).

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::QUANTILES;
use crate::compare::{ArmSummary, Comparison};

#[derive(Serialize)]
struct Metric {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

pub(super) fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let benchmarks: BTreeMap<&str, BTreeMap<String, Metric>> =
        comparison.arms.iter().map(|arm| (arm.name.as_str(), measures(arm))).collect();
    serde_json::to_writer_pretty(&mut *out, &benchmarks)?;
    writeln!(out)
}

fn measures(arm: &ArmSummary) -> BTreeMap<String, Metric> {
    let plain = |value: f64| Metric { value, lower_value: None, upper_value: None };
    let mut measures = BTreeMap::new();
    for (q, name) in QUANTILES {
        if let Some(time) = arm.response_histogram.quantile(q) {
            measures.insert(format!("latency-{}", name.replace('.', "-")), plain(time.as_nanos() as f64));
        }
    }
    if let (Some(mean), Some(min), Some(max)) =
        (arm.response.map(|points| points.mean), arm.response_histogram.min(), arm.response_histogram.max())
    {
        // Bencher's bounds are the extremes of what was seen.
        let ns = |time: std::time::Duration| time.as_nanos() as f64;
        let latency = Metric { value: ns(mean), lower_value: Some(ns(min)), upper_value: Some(ns(max)) };
        measures.insert("latency".into(), latency);
    }
    measures.insert("throughput".into(), plain(arm.requests_per_s));
    measures
}
