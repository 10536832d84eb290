//! A probe's report as one HTML file: the answer, the picture, what was seen, what to set, and settings to paste.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};

use super::picture::{self, MARKS, Mark, View};
use super::words::{self, facts, hint, sentence, what_was_done};
use super::{Report, Snippet};
use crate::advice::{Recommendation, Safety};
use crate::duration::{say, say_range};
use crate::expect::Outcome;
use crate::findings::{Findings, Role, Sample};
use crate::report::html::{Figure, Page, section, unbroken};

/// The picture's two widths in pixels; the page shows the one that fits.
const WIDE: u32 = 760;
const NARROW: u32 = 360;

/// The whole file.
pub fn page(report: &Report) -> String {
    let findings = report.findings;
    let body = html! {
        @if !report.expectations.is_empty() || report.risk.is_some() {
            (section("Expected", &demands(report)))
        }
        @if let Some(figures) = figures(report) { (section("Every connection", &figures)) }
        (section("Seen", &seen(findings)))
        (section("To set", &advice(&report.recommendation)))
        @if !report.hints.is_empty() { (section("Defaults that fit", &hints(report))) }
        @if !findings.caveats.is_empty() {
            (section("Uncertain", &html! {
                ul { @for one in &findings.caveats { li { (unbroken(&sentence(&one.text))) } } }
            }))
        }
        @if !report.snippets.is_empty() { (section("Settings to paste", &snippets(&report.snippets))) }
    };
    let made_by = format!(
        "{} {} · {} · {}",
        findings.tool.name,
        findings.tool.version,
        findings.machine.os,
        findings.command.join(" ")
    );
    Page {
        title: format!("Idle timeout of {}", findings.target.url),
        answer: report.headline(),
        about: what_was_done(findings),
        body,
        made_by,
    }
    .into_text()
}

fn demands(report: &Report) -> Markup {
    let setting = report.risk.as_ref().map(|risk| {
        let (class, sign) = match risk.safety {
            Safety::Safe => ("holds", "✓"),
            Safety::Tight => ("undecided", "!"),
            Safety::AtRisk => ("fails", "✗"),
            Safety::Unknown => ("undecided", "?"),
        };
        (class, sign, risk.sentences.join(" "))
    });
    let expected = report.expectations.iter().map(|judged| {
        let (class, sign) = match judged.outcome {
            Outcome::Holds => ("holds", "✓"),
            Outcome::Fails => ("fails", "✗"),
            Outcome::Undecided => ("undecided", "?"),
        };
        (class, sign, judged.sentence.clone())
    });
    html! {
        ul.plain {
            @for (class, sign, text) in expected.chain(setting) {
                li { span class={ "sign " (class) } { (sign) } (unbroken(&text)) }
            }
        }
    }
}

fn figures(report: &Report) -> Option<Markup> {
    let draw = |view, width| picture::svg(report.findings, &report.recommendation, view, width);
    let whole = Figure {
        wide: draw(View::Whole, WIDE)?,
        narrow: draw(View::Whole, NARROW)?,
        says: &in_words(report.findings),
        legend: legend(report),
        data: Some(table(report.findings)),
    };
    let near = || {
        Some(
            Figure {
                wide: draw(View::AroundTheTimer, WIDE)?,
                narrow: draw(View::AroundTheTimer, NARROW)?,
                says: &near_in_words(report.findings)?,
                legend: html! {},
                data: None,
            }
            .markup(),
        )
    };
    Some(html! { (whole.markup()) @if let Some(near) = near() { (near) } })
}

/// What the second picture shows, for those who do not see it.
fn near_in_words(findings: &Findings) -> Option<String> {
    let idle = &findings.idle_timeout;
    let (alive, dead) = (idle.confirmed_alive, idle.confirmed_dead);
    Some(format!(
        "The same around the timer, whose bracket of {} is shaded: {} of {} connections that were tried just below it \
         were alive, {} of {} just above it were dead.",
        say_range(idle.lower, idle.upper?),
        alive.hits,
        alive.of,
        dead.hits,
        dead.of
    ))
}

