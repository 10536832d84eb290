//! A measurement in the forms that other programs read: each form's rule stands in its own file, and each is read
//! back in a test by a reader of that form or by a port of its parsing rule.

use std::io::{self, Write};

use crate::compare::Comparison;
use crate::measurement::Measurement;

mod bencher;
mod benchfmt;
mod csv;
mod github;
mod hgrm;
mod hlog;
mod markdown;
pub(super) mod prometheus;

pub(super) use markdown::escape;

#[cfg(test)]
mod tests;

/// A form that other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// GitHub-flavoured Markdown, for a pull request's comment or `$GITHUB_STEP_SUMMARY`.
    Markdown,
    /// One row for each slot, comma-separated, with a header (RFC 4180).
    Csv,
    /// HdrHistogram's percentile distribution, one block for each arm.
    Hgrm,
    /// HdrHistogram's interval log, one line for each slot, tagged with its arm.
    Hlog,
    /// Go's benchmark format, one line for each slot: what benchstat compares.
    Benchfmt,
    /// github-action-benchmark's `customSmallerIsBetter`.
    GithubBenchmark,
    /// Bencher Metric Format.
    Bencher,
    /// Prometheus' text format, for a textfile collector or a push gateway.
    Prometheus,
}

/// Writes the measurement in that form.
///
/// # Errors
///
/// Whatever `out` fails with.
pub fn write(
    form: Form,
    measurement: &Measurement,
    comparison: &Comparison,
    out: &mut dyn Write,
) -> io::Result<()> {
    match form {
        Form::Markdown => markdown::write(measurement, comparison, out),
        Form::Csv => csv::write(measurement, out),
        Form::Hgrm => hgrm::write(comparison, out),
        Form::Hlog => hlog::write(measurement, out),
        Form::Benchfmt => benchfmt::write(measurement, out),
        Form::GithubBenchmark => github::write(comparison, out),
        Form::Bencher => bencher::write(comparison, out),
        Form::Prometheus => prometheus::write(comparison, out),
    }
}

/// The quantiles that exports carry, with their names.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
