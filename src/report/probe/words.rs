//! What a probe's reports say, the same in every form: the answer, and what was seen, name by name.

use std::time::Duration;

use super::Report;
use crate::duration::{say, say_range};
use crate::expect::in_words;
use crate::findings::{CloseKind, Ended, Findings, Held, IdleTimeout, LayerVerdict, Role, Tally, Verdict};
use crate::known::{Evidence, Hint};
use crate::report::units::count;

/// The answer in one or two sentences.
pub(super) fn headline(report: &Report) -> String {
    let findings = report.findings;
    let stopped = if findings.interrupted { "Interrupted before the end. " } else { "" };
    format!("{stopped}{}", answer(report, &findings.idle_timeout))
}

fn answer(report: &Report, idle: &IdleTimeout) -> String {
    match idle.verdict {
        Verdict::Found => {
            let end = idle.close.map_or("answers nothing more on it", then);
            format!("This path keeps an idle connection for {}, then {end}. {}", bracket(idle), set(report))
        }
        Verdict::Longer => format!(
            "No idle timeout within {}, the longest that was tried: all {} connections were alive.",
            say(idle.lower),
            count(u64::from(idle.samples))
        ),
        Verdict::Several => {
            let groups: Vec<String> = idle
                .clusters
                .iter()
                .map(|one| format!("{} ({} of them)", say_range(one.at.min, one.at.max), one.at.n))
                .collect();
            format!("Backends behind this name disagree: connections ended at {}.", groups.join(" and at "))
        }
        Verdict::Unstable => {
            "Connections ended, but not by a timer: there is no idle timeout to tell.".to_owned()
        }
        Verdict::NotKept => {
            "The server closes every connection after its response: there is no keep-alive.".to_owned()
        }
        Verdict::Unknown => "Too little was seen to tell an idle timeout.".to_owned(),
    }
}

/// What happens at the end of the idle time, after "then".
fn then(close: CloseKind) -> &'static str {
    match close {
        CloseKind::Fin => "closes it with a FIN",
        CloseKind::Reset => "resets it",
        CloseKind::Answered408 => "sends an unsolicited 408 and closes it",
        CloseKind::ResetOnSend => "forgets it and answers the next packet with a RST",
        CloseKind::Silent => "drops it in silence",
        CloseKind::Race => "closes it",
        CloseKind::Unsolicited => "sends bytes that nobody asked for",
    }
}

/// One number where the watchers agree on a close that can be seen, otherwise the bracket.
fn bracket(idle: &IdleTimeout) -> String {
    let narrow = Duration::from_millis(250);
    match (idle.seen, idle.upper) {
        (Some(seen), _) if seen.max.saturating_sub(seen.min) <= narrow => say(seen.median),
        (_, Some(upper)) => say_range(idle.lower, upper),
        (_, None) => say(idle.lower),
    }
}

fn set(report: &Report) -> String {
    match report.recommendation.client_idle_timeout {
        Some(client) => format!("Let a client's pool give up after {}.", say(client)),
        None => "That is too short to pool.".to_owned(),
    }
}

/// A name and what is to say of it.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) text: String,
}

/// What was probed, in one line.
pub(super) fn what_was_done(findings: &Findings) -> String {
    let target = &findings.target;
    let mut parts = vec![target.url.clone(), format!("at {}", target.address)];
    parts.extend(target.status.map(|status| format!("answers {status}")));
    parts.extend(target.server.as_ref().map(|server| format!("Server: {server}")));
    parts.extend(target.via.as_ref().map(|via| format!("Via: {via}")));
    parts.extend(target.tls_version.clone());
    parts.extend(findings.round_trip.map(|it| format!("round trip {}", say_range(it.min, it.max))));
    parts.push(format!("{} connections in {}", findings.raw.len(), say(findings.took)));
    parts.push(format!("tried to {} of idle time", say(findings.bounds.max_idle)));
    parts.push(findings.started.clone());
    parts.join(" · ")
}

