//! A gate's report as Markdown, for a pull request's comment or `$GITHUB_STEP_SUMMARY`.

use std::io;

use super::{change, how, targets, value};
use crate::gate::Verdict;
use crate::gate::result::Gate;
use crate::report::export::escape;

/// Writes the report.
///
/// # Errors
///
/// What `out` says.
pub fn write(gate: &Gate, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "### {} keeplive gate: {}\n", sign(gate.verdict), escape(&gate.headline))?;
    writeln!(out, "| metric | verdict | base | head | worse by (bounds) | could find |")?;
    writeln!(out, "|---|---|---:|---:|---:|---:|")?;
    for one in &gate.findings {
        writeln!(
            out,
            "| {} | {} {} | {} | {} | {} | {} |",
            escape(&one.metric),
            sign(one.verdict),
            one.verdict,
            value(one, one.base),
            value(one, one.head),
            change(one),
            one.detectable.map_or("–".into(), |least| one.amount(least)),
        )?;
    }
    writeln!(out)?;
    for one in &gate.findings {
        writeln!(out, "- {}", escape(&one.sentence))?;
    }
    for text in &gate.invalid {
        writeln!(out, "- **Invalid:** {}", escape(text))?;
    }
    for text in gate.left_out.iter().chain(&gate.notes) {
        writeln!(out, "- Note: {}", escape(text))?;
    }
    writeln!(
        out,
        "\n<sub>{} · {} · {} · keeplive {}</sub>",
        escape(&targets(gate)),
        how(gate),
        escape(&gate.measurement.started),
        escape(&gate.measurement.tool.version),
    )
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Regressed => "❌",
        Verdict::Inconclusive => "❔",
        Verdict::Invalid => "⚠️",
    }
}
