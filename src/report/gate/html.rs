//! A gate's report as one HTML file: the verdict and each metric first, then the pictures of what was measured.

use maud::{Markup, html};

use super::{how, targets};
use crate::compare;
use crate::gate::Verdict;
use crate::gate::result::Gate;
use crate::report::html::{Page, section, unbroken};
use crate::report::measured;
use crate::report::terminal::load;

/// The whole file.
pub fn page(gate: &Gate) -> String {
    let measurement = &gate.measurement;
    let body = html! {
        (section("Has it become worse?", &verdicts(gate)))
        (measured::sections(measurement, &compare::arms(measurement)))
    };
    Page {
        title: format!("keeplive gate: {}", targets(gate)),
        answer: gate.headline.clone(),
        about: [load(measurement), how(gate), measurement.started.clone()].join(" · "),
        body,
        made_by: format!(
            "{} {} · plan {} · {}",
            measurement.tool.name, measurement.tool.version, measurement.plan_id, measurement.started
        ),
    }
    .into_text()
}

/// What can be said of each metric, as a table and in sentences, and what to keep in mind.
fn verdicts(gate: &Gate) -> Markup {
    html! {
        (super::terminal::table(&gate.findings).markup())
        ul {
            @for one in &gate.findings {
                li.fails[one.verdict == Verdict::Regressed] { (unbroken(&one.sentence)) "." }
            }
            @for text in &gate.invalid { li.fails { "Invalid: " (unbroken(text)) "." } }
            @for text in gate.left_out.iter().chain(&gate.notes) { li { (unbroken(text)) "." } }
        }
    }
}
