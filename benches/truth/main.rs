//! Holds load testers against a server whose truth is known: P1 to P5, M/D/1 under both arrivals, and what a connection
//! costs. The truth is the closed form at each instant of the schedule, begun when the server's log says that the first
//! counted request arrived; under drawn arrivals it is what the log says was held.
//!
//! The count passes within 0.1 % of what was scheduled (of what the server answered, where a tool sets its own pace), the
//! mean within 5 % or 0.5 ms of the true one. A quantile passes within 5 % or 0.5 ms of the true values at ranks q ± 0.1 %,
//! for who may count a thousandth more or less may rank as much: P2's p50 lies where the truth begins to climb, by twenty
//! milliseconds for each thousandth. Under Poisson arrivals the mean must also be that of M/D/1 by the closed form, give or
//! take what sampling makes of runs of that length. What a tool does not tell it has not passed.
//!
//! Below keeplive's own row stands what the server's log says of the same requests, from their arrival until they were
//! answered. The closed form is of a server that answers what a stall has gathered in no time; where the log shows that it
//! held requests for longer, up to that is right, too, and less than the closed form never is. A late sender is excused by
//! neither, but on new connections, of which the log counts from the accept on: that has what a client takes for its part
//! of a TLS handshake. (The schedules of the other tools are not known, so on kept connections they have the closed form alone; a
//! closed loop also saturates the server where it is fast.)
//!
//! It would catch: latencies that leave out the wait before a request could be sent, requests that are lost at the end,
//! "corrections" that invent samples, arrivals that are not what was asked for, and handshakes outside the clock.
//!
//! What a shared machine does to a request can only make it later. So who misses nothing but by less than 10 ms, and
//! upward, is run again, up to five times in all, and the best of his runs counts: no machine's luck hides a stall. A run
//! that keeplive itself refuses as INVALID, and is right otherwise, is run again, too. The matrix says which try it was.
//!
//! `cargo bench --bench truth` takes half an hour with wrk, wrk2, ab, h2load, hey and oha, and writes
//! results/DATE-COMMIT/truth.txt.
//! Names of cases (`P3`) or tools (`wrk`) choose among them; then it only prints.

#[allow(dead_code, reason = "the other benches need more of it")]
#[path = "../results.rs"]
mod results;

mod cases;
mod row;
mod score;
mod tools;

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use keeplive::measurement::Measurement;
use keeplive::server::{Behaviour, Profile, Running, Server, ServerTls};

use cases::{CASES, Case, Source, queue_mean};
use row::{Row, best};
use score::{QUANTILES, Score, Truth, matrix};
use tools::{Ask, OTHERS, Told, Tool};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keeplive");

/// Said in the file, too.
const RULE: &str = "\
A quantile passes within 5 % or 0.5 ms of the true values at ranks q +- 0.1 %, the mean within 5 % or 0.5 ms, the
count within 0.1 %; also what lies between that and the server's log, where its requests are known to be the same ones.
Who misses nothing but by less than 10 ms, and upward, may try again, five times in all; so may keeplive where it refuses
its own run, which is right otherwise.
\"told! of true\" is a miss, \"-\" is not told.";

const LEGEND: &str = "\
FAIL: what is wrong, and in brackets what is not told; n/a: the tool cannot do what the case asks, or got no request through.";

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
    let _ = writeln!(text, "{RULE}");
    print!("{text}");
    let others = others.iter().map(|(tool, _)| *tool).filter(|tool| !any_tool || named(tool.name));
    let others: Vec<&Tool> = others.collect();
    let keeplive_too = !any_tool || named("keeplive");
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| !any_case || named(case.name)) {
        let mut cells = Vec::new();
        let head = format!("\n{} {}\n", case.name, case.profiles.join(" "));
        print!("{head}");
        text += &head;
        let mut row = |Row { lines, cell, .. }: Row| {
            print!("{lines}");
            text += &lines;
            cells.push(cell);
        };
        if keeplive_too {
            row(best(|| keeplive(case)));
        }
        for tool in &others {
            row(best(|| other(case, tool)));
        }
        rows.push((case.name, cells));
    }
    let tools: Vec<&str> =
        keeplive_too.then_some("keeplive").into_iter().chain(others.iter().map(|tool| tool.name)).collect();
    let all = format!("\n{}{LEGEND}\n", matrix(&tools, &rows));
    print!("{all}");
    text += &all;
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

