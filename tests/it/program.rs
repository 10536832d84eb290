//! `keeplive compare` as a user runs it: the program, real servers, what it prints and how it ends.

mod action;
mod browser;
mod gates;
mod live;
mod load;
mod many;
mod pages;
mod probe_reports;
mod probes;
mod refusals;
mod round_trips;
mod schemas;
mod servers;
mod shaping;
mod targets;
mod terminal;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::support::now;

/// One measurement at a time: two that share two processors measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_keeplive"))
}

/// `compare` with short rounds, six of them, the fewest that carry an interval, into a folder of the test's own.
fn short(command: &mut Command, folder: &Path) {
    command.args(["compare", "--rounds", "6", "--slot", "200ms", "--washout", "50ms", "--seed", "1"]);
    // Whoever else uses this machine may make a run invalid: what it measured is looked at all the same.
    command.args(["--allow-invalid", "--format", "json", "--out"]).arg(folder);
}

/// What a run printed and saved.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stderr: String,
    summary: Value,
    result: Value,
}

fn run(command: &mut Command, folder: &Path) -> Ran {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let summary = serde_json::from_slice(&stdout)
        .unwrap_or_else(|error| panic!("stdout is not one JSON document ({error}); stderr: {stderr}"));
    Ran { code: status.code(), stderr, summary, result: saved(folder) }
}

/// The one result in the folder.
fn saved(folder: &Path) -> Value {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap()
}

/// Tries while others may be using this machine, too: six, and each after the first waits until two threads get a
/// processor each, or half a minute.
fn tries() -> impl Iterator<Item = usize> {
    (1..=6).inspect(|&nth| {
        let limit = now() + Duration::from_secs(30);
        while nth > 1 && !processors_are_free() && now() < limit {}
    })
}

fn processors_are_free() -> bool {
    let spin = || {
        let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let (began, used) = (now(), cpu());
        while began.elapsed() < Duration::from_millis(200) {}
        cpu() - used >= Duration::from_millis(195)
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(spin), scope.spawn(spin)];
        both.map(|thread| thread.join().unwrap()).iter().all(|is_free| *is_free)
    })
}

/// Runs until the machine let the generator keep its schedule.
fn run_until_valid(mut command: impl FnMut(&Path) -> Command) -> Ran {
    let mut last = None;
    for _ in tries() {
        let folder = tempfile::tempdir().unwrap();
        let ran = run(&mut command(folder.path()), folder.path());
        if ran.code != Some(4) || !ran.generator_was_the_limit() {
            return ran;
        }
        last = Some(ran);
    }
    panic!(
        "six runs in which the generator was the limit: {:?}",
        last.map(|ran| ran.summary["validity"].clone())
    );
}

impl Ran {
    /// Whether the machine is a reason: whatever else went wrong may come of it. A rate that is half of what a good
    /// moment could do is too much for a bad one, too.
    fn generator_was_the_limit(&self) -> bool {
        let of_the_machine = |text: &str| {
            let words = ["the generator was", "for a processor", "fell behind the offered rate"];
            words.iter().any(|word| text.contains(word))
        };
        let reasons = self.summary["validity"]["reasons"].as_array().unwrap();
        reasons.iter().any(|reason| of_the_machine(reason.as_str().unwrap()))
    }

    fn arm(&self, name: &str) -> &Value {
        let arms = self.summary["arms"].as_array().unwrap();
        arms.iter().find(|arm| arm["name"] == name).unwrap_or_else(|| panic!("no arm {name} in {arms:?}"))
    }

    fn arms(&self) -> Vec<String> {
        let arms = self.summary["arms"].as_array().unwrap();
        arms.iter().map(|arm| arm["name"].as_str().unwrap().to_owned()).collect()
    }

    fn difference(&self, arm: &str, metric: &str) -> &Value {
        let all = self.summary["differences"].as_array().unwrap();
        all.iter().find(|one| one["arm"] == arm && one["metric"] == metric).unwrap()
    }

    /// Everything that was sent, from the first look to the last slot: the sum of one count over all ledgers.
    fn total(&self, count: &str) -> u64 {
        let slots = self.result["slots"].as_array().unwrap().iter().map(|slot| &slot["connections"]);
        slots.chain([&self.result["outside"]]).map(|ledger| ledger[count].as_u64().unwrap()).sum()
    }

    fn reasons(&self) -> String {
        self.summary["validity"].to_string()
    }
}
