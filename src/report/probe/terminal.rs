//! A probe's report for a terminal: the answer, what was seen, what to set and why, and what is uncertain.

use std::io;

use super::words::{facts, hint, what_was_done};
use super::{Report, words};
use crate::advice::{Recommendation, Safety};
use crate::duration::say;
use crate::expect::Outcome;
use crate::report::page::{Page, Paint, Style};
use crate::report::wrap::wrap;

/// How far values stand from the left.
const VALUES: usize = 22;

/// Writes the report.
///
/// # Errors
///
/// What `out` says.
pub fn write(report: &Report, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let mut page = Page::new(style);
    page.paragraph(Paint::Strong, &report.headline(), 0);
    page.gap();
    page.paragraph(Paint::Faint, &what_was_done(report.findings), 0);
    page.demands(report);
    page.heading("Seen");
    for fact in facts(report.findings) {
        page.named(fact.name, &fact.text);
    }
    page.advice(&report.recommendation);
    page.hints(report);
    page.caveats(report);
    page.write(style, out)
}

impl Page {
    fn heading(&mut self, text: &str) {
        self.gap();
        self.paragraph(Paint::Strong, text, 0);
    }

    /// A name on the left, its text on the right, on as many lines as it takes.
    fn named(&mut self, name: &str, text: &str) {
        for (nth, line) in wrap(text, self.width - VALUES, 0).into_iter().enumerate() {
            let name = if nth == 0 { name } else { "" };
            self.line(Paint::Plain, format!("  {name:<width$}{line}", width = VALUES - 2));
        }
    }

    fn demands(&mut self, report: &Report) {
        if report.expectations.is_empty() && report.risk.is_none() {
            return;
        }
        self.gap();
        for judged in &report.expectations {
            let (sign, paint) = match judged.outcome {
                Outcome::Holds => ("✓", Paint::Good),
                Outcome::Fails => ("✗", Paint::Bad),
                Outcome::Undecided => ("?", Paint::Bad),
            };
            self.paragraph(paint, &format!("{sign} {}", judged.sentence), 2);
        }
        if let Some(risk) = &report.risk {
            let (sign, paint) = match risk.safety {
                Safety::Safe => ("✓", Paint::Good),
                Safety::Tight => ("!", Paint::Plain),
                Safety::AtRisk => ("✗", Paint::Bad),
                Safety::Unknown => ("?", Paint::Bad),
            };
            self.paragraph(paint, &format!("{sign} {}", risk.sentences.join(" ")), 2);
        }
    }

    fn advice(&mut self, advice: &Recommendation) {
        self.heading("To set");
        if let Some(order) = advice.ordering {
            self.named("client's pool", &format!("at most {}", say(order.client)));
            self.named("proxy in front", &format!("at most {} towards this hop", say(order.proxy)));
            self.named("this hop", &format!("{}, as found", say(order.here)));
            self.named("origin behind", &format!("at least {}", say(order.behind)));
        }
        if let Some(requests) = advice.max_requests {
            self.named("requests", &format!("at most {requests} on a connection"));
        }
        if let Some(age) = advice.max_lifetime {
            self.named("age", &format!("at most {}", say(age)));
        }
        if let Some(it) = advice.tcp_keepalive {
            let text = format!(
                "idle {}, interval {}, count {}, user timeout {}",
                say(it.idle),
                say(it.interval),
                it.count,
                say(it.user_timeout)
            );
            self.named("TCP keepalive", &text);
        }
        for reason in &advice.reasons {
            self.paragraph(Paint::Plain, &format!("• {reason}"), 2);
        }
        if advice.ordering.is_some() {
            let text = "Settings for nginx, HAProxy, Envoy, Apache, Caddy, Traefik, Node.js, Go, Rust, AWS and \
                        Kubernetes with these numbers: --format html.";
            self.paragraph(Paint::Faint, text, 0);
        }
    }

    fn hints(&mut self, report: &Report) {
        if report.hints.is_empty() {
            return;
        }
        self.heading("Defaults that fit (hints where to look; it may be another)");
        for one in &report.hints {
            self.paragraph(Paint::Plain, &format!("• {}", hint(one)), 2);
        }
    }

    fn caveats(&mut self, report: &Report) {
        if report.findings.caveats.is_empty() {
            return;
        }
        self.heading("Uncertain");
        for caveat in &report.findings.caveats {
            self.paragraph(Paint::Plain, &format!("• {}", words::sentence(&caveat.text)), 2);
        }
    }
}
