//! What a probe takes: wall clock against the timeout that it finds, for ends that are seen and ends that are not, and
//! processor and memory for 1,000 watchers.
//!
//! It would catch: a pass more than is needed, connections that wait for their turn while the timeout runs, and a
//! connection that costs more than its buffers.
//!
//! `cargo bench --bench probe` takes about four minutes, writes results/<date>-<commit>/ and the table between the
//! markers in results/README.md; `cargo bench --bench probe -- quick` takes one minute, prints and writes nothing.

#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

#[allow(dead_code, reason = "quick runs need less of it")]
#[path = "results.rs"]
mod results;

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
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

/// Timeouts that are looked for, in seconds; the cases run side by side, for almost all of it is waiting.
const TIMEOUTS: [u64; 3] = [2, 5, 20];

/// How often each is looked for, one after the other.
const REPEATS: usize = 3;

/// Connections that watch at a time.
const WATCHERS: u32 = 1000;

/// For so long each.
const WATCHED: Duration = Duration::from_secs(20);

/// How a server gives up idle connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Fin,
    Silence,
}

/// One probe of a timeout that is known.
struct Case {
    timeout: Duration,
    close: Close,
    findings: Findings,
    /// When there was a first answer.
    found: Option<Duration>,
}

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
    if words.iter().any(|word| word == "quick") {
        println!("{}", table(&[round()]));
        return ExitCode::SUCCESS;
    }
    let commit = results::commit();
    let folder = results::folder(&commit);
    let rounds: Vec<_> = (0..REPEATS).map(|_| round()).collect();
    let text = format!("{}{}", table(&rounds), watchers());
    println!("{text}");
    save(&folder, &rounds, &text);
    let told = format!(
        "`cargo bench --bench probe` at `{}`, {}, {}.\n\n{text}",
        &commit[..7],
        results::date(),
        results::machine()
    );
    results::write_block("results/README.md", "probe", &told);
    ExitCode::SUCCESS
}

/// Every case once, side by side.
fn round() -> Vec<Case> {
    std::thread::scope(|scope| {
        let cases = TIMEOUTS
            .into_iter()
            .flat_map(|seconds| [Close::Fin, Close::Silence].map(|close| (seconds, close)));
        let running: Vec<_> = cases
            .map(|(seconds, close)| scope.spawn(move || case(Duration::from_secs(seconds), close)))
            .collect();
        running.into_iter().map(|case| case.join().expect("a probe does not panic")).collect()
    })
}

fn case(timeout: Duration, close: Close) -> Case {
    let (findings, found) = match close {
        Close::Fin => visible(timeout),
        Close::Silence => silent(timeout),
    };
    Case { timeout, close, findings, found }
}

fn save(folder: &Path, rounds: &[Vec<Case>], text: &str) {
    std::fs::write(folder.join("probe.txt"), text).expect("results/ can be written");
    for case in &rounds[0] {
        let close = if case.close == Close::Fin { "fin" } else { "silence" };
        let name = format!("probe-{}s-{close}.json", case.timeout.as_secs());
        let json = serde_json::to_string_pretty(&case.findings).expect("findings are plain data");
        std::fs::write(folder.join(name), json).expect("results/ can be written");
    }
}

/// A row for each case; of several rounds the slowest, and what each said.
fn table(rounds: &[Vec<Case>]) -> String {
    let mut text = String::from(
        "Loopback, a server in the same process, all cases side by side, the probe's own defaults (32 connections, 20 \
         opened in a second) without the count of requests. Wall clock in seconds and in timeouts, of the slowest run:\n\n\
         | timeout | ends with | found after | confirmed after | of the timeout | bracket, each run |\n|---|---|---|---|---|---|\n",
    );
    for nth in 0..rounds[0].len() {
        row(&rounds.iter().map(|round| &round[nth]).collect::<Vec<_>>(), &mut text);
    }
    text
}

fn row(runs: &[&Case], text: &mut String) {
    let timeout = runs[0].timeout.as_secs_f64();
    let close = if runs[0].close == Close::Fin { "a FIN" } else { "silence" };
    let slowest = runs.iter().map(|run| run.findings.took).max().expect("there is a run").as_secs_f64();
    let found = runs.iter().filter_map(|run| run.found).max().unwrap_or_default().as_secs_f64();
    let brackets: Vec<_> = runs.iter().map(|run| bracket(&run.findings)).collect();
    writeln!(
        text,
        "| {timeout} s | {close} | {found:.2} s | {slowest:.2} s | {:.2} T | {} |",
        slowest / timeout,
        brackets.join("; ")
    )
    .expect("a String takes text");
}

fn bracket(findings: &Findings) -> String {
    let idle = &findings.idle_timeout;
    let upper = idle.upper.map_or_else(|| "-".into(), |upper| format!("{:.3}", upper.as_secs_f64()));
    format!("{:?} {:.3}–{upper} s", idle.verdict, idle.lower.as_secs_f64())
}

fn probing(address: SocketAddr) -> Probing {
    let url = format!("http://{address}/");
    let target = Target { url, method: "GET".into(), headers: Vec::new(), body_len: 0, body: Vec::new() };
    let limits = ProbeLimits { requests: 0, ..ProbeLimits::default() };
    let target = ProbeTarget::Http(target);
    Probing { target, tls: TlsConfig::default(), resolve: Vec::new(), command: Vec::new(), limits }
}

/// A server that closes with a FIN.
fn visible(timeout: Duration) -> (Findings, Option<Duration>) {
    let server = Server::new(Behaviour::default().idle_timeout(timeout)).start().expect("a free port");
    run(probing(server.addr()))
}

/// A server that drops in silence, which is what a middlebox does; without root.
fn silent(timeout: Duration) -> (Findings, Option<Duration>) {
    let peer = Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
            if conn.is_idle_for(timeout) {
                goes_silent(conn.tcp());
                return conn.until_closed();
            }
        }
    });
    run(probing(peer.addr()))
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

/// A process of its own that does nothing but watch, so that its accounts are the watchers' alone.
fn watchers() -> String {
    let server = Server::new(Behaviour::default().idle_timeout(None)).start().expect("a free port");
    let this = std::env::current_exe().expect("this program has a path");
    let child = Command::new(this)
        .args(["--hold", &server.addr().to_string()])
        .stdout(Stdio::piped())
        .output()
        .expect("this program can be started");
    String::from_utf8_lossy(&child.stdout).into_owned()
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
