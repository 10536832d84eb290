//! Findings as a test wants them.

use std::time::Duration;

use crate::findings::{
    Bounds, CloseKind, Cluster, Fate, Findings, Held, IdleTimeout, Layer, LayerVerdict, Probed, Role, SCHEMA,
    Sample, Spread, Tally, Verdict,
};
use crate::machine::Machine;
use crate::measurement::Tool;

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(crate) fn spread(n: u32, min: f64, median: f64, max: f64) -> Spread {
    Spread { n, min: seconds(min), median: seconds(median), max: seconds(max) }
}

/// A probe that has seen nothing of the timer.
pub(crate) fn nothing() -> Findings {
    Findings {
        schema: SCHEMA.into(),
        tool: Tool { name: "keeplive".into(), version: "0.1.0".into() },
        command: ["keeplive", "probe", "http://example.test/"].map(String::from).into(),
        started: "2026-11-22T12:00:00Z".into(),
        took: seconds(150.2),
        machine: Machine { os: "linux x86_64".into(), ..Machine::default() },
        target: Probed {
            url: "http://example.test/".into(),
            address: "192.0.2.1:80".into(),
            status: Some(200),
            server: Some("nginx/1.22.1".into()),
            ..Probed::default()
        },
        bounds: Bounds {
            max_idle: seconds(600.0),
            budget: seconds(1800.0),
            connections: 32,
            connects_per_s: 20,
        },
        round_trip: Some(spread(20, 0.0004, 0.0005, 0.0012)),
        idle_timeout: IdleTimeout {
            verdict: Verdict::Unknown,
            lower: Duration::ZERO,
            upper: None,
            close: None,
            seen: None,
            samples: 0,
            confirmed_alive: Tally::default(),
            confirmed_dead: Tally::default(),
            clusters: Vec::new(),
        },
        first_request_timeout: None,
        max_requests: None,
        max_lifetime: None,
        advertised: None,
        race_window: None,
        layer: None,
        behind: None,
        caveats: Vec::new(),
        raw: Vec::new(),
        interrupted: false,
    }
}

/// A timer that was found at `at` seconds, seen by five watchers within 40 ms where its end can be seen.
pub(crate) fn timer(at: f64, close: CloseKind) -> Findings {
    let mut findings = nothing();
    let visible = !matches!(close, CloseKind::Silent | CloseKind::ResetOnSend);
    findings.idle_timeout = IdleTimeout {
        verdict: Verdict::Found,
        lower: seconds(at),
        upper: Some(seconds(at + 0.04)),
        close: Some(close),
        seen: visible.then(|| spread(5, at, at + 0.02, at + 0.04)),
        samples: 45,
        confirmed_alive: Tally { hits: 20, of: 20 },
        confirmed_dead: Tally { hits: 20, of: 20 },
        clusters: Vec::new(),
    };
    let watchers = (0..5).map(|nth| sample(Role::Watcher, None, at + 0.01 * f64::from(nth), Some(close)));
    let senders = [0.2, 0.5, 0.9]
        .map(|share| sample(Role::Sender, Some(at * share), at * share, None))
        .into_iter()
        .chain([1.1, 1.3].map(|share| sample(Role::Sender, Some(at * share), at * share, Some(close))));
    let confirmed = (0..40).map(|nth| {
        let (idle, close) = if nth < 20 { ((at - 0.5).max(0.0), None) } else { (at + 0.5, Some(close)) };
        sample(Role::Confirm, Some(idle), idle, close)
    });
    findings.raw = watchers.chain(senders).chain(confirmed).collect();
    findings
}

pub(crate) fn sample(role: Role, planned: Option<f64>, idle: f64, close: Option<CloseKind>) -> Sample {
    Sample {
        role,
        opened: seconds(0.1),
        planned_idle: planned.map(seconds),
        idle: seconds(idle),
        fate: if close.is_some() { Fate::Dead } else { Fate::Alive },
        close,
        status: close.is_none().then_some(200),
        answered_in: close.is_none().then(|| seconds(0.001)),
        said_close: false,
        requests: if close.is_some() { 1 } else { 2 },
        tcp: None,
    }
}

/// All alive at ten minutes.
pub(crate) fn longer() -> Findings {
    let mut findings = nothing();
    findings.idle_timeout.verdict = Verdict::Longer;
    findings.idle_timeout.lower = seconds(600.0);
    findings.idle_timeout.samples = 32;
    findings.idle_timeout.confirmed_alive = Tally { hits: 32, of: 32 };
    findings.raw = (0..32).map(|_| sample(Role::Sender, Some(600.0), 600.0, None)).collect();
    findings
}

/// Twelve connections ended at 5 s, twenty at 65 s.
pub(crate) fn several() -> Findings {
    let mut findings = nothing();
    findings.idle_timeout.verdict = Verdict::Several;
    findings.idle_timeout.lower = seconds(4.9);
    findings.idle_timeout.upper = Some(seconds(65.1));
    findings.idle_timeout.close = Some(CloseKind::Fin);
    findings.idle_timeout.samples = 32;
    findings.idle_timeout.clusters = vec![
        Cluster { at: spread(12, 5.0, 5.01, 5.02), close: CloseKind::Fin },
        Cluster { at: spread(20, 65.0, 65.0, 65.03), close: CloseKind::Fin },
    ];
    let at = |nth: u32| if nth < 12 { 5.0 } else { 65.0 };
    findings.raw = (0..32).map(|nth| sample(Role::Watcher, None, at(nth), Some(CloseKind::Fin))).collect();
    findings
}

/// Ends spread from nothing to 75 s.
pub(crate) fn unstable() -> Findings {
    let mut findings = timer(75.0, CloseKind::Fin);
    findings.idle_timeout.verdict = Verdict::Unstable;
    findings.idle_timeout.confirmed_alive = Tally { hits: 13, of: 20 };
    for (nth, sample) in findings.raw.iter_mut().enumerate() {
        sample.idle = seconds(1.7 * nth as f64);
    }
    findings
}

/// What `--layer` saw of a timer at `at`.
pub(crate) fn layer(verdict: LayerVerdict, at: f64) -> Layer {
    let packets = verdict == LayerVerdict::Packets;
    let held = |every: Option<f64>, ended: Option<f64>| Held {
        every: every.map(seconds),
        ended: ended.map(|at| spread(3, at, at, at + 0.02)),
        close: ended.map(|_| if packets { CloseKind::Silent } else { CloseKind::Fin }),
        watched: seconds(at * 2.0),
        samples: 3,
    };
    let probes_fail = verdict == LayerVerdict::Http;
    Layer {
        tcp_keepalive: held(Some((at / 3.0).floor()), probes_fail.then_some(at)),
        nothing: held(None, Some(at)),
        requests: held(Some(at / 2.0), None),
        verdict,
        peer_probes: false,
    }
}
