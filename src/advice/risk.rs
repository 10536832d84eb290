//! [`judge`]: what a given client setting risks on this path.
//!
//! The model: requests come to a connection at random, so that idle gaps are exponential with a mean of m. The path
//! ends a connection that was idle for T; a client's pool gives one up that was idle for C. Of all requests
//! exp(−a/m) − exp(−b/m) come after a gap between a and b.
//!
//! - A **visible** close (FIN, RST, 408) loses only requests that cross it: gaps between T − w and T, where w is the
//!   round trip with the spread of the timer, or the width that the probe saw. A pool that looks at its sockets
//!   before use loses no more than these.
//! - A pool that does **not look**, and every pool before a **silent** middlebox, loses every gap between T − w and C.

use std::time::Duration;

use serde::Serialize;

use super::{margin, recommend, safe_limit};
use crate::duration::say;
use crate::findings::{CloseKind, Findings, Verdict};
use crate::plan::ns;

/// A period so near to the timer makes every request a race.
const NEAR: Duration = Duration::from_secs(1);
/// No window is taken to be narrower: the kernel's and the timers' own grain.
const NARROWEST: Duration = Duration::from_millis(1);

/// What a setting risks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Risk {
    /// The setting.
    #[serde(rename = "client_idle_timeout_ns", with = "ns")]
    pub client_idle: Duration,
    /// The answer.
    pub safety: Safety,
    /// How much, where a timer was found.
    pub exposure: Option<Exposure>,
    /// The same in words.
    pub sentences: Vec<String>,
}

/// Whether a setting is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// Below the timer by the margin, or as far as was tried.
    Safe,
    /// Below the timer, but within the margin.
    Tight,
    /// At the timer or above it.
    AtRisk,
    /// What was seen does not say.
    Unknown,
}

/// Requests at risk, as shares of all requests on kept connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Exposure {
    /// The mean idle time of a connection between two requests.
    #[serde(rename = "mean_gap_ns", with = "ns")]
    pub mean_gap: Duration,
    /// Whether that was given; otherwise it is the mean for which the risk is greatest.
    pub given: bool,
    /// The window before the timer in which a request crosses the close.
    #[serde(rename = "window_ns", with = "ns")]
    pub window: Duration,
    /// For a pool that looks at its sockets before it uses them, where the close can be seen.
    pub looking: f64,
    /// For a pool that does not look, and for any pool where the close cannot be seen.
    pub not_looking: f64,
}

/// What a client that keeps idle connections for `client_idle` risks on this path. `gap` is the mean idle time of its
/// connections between two requests; without it the worst one is assumed.
pub fn judge(findings: &Findings, client_idle: Duration, gap: Option<Duration>) -> Risk {
    let idle = &findings.idle_timeout;
    let unknown = |why: &str| Risk {
        client_idle,
        safety: Safety::Unknown,
        exposure: None,
        sentences: vec![format!("Whether {} is safe cannot be said: {why}", say(client_idle))],
    };
    match idle.verdict {
        Verdict::Found => against_a_timer(findings, client_idle, gap),
        Verdict::Longer if client_idle <= idle.lower => Risk {
            client_idle,
            safety: Safety::Safe,
            exposure: None,
            sentences: vec![format!(
                "A pool of {} is safe as far as was seen: all {} connections lived for {}.",
                say(client_idle),
                idle.samples,
                say(idle.lower)
            )],
        },
        Verdict::Longer => unknown(&format!(
            "only {} was tried, and all connections lived. Try --max-idle {}s.",
            say(idle.lower),
            client_idle.as_secs() + 2
        )),
        Verdict::NotKept => Risk {
            client_idle,
            safety: Safety::Safe,
            exposure: None,
            sentences: vec!["No pool setting matters: the server closes after every response.".into()],
        },
        Verdict::Several => several(findings, client_idle)
            .unwrap_or_else(|| unknown("the backends disagree, and others may close earlier.")),
        Verdict::Unstable => unknown("what ended the connections was no timer."),
        Verdict::Unknown => unknown("too little was seen."),
    }
}

