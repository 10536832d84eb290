//! Where the instructions of a load tester's request are, beside those of hyper alone.

use crate::callgrind::{self, Sums};
use crate::clients::{bare_words, keeplive_words};
use crate::nginx::Nginx;
use crate::{CONNECTIONS, Scenario};

/// Seconds of the shorter and the longer run.
const RUNS: [u64; 2] = [1, 4];

/// How a client is called to run for so long.
type Words<'a> = &'a dyn Fn(u64) -> Vec<String>;

pub(crate) fn table(nginx: &Nginx) -> String {
    let keeplive = |scenario: Scenario, seconds: u64| {
        let keeps = if scenario.keeps() { "on" } else { "off" };
        let more = format!("-c {CONNECTIONS} -z {seconds}s --threads 1 --keep-alive {keeps} --warm-up 0");
        keeplive_words(&nginx.url(scenario.is_tls()), &more)
    };
    let bare = |scenario: Scenario, seconds: u64| bare_words(nginx, scenario, CONNECTIONS, seconds);
    let contenders: [(&str, Words<'_>); 8] = [
        ("hyper alone, on", &|seconds| bare(Scenario::On, seconds)),
        ("keeplive, on", &|seconds| keeplive(Scenario::On, seconds)),
        ("hyper alone, off", &|seconds| bare(Scenario::Off, seconds)),
        ("keeplive, off", &|seconds| keeplive(Scenario::Off, seconds)),
        ("hyper alone, tls", &|seconds| bare(Scenario::TlsOn, seconds)),
        ("keeplive, tls", &|seconds| keeplive(Scenario::TlsOn, seconds)),
        ("hyper alone, full", &|seconds| bare(Scenario::TlsOffFull, seconds)),
        ("keeplive, full", &|seconds| keeplive(Scenario::TlsOffFull, seconds)),
    ];
    let names = contenders.map(|(name, _)| name);
    let profiles = contenders.map(|(_, words)| of(words, nginx));
    let head = "\ninstructions of a request in user space, by whose they are (callgrind)\n\n";
    let foot = "full: a new connection with a full TLS handshake for each request; copies: memcpy and the like; else: libc's system calls and clocks, histograms, and the bench itself.\n";
    format!("{head}{}{foot}", callgrind::table(&names, &profiles))
}

/// What the longer of two runs takes more, for each request that nginx has answered more.
fn of(words: Words<'_>, nginx: &Nginx) -> Option<Sums> {
    let [less, more] = RUNS.map(|seconds| {
        let before = nginx.requests();
        let sums = callgrind::of(&words(seconds));
        (sums, nginx.requests() - before - 1)
    });
    Some(callgrind::each(&less.0?, &more.0?, more.1.saturating_sub(less.1)))
}