/// What was seen.
pub(super) fn facts(findings: &Findings) -> Vec<Fact> {
    let mut facts = vec![Fact { name: "idle timeout", text: idle_timeout(&findings.idle_timeout) }];
    let mut add = |name, text: Option<String>| facts.extend(text.map(|text| Fact { name, text }));
    add("advertised", Some(advertised(findings)));
    let first = findings.first_request_timeout.as_ref();
    add("before any request", first.and_then(|it| it.after_tcp.as_ref()).map(ended));
    add("after TLS alone", first.and_then(|it| it.after_tls.as_ref()).map(ended));
    add("requests", requests(findings));
    add("age in use", lifetime(findings));
    add("race window", race(findings));
    add("with TCP keepalive", findings.layer.as_ref().map(|it| held(&it.tcp_keepalive)));
    add("with nothing", findings.layer.as_ref().map(|it| held(&it.nothing)));
    add("with requests", findings.layer.as_ref().map(|it| held(&it.requests)));
    add("layer", findings.layer.as_ref().map(|it| layer(it.verdict).to_owned()));
    add("hop behind", behind(findings));
    facts
}

fn idle_timeout(idle: &IdleTimeout) -> String {
    let mut parts = Vec::new();
    match (idle.verdict, idle.upper) {
        (Verdict::Found, Some(upper)) => parts.push(format!("between {}", between(idle.lower, upper))),
        (Verdict::Longer, _) => parts.push(format!("longer than {}", say(idle.lower))),
        (verdict, _) => parts.push(verdict_in_words(verdict).to_owned()),
    }
    parts.extend(idle.close.map(|close| format!("ends with {}", in_words(close))));
    if idle.verdict == Verdict::Found && idle.close.is_none() {
        parts.push("no end is seen, but requests after it get no answer".into());
    }
    parts.extend(
        idle.seen.map(|seen| format!("{} watchers saw it at {}", seen.n, say_range(seen.min, seen.max))),
    );
    if idle.confirmed_alive.of > 0 {
        parts.push(format!("{} of {} alive just below", idle.confirmed_alive.hits, idle.confirmed_alive.of));
    }
    if idle.confirmed_dead.of > 0 {
        parts.push(format!("{} of {} dead just above", idle.confirmed_dead.hits, idle.confirmed_dead.of));
    }
    parts.join("; ")
}

fn between(lower: Duration, upper: Duration) -> String {
    format!("{} and {}", say(lower), say(upper))
}

fn verdict_in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Found => "found",
        Verdict::Longer => "longer than was tried",
        Verdict::Several => "several",
        Verdict::Unstable => "none: alive and dead do not part",
        Verdict::NotKept => "none: closed after every response",
        Verdict::Unknown => "not found",
    }
}

fn advertised(findings: &Findings) -> String {
    let Some(advertised) = &findings.advertised else { return "nothing".into() };
    let mut text = format!("Keep-Alive: {}", advertised.field);
    match (advertised.max, advertised.next_max) {
        (Some(first), Some(next)) if next < first => text.push_str(" (max counts down)"),
        (Some(first), Some(next)) if next == first => text.push_str(" (max is constant)"),
        _ => {}
    }
    text
}

fn ended(it: &Ended) -> String {
    let connections = format!("{} connections", it.samples);
    match (it.upper, it.close) {
        (Some(upper), close) => {
            let how = close.map_or_else(String::new, |close| format!(", ends with {}", in_words(close)));
            format!("{}{how} ({connections})", say_range(it.lower, upper))
        }
        (None, _) => format!("longer than {} ({connections})", say(it.lower)),
    }
}

fn requests(findings: &Findings) -> Option<String> {
    let limit = findings.max_requests.as_ref()?;
    Some(match limit.value {
        None => format!("no limit within {}", count(limit.tried)),
        Some(value) => {
            let announced = match (limit.announced, limit.counted_down) {
                (true, true) => "announced, and max counted down to it",
                (true, false) => "announced",
                (false, _) => "not announced",
            };
            let repeated = match (limit.repeated, findings.interrupted) {
                (true, _) => "",
                (false, true) => "; seen once, for the probe was interrupted",
                (false, false) => "; not the same every time, so no limit on requests",
            };
            format!("{} on a connection, {announced}{repeated}", count(value))
        }
    })
}

