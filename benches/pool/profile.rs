//! Where a request's instructions are: by callgrind, summed over the crates that they belong to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Whose instructions they are, in the order of the table.
const OWNERS: [&str; 9] =
    ["hyper", "tokio", "http, bytes", "keeplive", "peers", "std", "copies", "malloc", "else"];

/// Requests of the shorter and the longer visit: what the longer takes more is that many requests'.
const VISITS: [u64; 2] = [1_000, 3_000];

type Sums = BTreeMap<&'static str, u64>;

/// Instructions of a request by their owner, with so many connections; `None` without valgrind.
pub(crate) fn of(client: &str, loops: usize) -> Option<BTreeMap<&'static str, u64>> {
    let folder = tempfile::tempdir().ok()?;
    let [less, more] = VISITS.map(|requests| {
        let file = folder.path().join(requests.to_string());
        let output = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(std::env::current_exe().expect("this program's path"))
            .args(["visit", client, &loops.to_string(), &requests.to_string()])
            .output();
        output.ok().filter(|output| output.status.success()).and_then(|_| sums(&file))
    });
    let (less, more) = (less?, more?);
    let each = |owner: &'static str| {
        let of = |sums: &Sums| sums.get(owner).copied().unwrap_or(0);
        (owner, of(&more).saturating_sub(of(&less)) / (VISITS[1] - VISITS[0]))
    };
    Some(OWNERS.map(each).into())
}

fn sums(file: &Path) -> Option<Sums> {
    let output = Command::new("callgrind_annotate").arg("--threshold=100").arg(file).output().ok()?;
    let mut sums = Sums::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((instructions, function)) = row(line) {
            *sums.entry(owner(function)).or_default() += instructions;
        }
    }
    (!sums.is_empty()).then_some(sums)
}

/// `1,234 ( 5.67%)  file:function [object]`
fn row(line: &str) -> Option<(u64, &str)> {
    let (number, rest) = line.trim_start().split_once(" (")?;
    let (_, function) = rest.split_once("%)")?;
    let function = function.trim_start();
    let number = number.replace(',', "").parse().ok()?;
    (!function.starts_with("PROGRAM")).then_some((number, function))
}

fn owner(function: &str) -> &'static str {
    if function.contains("memmove") || function.contains("memcpy") || function.contains("memset") {
        return "copies";
    }
    if function.contains("malloc") || function.contains("free") && function.contains("arena") {
        return "malloc";
    }
    let name = function.strip_prefix("???:").unwrap_or(function).trim_start_matches(['<', '&']);
    match name.split("::").next().unwrap_or_default() {
        "hyper" => "hyper",
        "tokio" | "mio" => "tokio",
        "http" | "httparse" | "http_body" | "http_body_util" | "bytes" => "http, bytes",
        "keeplive" => "keeplive",
        "hyper_util" | "reqwest" | "tower" | "tower_service" | "tower_http" | "futures_util"
        | "futures_channel" | "url" => "peers",
        "core" | "alloc" | "std" | "hashbrown" => "std",
        _ => "else",
    }
}

/// The table, a column for each client.
pub(crate) fn table(clients: &[&str], profiles: &[Option<BTreeMap<&'static str, u64>>]) -> String {
    let mut text =
        String::from("instructions of a request in user space, by whose they are (callgrind, 50 conn.)\n\n");
    let _ = write!(text, "{:<12}", "");
    clients.iter().for_each(|client| text += &format!(" {client:>18}"));
    text.push('\n');
    let cell = |count: Option<u64>| count.map_or("no valgrind".to_owned(), |count| count.to_string());
    for owner in OWNERS {
        let _ = write!(text, "{owner:<12}");
        for profile in profiles {
            let _ = write!(text, " {:>18}", cell(profile.as_ref().map(|sums| sums[owner])));
        }
        text.push('\n');
    }
    let _ = write!(text, "{:<12}", "= all");
    for profile in profiles {
        let _ = write!(text, " {:>18}", cell(profile.as_ref().map(|sums| sums.values().sum())));
    }
    text + "\npeers: hyper-util, reqwest and what they stand on; copies: memcpy and the like; else: libc's system\n\
            calls and clocks, and the bench itself.\n"
}
