//! What the pool costs: processor time, instructions, allocations and memory, beside bare hyper and beside its peers.
//!
//! It would catch: a request that costs more than bare hyper by what a pool need not cost, a lock that tasks queue at,
//! and a connection that grows.
//!
//! `cargo bench --bench pool` takes about four minutes and writes results/DATE-COMMIT/pool.{txt,json} and the block in
//! results/README.md; with names of parts (`on`, `off`, `workers`, `checkout`, `above`, `instructions`, `profile`, `memory`) it makes only
//! those, from any tree, and only prints. `visit NAME LOOPS REQUESTS [ORIGINS]` makes one visit, for a profiler.
//!
//! # Method
//!
//! - The other side is a process of its own on the last processor and answers a fixed response; the client stands on
//!   the first. What is compared is the client's processor time by the kernel's accounting, not time on the wall.
//! - All contenders are visited in every round, each round beginning with another one, and a ratio is between two
//!   visits of one round: what disturbs the machine for longer than a round disturbs all alike. Shown are the median of
//!   the rounds and the lowest and highest.
//! - Instructions are counted by callgrind, in user space only, and do not depend on what else runs.

#![allow(unsafe_code, reason = "an allocator that counts")]

#[path = "../callgrind.rs"]
mod callgrind;
mod checkout;
mod contenders;
mod echo;
mod memory;
mod profile;
#[path = "../results.rs"]
mod results;
mod tables;
mod usage;
mod visit;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use checkout::Traffic;
use contenders::To;
use echo::Echo;
use tables::{Table, rounds};
use visit::{ALL, BY_TURNS, FLOOR, INLINE, LEASED, LEGACY, REQWEST, Row, SEND_TO, SPAWNED, Setting};

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;

/// How often every contender is visited.
const ROUNDS: usize = 11;

type Make = fn(&Echo) -> Part;

/// What can be asked for.
const PARTS: [(&str, Make); 8] = [
    ("on", on),
    ("off", off),
    ("workers", workers),
    ("checkout", checkouts),
    ("above", above),
    ("instructions", instructions),
    ("profile", where_they_are),
    ("memory", memory),
];

/// What a part found.
struct Part {
    text: String,
    data: serde_json::Value,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // `cargo test --benches` asks every bench whether it starts; this one takes minutes.
        [.., "--test"] | ["--test", ..] => {}
        [echo::ROLE] => echo::serve(),
        ["visit", name, loops, requests] => visit_once(name, loops, requests, "1"),
        ["visit", name, loops, requests, origins] => visit_once(name, loops, requests, origins),
        ["weigh", client, stay] => memory::weigh_one(client, stay),
        [] => write_all(),
        _ => {
            let wanted = |name: &str| words.contains(&name);
            let unknown = words.iter().find(|word| !PARTS.iter().any(|(name, _)| name == *word));
            assert!(unknown.is_none(), "no part is called {unknown:?}");
            for (name, part) in make(wanted) {
                println!("== {name}\n\n{}", part.text);
            }
        }
    }
}

fn write_all() {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's own folder");
    let commit = results::commit();
    let folder = results::folder(&commit);
    let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned();
    let (machine, date, before) = (results::machine(), results::date(), load());
    let parts = make(|_| true);
    let mut text = format!(
        "cargo bench --bench pool\ncommit {commit}\n{date}, {machine}\nload average before: {before}; after: {}\n",
        load()
    );
    for (_, part) in &parts {
        let _ = write!(text, "\n{}", part.text);
    }
    let data: serde_json::Map<_, _> =
        parts.into_iter().map(|(name, part)| (name.to_owned(), part.data)).collect();
    let json = serde_json::json!({
        "command": "cargo bench --bench pool", "commit": commit, "date": date, "machine": machine, "parts": data,
    });
    fs::write(folder.join("pool.txt"), &text).expect("results/ can be written");
    let json = serde_json::to_string_pretty(&json).expect("numbers and names");
    fs::write(folder.join("pool.json"), json + "\n").expect("results/ can be written");
    let link = folder.strip_prefix("results").expect("it is in there").display().to_string();
    let block = format!("```text\n{text}```\n\n[text]({link}/pool.txt) · [data]({link}/pool.json)\n");
    results::write_block("results/README.md", "pool", &block);
    print!("{text}");
}

