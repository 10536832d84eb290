//! Whole comparisons, as a user runs them: the embedded server, nginx plain and over TLS on loopback, and nginx behind
//! a link of 20 ms. Writes results/<date>/ and the tables between the markers in results/README.md and README.md.
//!
//! It would catch: a saving that is no longer a whole number of round trips over the link, and any change of what a
//! handshake costs on loopback.
//!
//! `cargo bench --bench comparisons` takes about five minutes, needs nginx, and root for the link.

#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

#[path = "results.rs"]
mod results;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use results::{commit, date, machine, write_block};
use support::certificate::{Tls, Version};
use support::link::Link;
use support::nginx::Nginx;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keeplive");

/// One comparison: its name, and what was printed.
struct Shown {
    name: &'static str,
    command: String,
    report: String,
}

fn main() {
    // `cargo test --benches` asks every bench whether it starts; this one takes minutes.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's own folder");
    let commit = commit();
    let folder = results::folder(&commit);
    let shown = [
        embedded(&folder),
        nginx(&folder, "nginx-plain", None, None),
        nginx(&folder, "nginx-tls13", Some(Version::Tls13), None),
        over_link(&folder, "link-20ms-plain", None),
        over_link(&folder, "link-20ms-tls13", Some(Version::Tls13)),
        over_link(&folder, "link-20ms-tls12", Some(Version::Tls12)),
    ];
    write_block("README.md", "output", &fenced(&format!("$ {}\n\n{}", shown[0].command, shown[0].report)));
    write_block("results/README.md", "results", &story(&shown, &commit, &folder));
}

fn embedded(folder: &Path) -> Shown {
    show(folder, "embedded", Command::new(PROGRAM), &[])
}

fn nginx(folder: &Path, name: &'static str, tls: Option<Version>, link: Option<&Link>) -> Shown {
    let mut nginx = Nginx::new();
    if let Some(version) = tls {
        nginx = nginx.tls(Tls { version, resumption: true });
    }
    if let Some(link) = link {
        nginx = nginx.at(link);
    }
    let nginx = nginx.start();
    let url = format!("{}://{}/", if tls.is_some() { "https" } else { "http" }, nginx.addr());
    let command = link.map_or_else(|| Command::new(PROGRAM), |link| link.client_command(PROGRAM));
    show(folder, name, command, &["-k", &url])
}

fn over_link(folder: &Path, name: &'static str, tls: Option<Version>) -> Shown {
    let link = Link::new(Duration::from_millis(20)).expect("root and /dev/net/tun");
    nginx(folder, name, tls, Some(&link))
}

/// Runs `compare`, gives its result file the comparison's name, and keeps what was printed beside it.
fn show(folder: &Path, name: &'static str, mut command: Command, words: &[&str]) -> Shown {
    eprintln!("-- {name}");
    // Relative, as a user would write it: the command is saved in the result.
    let out = folder.join(name);
    command.args(["compare", "--seed", "1"]).args(words).arg("--out").arg(&out);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("keeplive starts");
    let report = String::from_utf8(output.stdout).expect("a report is text");
    assert!(output.status.success(), "{name}: {}\n{report}", output.status);
    let saved = fs::read_dir(&out).expect("a result was saved").next().expect("a result was saved");
    fs::rename(saved.expect("a result was saved").path(), folder.join(format!("{name}.json")))
        .expect("renamed");
    fs::remove_dir(&out).expect("it is empty");
    fs::write(folder.join(format!("{name}.txt")), &report).expect("results/ can be written");
    let command = format!("keeplive compare --seed 1 {}", words.join(" "));
    Shown { name, command: command.trim_end().to_owned(), report }
}

/// One section per comparison: its command, its first sentence, and the files.
fn story(shown: &[Shown], commit: &str, folder: &Path) -> String {
    let folder = folder.strip_prefix("results").expect("it is in there").display().to_string();
    let mut text =
        format!("Commit `{commit}`, {}, {}. Made by `cargo bench --bench comparisons`.\n", date(), machine());
    for Shown { name, command, report } in shown {
        let first: Vec<&str> = report.lines().take_while(|line| !line.is_empty()).collect();
        text += &format!("\n### {name}\n\n`{command}`\n\n> {}\n\n", first.join("\n> "));
        text += &format!("[report]({folder}/{name}.txt) · [result]({folder}/{name}.json)\n");
    }
    text
}

fn fenced(text: &str) -> String {
    format!("```text\n{}```\n", text)
}
