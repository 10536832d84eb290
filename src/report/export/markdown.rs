//! Markdown: the answer, a table, and what to keep in mind.

use std::io::{self, Write};

use crate::compare::{ArmSummary, Comparison, Metric, Severity};
use crate::measurement::Measurement;
use crate::report::tables::POINTS;
use crate::report::{headline, units};

pub(super) fn write(
    measurement: &Measurement,
    comparison: &Comparison,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "### keeplive: {}\n", escape(&headline(measurement, comparison)))?;
    table(comparison, out)?;
    differences(comparison, out)?;
    for (mark, severity) in [("**Invalid:**", Severity::Invalid), ("Note:", Severity::Note)] {
        for text in comparison.validity.texts(severity) {
            writeln!(out, "- {mark} {}", escape(text))?;
        }
    }
    writeln!(
        out,
        "\n<sub>{} · {} · {} complete rounds · keeplive {} · plan {}</sub>",
        escape(&measurement.plan.target.url),
        escape(&measurement.started),
        comparison.complete_rounds,
        escape(&measurement.tool.version),
        escape(&measurement.plan_id),
    )
}

fn table(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let arms = &comparison.arms;
    let names: Vec<String> =
        arms.iter().map(|arm| format!("`{}`", arm.name.replace(['`', '|', '\n', '\r'], "?"))).collect();
    writeln!(out, "| response time | {} |", names.join(" | "))?;
    writeln!(out, "|---|{}", "---:|".repeat(arms.len()))?;
    let mut row = |name: &str, value: &dyn Fn(&ArmSummary) -> Option<String>| {
        let cells: Vec<String> = arms.iter().map(|arm| value(arm).unwrap_or_else(|| "–".into())).collect();
        writeln!(out, "| {name} | {} |", cells.join(" | "))
    };
    for point in POINTS.iter().filter(|point| point.name != "mean") {
        row(point.name, &|arm| point.of(arm))?;
    }
    row("answers/s", &|arm| Some(units::three_digits(arm.requests_per_s)))?;
    row("client CPU/request", &|arm| arm.client_cpu_per_request.map(units::time))?;
    row("connections opened", &|arm| Some(units::count(arm.connections.opened)))?;
    row("failed", &|arm| Some(units::count(arm.failed())))?;
    if arms.iter().any(|arm| arm.censored > 0) {
        row("unanswered", &|arm| Some(units::count(arm.censored)))?;
    }
    writeln!(out)
}

/// What the control saves against each other arm, with the interval.
fn differences(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let shown = comparison.differences.iter().filter(|difference| {
        difference.comparable && matches!(difference.metric, Metric::P50 | Metric::P99 | Metric::ClientCpu)
    });
    for difference in shown {
        let Some(saving) = difference.saving() else { continue };
        let interval = saving.share_interval.map_or_else(
            || difference.reason.clone().unwrap_or_else(|| "no interval".into()),
            |share| format!("{:.0} % interval {}", share.confidence * 100.0, units::percent_range(share)),
        );
        writeln!(
            out,
            "- `{}` saves {} of `{}`'s {} ({})",
            difference.control,
            units::percent_beside(saving.share, saving.share_interval),
            difference.arm,
            difference.metric.as_str(),
            escape(&interval),
        )?;
    }
    Ok(())
}

/// What Markdown would read as its own.
pub(in crate::report) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(c),
        }
    }
    escaped
}
