//! [`Expectation`]: what a user demands of a path, judged against [`Findings`]. Three answers: it holds, it does not,
//! or what was seen does not decide it. An expectation that is not decided has not passed.

use std::time::Duration;

use serde::Serialize;

use crate::duration::{parse, say, say_range};
use crate::findings::{CloseKind, Findings, Verdict};

/// How far an idle timeout may be from the one that is expected with `=`: a second, for that is how coarse many
/// servers' timers are (Tomcat, gunicorn, Kestrel).
const TOLERANCE: Duration = Duration::from_secs(1);

/// One demand, with the words in which it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// What and how much.
    demand: Demand,
    /// As it was written.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand {
    Idle(Relation, Duration, Duration),
    Close(CloseKind),
    Requests(Relation, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
}

/// Whether a demand is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// What was seen does not decide it.
    Undecided,
}

/// A demand and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Judged {
    /// The demand: `idle >=60s`.
    pub expectation: String,
    /// The answer.
    pub outcome: Outcome,
    /// Why.
    pub sentence: String,
}

impl Expectation {
    /// Reads a demand on the idle timeout: `>=60s`, `>60s`, `<=2m`, `<90s`, `=75s` (within a second) or `=75s±250ms`
    /// (also `=75s+-250ms`).
    ///
    /// # Errors
    ///
    /// A sentence that shows what may be written.
    pub fn idle(text: &str) -> Result<Expectation, String> {
        let wrong =
            || format!("`{text}` is no idle time to expect: write '>=60s', '<90s', '=75s' or '=75s±250ms'");
        let (relation, rest) = relation(text).ok_or_else(wrong)?;
        let (value, tolerance) = match rest.split_once('±').or_else(|| rest.split_once("+-")) {
            Some(_) if relation != Relation::Equal => return Err(wrong()),
            Some((value, tolerance)) => (value, parse(tolerance.trim()).map_err(|_| wrong())?),
            None => (rest, TOLERANCE),
        };
        let value = parse(value.trim()).map_err(|_| wrong())?;
        Ok(Expectation {
            demand: Demand::Idle(relation, value, tolerance),
            text: format!("idle {}", text.trim()),
        })
    }

    /// Reads a demand on how idle connections end: `fin`, `rst`, `408`, `rst-on-send` or `silent`.
    ///
    /// # Errors
    ///
    /// A sentence that shows what may be written.
    pub fn close(text: &str) -> Result<Expectation, String> {
        let kind = match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
            "fin" => CloseKind::Fin,
            "rst" | "reset" => CloseKind::Reset,
            "408" | "answered-408" => CloseKind::Answered408,
            "rst-on-send" | "reset-on-send" => CloseKind::ResetOnSend,
            "silent" => CloseKind::Silent,
            _ => {
                return Err(format!(
                    "`{text}` is no way for a connection to end: write fin, rst, 408, rst-on-send or silent"
                ));
            }
        };
        Ok(Expectation { demand: Demand::Close(kind), text: format!("close {}", text.trim()) })
    }

    /// Reads a demand on how many requests a connection carries: `>=1000`, `=100`.
    ///
    /// # Errors
    ///
    /// A sentence that shows what may be written.
    pub fn requests(text: &str) -> Result<Expectation, String> {
        let wrong =
            || format!("`{text}` is no number of requests to expect: write '>=1000', '<500' or '=100'");
        let (relation, rest) = relation(text).ok_or_else(wrong)?;
        let value = rest.trim().replace(['_', ','], "").parse().map_err(|_| wrong())?;
        Ok(Expectation {
            demand: Demand::Requests(relation, value),
            text: format!("requests {}", text.trim()),
        })
    }
}

/// The longest sign first: `>=` begins with `>`.
fn relation(text: &str) -> Option<(Relation, &str)> {
    let signs = [
        (">=", Relation::AtLeast),
        ("≥", Relation::AtLeast),
        (">", Relation::Above),
        ("<=", Relation::AtMost),
        ("≤", Relation::AtMost),
        ("<", Relation::Below),
        ("==", Relation::Equal),
        ("=", Relation::Equal),
    ];
    let text = text.trim();
    signs.into_iter().find_map(|(sign, relation)| Some((relation, text.strip_prefix(sign)?.trim_start())))
}

/// Judges each demand.
pub fn judge(findings: &Findings, expectations: &[Expectation]) -> Vec<Judged> {
    expectations.iter().map(|one| one.judge(findings)).collect()
}

