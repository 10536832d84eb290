//! Who is measured: how each is called, and what the kernel and the server say of its run.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::nginx::Nginx;
use crate::support::now;
use crate::{CONNECTIONS, Scenario};

/// For so long everyone sends.
pub(crate) const SECONDS: u64 = 2;

/// One load tester.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// How it tells its version; empty: it is this program.
    version: &'static [&'static str],
    can: &'static [Scenario],
    words: fn(Scenario, &Nginx, usize) -> Vec<String>,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// Processor time of the whole process for each request, user and kernel.
    pub(crate) cpu_ns: f64,
    /// Of that, the kernel's.
    pub(crate) system_ns: f64,
    /// Requests in a second, start and end of the process included.
    pub(crate) per_s: f64,
    /// Failures that it told by its exit code.
    pub(crate) failed: u64,
}

use Scenario::{Off, On, TlsOffFull, TlsOffResumed, TlsOn};

pub(crate) const CLIENTS: [Client; 7] = [
    Client { name: "raw socket", version: &[], can: &[On, Off, TlsOn], words: floor },
    Client { name: "hyper alone", version: &[], can: &[On, Off, TlsOn, TlsOffFull], words: bare },
    Client {
        name: "keeplive load",
        version: &[],
        can: &[On, Off, TlsOn, TlsOffFull, TlsOffResumed],
        words: keeplive,
    },
    Client { name: "wrk", version: &["wrk", "-v"], can: &[On, Off, TlsOn, TlsOffFull], words: wrk },
    Client { name: "ab", version: &["ab", "-V"], can: &[On, Off, TlsOn, TlsOffFull], words: ab },
    Client { name: "h2load --h1", version: &["h2load", "--version"], can: &[On, TlsOn], words: h2load },
    // Its sessions are resumed, unasked.
    Client { name: "oha", version: &["oha", "--version"], can: &[On, Off, TlsOn, TlsOffResumed], words: oha },
];

impl Client {
    /// The first line in which it names its version; `None` where it is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        let [program, words @ ..] = self.version else { return Some("this build".into()) };
        let output = Command::new(program).args(words).stdin(Stdio::null()).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    }

    pub(crate) fn can(&self, scenario: Scenario) -> bool {
        self.can.contains(&scenario)
    }

    pub(crate) fn has_threads(&self) -> bool {
        ["keeplive load", "wrk", "h2load --h1", "oha"].contains(&self.name)
    }

    pub(crate) fn run(&self, scenario: Scenario, nginx: &Nginx, threads: usize) -> Ran {
        measured(&(self.words)(scenario, nginx, threads), nginx)
    }
}

/// Runs a command line and looks at what it used and what nginx saw.
fn measured(words: &[String], nginx: &Nginx) -> Ran {
    let (requests, used, began) = (nginx.requests(), children(), now());
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let status = child.wait().expect("a child can be waited for");
    let took = began.elapsed();
    let of_both = children();
    let [user_ns, system_ns] = [0, 1].map(|part| (of_both[part] - used[part]).as_nanos() as f64);
    // The second question counts itself.
    let requests = (nginx.requests() - requests - 1) as f64;
    Ran {
        cpu_ns: (user_ns + system_ns) / requests,
        system_ns: system_ns / requests,
        per_s: requests / took.as_secs_f64(),
        failed: u64::from(!status.success()),
    }
}

/// Processor time of all children that have ended: their own, and the kernel's.
fn children() -> [Duration; 2] {
    let usage: Usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).expect("a process may ask for its children's usage");
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::from_micros(time.num_microseconds().unsigned_abs()))
}

fn own(words: &[String]) -> Vec<String> {
    words.to_vec()
}

fn floor(scenario: Scenario, nginx: &Nginx, _: usize) -> Vec<String> {
    let address = nginx.address(scenario.is_tls());
    own(&[this_program(), "floor".into(), address.to_string(), scenario.name().into()])
}

fn this_program() -> String {
    std::env::current_exe().expect("this program's path").display().to_string()
}

fn bare(scenario: Scenario, nginx: &Nginx, _: usize) -> Vec<String> {
    bare_words(nginx, scenario, CONNECTIONS, SECONDS)
}

pub(crate) fn bare_words(nginx: &Nginx, scenario: Scenario, connections: usize, seconds: u64) -> Vec<String> {
    let (address, name) = (nginx.address(scenario.is_tls()), scenario.name());
    let line = format!("{} bare {address} {name} {connections} {seconds}", this_program());
    line.split(' ').map(str::to_owned).collect()
}

pub(crate) fn keeplive_words(url: &str, more: &str) -> Vec<String> {
    let line = format!(
        "{} load {url} -k --allow-invalid --no-save --format json {more}",
        env!("CARGO_BIN_EXE_keeplive")
    );
    line.split_whitespace().map(str::to_owned).collect()
}

fn keeplive(scenario: Scenario, nginx: &Nginx, threads: usize) -> Vec<String> {
    let keeps = if scenario.keeps() { "on" } else { "off" };
    let resume = if scenario == TlsOffResumed { "--resume" } else { "" };
    let more = format!(
        "-c {CONNECTIONS} -z {SECONDS}s --threads {threads} --keep-alive {keeps} {resume} --warm-up 0"
    );
    keeplive_words(&nginx.url(scenario.is_tls()), &more)
}

fn wrk(scenario: Scenario, nginx: &Nginx, threads: usize) -> Vec<String> {
    let line =
        format!("wrk -t{threads} -c{CONNECTIONS} -d{SECONDS}s --latency {}", nginx.url(scenario.is_tls()));
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if !scenario.keeps() {
        words.splice(1..1, ["-H".to_owned(), "Connection: close".to_owned()]);
    }
    words
}

fn ab(scenario: Scenario, nginx: &Nginx, _: usize) -> Vec<String> {
    let keep = if scenario.keeps() { "-k " } else { "" };
    let line =
        format!("ab -q {keep}-c {CONNECTIONS} -t {SECONDS} -n 100000000 {}", nginx.url(scenario.is_tls()));
    line.split(' ').map(str::to_owned).collect()
}

fn h2load(scenario: Scenario, nginx: &Nginx, threads: usize) -> Vec<String> {
    let line =
        format!("h2load --h1 -t{threads} -c{CONNECTIONS} -D{SECONDS} {}", nginx.url(scenario.is_tls()));
    line.split(' ').map(str::to_owned).collect()
}

/// Its fast way, which it takes without its display. It starts a thread for each physical core, or as many as it is told.
fn oha(scenario: Scenario, nginx: &Nginx, threads: usize) -> Vec<String> {
    let keep = if scenario.keeps() { "" } else { "--disable-keepalive" };
    let url = nginx.url(scenario.is_tls());
    let line = format!(
        "env TOKIO_WORKER_THREADS={threads} oha --no-tui --insecure -c {CONNECTIONS} -z {SECONDS}s {keep} {url}"
    );
    line.split_whitespace().map(str::to_owned).collect()
}
