//! A gate's report for a terminal: the verdict, what each metric says, and what to keep in mind.

use std::io;

use super::{change, how, targets, value};
use crate::gate::Verdict;
use crate::gate::result::{Gate, Judged};
use crate::report::page::{Page, Paint, Style};
use crate::report::table::Table;
use crate::report::terminal::load;

/// Writes the report.
///
/// # Errors
///
/// What `out` says.
pub fn write(gate: &Gate, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let mut page = Page::new(style);
    page.paragraph(paint(gate.verdict), &gate.headline, 0);
    page.gap();
    let measurement = &gate.measurement;
    let about = [targets(gate), load(measurement), how(gate), measurement.started.clone()].join(" · ");
    page.paragraph(Paint::Faint, &about, 0);
    page.gap();
    for one in &gate.findings {
        page.paragraph(paint(one.verdict), &format!("{} {}", sign(one.verdict), one.sentence), 2);
    }
    page.table(&table(&gate.findings));
    page.gap();
    for text in &gate.invalid {
        page.paragraph(Paint::Bad, &format!("✗ invalid: {text}."), 2);
    }
    for text in gate.left_out.iter().chain(&gate.notes) {
        page.paragraph(Paint::Plain, &format!("• {text}."), 2);
    }
    page.write(style, out)
}

fn paint(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Pass => Paint::Good,
        Verdict::Regressed | Verdict::Invalid => Paint::Bad,
        Verdict::Inconclusive => Paint::Strong,
    }
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::Regressed => "✗",
        Verdict::Inconclusive | Verdict::Invalid => "?",
    }
}

/// Every metric's values, its change and what could have been found.
pub(super) fn table(findings: &[Judged]) -> Table {
    let mut table = Table::new("Metric", ["base", "head", "worse by", "could find"]);
    for one in findings {
        let found = one.detectable.map_or("–".into(), |least| one.amount(least));
        table.row(&one.metric, [value(one, one.base), value(one, one.head), change(one), found]);
    }
    table
}
