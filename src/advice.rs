//! From [`Findings`] to settings: what a client's pool should do on this path, by how much it should stay below the
//! path's own timer and why, in which order the hops must give up, and whether TCP keepalive helps.
//!
//! Pure: the same findings give the same advice. Where the findings hold no timer, no number is made up.
//!
#![doc = include_str!("docs/idle-timeouts.md")]

mod risk;
pub mod snippets;

use std::time::Duration;

use serde::Serialize;

use crate::duration::{say, say_range};
use crate::findings::{CloseKind, Findings, IdleTimeout, Layer, LayerVerdict, Tally, Verdict};
use crate::plan::{ns, optional_ns};

pub use risk::{Exposure, Risk, Safety, judge};

/// The least margin: a second covers the timers that tick once a second (Tomcat, gunicorn, Kestrel), and is what
/// Node.js adds to its own promise.
const LEAST_MARGIN: Duration = Duration::from_secs(1);
/// What a busy client may be late by, on top of what was seen.
const LATENESS: Duration = Duration::from_millis(250);
/// Below this timer a pool gains too little for what it risks.
const LEAST_TO_POOL: Duration = Duration::from_secs(1);
/// By how much a hop must outlast the one before it: five seconds (65 over 60), or a tenth (660 over 600).
const LEAST_STEP: Duration = Duration::from_secs(5);
/// Lost TCP keepalive probes that are borne before the connection is given up.
const KEEPALIVE_COUNT: u32 = 3;

const WRONG_ORDER: &str = "The order is wrong there: the proxy's timeout towards its origin must be shorter than the \
                           origin's own; a client's setting cannot cure it.";

/// What to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recommendation {
    /// The idle timeout of a client's pool; `None`: none follows from what was seen, or it should not pool at all.
    #[serde(rename = "client_idle_timeout_ns", with = "optional_ns")]
    pub client_idle_timeout: Option<Duration>,
    /// Whether connections to this server are worth keeping; `None`: that cannot be said.
    pub pool: Option<bool>,
    /// What the timeout stays below the path's timer by, at least.
    #[serde(rename = "margin_ns", with = "optional_ns")]
    pub margin: Option<Duration>,
    /// After how many requests the client should close a connection itself, where the server does so unannounced.
    pub max_requests: Option<u64>,
    /// At which age the client should close a connection itself, where the server does so unannounced.
    #[serde(rename = "max_lifetime_ns", with = "optional_ns")]
    pub max_lifetime: Option<Duration>,
    /// How the hops must follow each other; `None` where there is no timer to order by.
    pub ordering: Option<Ordering>,
    /// TCP keepalive for this path; `None`: it was not shown to help.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Why, a sentence each, the most important first.
    pub reasons: Vec<String>,
}

/// Idle timeouts from hop to hop: whoever is nearer to the user, and can retry, gives up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ordering {
    /// A client's pool.
    #[serde(rename = "client_ns", with = "ns")]
    pub client: Duration,
    /// A proxy of your own between client and this hop, on the side that faces this hop.
    #[serde(rename = "proxy_ns", with = "ns")]
    pub proxy: Duration,
    /// This hop, as it was found.
    #[serde(rename = "here_ns", with = "ns")]
    pub here: Duration,
    /// What stands behind it must keep idle connections at least so long, if this hop keeps them as long as its
    /// clients'.
    #[serde(rename = "behind_ns", with = "ns")]
    pub behind: Duration,
}

/// TCP keepalive: the socket options `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT` and `TCP_USER_TIMEOUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpKeepalive {
    /// Idle time before the first probe, in whole seconds.
    #[serde(rename = "idle_ns", with = "ns")]
    pub idle: Duration,
    /// Time between probes, in whole seconds.
    #[serde(rename = "interval_ns", with = "ns")]
    pub interval: Duration,
    /// Probes without an answer before the connection is given up.
    pub count: u32,
    /// How long sent data may stay unacknowledged.
    #[serde(rename = "user_timeout_ns", with = "ns")]
    pub user_timeout: Duration,
}

/// What to set on this path.
pub fn recommend(findings: &Findings) -> Recommendation {
    let mut advice = Recommendation {
        client_idle_timeout: None,
        pool: None,
        margin: None,
        max_requests: None,
        max_lifetime: None,
        ordering: None,
        tcp_keepalive: None,
        reasons: Vec::new(),
    };
    match findings.idle_timeout.verdict {
        Verdict::Found => advice.stay_below_a_timer(findings),
        Verdict::NotKept => {
            advice.pool = Some(false);
            advice
                .because("The server closes every connection after its response: there is nothing to pool.");
        }
        verdict => advice.because(&no_timer(&findings.idle_timeout, verdict)),
    }
    advice.limits(findings);
    advice.hop_behind(findings);
    advice.layer(findings);
    if advice.pool != Some(false) {
        advice.because(
            "A request that meets a close is safe to repeat, once and on a new connection, if no byte of an answer \
             came and it is idempotent, or if none of it had been written (RFC 9110, section 9.2.2).",
        );
    }
    advice
}