fn lifetime(findings: &Findings) -> Option<String> {
    let lifetime = findings.max_lifetime.as_ref()?;
    Some(match lifetime.ended {
        None => format!("no limit within {}", say(lifetime.tried)),
        Some(at) => format!(
            "{} ({} connections), {}",
            say_range(at.min, at.max),
            at.n,
            if lifetime.announced { "announced" } else { "not announced" }
        ),
    })
}

fn race(findings: &Findings) -> Option<String> {
    let race = findings.race_window.as_ref()?;
    Some(match race.width {
        None => format!("no request was lost of {} sent just before the close", race.lost.of),
        Some(width) if width < Duration::from_millis(1) => {
            format!("requests are lost within 1 ms of the close only: {} of {}", race.lost.hits, race.lost.of)
        }
        Some(width) => format!(
            "requests are lost from {} before the close on: {} of {}",
            say(width),
            race.lost.hits,
            race.lost.of
        ),
    })
}

fn held(it: &Held) -> String {
    let every = it.every.map_or_else(String::new, |every| format!("every {}: ", say(every)));
    match it.ended {
        None => format!("{every}alive after {} ({} connections)", say(it.watched), it.samples),
        Some(at) => {
            let how = it.close.map_or_else(String::new, |close| format!(", with {}", in_words(close)));
            format!("{every}ended at {}{how} ({} of {})", say_range(at.min, at.max), at.n, it.samples)
        }
    }
}

fn layer(verdict: LayerVerdict) -> &'static str {
    match verdict {
        LayerVerdict::Packets => "packets: TCP keepalive holds it",
        LayerVerdict::Http => "HTTP: TCP keepalive does not hold it",
        LayerVerdict::Both => "packets, and HTTP behind them",
        LayerVerdict::Neither => "neither: requests do not hold it either",
        LayerVerdict::NoTimer => "no timer within the watch",
        LayerVerdict::Undecided => "undecided",
    }
}

fn behind(findings: &Findings) -> Option<String> {
    let behind = findings.behind.as_ref()?;
    let mut parts = Vec::new();
    if behind.seen.hits > 0 {
        let statuses: Vec<String> = behind.statuses.iter().map(u16::to_string).collect();
        let Tally { hits, of } = behind.seen;
        parts.push(format!(
            "{} after {} of idle time ({hits} of {of} answers)",
            statuses.join(", "),
            say(behind.from)
        ));
    }
    if behind.lost.hits > 0 {
        let Tally { hits, of } = behind.lost;
        parts.push(format!(
            "{hits} of {of} requests lost around {} of idle time, and none later",
            say(behind.from)
        ));
    }
    parts.extend(behind.redial.map(|redial| {
        format!(
            "answers take {} longer after {} of idle time: a new connection is opened there",
            say(redial.slower_by),
            say_range(redial.shorter, redial.longer)
        )
    }));
    Some(parts.join("; "))
}

/// A hint: `nginx keepalive_timeout 75 s`, with its condition.
pub(super) fn hint(hint: &Hint) -> String {
    let when = hint.when.map_or_else(String::new, |when| format!(" ({when})"));
    let named = if hint.named_by_server { ", which the Server field names" } else { "" };
    let second = if hint.evidence == Evidence::Secondary { ", from a secondary source" } else { "" };
    format!("{} {} {} s{when}{named}{second}", hint.product, hint.setting, hint.default_s)
}

/// What a connection was for, in two words.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Watcher => "watched",
        Role::Sender => "asked again",
        Role::Confirm => "confirmed",
        Role::Behind => "hop behind",
        Role::Race => "raced",
        Role::FirstAfterTcp => "TCP alone",
        Role::FirstAfterTls => "TLS alone",
        Role::Requests => "counted",
        Role::Lifetime => "grew old",
        Role::LayerKeepalive => "TCP keepalive",
        Role::LayerNothing => "nothing",
        Role::LayerRequests => "requests",
        Role::Soak => "soaked",
    }
}

/// A text from the findings as a sentence: with a capital and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let rest = letters.as_str();
    let stop = if rest.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}
