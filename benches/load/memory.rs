//! Resident memory: of 10,000 connections, and whether it grows with the number of requests.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use crate::Scenario;
use crate::clients::{SECONDS, bare_words, keeplive_words};
use crate::nginx::Nginx;

/// Its largest resident memory, kB, as GNU time tells it.
fn resident(words: &[String]) -> Option<u64> {
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stderr).lines().last()?.trim().parse().ok()
}

pub(crate) fn table(nginx: &Nginx) -> String {
    let url = nginx.url(false);
    let mut text = String::from("\nlargest resident memory\n");
    let mut row = |what: &str, words: Vec<String>| {
        let told = resident(&words)
            .map_or("not told: GNU time is missing".into(), |kb| format!("{:.1} MB", kb as f64 / 1e3));
        let _ = writeln!(text, "{what:<44} {told}");
    };
    let keeplive = |more: &str| keeplive_words(&url, &format!("{more} --threads 1 --warm-up 0"));
    row("keeplive load, 10,000 connections", keeplive("-c 10000 -z 4s"));
    row("hyper alone, 10,000 connections", bare_words(nginx, Scenario::On, 10_000, 2 * SECONDS));
    row(
        "wrk, 10,000 connections",
        format!("wrk -t1 -c10000 -d4s --latency {url}").split(' ').map(str::to_owned).collect(),
    );
    row("keeplive load, 50 connections, 100,000 req.", keeplive("-c 50 -n 100000"));
    row("keeplive load, 50 connections, 10,000,000 req.", keeplive("-c 50 -n 10000000"));
    text
}