/// What the picture shows, for those who do not see it.
fn in_words(findings: &Findings) -> String {
    let marks: Vec<(&Sample, Mark)> = picture::samples(findings).collect();
    let clauses = MARKS.iter().filter_map(|(kind, words)| {
        let idle = || marks.iter().filter(|(_, mark)| mark == kind).map(|(sample, _)| sample.idle);
        let range = say_range(idle().min()?, idle().max()?);
        Some(format!("{} {words} (idle for {range})", idle().count()))
    });
    let clauses: Vec<String> = clauses.collect();
    format!("Connections over the time that they were idle, on a logarithmic axis: {}.", clauses.join(", "))
}

fn legend(report: &Report) -> Markup {
    let has = |kind: Mark| picture::samples(report.findings).any(|(_, mark)| mark == kind);
    html! {
        ul.legend {
            @for (kind, words) in MARKS.iter().filter(|(kind, _)| has(*kind)) {
                li { span aria-hidden="true" { (PreEscaped(picture::legend(*kind))) } (words) }
            }
        }
    }
}

/// Connections with the same fate together.
fn table(findings: &Findings) -> Markup {
    let mut groups: BTreeMap<(Role, Mark), Vec<&Sample>> = BTreeMap::new();
    for (sample, mark) in picture::samples(findings) {
        groups.entry((sample.role, mark)).or_default().push(sample);
    }
    let name = |mark: Mark| MARKS.iter().find(|(kind, _)| *kind == mark).map_or("", |(_, words)| words);
    let range = |samples: &[&Sample]| {
        let idle = || samples.iter().map(|sample| sample.idle);
        say_range(idle().min().unwrap_or_default(), idle().max().unwrap_or_default())
    };
    html! {
        table {
            thead { tr { th { "For" } th { "Fate" } th.number { "Connections" } th.number { "Idle for" } } }
            tbody {
                @for ((role, mark), samples) in &groups {
                    tr {
                        td { (words::role(*role)) }
                        td { (name(*mark)) }
                        td.number { (samples.len()) }
                        td.number { (range(samples)) }
                    }
                }
            }
        }
    }
}

fn seen(findings: &Findings) -> Markup {
    html! { dl { @for fact in facts(findings) { dt { (fact.name) } dd { (unbroken(&fact.text)) } } } }
}

fn advice(advice: &Recommendation) -> Markup {
    html! {
        @if let Some(order) = advice.ordering {
            p { "Whoever is nearer to the user gives up first:" }
            table {
                thead { tr { th { "Hop" } th.number { "Idle timeout" } } }
                tbody {
                    tr { td { "client's pool" } td.number { "at most " (say(order.client)) } }
                    tr { td { "a proxy in front, towards this hop" } td.number { "at most " (say(order.proxy)) } }
                    tr { td { "this hop, as found" } td.number { (say(order.here)) } }
                    tr { td { "the origin behind it" } td.number { "at least " (say(order.behind)) } }
                }
            }
        }
        @if let Some(it) = advice.tcp_keepalive {
            p {
                "TCP keepalive: idle " (say(it.idle)) ", interval " (say(it.interval)) ", count " (it.count)
                ", user timeout " (say(it.user_timeout)) "."
            }
        }
        ul { @for reason in &advice.reasons { li { (unbroken(reason)) } } }
    }
}

fn hints(report: &Report) -> Markup {
    html! {
        p { "Hints where to look; it may be another." }
        ul {
            @for one in &report.hints {
                li { (hint(one)) " " small.about { "(" (one.source) ")" } }
            }
        }
    }
}

fn snippets(snippets: &[Snippet]) -> Markup {
    html! {
        p {
            "“Behind the probed hop” is a server that it forwards to; “in front of it” is a proxy or client of yours \
             that connects to it."
        }
        @for one in snippets {
            details {
                summary { (one.product) }
                pre tabindex="0" { code class={ "language-" (one.language) } { (one.text) } }
            }
        }
    }
}