fn make(wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, Part)> {
    usage::allow_descriptors();
    let all = usage::processors();
    let echo = Echo::start();
    let mut made = Vec::new();
    for (name, part) in PARTS.into_iter().filter(|(name, _)| wanted(name)) {
        eprintln!("-- {name}");
        // Threads that a part starts inherit where it runs.
        let several = matches!(name, "workers" | "checkout");
        usage::pin(if several { &all } else { &all[..1] });
        made.push((name, part(&echo)));
    }
    made
}

fn setting(echo: &Echo, loops: usize, requests: usize, workers: usize) -> Setting {
    Setting { to: To { addr: echo.keeps, keep: true, loops, origins: 1 }, requests, workers }
}

/// Contenders in one setting, side by side.
fn side_by_side(title: String, rows: &[Row], against: Row, setting: Setting) -> Table {
    let visits: Vec<_> = rows.iter().map(|row| (row.name, move || (row.visit)(&setting))).collect();
    rounds(title, "µs", 1e-3, ROUNDS, against.name, visits)
}

fn part(tables: Vec<Table>) -> Part {
    let text = tables.iter().map(Table::to_string).collect::<Vec<_>>().join("\n");
    Part { text, data: serde_json::to_value(tables).expect("numbers and names") }
}

/// Requests on connections that are kept.
fn on(echo: &Echo) -> Part {
    part(vec![
        side_by_side(title(1, "current-thread"), &ALL, INLINE, setting(echo, 1, 3_000, 0)),
        side_by_side(title(50, "current-thread"), &ALL, INLINE, setting(echo, 50, 10_000, 0)),
        side_by_side(title(50, "current-thread, awake server"), &ALL, INLINE, awake(echo, 50, 10_000)),
    ])
}

/// The server does not fall asleep between two requests. Else whoever sends pays for waking it, the more often the slower
/// it sends, and a faster client shows a larger gain than its own.
fn awake(echo: &Echo, loops: usize, requests: usize) -> Setting {
    let setting = setting(echo, loops, requests, 0);
    Setting { to: To { addr: echo.awake, ..setting.to }, ..setting }
}

/// The same on a runtime of two workers.
fn workers(echo: &Echo) -> Part {
    part(vec![
        side_by_side(title(1, "two workers"), &ALL, INLINE, setting(echo, 1, 3_000, 2)),
        side_by_side(title(50, "two workers"), &ALL, INLINE, setting(echo, 50, 10_000, 2)),
    ])
}

fn title(loops: usize, runtime: &str) -> String {
    format!("client processor time per request: keep-alive, {}, {runtime}", several(loops, "connection"))
}

/// A new connection for every request.
fn off(echo: &Echo) -> Part {
    let to = To { addr: echo.closes, keep: false, loops: 1, origins: 1 };
    let rows = [FLOOR, SPAWNED, INLINE, SEND_TO, LEGACY];
    let title =
        "client processor time per request: Connection: close, one after another, current-thread".to_owned();
    let table = side_by_side(title, &rows, INLINE, Setting { to, requests: 500, workers: 0 });
    let mut part = part(vec![table]);
    part.text += "hyper-util legacy keeps nothing here (max_idle_per_host 0), and the header is ours: by itself it\n\
                  does not say Connection: close.\n";
    part
}

