//! A probe's report as JSON: the findings as they are saved, and beside them what follows from them. It can be
//! loaded again as [`Findings`]. Names that end in `_ns` are whole nanoseconds; what there is none of is `null`.

use serde::Serialize;

use super::Report;
use crate::advice::snippets::Snippet;
use crate::advice::{Recommendation, Risk};
use crate::expect::Judged;
use crate::findings::Findings;
use crate::known::Hint;

/// The report, to be serialized.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'a> {
    #[serde(flatten)]
    findings: &'a Findings,
    headline: String,
    recommendation: &'a Recommendation,
    client_idle: Option<&'a Risk>,
    expectations: &'a [Judged],
    hints: &'a [Hint],
    snippets: &'a [Snippet],
}

/// What a script wants to know, and everything that it rests on.
pub fn document<'a>(report: &'a Report<'a>) -> Document<'a> {
    Document {
        findings: report.findings,
        headline: report.headline(),
        recommendation: &report.recommendation,
        client_idle: report.risk.as_ref(),
        expectations: &report.expectations,
        hints: &report.hints,
        snippets: &report.snippets,
    }
}
