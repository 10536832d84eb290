//! Reports of a soak: is this idle time safe? In sentences, as a page, and as JUnit.

use std::io;

use maud::{Markup, html};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::html::{Page, section, unbroken};
use super::units::count;
use crate::duration::{say, say_range};
use crate::findings::{CloseKind, Soak};

/// The answer, and what became of those that did not live.
pub fn text(soak: &Soak) -> String {
    let fates = fates(soak).into_iter().skip(1).map(|fate| {
        let after = fate.after.map_or_else(String::new, |after| format!(", after {after}"));
        format!("  {} {}{after}", count(fate.n), fate.what)
    });
    std::iter::once(headline(soak)).chain(fates).collect::<Vec<_>>().join("\n")
}

/// The whole file.
pub fn page(soak: &Soak) -> String {
    let body = html! {
        (section("What became of them", &table(&fates(soak))))
        (section("How sure that is", &html! { p { (unbroken(&certainty(soak))) } }))
    };
    Page {
        title: format!("{} of idleness at {}", say(soak.idle), soak.target.url),
        answer: headline(soak),
        about: about(soak),
        body,
        made_by: format!(
            "{} {} · {} · {}",
            soak.tool.name,
            soak.tool.version,
            soak.machine.os,
            soak.command.join(" ")
        ),
    }
    .into_text()
}

/// Writes JUnit XML: one case, which fails when a connection was lost, and is an error when nothing was tried.
///
/// # Errors
///
/// What `out` says.
pub fn junit(soak: &Soak, out: &mut impl io::Write) -> io::Result<()> {
    let mut status = match soak {
        _ if soak.is_safe() => TestCaseStatus::success(),
        _ if soak.is_told() => TestCaseStatus::non_success(NonSuccessKind::Failure),
        _ => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if !soak.is_safe() {
        status.set_message(headline(soak));
    }
    let mut case = TestCase::new(format!("idle {}", say(soak.idle)), status);
    case.set_classname("keeplive.soak");
    case.set_system_out(text(soak));
    let mut suite = TestSuite::new(soak.target.url.clone());
    suite.set_time(soak.took);
    suite.add_test_case(case);
    let mut document = quick_junit::Report::new("keeplive soak");
    document.set_time(soak.took);
    document.add_test_suite(suite);
    document.serialize(out).map_err(io::Error::other)
}

fn headline(soak: &Soak) -> String {
    let stopped = if soak.interrupted { "Interrupted before the end. " } else { "" };
    format!("{stopped}{}", soak.sentence())
}

/// So many came to this.
struct FateOf {
    n: u64,
    what: &'static str,
    after: Option<String>,
}

/// First those that lived, then whoever did not.
fn fates(soak: &Soak) -> Vec<FateOf> {
    let plain = |n, what| FateOf { n, what, after: None };
    let deaths = soak.deaths.iter().map(|deaths| FateOf {
        n: u64::from(deaths.at.n),
        what: deaths.close.map_or("never answered", how),
        after: Some(say_range(deaths.at.min, deaths.at.max)),
    });
    let others = [
        plain(soak.gateway_errors, "answered 502, 503 or 504: the hop behind had gone"),
        plain(soak.failed_to_open, "could not be opened, or had no first answer"),
        plain(soak.discarded, "tell nothing: this machine was late, or the soak was stopped"),
    ];
    let others = others.into_iter().filter(|fate| fate.n > 0);
    std::iter::once(plain(soak.alive, "answered after the idle time")).chain(deaths).chain(others).collect()
}

fn table(fates: &[FateOf]) -> Markup {
    html! {
        table {
            thead { tr { th.number { "Connections" } th { "Fate" } th.number { "Idle for" } } }
            tbody {
                @for fate in fates {
                    tr {
                        td.number { (count(fate.n)) }
                        td { (fate.what) }
                        td.number { (fate.after.as_deref().unwrap_or("")) }
                    }
                }
            }
        }
    }
}

/// The statistics, and what they do not say.
fn certainty(soak: &Soak) -> String {
    let Some(bound) = soak.death_rate_bound.filter(|_| soak.alive > 0) else {
        return "Nothing follows for another idle time.".to_owned();
    };
    format!(
        "With 95 % confidence at most {:.2} % of connections die of this idle time (Clopper and Pearson; without a death \
         that is the rule of three, 3/n). It holds for this path as it was in these {}: not for another address, and \
         not for a day with a deploy.",
        bound * 100.0,
        say(soak.took)
    )
}

fn about(soak: &Soak) -> String {
    let target = &soak.target;
    let mut parts = vec![target.url.clone(), format!("at {}", target.address)];
    parts.extend(target.server.as_ref().map(|server| format!("Server: {server}")));
    let connections = count(u64::from(soak.connections));
    parts.push(format!("{connections} connections at a time, {} times, in {}", soak.rounds, say(soak.took)));
    parts.push(soak.started.clone());
    parts.join(" · ")
}

fn how(close: CloseKind) -> &'static str {
    match close {
        CloseKind::Fin => "closed with a FIN",
        CloseKind::Reset => "reset while idle",
        CloseKind::Answered408 => "ended with a 408",
        CloseKind::ResetOnSend => "reset when asked again: their state was lost on the way",
        CloseKind::Silent => "silent when asked again: dropped on the way",
        CloseKind::Race => "closed while the question was on its way",
        CloseKind::Unsolicited => "said something unasked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::soaked;

    #[test]
    fn a_page_answers_and_counts_every_fate() {
        let page = page(&soaked(95, 100));
        for part in ["not safe: 5 of 100", "closed with a FIN", "27.5–55 s", "at most 10.2"] {
            assert!(page.replace('\u{a0}', " ").contains(part), "{part}: {page}");
        }
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn junit_passes_fails_or_is_an_error() {
        for (soak, counts) in [
            (soaked(9, 9), "tests=\"1\" failures=\"0\" errors=\"0\""),
            (soaked(8, 9), "tests=\"1\" failures=\"1\" errors=\"0\""),
            (soaked(0, 0), "tests=\"1\" failures=\"0\" errors=\"1\""),
        ] {
            let mut out = Vec::new();
            junit(&soak, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(counts), "{counts}: {text}");
        }
    }
}