/// The pool's own arithmetic, without I/O.
fn checkouts(echo: &Echo) -> Part {
    let mut visits: Vec<(String, Box<dyn Fn() -> usage::Cpu>)> = Vec::new();
    for workers in [0, 2] {
        for origins in [1, 1_000] {
            for tasks in [1, 4, 16] {
                let runtime = if workers == 0 { "current-thread" } else { "2 workers" };
                let name = format!("{runtime}, {tasks} tasks, {origins} origins");
                let traffic = Traffic { tasks, origins, workers };
                visits.push((name, Box::new(move || checkout::visit(echo, traffic))));
            }
        }
    }
    let first = visits[0].0.clone();
    let visits: Vec<_> = visits.iter().map(|(name, visit)| (name.as_str(), visit)).collect();
    let title = "processor time of a lease and its discard, nothing sent".to_owned();
    let leases = rounds(title, "ns", 1.0, 7, &first, visits);
    let title = "processor time of the look at an idle socket (recv, MSG_PEEK), once a reuse".to_owned();
    let looks = rounds(title, "ns", 1.0, ROUNDS, "one look", vec![("one look", || checkout::look(echo))]);
    let mut part = part(vec![leases, looks]);
    part.text += "Neither hyper-util's legacy Client nor reqwest can be asked for a connection without a request: what\n\
                  theirs cost stands below, as what a request costs beyond one of bare hyper.\n";
    part
}

/// What checkout, return and all else around a request costs, the peers' too: whole requests, less those of bare hyper.
fn above(echo: &Echo) -> Part {
    let settings = [(1, 1), (4, 1), (16, 1), (1, 1_000), (4, 1_000), (16, 1_000)];
    let contenders = |origins| {
        let bare = if origins == 1 { INLINE } else { BY_TURNS };
        [bare, SEND_TO, LEASED, LEGACY, REQWEST]
    };
    let tables: Vec<Table> = settings
        .iter()
        .map(|&(loops, origins)| {
            let rows = contenders(origins);
            let title = format!(
                "client processor time per request: {}, {}, current-thread, awake server",
                several(loops, "task"),
                several(origins, "origin")
            );
            let setting = awake(echo, loops, 4_000);
            let setting = Setting { to: To { origins, ..setting.to }, ..setting };
            side_by_side(title, &rows, rows[0], setting)
        })
        .collect();
    let mut part = part(tables);
    let mut text = String::from(
        "\ninstructions per request beyond those of bare hyper, which has its connection at hand\n\n",
    );
    let _ = write!(text, "{:<22}", "");
    for (loops, origins) in settings {
        let _ = write!(text, " {:>9}", format!("{loops} x {origins}"));
    }
    text.push_str("   (tasks x origins)\n");
    let bare = settings.map(|(loops, origins)| instructions_of(contenders(origins)[0], loops, origins));
    let mut beyond = serde_json::Map::new();
    for row in &contenders(1)[1..] {
        let _ = write!(text, "{:<22}", row.name);
        let counts: Vec<Option<i64>> = settings
            .iter()
            .zip(bare)
            .map(|(&(loops, origins), bare)| {
                Some(instructions_of(*row, loops, origins)?.cast_signed() - bare?.cast_signed())
            })
            .collect();
        for count in &counts {
            let _ = write!(text, " {:>9}", count.map_or("-".to_owned(), |count| count.to_string()));
        }
        text.push('\n');
        beyond.insert(row.name.to_owned(), serde_json::json!(counts));
    }
    part.text += &text;
    part.data = serde_json::json!({ "time": part.data, "settings": settings, "instructions": beyond });
    part
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Instructions in user space per request, and allocations.
fn instructions(echo: &Echo) -> Part {
    let mut text = String::from("per request: keep-alive, current-thread\n\n");
    let _ = writeln!(text, "{:<22} {:>12} {:>12} {:>12} {:>12}", "", "instructions", "instructions", "", "");
    let _ = writeln!(
        text,
        "{:<22} {:>12} {:>12} {:>12} {:>12}",
        "", "1 conn.", "50 conn.", "allocations", "bytes"
    );
    let mut data = Vec::new();
    for row in ALL {
        let [one, fifty] = [1, 50].map(|loops| instructions_of(row, loops, 1));
        let (allocations, bytes) = (row.allocations)(&setting(echo, 1, 1_000, 0));
        let shown = |count: Option<u64>| count.map_or("no valgrind".to_owned(), |count| count.to_string());
        let _ = writeln!(
            text,
            "{:<22} {:>12} {:>12} {allocations:>12.1} {bytes:>12.0}",
            row.name,
            shown(one),
            shown(fifty)
        );
        data.push(serde_json::json!({
            "client": row.name, "instructions_1": one, "instructions_50": fifty,
            "allocations": allocations, "bytes": bytes,
        }));
    }
    Part { text, data: data.into() }
}

/// Where the instructions are.
fn where_they_are(_: &Echo) -> Part {
    let clients = ["hyper, inline", "hyper-util legacy", "keeplive lease", "keeplive send_to"];
    let profiles = clients.map(|client| profile::of(client, 50));
    let data = clients.iter().zip(&profiles);
    let data: serde_json::Map<_, _> =
        data.map(|(client, profile)| ((*client).to_owned(), serde_json::json!(profile))).collect();
    Part { text: profile::table(&clients, &profiles), data: data.into() }
}

/// By callgrind: what a longer visit takes more than a shorter one, so that starting and warming up cancel out.
fn instructions_of(row: Row, loops: usize, origins: usize) -> Option<u64> {
    let (short, long) = (1_000, 3_000);
    let [less, more] = [short, long].map(|requests| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().expect("this program's path"))
            .args(["visit", row.name, &loops.to_string(), &requests.to_string(), &origins.to_string()])
            .output()
            .ok()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let line = told.lines().find_map(|line| line.split_once("Collected : "))?;
        line.1.trim().parse::<u64>().ok()
    });
    Some(more?.saturating_sub(less?) / (long - short))
}

