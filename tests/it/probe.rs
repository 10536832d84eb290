//! Facts about the probe, as a library, over real sockets: in-process peers whose truth is known, and real servers.

mod first;
mod hidden;
mod idle;
mod layer;
mod limits;
mod servers;
mod soaking;
mod tcp;
mod untrue;

use std::net::SocketAddr;
use std::time::Duration;

use keeplive::TlsConfig;
use keeplive::findings::{CaveatKind, CloseKind, Findings, IdleTimeout, Verdict};
use keeplive::load::Stop;
use keeplive::plan::Target;
use keeplive::probe::{self, ProbeLimits, ProbeTarget, Probing, Progress};

use crate::support::scripted::{Conn, Scripted};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What is probed, quicker than a guest would be: the servers are the test's own.
fn probing(url: impl Into<String>) -> Probing {
    let url = url.into();
    let target = if url.starts_with("tcp:") {
        ProbeTarget::Tcp { url, send: Vec::new(), expect: Vec::new() }
    } else {
        ProbeTarget::Http(Target {
            url,
            method: "GET".into(),
            headers: Vec::new(),
            body_len: 0,
            body: Vec::new(),
        })
    };
    let limits = ProbeLimits {
        max_idle: ms(8000),
        connections: 64,
        connects_per_s: 100,
        max_time: ms(3000),
        requests: 0,
        ..ProbeLimits::default()
    };
    Probing { target, tls: TlsConfig::default(), resolve: Vec::new(), command: Vec::new(), limits }
}

fn at(address: SocketAddr) -> Probing {
    probing(format!("http://{address}/"))
}

/// Runs until the machine, which others may be using too, let the probe be on time: four times at most.
fn run(probing: Probing) -> Findings {
    on_time(|| run_watched(probing.clone(), &mut |_| {}))
}

/// The same for a peer that has to be made anew.
fn on_time(run: impl Fn() -> Findings) -> Findings {
    let runs = (0..4).map(|_| run());
    let mut last = None;
    for findings in runs {
        if !tells(&findings, CaveatKind::Late) {
            return findings;
        }
        last = Some(findings);
    }
    last.unwrap()
}

fn run_watched(probing: Probing, watch: &mut dyn FnMut(Progress)) -> Findings {
    probe::run(probing, &Stop::default(), watch).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn tells(findings: &Findings, kind: CaveatKind) -> bool {
    findings.caveats.iter().any(|caveat| caveat.kind == kind)
}

/// The answer is one timer, closed so, and the bracket holds the truth and is no wider than 50 ms and what the
/// server's own clock adds.
fn brackets(findings: &Findings, truth: Duration, granularity: Duration, close: CloseKind) {
    let idle = &findings.idle_timeout;
    let told = brief(findings);
    assert_eq!(idle.verdict, Verdict::Found, "{told}");
    assert_eq!(idle.close, Some(close), "{told}");
    let upper = idle.upper.unwrap_or_else(|| panic!("a timer that was found has an upper bound: {told}"));
    assert!(idle.lower <= truth + granularity && truth <= upper + ms(1), "{truth:?} is not within: {told}");
    // A request must arrive in time, so that on our clock its limit is a round trip earlier.
    let round_trip = findings.round_trip.unwrap().max;
    assert!(
        idle.lower + round_trip + ms(50) >= truth && upper <= truth + granularity + ms(50),
        "{truth:?} is not close: {told}"
    );
}

fn brief(findings: &Findings) -> String {
    let IdleTimeout { verdict, lower, upper, close, seen, confirmed_alive, confirmed_dead, clusters, .. } =
        &findings.idle_timeout;
    let caveats: Vec<_> = findings.caveats.iter().map(|caveat| &caveat.text).collect();
    format!(
        "{verdict:?} {lower:?}..{upper:?} by {close:?}, seen {seen:?}, alive {confirmed_alive:?}, dead \
         {confirmed_dead:?}, clusters {clusters:?}, caveats {caveats:#?}, took {:?}, interrupted {}, {} samples",
        findings.took,
        findings.interrupted,
        findings.raw.len()
    )
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A peer that answers, and on every connection does this once nothing has come for `idle`.
fn after_idle(idle: Duration, deed: impl Fn(&mut Conn) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            if conn.is_idle_for(idle) {
                return deed(conn);
            }
        }
    })
}