/// The idle time that is safe as far as was seen: where it ends, nothing has been seen to die yet. A server that
/// promises less than it keeps is taken at its word: what it does beyond its promise may change any day.
pub(crate) fn safe_limit(findings: &Findings) -> Duration {
    let promised =
        findings.advertised.as_ref().and_then(|it| it.timeout).filter(|promise| !promise.is_zero());
    promised.map_or(findings.idle_timeout.lower, |promise| promise.min(findings.idle_timeout.lower))
}

/// max(1 s, 2 R + J + 0.25 s): the request's way there and the close's way back, the spread of the timer as it was
/// seen, and a client's own lateness. Never less than where requests were seen to be lost.
fn margin(findings: &Findings) -> Duration {
    let round_trip = findings.round_trip.map(|it| it.max).unwrap_or_default();
    let spread = findings.idle_timeout.seen.map(|seen| seen.max.saturating_sub(seen.min)).unwrap_or_default();
    let from_path = round_trip.saturating_mul(2).saturating_add(spread).saturating_add(LATENESS);
    let race = findings.race_window.as_ref().and_then(|it| it.width).unwrap_or_default();
    LEAST_MARGIN.max(from_path).max(race.saturating_add(LATENESS))
}

/// The client's timeout for a safe limit and a margin, rounded down to what a person would write; `None`: too short
/// to pool.
fn client_timeout(limit: Duration, margin: Duration) -> Option<Duration> {
    if limit < LEAST_TO_POOL {
        return None;
    }
    let timeout = if limit <= margin.saturating_mul(3) { limit / 2 } else { limit - margin };
    Some(rounded_down(timeout))
}

