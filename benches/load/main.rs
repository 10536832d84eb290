//! What a request costs each load tester: processor time of its whole process, by the kernel's accounting, side by side
//! in one run with the raw-socket floor, and with hyper alone.
//!
//! nginx with one worker has the last processor, the client the first. Closed loop, 50 connections, 13 bytes of
//! body. Contenders take turns, in a new order every round; medians and
//! ranges over the rounds. Requests are counted by nginx (`stub_status`), for everyone alike.
//!
//! It would catch: work per request that does not belong there, in the pool or in the recorder; and memory that grows
//! with the number of requests.
//!
//! `cargo bench --bench load` takes about ten minutes with wrk, ab and h2load, writes results/DATE-COMMIT/load.txt and
//! the table between the markers in results/README.md. Words choose scenarios (`off`) or rounds (`rounds=2`); then it
//! only prints.

#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

#[path = "../results.rs"]
mod results;

#[path = "../callgrind.rs"]
mod callgrind;

#[allow(dead_code, reason = "the pool's bench needs more of it")]
#[path = "../pool/usage.rs"]
mod usage;

mod bare;
mod clients;
mod floor;
mod memory;
mod nginx;
mod profile;
mod tls;

use std::fmt::Write as _;
use std::fs;

use clients::{CLIENTS, Client, Ran};
use nginx::Nginx;

/// Repetitions of everything.
const ROUNDS: usize = 7;

/// Connections of everyone.
const CONNECTIONS: usize = 50;

/// What is asked of everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    On,
    Off,
    TlsOn,
    TlsOffFull,
    TlsOffResumed,
}

impl Scenario {
    const ALL: [Scenario; 5] =
        [Scenario::On, Scenario::Off, Scenario::TlsOn, Scenario::TlsOffFull, Scenario::TlsOffResumed];

    fn name(self) -> &'static str {
        match self {
            Scenario::On => "on",
            Scenario::Off => "off",
            Scenario::TlsOn => "tls-on",
            Scenario::TlsOffFull => "tls-off-full",
            Scenario::TlsOffResumed => "tls-off-resumed",
        }
    }

    fn named(name: &str) -> Scenario {
        Scenario::ALL.into_iter().find(|scenario| scenario.name() == name).expect("a scenario's name")
    }

    fn keeps(self) -> bool {
        matches!(self, Scenario::On | Scenario::TlsOn)
    }

    fn is_tls(self) -> bool {
        !matches!(self, Scenario::On | Scenario::Off)
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    // `cargo test --benches` asks every bench whether it starts; this one takes minutes.
    if words.iter().any(|word| word == "--test") {
        return;
    }
    if words.first().is_some_and(|word| word == "floor") {
        return floor::run(&words[1], Scenario::named(&words[2]));
    }
    if words.first().is_some_and(|word| word == "bare") {
        return bare::run(
            &words[1],
            Scenario::named(&words[2]),
            words[3].parse().expect("a number"),
            words[4].parse().expect("a number"),
        );
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's own folder");
    usage::allow_descriptors();
    let commit = words.is_empty().then(results::commit);
    let rounds = words.iter().find_map(|word| word.strip_prefix("rounds=")?.parse().ok()).unwrap_or(ROUNDS);
    let chosen: Vec<&String> = words.iter().filter(|word| !word.starts_with("rounds=")).collect();
    let is_wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| *word == name);
    let all = usage::processors();

    usage::pin_to_last();
    let nginx = Nginx::start();
    usage::pin(&all[..1]);
    let mut text = introduction(&nginx);
    print!("{text}");
    let mut say = |part: String| {
        print!("{part}");
        text += &part;
    };
    for scenario in Scenario::ALL.into_iter().filter(|scenario| is_wanted(scenario.name())) {
        say(table(scenario, &nginx, rounds));
    }
    if is_wanted("memory") {
        say(memory::table(&nginx));
    }
    if is_wanted("profile") {
        say(profile::table(&nginx));
    }
    drop(nginx);
    if is_wanted("two") {
        say(two_threads(&all, rounds));
    }
    if let Some(commit) = commit {
        let folder = results::folder(&commit);
        let head = format!(
            "Commit `{commit}`, {}, {}. Made by `cargo bench --bench load`.\n",
            results::date(),
            results::machine()
        );
        fs::write(folder.join("load.txt"), format!("{head}\n{text}")).expect("results/ can be written");
        results::write_block("results/README.md", "load", &format!("{head}\n```text\n{text}```\n"));
    }
}