/// One visit, alone.
fn visit_once(name: &str, loops: &str, requests: &str, origins: &str) {
    let row = ALL.into_iter().chain([BY_TURNS]).find(|row| row.name == name);
    let row = row.unwrap_or_else(|| panic!("nobody is called {name}: {:?}", ALL.map(|row| row.name)));
    let (loops, requests) = (loops.parse().expect("loops"), requests.parse().expect("requests"));
    let echo = Echo::start();
    usage::pin_to_first();
    let setting = awake(&echo, loops, requests);
    let to = To { origins: origins.parse().expect("origins"), ..setting.to };
    let used = (row.visit)(&Setting { to, ..setting });
    println!("{:.2} µs of processor time per request", used.total / 1e3);
}

/// What a connection holds.
fn memory(_: &Echo) -> Part {
    let rows = memory::per_connection();
    let mut text = String::from("bytes per connection in our process: on the heap, resident\n\n");
    let _ = writeln!(text, "{:<22} {:>16} {:>16} {:>16}", "", "idle", "after 4 s", "busy");
    for row in &rows {
        let _ = write!(text, "{:<22}", row.client);
        for held in [row.idle, row.rested, row.busy] {
            let _ = write!(text, " {:>8.0}{:>8.0}", held.heap, held.resident);
        }
        text.push('\n');
    }
    let kernel = memory::kernel_socket();
    let socket = kernel.map_or("not told here".to_owned(), |bytes| format!("{bytes} bytes"));
    let _ = writeln!(
        text,
        "Idle: after one exchange. After 4 s: idle still; keeplive's connections sleep then. What they gave up is free on\n\
         the heap; here the allocator was asked to give its pages back, for every client. Busy: the request is written\n\
         and not answered, with the task that waits for it.\n\
         The kernel's TCP socket (/proc/slabinfo) comes on top: {socket}, without its file and its queues."
    );
    Part { text, data: serde_json::json!({ "connections": rows, "kernel_socket": kernel }) }
}
