//! Prometheus' text format 0.0.4 of a run that runs: the names of the result's
//! [export](crate::report::export), where they mean the same.

use std::fmt::Write;

use super::super::export::prometheus::label;
use crate::load::live::{Account, Counts, Reading};

/// A name, its help, and its value.
type Series = (&'static str, &'static str, fn(&Counts) -> u64);

const COUNTERS: [Series; 4] = [
    ("keeplive_requests_total", "Requests that were due.", |counts| counts.scheduled),
    ("keeplive_completed_total", "Requests answered completely.", |counts| counts.completed),
    ("keeplive_censored_total", "Requests that nobody had answered when the run was over.", |counts| {
        counts.censored
    }),
    ("keeplive_connections_opened_total", "Connections opened, washouts included.", |counts| counts.opened),
];

const GAUGES: [Series; 2] = [
    ("keeplive_in_flight", "Requests under way.", Counts::in_flight),
    ("keeplive_waiting", "Requests that are due and for which no connection is free.", Counts::waiting),
];

/// What was measured until now, by arm. Requests before the measured windows are in the gauges alone.
pub fn prometheus(reading: &Reading) -> String {
    let measured: Vec<_> = reading.accounts.iter().filter(|account| account.measured).collect();
    let mut text = String::new();
    histograms(&measured, &mut text);
    for (name, help, value) in COUNTERS {
        head(&mut text, name, "counter", help);
        for Account { arm, counts, .. } in &measured {
            line(&mut text, name, &[("arm", arm)], value(counts));
        }
    }
    failures(&measured, &mut text);
    for (name, help, value) in GAUGES {
        head(&mut text, name, "gauge", help);
        line(&mut text, name, &[], value(&reading.all()));
    }
    text
}

fn histograms(measured: &[&Account], text: &mut String) {
    let name = "keeplive_response_seconds";
    head(text, name, "histogram", "From when a request was due until its last byte.");
    for Account { arm, counts, .. } in measured {
        let bucket = format!("{name}_bucket");
        for (bound, below) in counts.response.doublings() {
            line(text, &bucket, &[("arm", arm), ("le", &bound.as_secs_f64().to_string())], below);
        }
        line(text, &bucket, &[("arm", arm), ("le", "+Inf")], counts.response.len());
        line(text, &format!("{name}_sum"), &[("arm", arm)], counts.response.sum().as_secs_f64());
        line(text, &format!("{name}_count"), &[("arm", arm)], counts.response.len());
    }
}

/// Every kind there is, from 0 on: a rate needs a beginning.
fn failures(measured: &[&Account], text: &mut String) {
    let name = "keeplive_failed_total";
    head(text, name, "counter", "Requests without a good answer.");
    for Account { arm, counts, .. } in measured {
        for (kind, n) in counts.failures() {
            line(text, name, &[("arm", arm), ("kind", kind)], n);
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", label(value))).collect();
    let _ = match labels.is_empty() {
        true => writeln!(text, "{name} {value}"),
        false => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
    };
}
