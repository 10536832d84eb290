//! Instructions of a run by whose they are: callgrind's, summed over the crates that they belong to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whose instructions they are, in the order of the table.
pub(crate) const OWNERS: [&str; 10] =
    ["hyper", "tokio", "http, bytes", "tls", "keeplive", "peers", "std", "copies", "malloc", "else"];

pub(crate) type Sums = BTreeMap<&'static str, u64>;

/// A run's instructions by their owner; `None` without valgrind.
pub(crate) fn of(words: &[String]) -> Option<Sums> {
    let folder = tempfile::tempdir().ok()?;
    let file = folder.path().join("callgrind.out");
    let status = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // A load tester may end with another code than 0, and has run all the same.
    status.ok().and_then(|_| sums(&file))
}

/// What the longer of two runs takes more, for each of the requests that it has more.
pub(crate) fn each(less: &Sums, more: &Sums, requests: u64) -> Sums {
    let of = |sums: &Sums, owner| sums.get(owner).copied().unwrap_or(0);
    OWNERS.map(|owner| (owner, of(more, owner).saturating_sub(of(less, owner)) / requests.max(1))).into()
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
    if function.contains("ring_core") {
        return "tls";
    }
    let name = function.strip_prefix("???:").unwrap_or(function).trim_start_matches(['<', '&']);
    match name.split("::").next().unwrap_or_default() {
        "hyper" => "hyper",
        "tokio" | "mio" => "tokio",
        "http" | "httparse" | "http_body" | "http_body_util" | "bytes" => "http, bytes",
        "rustls" | "tokio_rustls" | "ring" | "webpki" => "tls",
        "keeplive" => "keeplive",
        "hyper_util" | "reqwest" | "tower" | "tower_service" | "tower_http" | "futures_util"
        | "futures_channel" | "url" => "peers",
        "core" | "alloc" | "std" | "hashbrown" => "std",
        _ => "else",
    }
}

/// The table, a column for each client.
pub(crate) fn table(clients: &[&str], profiles: &[Option<Sums>]) -> String {
    let mut text = String::new();
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
    text + "\n"
}