/// Backends that disagree: a setting above the shortest is at risk, whatever else there may be.
fn several(findings: &Findings, client_idle: Duration) -> Option<Risk> {
    let shortest = findings.idle_timeout.clusters.iter().map(|one| one.at.min).min()?;
    (client_idle >= shortest).then(|| Risk {
        client_idle,
        safety: Safety::AtRisk,
        exposure: None,
        sentences: vec![format!(
            "A pool of {} is at risk: some backends close after {} already.",
            say(client_idle),
            say(shortest)
        )],
    })
}

fn against_a_timer(findings: &Findings, client_idle: Duration, gap: Option<Duration>) -> Risk {
    let idle = &findings.idle_timeout;
    let limit = safe_limit(findings);
    let timer = idle.seen.map_or(idle.lower, |seen| seen.median.max(idle.lower));
    let recommended = recommend(findings).client_idle_timeout;
    let safety = if recommended.is_some_and(|best| client_idle <= best)
        || client_idle.saturating_add(margin(findings)) <= limit
    {
        Safety::Safe
    } else if client_idle < limit {
        Safety::Tight
    } else {
        Safety::AtRisk
    };
    let exposure = exposure(findings, timer, client_idle, gap);
    let mut sentences = vec![verdict_in_words(safety, client_idle, timer, recommended)];
    if safety == Safety::AtRisk {
        sentences.extend(exposure_in_words(&exposure, client_idle, timer, is_visible(idle.close)));
    }
    sentences.extend(near_in_words(timer, gap));
    Risk { client_idle, safety, exposure: Some(exposure), sentences }
}

/// Whether an idle client can see the end coming.
fn is_visible(close: Option<CloseKind>) -> bool {
    !matches!(close, Some(CloseKind::Silent | CloseKind::ResetOnSend))
}

fn exposure(findings: &Findings, timer: Duration, client_idle: Duration, gap: Option<Duration>) -> Exposure {
    let idle = &findings.idle_timeout;
    let seen = findings.race_window.as_ref().and_then(|it| it.width);
    let window = seen.unwrap_or_else(|| {
        let spread = idle.seen.map(|seen| seen.max.saturating_sub(seen.min)).unwrap_or_default();
        findings.round_trip.map(|it| it.max).unwrap_or_default().saturating_add(spread)
    });
    let window = window.clamp(NARROWEST, timer.max(NARROWEST));
    let from = timer.saturating_sub(window);
    let crossing = (from, timer.min(client_idle).max(from));
    let dead = (from, client_idle.max(from));
    let visible = is_visible(idle.close);
    let widest = if visible { crossing } else { dead };
    let gap = gap.filter(|gap| !gap.is_zero());
    let mean_gap = gap.unwrap_or_else(|| worst_mean(widest));
    let not_looking = share(dead, mean_gap);
    Exposure {
        mean_gap,
        given: gap.is_some(),
        window,
        looking: if visible { share(crossing, mean_gap) } else { not_looking },
        not_looking,
    }
}

/// The share of exponential gaps of this mean that lie between the two.
fn share((from, to): (Duration, Duration), mean: Duration) -> f64 {
    let (from, to, mean) = (from.as_secs_f64(), to.as_secs_f64(), mean.as_secs_f64());
    if mean <= 0.0 || to <= from {
        return 0.0;
    }
    // exp(-a/m) - exp(-b/m), without the cancellation of two numbers that are nearly equal
    (-from / mean).exp() * -(-(to - from) / mean).exp_m1()
}

/// The mean for which most gaps lie between the two: where the derivative of the share is zero, (b − a) / ln(b / a).
fn worst_mean((from, to): (Duration, Duration)) -> Duration {
    let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
    let mean = if from > 0.0 && to > from { (to - from) / (to / from).ln() } else { to };
    Duration::try_from_secs_f64(mean).unwrap_or_default().max(NARROWEST)
}

fn verdict_in_words(
    safety: Safety,
    client_idle: Duration,
    timer: Duration,
    recommended: Option<Duration>,
) -> String {
    let (pool, timer) = (say(client_idle), say(timer));
    match (safety, recommended) {
        (Safety::Safe, _) => format!("A pool of {pool} is safe on this path, which closes at {timer}."),
        (Safety::Tight, Some(best)) => format!(
            "A pool of {pool} is below the {timer} at which this path closes, but within the margin: {} is safe.",
            say(best)
        ),
        (_, Some(best)) => format!(
            "A pool of {pool} is at risk on this path, which closes at {timer}: {} is safe.",
            say(best)
        ),
        (_, None) => format!("A pool of {pool} is at risk on this path, which closes at {timer} already."),
    }
}

