//! Reports of a probe: [`Report`] is what they all show, once settled; each form is a file.

pub mod html;
pub mod json;
pub mod junit;
mod picture;
pub mod terminal;
mod words;

use std::time::Duration;

use crate::advice::snippets::{Snippet, snippets};
use crate::advice::{self, Recommendation, Risk, Safety};
use crate::expect::{self, Expectation, Judged, Outcome};
use crate::findings::{Findings, Verdict};
use crate::known::{self, Hint};

/// What the reader wants to know beside what was seen.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// A client's idle timeout to be judged.
    pub client_idle: Option<Duration>,
    /// The mean idle time of that client's connections between two requests; `None`: the worst is assumed.
    pub gap: Option<Duration>,
    /// What is demanded of the path.
    pub expectations: Vec<Expectation>,
}

/// Findings with everything that follows from them.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// What was seen.
    pub findings: &'a Findings,
    /// What to set.
    pub recommendation: Recommendation,
    /// What a given setting risks.
    pub risk: Option<Risk>,
    /// What became of each demand.
    pub expectations: Vec<Judged>,
    /// Known defaults that fit.
    pub hints: Vec<Hint>,
    /// Settings to paste; none where there is no timer.
    pub snippets: Vec<Snippet>,
}

impl<'a> Report<'a> {
    /// Draws the conclusions.
    pub fn new(findings: &'a Findings, questions: &Questions) -> Report<'a> {
        let recommendation = advice::recommend(findings);
        Report {
            findings,
            risk: questions.client_idle.map(|idle| advice::judge(findings, idle, questions.gap)),
            expectations: expect::judge(findings, &questions.expectations),
            hints: hints(findings),
            snippets: recommendation
                .ordering
                .map(|order| snippets(&order, recommendation.tcp_keepalive))
                .unwrap_or_default(),
            recommendation,
        }
    }

    /// What became of all demands together, the judged setting among them: one that fails is enough to fail, one
    /// that is not decided is enough not to hold. Without any demand all hold.
    pub fn outcome(&self) -> Outcome {
        let setting = self.risk.as_ref().map(|risk| Outcome::from(risk.safety));
        let all: Vec<Outcome> = self.expectations.iter().map(|one| one.outcome).chain(setting).collect();
        match (all.contains(&Outcome::Fails), all.contains(&Outcome::Undecided)) {
            (true, _) => Outcome::Fails,
            (false, true) => Outcome::Undecided,
            (false, false) => Outcome::Holds,
        }
    }

    /// The answer in one sentence.
    pub fn headline(&self) -> String {
        words::headline(self)
    }
}

impl From<Safety> for Outcome {
    fn from(safety: Safety) -> Outcome {
        match safety {
            Safety::Safe | Safety::Tight => Outcome::Holds,
            Safety::AtRisk => Outcome::Fails,
            Safety::Unknown => Outcome::Undecided,
        }
    }
}

fn hints(findings: &Findings) -> Vec<Hint> {
    let idle = &findings.idle_timeout;
    match (idle.verdict, idle.upper, idle.close) {
        (Verdict::Found, Some(upper), Some(close)) => {
            known::matches(idle.lower, upper, close, findings.target.server.as_deref())
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