impl Expectation {
    fn judge(&self, findings: &Findings) -> Judged {
        let (outcome, because) = match self.demand {
            Demand::Idle(relation, value, tolerance) => idle(findings, relation, value, tolerance),
            Demand::Close(kind) => close(findings, kind),
            Demand::Requests(relation, value) => requests(findings, relation, value),
        };
        let verb = match outcome {
            Outcome::Holds => "holds",
            Outcome::Fails => "does not hold",
            Outcome::Undecided => "is not decided",
        };
        let sentence = format!("Expected {}: {verb}, for {because}.", self.text);
        Judged { expectation: self.text.clone(), outcome, sentence }
    }
}

fn idle(findings: &Findings, relation: Relation, value: Duration, tolerance: Duration) -> (Outcome, String) {
    let timer = &findings.idle_timeout;
    let compare = |lower, upper| within(relation, lower, upper, value, tolerance);
    match timer.verdict {
        Verdict::Found | Verdict::Longer => {
            let text = match (timer.verdict, timer.upper) {
                (Verdict::Found, Some(upper)) => {
                    format!("the idle timeout is {}", say_range(timer.lower, upper))
                }
                _ => format!("it is longer than {}, which was the longest that was tried", say(timer.lower)),
            };
            (compare(timer.lower, timer.upper), text)
        }
        Verdict::NotKept => (
            compare(Duration::ZERO, Some(Duration::ZERO)),
            "the server closes after every response, so that connections are never idle".into(),
        ),
        Verdict::Several if !timer.clusters.is_empty() => {
            let each: Vec<Outcome> =
                timer.clusters.iter().map(|one| compare(one.at.min, Some(one.at.max))).collect();
            let groups: Vec<String> =
                timer.clusters.iter().map(|one| say_range(one.at.min, one.at.max)).collect();
            (all(&each), format!("backends disagree: they close at {}", groups.join(" and at ")))
        }
        Verdict::Several | Verdict::Unstable => {
            (Outcome::Undecided, "what ended the connections was not one timer".into())
        }
        Verdict::Unknown => (Outcome::Undecided, "too little was seen of the idle timeout".into()),
    }
}

fn close(findings: &Findings, expected: CloseKind) -> (Outcome, String) {
    let timer = &findings.idle_timeout;
    let kinds: Vec<CloseKind> = match timer.verdict {
        Verdict::Found => timer.close.into_iter().collect(),
        Verdict::Several => timer.clusters.iter().map(|one| one.close).collect(),
        _ => Vec::new(),
    };
    if kinds.is_empty() {
        return (Outcome::Undecided, "no idle connection was seen to be ended by a timer".into());
    }
    let each: Vec<Outcome> = kinds
        .iter()
        .map(|kind| match kind {
            same if *same == expected => Outcome::Holds,
            // What a request meets on its way may have been a FIN or a RST.
            CloseKind::Race => Outcome::Undecided,
            _ => Outcome::Fails,
        })
        .collect();
    let words: Vec<&str> = kinds.iter().map(|kind| in_words(*kind)).collect();
    (all(&each), format!("idle connections end with {}", words.join(" and with ")))
}

/// A way of ending, to stand after "with".
pub fn in_words(close: CloseKind) -> &'static str {
    match close {
        CloseKind::Fin => "a FIN",
        CloseKind::Reset => "a RST",
        CloseKind::Answered408 => "an unsolicited 408",
        CloseKind::ResetOnSend => "a RST to the next packet",
        CloseKind::Silent => "silence: the next packet is never acknowledged",
        CloseKind::Race => "a close that crosses the request",
        CloseKind::Unsolicited => "unsolicited bytes",
    }
}

fn requests(findings: &Findings, relation: Relation, value: u64) -> (Outcome, String) {
    let Some(limit) = &findings.max_requests else {
        return (Outcome::Undecided, "the limit of requests was not tried".into());
    };
    match limit.value {
        None => (
            within(relation, limit.tried, None, value, 0),
            format!("a connection carried {} requests and did not end", limit.tried),
        ),
        Some(seen) if limit.repeated => {
            (within(relation, seen, Some(seen), value, 0), format!("a connection carries {seen} requests"))
        }
        Some(seen) => (
            Outcome::Undecided,
            format!("connections ended after different numbers of requests, one after {seen}"),
        ),
    }
}

/// Where any fails the whole fails; where any is open the whole is open.
fn all(each: &[Outcome]) -> Outcome {
    let has = |outcome| each.contains(&outcome);
    match (has(Outcome::Fails), has(Outcome::Undecided)) {
        (true, _) => Outcome::Fails,
        (false, true) => Outcome::Undecided,
        (false, false) => Outcome::Holds,
    }
}