/// To whole seconds from ten on, to tenths below.
fn rounded_down(duration: Duration) -> Duration {
    let step: u128 = if duration >= Duration::from_secs(10) { 1_000_000_000 } else { 100_000_000 };
    let nanos = duration.as_nanos() / step * step;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// By how much the hop behind must outlast `timeout`.
fn step(timeout: Duration) -> Duration {
    LEAST_STEP.max(timeout / 10)
}

fn ordering(here: Duration, limit: Duration, client: Duration) -> Ordering {
    // The longest P with P + max(5 s, P / 10) <= limit.
    let fits = limit.saturating_sub(LEAST_STEP).min(limit.mul_f64(1.0 / 1.1));
    // Under a short timer that rule leaves nothing: then a proxy is a client like any other.
    let proxy = if fits < client / 2 { client } else { rounded_down(fits).min(client) };
    let behind = here.saturating_add(step(here));
    let behind = Duration::from_secs(behind.as_secs() + u64::from(behind.subsec_nanos() > 0));
    Ordering { client, proxy, here, behind }
}

fn no_timer(idle: &IdleTimeout, verdict: Verdict) -> String {
    match verdict {
        Verdict::Longer => format!(
            "All {} connections were alive after {} of idle time, the longest that was tried: a pool may keep them so \
             long as far as was seen{}. Where the limit is, if there is one, was not seen: try a greater --max-idle.",
            idle.samples,
            say(idle.lower),
            alive_bound(idle.confirmed_alive),
        ),
        Verdict::Several => {
            let groups: Vec<String> = idle
                .clusters
                .iter()
                .map(|one| format!("{} × {}", one.at.n, say_range(one.at.min, one.at.max)))
                .collect();
            let shortest = idle.clusters.iter().map(|one| one.at.min).min().unwrap_or_default();
            format!(
                "The backends behind this name disagree ({}): make them agree, then probe again. Until then no pool \
                 is safe that keeps a connection for {} or more.",
                groups.join(", "),
                say(shortest)
            )
        }
        Verdict::Unstable => "Connections ended at idle times that form no timer (load shedding, a restart, a \
                              busy network): any number would be invented. Probe again when the server is calm."
            .to_owned(),
        _ => "Too little was seen to advise anything.".to_owned(),
    }
}

fn alive_bound(alive: Tally) -> String {
    match upper_bound(alive) {
        Some(bound) => {
            format!(" (fewer than {} in 100 of them die, with 95 % confidence)", percent_up(bound))
        }
        None => String::new(),
    }
}

fn percent_up(share: f64) -> u64 {
    (share * 100.0).ceil() as u64
}

/// With n connections tried and all as expected, the share that is not lies below this with 95 % confidence:
/// 1 − 0.05^(1/n), of which 3/n, the rule of three, is the well-known approximation (Hanley and Lippman-Hand, 1983).
/// `None`: none was tried, or not all were as expected.
pub fn upper_bound(tally: Tally) -> Option<f64> {
    (tally.of > 0 && tally.hits == tally.of).then(|| 1.0 - 0.05_f64.powf(1.0 / f64::from(tally.of)))
}

/// The chance that a next close comes earlier than the earliest of `k` that were seen, if all come from one
/// distribution: at most 1/(k+1), for by symmetry each of the k+1 is equally often the earliest.
pub fn earlier_than_seen(k: u32) -> f64 {
    1.0 / (f64::from(k) + 1.0)
}

impl Recommendation {
    fn because(&mut self, reason: &str) {
        self.reasons.push(reason.to_owned());
    }

    fn stay_below_a_timer(&mut self, findings: &Findings) {
        let idle = &findings.idle_timeout;
        let (limit, margin) = (safe_limit(findings), margin(findings));
        self.margin = Some(margin);
        self.client_idle_timeout = client_timeout(limit, margin);
        self.pool = Some(self.client_idle_timeout.is_some());
        let Some(client) = self.client_idle_timeout else {
            self.because(&format!(
                "The path keeps an idle connection for {} only: a pool would gain little and meet many closes. Do not \
                 pool, or lengthen the server's timer.",
                say(limit)
            ));
            return;
        };
        self.ordering = Some(ordering(idle.upper.unwrap_or(idle.lower).max(limit), limit, client));
        self.because(&why(findings, limit, margin, client));
        if limit < idle.lower {
            self.because(&format!(
                "The server promises {} and keeps {}: the promise counts.",
                say(limit),
                say(idle.lower)
            ));
        }
        if let Some(seen) = idle.seen.filter(|seen| seen.n > 0) {
            self.because(&format!(
                "{} watched connections ended at {}; that the next one ends earlier than all of them has a \
                 chance of at most 1 in {}, and the margin is for it.",
                seen.n,
                say_range(seen.min, seen.max),
                seen.n + 1
            ));
        }
        if let Some(bound) = upper_bound(idle.confirmed_alive) {
            self.because(&format!(
                "{} of {} connections lived just below the timer: with 95 % confidence fewer than {} in 100 die \
                 before it.",
                idle.confirmed_alive.hits,
                idle.confirmed_alive.of,
                percent_up(bound)
            ));
        }
    }

    /// Limits that end a connection in use without a word belong into the client, too.
    fn limits(&mut self, findings: &Findings) {
        let requests = findings.max_requests.as_ref().filter(|it| !it.announced && it.repeated);
        if let Some(value) = requests.and_then(|it| it.value).filter(|value| *value > 1) {
            self.max_requests = Some(value - 1);
            self.because(&format!(
                "The server ends a connection after {value} requests without announcing it: close it yourself after {}.",
                value - 1
            ));
        }
        let lifetime = findings.max_lifetime.as_ref().filter(|it| !it.announced);
        if let Some(ended) = lifetime.and_then(|it| it.ended) {
            let age = client_timeout(ended.min, margin(findings));
            self.max_lifetime = age;
            if let Some(age) = age {
                self.because(&format!(
                    "The server ends a connection in use at an age of {} without announcing it: retire connections \
                     at {}.",
                    say_range(ended.min, ended.max),
                    say(age)
                ));
            }
        }
    }

    fn hop_behind(&mut self, findings: &Findings) {
        let Some(behind) = &findings.behind else { return };
        if behind.seen.hits > 0 {
            let statuses: Vec<String> = behind.statuses.iter().map(u16::to_string).collect();
            let Tally { hits, of } = behind.seen;
            self.because(&format!(
                "After {} of idle time {hits} of {of} answers were {}: the hop that we talk to reused a connection that \
                 the hop behind it had closed. {WRONG_ORDER}",
                say(behind.from),
                statuses.join(" or ")
            ));
        }
        if behind.lost.hits > 0 {
            let Tally { hits, of } = behind.lost;
            self.because(&format!(
                "Around {} of idle time {hits} of {of} requests were lost, though others that waited longer were \
                 answered: the hop that we talk to reused its connection just when the hop behind closed it, and left \
                 it to the client to send again (HAProxy does so). {WRONG_ORDER}",
                say(behind.from)
            ));
        }
        if let Some(redial) = behind.redial.filter(|_| behind.seen.hits + behind.lost.hits == 0) {
            self.because(&format!(
                "After {} of idle time answers take {} longer: the hop that we talk to opens a new connection to the hop \
                 behind it, for the old one has gone. No request was lost around it. Which of the two hops closed it \
                 cannot be seen from here: probe the hop behind from where the proxy runs, and let the proxy give up \
                 first.",
                say_range(redial.shorter, redial.longer),
                say(redial.slower_by)
            ));
        }
    }

    fn layer(&mut self, findings: &Findings) {
        let limit = findings.idle_timeout.lower;
        let Some(layer) = &findings.layer else {
            if let Some(close) = findings.idle_timeout.close.filter(|_| self.ordering.is_some()) {
                self.because(untried(close));
            }
            return;
        };
        if matches!(layer.verdict, LayerVerdict::Packets | LayerVerdict::Both) {
            self.tcp_keepalive = tcp_keepalive(limit);
        }
        self.because(&layer_in_words(layer, limit));
    }
}

fn why(findings: &Findings, limit: Duration, margin: Duration, client: Duration) -> String {
    let round_trip = findings.round_trip.map(|it| it.max).unwrap_or_default();
    if limit <= margin.saturating_mul(3) {
        return format!(
            "{} is at most half of {}: under so short a timer the margin of {} would leave too little, or too little safety.",
            say(client),
            say(limit),
            say(margin)
        );
    }
    format!(
        "{} stays below the {} that all connections lived for, by at least {}: the greater of 1 s and two round trips \
         (of {}) with the spread that was seen and {} for a late client.",
        say(client),
        say(limit),
        say(margin),
        say(round_trip),
        say(LATENESS)
    )
}

fn tcp_keepalive(limit: Duration) -> Option<TcpKeepalive> {
    // A third, so that one probe may be lost before the timer runs out; the options take whole seconds.
    let every = Duration::from_secs(limit.as_secs() / 3);
    (!every.is_zero()).then(|| TcpKeepalive {
        idle: every,
        interval: every,
        count: KEEPALIVE_COUNT,
        user_timeout: every.saturating_mul(1 + KEEPALIVE_COUNT),
    })
}

/// What the way of ending suggests where `--layer` was not asked for.
fn untried(close: CloseKind) -> &'static str {
    match close {
        CloseKind::Silent | CloseKind::ResetOnSend => {
            "A middlebox forgets the flow without telling the client: only a shorter timeout, or traffic, keeps it. \
             Whether TCP keepalive counts as traffic here was not tried: --layer shows it."
        }
        _ => {
            "The end is visible (the hop speaks to us), which suggests a timer of HTTP, where TCP keepalive does not \
             help; --layer would show it."
        }
    }
}