fn keeplive(case: &Case) -> Row {
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
        let lines = format!("  keeplive   FAIL no result ({status})\n    keeplive {line}\n");
        return Row { lines, cell: "FAIL".into(), misses: usize::MAX, near: false };
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
    let log = log(&server, scheduled);
    let truth = truth(case, &log, scheduled);
    let logged = logged(case, &log);
    // A run that the program itself refuses (exit code 4) is neither right nor wrong about the server.
    let is_refused = status.code() == Some(4);
    let refused = if is_refused { " (refused as INVALID)" } else { "" };
    let score = Score::of(&told, &truth, logged.as_ref(), mean(case), scheduled);
    let logged = logged.map_or(String::new(), |logged| by_the_log(&logged));
    let lag = |q| slot.lag.quantile(q).unwrap_or_default().as_secs_f64() * 1e6;
    if let Source::Lateness(most) = case.truth {
        let in_time = lag(0.99) <= most;
        let cell = if in_time { "PASS" } else { "FAIL" };
        let lines = format!(
            "  keeplive   {cell}  sent late by p50 {:.0} us, p99 {:.0} us of at most {most:.0}{refused}\n    keeplive {line}\n",
            lag(0.5),
            lag(0.99)
        );
        let misses = usize::from(!in_time) + usize::from(is_refused);
        let near = misses > 0 && lag(0.99) < most + 1e3 * score::MACHINE;
        return Row { lines, cell: cell.to_owned() + refused, misses, near };
    }
    let lines = format!(
        "  keeplive   {}{refused}\n{}    lag p50 {:.0} p99 {:.0} us\n    keeplive {line}{}\n",
        score.line(),
        logged,
        lag(0.5),
        lag(0.99),
        if status.success() { String::new() } else { format!(" ({status})") },
    );
    let misses = score.misses() + usize::from(is_refused);
    let near = score.is_near() || is_refused && score.passes();
    Row { lines, cell: score.cell() + refused, misses, near }
}

fn other(case: &Case, tool: &Tool) -> Row {
    let server = serving(case);
    let Case { rate, seconds, connections, keep_alive, .. } = *case;
    let url = server.url();
    if let Source::Lateness(_) = case.truth {
        return Row::not_asked(tool);
    }
    let Some(words) = (tool.words)(&Ask { url: &url, rate, seconds, connections, keep_alive }) else {
        return Row::not_asked(tool);
    };
    let output = Command::new(tool.name).args(&words).output().expect("it was there a moment ago");
    let told = (tool.parse)(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    if server.counts().requests == 0 {
        return Row::not_asked(tool);
    }
    // Where it sets its own pace the count that is true is the server's, and the latencies those of the case's schedule.
    let count = if tool.paced { rate * seconds } else { server.counts().requests };
    let log = log(&server, count);
    let truth = match case.truth {
        Source::Form(_) => truth(case, &[], rate * seconds),
        Source::Queue | Source::Lateness(_) => truth(case, &log, rate * seconds),
    };
    // What a new connection costs the server says in whatever order they come.
    let logged = (!keep_alive).then(|| logged(case, &log)).flatten();
    let score = Score::of(&told, &truth, logged.as_ref(), mean(case), count);
    let lines = format!("  {:<10} {}\n    {} {}\n", tool.name, score.line(), tool.name, words.join(" "));
    Row { lines, cell: score.cell(), misses: score.misses(), near: score.is_near() }
}

/// Where the mean must lie, if a closed form says so beside the log.
fn mean(case: &Case) -> Option<score::Span> {
    matches!(case.truth, Source::Queue).then(|| queue_mean(case.rate, case.seconds))
}

/// A request in the server's log, in ms since the server's first.
#[derive(Clone, Copy)]
struct Logged {
    arrival: f64,
    hold: f64,
    /// How long its connection had been accepted when it arrived.
    age: f64,
}

/// When the first of the counted requests was due: a request may come late, and never early.
fn begun(case: &Case, log: &[Logged]) -> f64 {
    let due = |(nth, logged): (usize, &Logged)| logged.arrival - nth as f64 * 1e3 / case.rate as f64;
    log.iter().enumerate().map(due).reduce(f64::min).unwrap_or(0.0)
}

/// The truth for `n` requests.
fn truth(case: &Case, log: &[Logged], n: u64) -> Truth {
    let begun = begun(case, log);
    Truth::of(match case.truth {
        Source::Form(form) => {
            (0..n).map(|nth| form(nth, begun + nth as f64 * 1e3 / case.rate as f64)).collect()
        }
        Source::Queue | Source::Lateness(_) => log.iter().map(|logged| logged.hold).collect(),
    })
}

/// How long the server held requests of an even schedule, as it saw it itself; from its accept on where each has a
/// connection of its own. A sender's lateness is not in it, except for what a client takes over its part of a handshake.
fn logged(case: &Case, log: &[Logged]) -> Option<Truth> {
    let held = |logged: &Logged| if case.keep_alive { logged.hold } else { logged.age + logged.hold };
    (!case.poisson && !log.is_empty()).then(|| Truth::of(log.iter().map(held).collect()))
}

fn by_the_log(logged: &Truth) -> String {
    let points = QUANTILES.map(|(name, q)| format!("  {name} {:.2}", logged.at(q))).concat();
    format!("    by the log {points}  mean {:.2}\n", logged.mean())
}

/// The last `n` requests of the server's log by their arrival: a warm-up may have gone before.
fn log(server: &Running, n: u64) -> Vec<Logged> {
    let mut log = whole_log(server);
    log.sort_by(|a, b| a.arrival.total_cmp(&b.arrival));
    log.split_off(log.len().saturating_sub(n as usize))
}

fn whole_log(server: &Running) -> Vec<Logged> {
    let text = server.log().expect("a server with a profile");
    let text = str::from_utf8(&text).expect("CSV is text");
    let entry = |line: &str| {
        let mut fields = line.split(',').map(|field| field.parse::<f64>().ok());
        let (arrival, hold, _, age) = (fields.next()??, fields.next()??, fields.next()??, fields.next()??);
        Some(Logged { arrival: arrival / 1e6, hold: hold / 1e6, age: age / 1e6 })
    };
    text.lines().skip(1).map(|line| entry(line).expect("four numbers")).collect()
}