/// What can be said of a number that lies in `lower..=upper`, or anywhere from `lower` on.
fn within<T>(relation: Relation, lower: T, upper: Option<T>, value: T, tolerance: T) -> Outcome
where
    T: Copy + PartialOrd + std::ops::Add<Output = T>,
{
    let below = |limit: T| upper.is_some_and(|upper| upper < limit);
    let at_most = |limit: T| upper.is_some_and(|upper| upper <= limit);
    let (holds, fails) = match relation {
        Relation::AtLeast => (lower >= value, below(value)),
        Relation::Above => (lower > value, at_most(value)),
        Relation::AtMost => (at_most(value), lower > value),
        Relation::Below => (below(value), lower >= value),
        Relation::Equal => (
            lower + tolerance >= value && at_most(value + tolerance),
            lower > value + tolerance || upper.is_some_and(|upper| upper + tolerance < value),
        ),
    };
    match (holds, fails) {
        (true, _) => Outcome::Holds,
        (false, true) => Outcome::Fails,
        (false, false) => Outcome::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::samples::{longer, nothing, several, timer, unstable};
    use crate::findings::MaxRequests;

    fn idle_of(findings: &Findings, text: &str) -> Outcome {
        Expectation::idle(text).unwrap().judge(findings).outcome
    }

    #[test]
    fn an_idle_time_is_compared_with_both_ends_of_the_bracket() {
        let found = timer(75.0, CloseKind::Fin); // 75 to 75.04 s
        for (text, outcome) in [
            (">=60s", Outcome::Holds),
            (">=75s", Outcome::Holds),
            (">75s", Outcome::Undecided),
            (">=75.02", Outcome::Undecided),
            (">=76s", Outcome::Fails),
            ("<=75s", Outcome::Undecided),
            ("<90s", Outcome::Holds),
            ("<75s", Outcome::Fails),
            ("=75s", Outcome::Holds),
            ("==75s±20ms", Outcome::Undecided),
            ("= 75s +- 50ms", Outcome::Holds),
            ("=80s", Outcome::Fails),
            ("≥1m", Outcome::Holds),
        ] {
            assert_eq!(idle_of(&found, text), outcome, "{text}");
        }
    }

    #[test]
    fn what_was_not_seen_is_not_decided() {
        assert_eq!(idle_of(&longer(), ">=600s"), Outcome::Holds);
        assert_eq!(idle_of(&longer(), ">=601s"), Outcome::Undecided);
        assert_eq!(idle_of(&longer(), "<=500s"), Outcome::Fails);
        assert_eq!(idle_of(&nothing(), ">=1s"), Outcome::Undecided);
        assert_eq!(idle_of(&unstable(), ">=1s"), Outcome::Undecided);
        assert_eq!(idle_of(&several(), ">=4s"), Outcome::Holds, "every backend keeps it");
        assert_eq!(idle_of(&several(), ">=60s"), Outcome::Fails, "some do not");
        let close = |findings: &Findings| Expectation::close("fin").unwrap().judge(findings).outcome;
        assert_eq!(close(&longer()), Outcome::Undecided);
        assert_eq!(close(&timer(75.0, CloseKind::Race)), Outcome::Undecided);
        let requests = Expectation::requests(">=1").unwrap().judge(&longer());
        assert_eq!(requests.outcome, Outcome::Undecided);
        assert_eq!(
            requests.sentence,
            "Expected requests >=1: is not decided, for the limit of requests was not tried."
        );
    }

    #[test]
    fn the_way_of_ending_is_compared() {
        let judge = |close, text| Expectation::close(text).unwrap().judge(&timer(75.0, close));
        assert_eq!(judge(CloseKind::Fin, "FIN").outcome, Outcome::Holds);
        let failed = judge(CloseKind::Silent, "fin");
        assert_eq!(failed.outcome, Outcome::Fails);
        assert!(failed.sentence.contains("end with silence"), "{}", failed.sentence);
    }

    #[test]
    fn a_limit_of_requests_is_compared() {
        let mut findings = nothing();
        let mut judged = |value, repeated, text| {
            findings.max_requests =
                Some(MaxRequests { value, announced: true, counted_down: false, tried: 2000, repeated });
            Expectation::requests(text).unwrap().judge(&findings).outcome
        };
        assert_eq!(judged(Some(1000), true, ">=1000"), Outcome::Holds);
        assert_eq!(judged(Some(100), true, ">=1000"), Outcome::Fails);
        assert_eq!(judged(Some(100), false, ">=1000"), Outcome::Undecided);
        assert_eq!(judged(None, true, ">=1000"), Outcome::Holds);
        assert_eq!(judged(None, true, ">=10,000"), Outcome::Undecided);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_an_example() {
        for text in ["60s", ">=", ">=soon", ">=60s±1s", "~60s", ">=-1s"] {
            let error = Expectation::idle(text).unwrap_err();
            assert!(error.contains(text) && error.contains("write '>=60s'"), "{error}");
        }
        assert!(Expectation::close("bye").unwrap_err().contains("fin, rst, 408"));
        assert!(Expectation::requests(">=many").unwrap_err().contains("'>=1000'"));
    }
}
