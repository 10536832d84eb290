//! [`Goal`]: what a load must hold for it to count as carried.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// What a load must hold, written as `p99<5ms,errors<0.1%`: response times (`p50` to `p99.99`, `mean`, `max`) and the
/// share of requests without a good answer. Where nothing is said of errors, `errors<1%` is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Goal {
    terms: Vec<Term>,
    text: String,
}

/// A search for the highest rate that holds a goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Search {
    /// What is to hold.
    pub goal: Goal,
    /// How long each look at a rate lasts.
    #[serde(rename = "look_ns", with = "super::ns")]
    pub look: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Term {
    Quantile(f64, Duration),
    Mean(Duration),
    Max(Duration),
    Errors(f64),
}

/// The share of errors that no goal allows unless it says so.
const ERRORS: f64 = 0.01;

/// A quantile of fewer than so many beyond it is little more than chance.
const TAIL_SAMPLES: f64 = 10.0;

impl Goal {
    /// So many requests have [`TAIL_SAMPLES`] beyond its farthest quantile.
    pub(crate) fn samples(&self) -> f64 {
        let beyond = |term: &Term| match *term {
            Term::Quantile(q, _) => TAIL_SAMPLES / (1.0 - q),
            _ => 0.0,
        };
        self.terms.iter().map(beyond).fold(0.0, f64::max)
    }

    /// What of it does not hold; `None`: all holds. Without an answer nothing does.
    pub fn unmet(&self, response: &Histogram, errors: f64) -> Option<String> {
        if response.is_empty() {
            return Some("no request was answered".into());
        }
        self.terms.iter().find_map(|term| match *term {
            Term::Quantile(q, limit) => over(&format!("p{}", percent(q)), response.quantile(q)?, limit),
            Term::Mean(limit) => over("mean", response.mean()?, limit),
            Term::Max(limit) => over("max", response.max()?, limit),
            Term::Errors(limit) => (errors >= limit)
                .then(|| format!("errors were {} %, not under {} %", percent(errors), percent(limit))),
        })
    }
}

fn over(name: &str, seen: Duration, limit: Duration) -> Option<String> {
    (seen >= limit).then(|| format!("{name} was {seen:.2?}, not under {limit:?}"))
}

/// A share in per cent, without the noise of binary fractions.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

impl FromStr for Goal {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong, with the cure.
    fn from_str(text: &str) -> Result<Goal, String> {
        let mut terms =
            text.split(',').map(|part| term(part.trim())).collect::<Option<Vec<_>>>().ok_or_else(|| {
                format!("`{text}` is no goal: write it as p99<5ms,errors<0.1%, times with their unit")
            })?;
        if !terms.iter().any(|term| matches!(term, Term::Errors(_))) {
            terms.push(Term::Errors(ERRORS));
        }
        Ok(Goal { terms, text: text.to_owned() })
    }
}

fn term(text: &str) -> Option<Term> {
    let (name, limit) = text.split_once('<')?;
    let (name, limit) = (name.trim(), limit.trim());
    // `p99<5` would mean seconds, and hardly anybody who writes it.
    let has_unit = limit.ends_with(|last: char| last.is_ascii_alphabetic());
    let time = || crate::duration::parse(limit).ok().filter(|time| has_unit && !time.is_zero());
    match name {
        "errors" => {
            let share: f64 = limit.strip_suffix('%')?.trim().parse().ok()?;
            (share > 0.0 && share <= 100.0).then_some(Term::Errors(share / 100.0))
        }
        "mean" => Some(Term::Mean(time()?)),
        "max" => Some(Term::Max(time()?)),
        _ => {
            let q: f64 = name.strip_prefix('p')?.parse().ok()?;
            (q > 0.0 && q < 100.0).then_some(Term::Quantile(q / 100.0, time()?))
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Goal {
    type Error = String;

    fn try_from(text: String) -> Result<Goal, String> {
        text.parse()
    }
}

impl From<Goal> for String {
    fn from(goal: Goal) -> String {
        goal.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_wants_ten_requests_beyond_its_farthest_quantile() {
        let samples = |text: &str| text.parse::<Goal>().unwrap().samples().round();
        assert_eq!(["p50<1s", "p99<5ms,p90<1ms", "mean<1s"].map(samples), [20.0, 1_000.0, 0.0]);
    }

    #[test]
    fn a_goal_names_the_first_of_its_terms_that_does_not_hold() {
        let mut times = Histogram::new();
        (1..=100).for_each(|ms| times.record(Duration::from_millis(ms)));
        let unmet = |goal: &str, errors| goal.parse::<Goal>().unwrap().unmet(&times, errors);
        assert_eq!(unmet("p50<60ms,p99<120ms,mean<1s,max<1s,errors<0.1%", 0.0), None);
        assert!(unmet("p50<60ms, p99<90ms", 0.0).unwrap().starts_with("p99 was 99"));
        assert_eq!(unmet("p50<1s,errors<0.1%", 0.001).unwrap(), "errors were 0.1 %, not under 0.1 %");
        assert!(unmet("p50<1s", 0.02).unwrap().contains("errors"), "1 % is meant");
        assert!(unmet("max<100ms", 0.0).unwrap().contains("max"));
        assert!("p50<1s".parse::<Goal>().unwrap().unmet(&Histogram::new(), 0.0).is_some());
    }

    #[test]
    fn what_is_no_goal_is_refused_with_the_cure() {
        for text in [
            "",
            "p99",
            "p99<",
            "p99<5",
            "p99>5ms",
            "p0<1s",
            "p100<1s",
            "errors<1",
            "errors<0%",
            "x<1s",
            "p99<5ms,",
        ] {
            assert!(text.parse::<Goal>().unwrap_err().contains("p99<5ms"), "{text}");
        }
    }
}
