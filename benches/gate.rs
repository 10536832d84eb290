//! The gate's ledger: real sessions, as a CI job runs them, against servers of which the truth is known.
//!
//! - `aa`: nginx against nginx, the same binary in two processes, started afresh for each session. Whatever fails here is
//!   a false alarm; Clopper and Pearson's bound says how many there may be.
//! - `p50`: the embedded server that waits 5 ms against one that waits 5 % longer.
//! - `tail`: one in fifty requests takes 10 ms against 11 ms; the median is the same.
//!
//! It would catch: a gate that cries wolf, and one that sleeps.
//!
//! `cargo bench --bench gate` runs all three on a quiet machine (about nine and six minutes), and writes
//! results/<date>-<commit>/gate-*.jsonl and the block in results/README.md; `-- aa 300` runs one part so many times and
//! only prints; `-- readme` writes the example in README.md, which the whole run does too; `-- quick` runs two sessions of each part and only prints. It needs nginx.

#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

#[allow(dead_code, reason = "other benches need more of it")]
#[path = "results.rs"]
mod results;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use keeplive::gate::ledger::upper_bound;
use results::{commit, date, machine, write_block};
use serde_json::{Value, json};
use support::nginx::Nginx;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keeplive");

/// What every session has in common: seven seconds at most, of a load that two processors carry easily.
const COMMON: [&str; 8] = ["--washout", "20ms", "--budget", "7s", "--rate", "2000", "-c", "8"];

/// A kind of session.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    /// What is true of the head.
    truth: &'static str,
    /// How often it is run.
    sessions: u32,
    /// Words beside [`COMMON`].
    words: &'static [&'static str],
    /// The profiles of base and head; without, both are nginx.
    profiles: Option<[&'static str; 2]>,
}

const PARTS: [Part; 3] = [
    Part {
        name: "aa",
        truth: "nginx against itself",
        sessions: 60,
        words: &["--slot", "80ms", "--metric", "p50", "--metric", "errors", "--metric", "reuse"],
        profiles: None,
    },
    Part {
        name: "p50",
        truth: "every response 5 % later (5 ms, 5.25 ms)",
        sessions: 20,
        words: &["--slot", "80ms", "--metric", "p50"],
        profiles: Some(["const:5ms", "const:5250us"]),
    },
    Part {
        name: "tail",
        truth: "one in fifty 10 % later (10 ms, 11 ms), the median the same",
        sessions: 20,
        words: &["--slot", "150ms", "--metric", "p50", "--metric", "p99", "--thin-tails"],
        profiles: Some(["kth:50,1ms,10ms", "kth:50,1ms,11ms"]),
    },
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    // `cargo test --benches` asks every bench whether it starts; this one takes minutes.
    if words.iter().any(|word| word == "--test") {
        return;
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's own folder");
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => whole(),
        ["readme"] => readme(),
        ["quick"] => PARTS.iter().for_each(|part| println!("{}", told(part, &run(part, 2)))),
        [name] => one(name, None),
        [name, sessions] => one(name, Some(sessions.parse().expect("a number of sessions"))),
        _ => panic!("nothing, quick, readme, or aa, p50 or tail with a number of sessions"),
    }
}

fn one(name: &str, sessions: Option<u32>) {
    let part = PARTS.iter().find(|part| part.name == name).expect("aa, p50 or tail");
    println!("{}", told(part, &run(part, sessions.unwrap_or(part.sessions))));
}

fn whole() {
    let commit = commit();
    let folder = results::folder(&commit);
    let mut rows = String::new();
    for part in &PARTS {
        let ledger = run(part, part.sessions);
        let lines: String = ledger.iter().map(|session| format!("{session}\n")).collect();
        fs::write(folder.join(format!("gate-{}.jsonl", part.name)), lines).expect("results/ can be written");
        rows += &format!("{}\n", told(part, &ledger));
    }
    let files = folder.strip_prefix("results").expect("it is in there").display().to_string();
    let block = format!(
        "Commit `{commit}`, {}, {}. Made by `cargo bench --bench gate`; every session stands in `{files}/gate-*.jsonl`.\n\n\
         | head | sessions | regressed | pass | inconclusive | invalid | of the valid ones regressed |\n\
         |---|---:|---:|---:|---:|---:|---|\n{rows}",
        date(),
        machine(),
    );
    write_block("results/README.md", "gate", &block);
    readme();
}