fn exposure_in_words(it: &Exposure, client_idle: Duration, timer: Duration, visible: bool) -> Vec<String> {
    let rate = match it.given {
        true => format!("at a mean gap of {} between requests on a connection", say(it.mean_gap)),
        false => format!("at a mean gap of {}, the worst case (--gap gives yours)", say(it.mean_gap)),
    };
    let (pool, server) = (say(client_idle), say(timer));
    let mut sentences = Vec::new();
    if visible {
        sentences.push(format!(
            "A {pool} pool against this {server} path: about {} of its requests crosses the close {rate}, even if the \
             pool looks at its sockets.",
            one_in(it.looking)
        ));
        if client_idle > timer {
            sentences.push(format!(
                "If it does not look, about {} goes to a connection that the server has closed.",
                one_in(it.not_looking)
            ));
        }
    } else {
        sentences.push(format!(
            "A {pool} pool against this {server} path: about {} of its requests goes to a dead connection {rate}; no \
             pool can see it, for the end makes no sign.",
            one_in(it.not_looking)
        ));
    }
    sentences
}

fn near_in_words(timer: Duration, gap: Option<Duration>) -> Option<String> {
    let gap = gap.filter(|gap| gap.abs_diff(timer) <= NEAR)?;
    Some(format!(
        "If requests come every {} on the clock (a health check, a poll), each of them races with the close at {}: \
         change the period by more than {}.",
        say(gap),
        say(timer),
        say(NEAR)
    ))
}

/// `1 in 13,500`: two digits are more than the model is worth.
fn one_in(share: f64) -> String {
    if share <= 0.0 {
        return "none".into();
    }
    let n = 1.0 / share;
    if n > 1e9 {
        return "less than 1 in 1,000,000,000".into();
    }
    let step = 10f64.powf((n.log10().floor() - 1.0).max(0.0));
    let n = if n < 10.0 { (n * 10.0).round() / 10.0 } else { (n / step).round() * step };
    let text = if n < 10.0 && n.fract() != 0.0 { format!("{n:.1}") } else { format!("{n:.0}") };
    format!("1 in {}", thousands(&text))
}

fn thousands(digits: &str) -> String {
    if digits.contains('.') {
        return digits.to_owned();
    }
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_of(timer: f64, window: f64, mean: f64) -> f64 {
        let seconds = Duration::from_secs_f64;
        share((seconds(timer - window), seconds(timer)), seconds(mean)) * 1e6
    }

    #[test]
    fn the_share_of_poisson_gaps_that_cross_the_close_is_the_published_one() {
        // per million requests: timer, mean gap, window
        for (timer, mean, window, expected) in [
            (5.0, 5.0, 0.001, 74.0),
            (60.0, 60.0, 0.002, 12.0),
            (75.0, 30.0, 0.05, 137.0),
            (5.0, 1.0, 0.001, 7.0),
        ] {
            let found = share_of(timer, window, mean);
            assert!((found - expected).abs() < 0.6, "{timer} {mean} {window}: {found}");
        }
    }

    #[test]
    fn the_worst_mean_is_worse_than_its_neighbours() {
        let (from, to) = (Duration::from_secs(75), Duration::from_secs(90));
        let worst = worst_mean((from, to));
        let at = |factor: f64| share((from, to), worst.mul_f64(factor));
        assert!(at(1.0) > at(0.9) && at(1.0) > at(1.1));
    }

    #[test]
    fn one_in_so_many_has_two_digits() {
        for (share, text) in [
            (1.0, "1 in 1"),
            (0.4, "1 in 2.5"),
            (1.0 / 14.4, "1 in 14"),
            (1.0 / 13_514.0, "1 in 14,000"),
            (1e-12, "less than 1 in 1,000,000,000"),
            (0.0, "none"),
        ] {
            assert_eq!(one_in(share), text);
        }
    }
}
