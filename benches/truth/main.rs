//! Holds load testers against a server whose truth is known: P1 to P5, M/D/1 under both arrivals, and what a connection
//! costs. The truth is the closed form at each instant of the schedule, begun when the server's log says that the first
//! counted request arrived; under drawn arrivals it is what the log says was held.
//!
//! It would catch: latencies that leave out the wait before a request could be sent, requests that are lost at the end,
//! "corrections" that invent samples, arrivals that are not what was asked for, and handshakes outside the clock.
//!
//! `cargo bench --bench truth` takes about six minutes with wrk and ab, and writes results/DATE-COMMIT/truth.txt.
//! Names of cases (`P3`) or tools (`wrk`) choose among them; then it only prints.

#[allow(dead_code, reason = "the other benches need more of it")]
#[path = "../results.rs"]
mod results;

mod cases;
mod tools;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use keeplive::measurement::Measurement;
use keeplive::server::{Behaviour, Profile, Running, Server, ServerTls};

use cases::{CASES, Case, Source, Truth, counts, holds};
use tools::{Ask, OTHERS, Told};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keeplive");

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    // `cargo test --benches` asks every bench whether it starts; this one takes minutes.
    if wanted.iter().any(|word| word == "--test") {
        return;
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's own folder");
    let commit = wanted.is_empty().then(results::commit);
    let others: Vec<_> = OTHERS.iter().filter_map(|tool| Some((tool, tool.installed()?))).collect();
    let named = |name: &str| wanted.iter().any(|word| name.starts_with(word.as_str()));
    let any_case = CASES.iter().any(|case| named(case.name));
    let any_tool = named("keeplive") || others.iter().any(|(tool, _)| named(tool.name));

    let mut text = String::new();
    if let Some(commit) = &commit {
        let _ = writeln!(text, "commit {commit}, {}, {}", results::date(), results::machine());
    }
    for (tool, version) in &others {
        let _ = writeln!(text, "{}: {version}", tool.name);
    }
    print!("{text}");
    for case in CASES.iter().filter(|case| !any_case || named(case.name)) {
        let mut row = |line: String| {
            print!("{line}");
            text += &line;
        };
        row(format!("\n{} {}\n", case.name, case.profiles.join(" ")));
        if !any_tool || named("keeplive") {
            row(keeplive(case));
        }
        for (tool, _) in others.iter().filter(|(tool, _)| !any_tool || named(tool.name)) {
            row(other(case, tool));
        }
    }
    if let Some(commit) = commit {
        fs::write(results::folder(&commit).join("truth.txt"), text).expect("results/ can be written");
    }
}

fn serving(case: &Case) -> Running {
    let profiles = case.profiles.iter().map(|text| text.parse::<Profile>().expect("a profile"));
    let server = Server::new(profiles.fold(Behaviour::default(), Behaviour::profile));
    let server = if case.tls { server.tls(ServerTls::default()) } else { server };
    server.start().expect("a free port of the loopback")
}

fn keeplive(case: &Case) -> String {
    let server = serving(case);
    let folder = tempfile::tempdir().expect("a folder for the result");
    let arrivals = if case.poisson { "poisson" } else { "constant" };
    let keep_alive = if case.keep_alive { "on" } else { "off" };
    let line = format!(
        "load {} -k -r {} --arrivals {arrivals} -c {} -z {}s --keep-alive {keep_alive} -m 60s --seed 1",
        server.url(),
        case.rate,
        case.connections,
        case.seconds
    );
    let status = Command::new(PROGRAM)
        .args(line.split(' '))
        .arg("--out")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("keeplive starts");
    let file = fs::read_dir(folder.path()).expect("it is there").next();
    let Some(Ok(file)) = file else {
        return format!("  keeplive   FAIL no result ({status})\n    keeplive {line}\n");
    };
    let slot = Measurement::load(&file.path()).expect("a result").slots.swap_remove(0);
    let at = |q| slot.response.quantile(q).map(|duration| duration.as_secs_f64() * 1e3);
    let told = Told {
        count: Some(slot.response.len()),
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        mean: slot.response.mean().map(|duration| duration.as_secs_f64() * 1e3),
    };
    let scheduled = if case.poisson { slot.scheduled } else { case.rate * case.seconds };
    let truth = truth(case, &server, scheduled, true);
    let invalid = if status.success() { String::new() } else { format!(" ({status})") };
    // A run that the program itself refuses (exit code 4) is neither right nor wrong about the server.
    let name = if status.code() == Some(4) { "keeplive (refused as INVALID)" } else { "keeplive" };
    scored(name, &told, &truth, scheduled) + &format!("    keeplive {line}{invalid}\n")
}