fn introduction(nginx: &Nginx) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "load average at the start: {}", load_average());
    let _ = writeln!(text, "{}", nginx.version());
    for client in installed() {
        let _ = writeln!(text, "{}: {}", client.name, client.version().unwrap_or_default());
    }
    text
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn installed() -> Vec<&'static Client> {
    CLIENTS.iter().filter(|client| client.version().is_some()).collect()
}

/// Everyone who can do this, in turns.
fn table(scenario: Scenario, nginx: &Nginx, rounds: usize) -> String {
    let able: Vec<&Client> = installed().into_iter().filter(|client| client.can(scenario)).collect();
    let runs = in_turns(&able, rounds, |client| client.run(scenario, nginx, 1));
    let mut text = format!("\n{} ({rounds} rounds)\n", scenario.name());
    let _ = writeln!(
        text,
        "{:<16} {:>12} {:>19} {:>8} {:>10} {:>11} {:>9}",
        "", "CPU/request", "range", "floor x", "of kernel", "requests/s", "failed"
    );
    let floor = able
        .iter()
        .position(|client| client.name == "raw socket")
        .map(|nth| median(&runs[nth], |ran| ran.cpu_ns));
    for (client, runs) in able.iter().zip(&runs) {
        let cpu = |ran: &Ran| ran.cpu_ns;
        let (low, high) = range(runs, cpu);
        let ratio = floor.map_or("–".into(), |floor| format!("{:.2}", median(runs, cpu) / floor));
        let _ = writeln!(
            text,
            "{:<16} {:>9.2} µs {:>16} µs {ratio:>8} {:>7.2} µs {:>11.0} {:>9}",
            client.name,
            median(runs, cpu) / 1e3,
            format!("{:.2}–{:.2}", low / 1e3, high / 1e3),
            median(runs, |ran| ran.system_ns) / 1e3,
            median(runs, |ran| ran.per_s),
            runs.iter().map(|ran| ran.failed).sum::<u64>(),
        );
    }
    text
}

/// Lets everyone run in every round. Who begins changes, and every second round goes the other way, so that nobody is always
/// after the same.
fn in_turns(all: &[&Client], rounds: usize, run: impl Fn(&Client) -> Ran) -> Vec<Vec<Ran>> {
    let mut runs: Vec<Vec<Ran>> = vec![Vec::new(); all.len()];
    for round in 0..rounds {
        for turn in 0..all.len() {
            let nth = if round % 2 == 0 { turn } else { all.len() - 1 - turn };
            let nth = (nth + round) % all.len();
            runs[nth].push(run(all[nth]));
        }
    }
    runs
}

/// Two threads against a server of two workers, on all processors: what is lost by sharing.
fn two_threads(all: &[usize], rounds: usize) -> String {
    usage::pin(all);
    let nginx = Nginx::with_workers(2);
    let able: Vec<&Client> = installed().into_iter().filter(|client| client.has_threads()).collect();
    let mut text = format!(
        "\ntwo threads, nginx with two workers, {} processors for both ({rounds} rounds)\n",
        all.len()
    );
    let runs = in_turns(&able, rounds, |client| client.run(Scenario::On, &nginx, 2));
    for (client, runs) in able.iter().zip(&runs) {
        let (low, high) = range(runs, |ran| ran.per_s);
        let _ = writeln!(
            text,
            "{:<16} {:>9.0} requests/s ({low:.0}–{high:.0}), {:.2} µs/request",
            client.name,
            median(runs, |ran| ran.per_s),
            median(runs, |ran| ran.cpu_ns) / 1e3
        );
    }
    text
}

fn median(runs: &[Ran], of: impl Fn(&Ran) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn range(runs: &[Ran], of: impl Fn(&Ran) -> f64) -> (f64, f64) {
    runs.iter().map(of).fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(value), high.max(value)))
}
