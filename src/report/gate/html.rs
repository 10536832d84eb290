//! A gate's report as one file for a browser: the verdict, what each metric says, and what was measured.

use maud::{Markup, html};

use super::{how, sign, table, targets};
use crate::compare;
use crate::gate::Verdict;
use crate::gate::result::Gate;
use crate::report::html::{Page, section, unbroken};
use crate::report::measured;
use crate::report::terminal::load;

/// The whole file.
pub fn page(gate: &Gate) -> String {
    let measurement = &gate.measurement;
    let comparison = compare::arms(measurement);
    let body = html! {
        (section("Has it become worse?", &findings(gate)))
        (measured::pictures(measurement, &comparison, &measured::rounds_alone(&comparison)))
        (section("How it was measured", &measured::surroundings(measurement)))
    };
    Page {
        title: format!("keeplive gate: {}", targets(gate)),
        answer: gate.headline.clone(),
        about: [load(measurement), how(gate)].join(" · "),
        body,
        made_by: measured::made_by(measurement),
    }
    .into_text()
}

fn findings(gate: &Gate) -> Markup {
    html! {
        ul {
            @for one in &gate.findings {
                li { span class={ "sign " (class(one.verdict)) } { (sign(one.verdict)) } " " (unbroken(&one.sentence)) }
            }
        }
        (table(&gate.findings).markup())
        ul {
            @for text in &gate.invalid { li.fails { "Invalid: " (unbroken(text)) "." } }
            @for text in gate.left_out.iter().chain(&gate.notes) { li { (unbroken(text)) "." } }
        }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "holds",
        Verdict::Regressed | Verdict::Invalid => "fails",
        Verdict::Inconclusive => "undecided",
    }
}