/// The example in README.md: a head that is a fifth slower, as a user would gate it.
fn readme() {
    let serve = |profile: &str| format!("keeplive serve --listen 127.0.0.1:{{port}} --profile {profile}");
    let [base, head] = ["const:5ms", "const:6ms"].map(serve);
    let folder = std::path::Path::new(PROGRAM).parent().expect("a program lies in a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let words = ["gate", "--rate", "200", "--no-save", "--base-cmd", &base, "--head-cmd", &head];
    let output = Command::new(PROGRAM).args(words).env("PATH", path).stderr(Stdio::inherit()).output();
    let output = output.expect("keeplive starts");
    assert_eq!(output.status.code(), Some(1), "a fifth is a regression");
    let report = String::from_utf8(output.stdout).expect("a report is text");
    let command =
        format!("keeplive gate --rate 200 --no-save \\\n    --base-cmd '{base}' \\\n    --head-cmd '{head}'");
    write_block("README.md", "gate", &format!("```text\n$ {command}\n{report}```\n"));
}

/// Runs a part's sessions one after the other.
fn run(part: &Part, sessions: u32) -> Vec<Value> {
    (1..=sessions)
        .map(|nth| {
            let session = match part.profiles {
                None => against_nginx(part, nth),
                Some(profiles) => against_profiles(part, nth, profiles),
            };
            eprintln!("{} {nth} of {sessions}: {}", part.name, session["headline"]);
            session
        })
        .collect()
}

fn against_nginx(part: &Part, nth: u32) -> Value {
    let servers = [Nginx::new().start(), Nginx::new().start()];
    let [base, head] = servers.each_ref().map(|server| format!("http://{}/", server.addr()));
    session(part, nth, &["--base", &base, "--head", &head])
}

fn against_profiles(part: &Part, nth: u32, profiles: [&str; 2]) -> Value {
    let serve = |profile| format!("exec {PROGRAM} serve --listen 127.0.0.1:{{port}} --profile {profile}");
    let [base, head] = profiles.map(serve);
    session(part, nth, &["--base-cmd", &base, "--head-cmd", &head, "--restart-every", "0"])
}

/// One session, and what the ledger keeps of it.
fn session(part: &Part, nth: u32, servers: &[&str]) -> Value {
    let seed = nth.to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["gate", "--no-save", "--format", "json", "--seed", &seed]).args(servers);
    command.args(COMMON).args(part.words).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().expect("keeplive starts");
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 1 | 3 | 4)),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let gate: Value = serde_json::from_slice(&output.stdout).expect("a gate");
    json!({
        "started": gate["measurement"]["started"], "seed": nth, "code": code, "verdict": gate["verdict"],
        "rounds": gate["method"]["rounds"], "headline": gate["headline"], "findings": gate["findings"],
    })
}

/// A row of the table: how often which verdict was given, and what that proves.
fn told(part: &Part, ledger: &[Value]) -> String {
    let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
    for session in ledger {
        *verdicts.entry(session["verdict"].as_str().expect("a verdict")).or_default() += 1;
    }
    let of = |verdict: &str| verdicts.get(verdict).copied().unwrap_or(0);
    let (regressed, valid) = (of("REGRESSED"), ledger.len() as u32 - of("INVALID"));
    let proves = match (part.profiles, valid) {
        (_, 0) => "–".into(),
        (None, _) => format!("below {:.1} % (95 % confidence)", upper_bound(regressed, valid) * 100.0),
        (Some(_), _) => format!("{:.0} %", f64::from(regressed) / f64::from(valid) * 100.0),
    };
    format!(
        "| {} | {} | {regressed} | {} | {} | {} | {proves} |",
        part.truth,
        ledger.len(),
        of("PASS"),
        of("INCONCLUSIVE"),
        of("INVALID"),
    )
}
