//! What a probe takes: wall clock against the timeout that it finds, and processor and memory for 1,000 watchers.
//!
//! `cargo bench --bench probe` writes `results/<date>-probe-cost.md` and prints it. It takes about six minutes;
//! `cargo bench --bench probe -- quick` leaves out the longest timeout and writes nothing.

#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use keeplive::TlsConfig;
use keeplive::findings::Findings;
use keeplive::load::Stop;
use keeplive::plan::Target;
use keeplive::probe::{self, ProbeLimits, ProbeTarget, Probing, Progress};
use keeplive::server::{Behaviour, Server};
use support::lost::goes_silent;
use support::now;
use support::scripted::Scripted;

/// Connections that watch at a time.
const WATCHERS: u32 = 1000;

/// For so long each.
const WATCHED: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().collect();
    // `cargo test --benches` asks every bench whether it starts; this one takes minutes.
    if words.iter().any(|word| word == "--test") {
        return ExitCode::SUCCESS;
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's own folder");
    if let Some(at) = words.iter().position(|word| word == "--hold") {
        return hold(words[at + 1].parse().expect("an address after --hold"));
    }
    let quick = words.iter().any(|word| word == "quick");
    let timeouts = if quick { &[2, 5][..] } else { &[2, 5, 20] };
    let mut text = String::from(
        "# What a probe takes\n\nMade by `cargo bench --bench probe`: the embedded server in the same process, loopback, the \
         probe's polite defaults (32 connections, 20 opened per second), without the count of requests.\n\n\
         | timeout | close | found after | confirmed after | times the timeout | bracket |\n|---|---|---|---|---|---|\n",
    );
    for &seconds in timeouts {
        let timeout = Duration::from_secs(seconds);
        visible(timeout, &mut text);
        silent(timeout, &mut text);
    }
    watchers(&mut text);
    println!("{text}");
    if quick {
        return ExitCode::SUCCESS;
    }
    let day = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().expect("there is a date");
    let day = String::from_utf8(day.stdout).expect("a date is text");
    let path = format!("results/{}-probe-cost.md", day.trim());
    std::fs::write(&path, text).expect("results/ can be written");
    println!("written to {path}");
    ExitCode::SUCCESS
}

fn probing(address: SocketAddr) -> Probing {
    let url = format!("http://{address}/");
    let target = Target { url, method: "GET".into(), headers: Vec::new(), body_len: 0, body: Vec::new() };
    let limits = ProbeLimits { requests: 0, ..ProbeLimits::default() };
    let target = ProbeTarget::Http(target);
    Probing { target, tls: TlsConfig::default(), resolve: Vec::new(), command: Vec::new(), limits }
}

/// A server that closes with a FIN.
fn visible(timeout: Duration, text: &mut String) {
    let server = Server::new(Behaviour::default().idle_timeout(timeout)).start().expect("a free port");
    let (findings, found) = run(probing(server.addr()));
    row(timeout, "FIN", &findings, found, text);
}

/// A server that drops in silence, which is what a middlebox does; without root.
fn silent(timeout: Duration, text: &mut String) {
    let peer = Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
            if conn.is_idle_for(timeout) {
                goes_silent(conn.tcp());
                return conn.until_closed();
            }
        }
    });
    let (findings, found) = run(probing(peer.addr()));
    row(timeout, "silence", &findings, found, text);
}

/// The findings, and when there was a first answer.
fn run(probing: Probing) -> (Findings, Option<Duration>) {
    let began = now();
    let mut found = None;
    let findings = probe::run(probing, &Stop::default(), &mut |progress| {
        if let Progress::Found { .. } | Progress::Bracketed { .. } = progress {
            found.get_or_insert_with(|| began.elapsed());
        }
    });
    (findings.unwrap_or_else(|refusal| panic!("{refusal}")), found)
}

fn row(timeout: Duration, close: &str, findings: &Findings, found: Option<Duration>, text: &mut String) {
    let idle = &findings.idle_timeout;
    let (took, times) = (findings.took.as_secs_f64(), findings.took.as_secs_f64() / timeout.as_secs_f64());
    let found = found.map_or_else(|| "-".into(), |found| format!("{:.2} s", found.as_secs_f64()));
    let upper = idle.upper.map_or_else(|| "-".into(), |upper| format!("{:.3}", upper.as_secs_f64()));
    writeln!(
        text,
        "| {} s | {close} | {found} | {took:.2} s | {times:.2} | {:?} {:.3}..{upper} s |",
        timeout.as_secs(),
        idle.verdict,
        idle.lower.as_secs_f64()
    )
    .expect("a String takes text");
}

/// A process of its own that does nothing but watch, so that its accounts are the watchers' alone.
fn watchers(text: &mut String) {
    let server = Server::new(Behaviour::default().idle_timeout(None)).start().expect("a free port");
    let this = std::env::current_exe().expect("this program has a path");
    let child = Command::new(this)
        .args(["--hold", &server.addr().to_string()])
        .stdout(Stdio::piped())
        .output()
        .expect("this program can be started");
    text.push_str(&String::from_utf8_lossy(&child.stdout));
}

/// Holds the watchers, and says what that took.
fn hold(address: SocketAddr) -> ExitCode {
    let mut probing = probing(address);
    probing.limits.connections = WATCHERS;
    probing.limits.connects_per_s = 2000;
    let before = (memory_kb(), cpu());
    let soaking = probe::Soaking { idle: WATCHED, rounds: 1 };
    let mut peak = 0;
    let mut steady: Option<(Duration, Instant)> = None;
    let mut last = (Duration::ZERO, now());
    let soak = probe::soak(probing, soaking, &Stop::default(), &mut |progress| {
        if let Progress::Holding { connections, longest } = progress {
            peak = peak.max(memory_kb());
            if connections == WATCHERS as usize && longest < WATCHED - Duration::from_secs(2) {
                steady.get_or_insert_with(|| (cpu(), now()));
                last = (cpu(), now());
            }
        }
    })
    .unwrap_or_else(|refusal| panic!("{refusal}"));
    let (cpu_then, then) = steady.expect("all were held at once");
    let share = (last.0 - cpu_then).as_secs_f64() / (last.1 - then).as_secs_f64() * 100.0;
    println!(
        "\n{} connections that were idle for {} s: {share:.2} % of one processor while they were (and {:.2} s in all, opening \
         and asking again included), {:.1} kB of memory each. {} of {} lived.",
        WATCHERS,
        WATCHED.as_secs(),
        (cpu() - before.1).as_secs_f64(),
        (peak.saturating_sub(before.0)) as f64 / f64::from(WATCHERS),
        soak.alive,
        soak.tried
    );
    ExitCode::SUCCESS
}

fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn cpu() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