fn other(case: &Case, tool: &tools::Tool) -> String {
    let server = serving(case);
    let url = server.url();
    let ask =
        Ask { url: &url, seconds: case.seconds, connections: case.connections, keep_alive: case.keep_alive };
    let words = (tool.words)(&ask);
    let output = Command::new(tool.name).args(&words).output().expect("it was there a moment ago");
    let told = (tool.parse)(&String::from_utf8_lossy(&output.stdout));
    // It sets its own pace: the count that is true is the server's, the latencies are those of the case's schedule.
    let answered = server.counts().requests;
    let truth = truth(case, &server, case.rate * case.seconds, false);
    scored(tool.name, &told, &truth, answered) + &format!("    {} {}\n", tool.name, words.join(" "))
}

/// The truth for `n` requests. Where a warm-up went before, the server's clock began with it, and the last `n` count.
fn truth(case: &Case, server: &Running, n: u64, warm: bool) -> Truth {
    let log = if case.tls { Vec::new() } else { log(server) };
    let counted = &log[log.len().saturating_sub(n as usize)..];
    let begun = if warm { counted.first().map_or(0.0, |first| first.0) } else { 0.0 };
    Truth::of(match case.truth {
        Source::Form(form) => {
            (0..n).map(|nth| form(nth, begun + nth as f64 * 1e3 / case.rate as f64)).collect()
        }
        Source::Log => counted.iter().map(|entry| entry.1).collect(),
    })
}

/// The server's log: arrival and hold of each request, in ms.
fn log(server: &Running) -> Vec<(f64, f64)> {
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    let head = "GET /__truth/log HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    let (_, body) = text.split_once("arrival_ns,hold_ns,connection").expect("CSV");
    let number = |field: Option<&str>| field.and_then(|field| field.parse::<f64>().ok());
    let entry = |line: &str| {
        let mut fields = line.trim().split(',');
        Some((number(fields.next())? / 1e6, number(fields.next())? / 1e6))
    };
    body.lines().filter_map(entry).collect()
}

fn scored(name: &str, told: &Told, truth: &Truth, count: u64) -> String {
    let points = [
        ("p50", told.p50, truth.p50),
        ("p90", told.p90, truth.p90),
        ("p95", told.p95, truth.p95),
        ("p99", told.p99, truth.p99),
        ("mean", told.mean, truth.mean),
    ];
    // What a tool does not print it does not get wrong, but it is not a pass either.
    let pass = points.iter().all(|(_, told, truth)| holds(*told, *truth)) && counts(told.count, count);
    let mut line = format!("  {name:<10} {}", if pass { "PASS" } else { "FAIL" });
    for (point, told, truth) in points {
        let mark = if holds(told, truth) { "" } else { "!" };
        let told = told.map_or("-".to_owned(), |told| format!("{told:.2}"));
        let _ = write!(line, "  {point} {told}{mark} of {truth:.2}");
    }
    let mark = if counts(told.count, count) { "" } else { "!" };
    let told = told.count.map_or("-".to_owned(), |told| told.to_string());
    let _ = writeln!(line, "  count {told}{mark} of {count}");
    line
}
