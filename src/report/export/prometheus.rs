//! Prometheus' text format 0.0.4: a histogram of response times with fixed bounds, the quantiles beside it, and
//! counters. Seconds, as its naming rules want it.

use std::io::{self, Write};
use std::time::Duration;

use super::QUANTILES;
use crate::compare::{ArmSummary, Comparison};

/// Upper bounds in microseconds: four to a decade, from 100 µs to 10 s.
const BOUNDS_US: [u64; 21] = [
    100, 178, 316, 562, 1_000, 1_780, 3_160, 5_620, 10_000, 17_800, 31_600, 56_200, 100_000, 178_000,
    316_000, 562_000, 1_000_000, 1_780_000, 3_160_000, 5_620_000, 10_000_000,
];

/// A name, its help, and its value.
type Counter = (&'static str, &'static str, fn(&ArmSummary) -> u64);

pub(super) fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let arms = &comparison.arms;
    let name = "keeplive_response_seconds";
    head(out, name, "histogram", "From when a request was due until its last byte.")?;
    arms.iter().try_for_each(|arm| histogram(name, arm, out))?;
    let name = "keeplive_response_quantile_seconds";
    head(out, name, "gauge", "Quantiles of the same, to three digits.")?;
    for arm in arms {
        for (q, _) in QUANTILES {
            let Some(time) = arm.response_histogram.quantile(q) else { continue };
            writeln!(out, "{name}{{arm=\"{}\",quantile=\"{q}\"}} {}", label(&arm.name), time.as_secs_f64())?;
        }
    }
    let counters: [Counter; 4] = [
        ("keeplive_requests_total", "Requests that were due.", |arm| arm.requests),
        ("keeplive_completed_total", "Requests answered completely.", |arm| arm.completed),
        ("keeplive_failed_total", "Requests without a good answer.", |arm| arm.failed() + arm.censored),
        ("keeplive_connections_opened_total", "Connections opened, washouts included.", |arm| {
            arm.connections.opened
        }),
    ];
    for (name, help, value) in counters {
        head(out, name, "counter", help)?;
        for arm in arms {
            writeln!(out, "{name}{{arm=\"{}\"}} {}", label(&arm.name), value(arm))?;
        }
    }
    Ok(())
}

fn head(out: &mut dyn Write, name: &str, kind: &str, help: &str) -> io::Result<()> {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn histogram(name: &str, arm: &ArmSummary, out: &mut dyn Write) -> io::Result<()> {
    let (histogram, arm) = (&arm.response_histogram, label(&arm.name));
    for bound in BOUNDS_US {
        let bound = Duration::from_micros(bound);
        // `le` is "less or equal", to the width of a bucket.
        let below = histogram.count_between(Duration::ZERO, bound + Duration::from_nanos(1));
        let le = bound.as_secs_f64();
        writeln!(out, "{name}_bucket{{arm=\"{arm}\",le=\"{le}\"}} {below}")?;
    }
    writeln!(out, "{name}_bucket{{arm=\"{arm}\",le=\"+Inf\"}} {}", histogram.len())?;
    writeln!(out, "{name}_sum{{arm=\"{arm}\"}} {}", histogram.sum().as_secs_f64())?;
    writeln!(out, "{name}_count{{arm=\"{arm}\"}} {}", histogram.len())
}

/// A label's value, with what must be escaped in it.
pub(in crate::report) fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