fn layer_in_words(layer: &Layer, limit: Duration) -> String {
    let every = layer.tcp_keepalive.every.map_or_else(String::new, |every| format!(" every {}", say(every)));
    let ended = layer.tcp_keepalive.ended.map(|ended| ended.median);
    let hidden = if layer.peer_probes {
        " The server itself sends TCP keepalive, which may hide a timer of the packet layer."
    } else {
        ""
    };
    let text = match layer.verdict {
        LayerVerdict::Packets => format!(
            "TCP keepalive helps here: with probes{every} connections outlived {}, so the timer is a middlebox's (NAT, \
             firewall, packet balancer).",
            say(limit)
        ),
        LayerVerdict::Http => format!(
            "TCP keepalive does not help here: the timer is HTTP's (the server's or a reverse proxy's). With probes\
             {every} connections still ended{}. It is the wrong layer: shorten the client's timeout, lengthen the \
             server's, or send requests.",
            ended.map_or_else(String::new, |at| format!(" at {}", say(at)))
        ),
        LayerVerdict::Both => format!(
            "Two timers: TCP keepalive lifts the one at {}, a middlebox's; the next, of HTTP, ends connections{} and \
             takes no notice of probes.",
            say(limit),
            ended.map_or_else(String::new, |at| format!(" at {}", say(at)))
        ),
        LayerVerdict::Neither => {
            "Not even requests held the connections: what ends them is a limit on requests or on \
                                  age, not idle time."
                .to_owned()
        }
        LayerVerdict::NoTimer => {
            "Nothing ended within the watch, with or without keep-alive of any kind.".to_owned()
        }
        LayerVerdict::Undecided => {
            "Which layer's keep-alive holds this path could not be decided from what was seen.".to_owned()
        }
    };
    text + hidden
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
