//! `keeplive gate` as a CI job runs it: real servers, real verdicts, exit codes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use keeplive::server::{Behaviour, Profile, Running, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{alone, program, saved, tries};
use crate::support::until;

fn serving(profile: &str) -> Running {
    Server::new(Behaviour::default().profile(profile.parse::<Profile>().unwrap())).start().unwrap()
}

/// A gate of about thirty rounds, five seconds at most, of a load that two processors carry easily.
fn short(words: &[&str]) -> Command {
    let mut command = program();
    command.args([
        "gate",
        "--budget",
        "5s",
        "--slot",
        "60ms",
        "--washout",
        "20ms",
        "-c",
        "4",
        "--rate",
        "400",
    ]);
    command.args(["--seed", "1", "--format", "json"]).args(words).stdin(Stdio::null());
    command
}

#[derive(Debug)]
struct Gated {
    code: Option<i32>,
    stderr: String,
    gate: Value,
}

fn run(command: &mut Command) -> Gated {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let gate = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
    Gated { code: status.code(), stderr, gate }
}

/// Runs until the machine let the generator keep its schedule.
fn run_until_valid(words: &[&str]) -> Gated {
    for _ in tries() {
        let gated = run(short(words).arg("--no-save"));
        if gated.code != Some(4) {
            return gated;
        }
    }
    panic!("six runs in which the generator was the limit");
}

impl Gated {
    fn sentence(&self) -> &str {
        self.gate["findings"][0]["sentence"].as_str().unwrap()
    }

    fn rounds(&self) -> u64 {
        self.gate["method"]["rounds"].as_u64().unwrap()
    }
}

/// The words that start the embedded server by a command.
fn serve(profile: &str) -> String {
    format!("exec {} serve --listen 127.0.0.1:{{port}} --profile {profile}", env!("CARGO_BIN_EXE_keeplive"))
}

#[test]
fn two_servers_that_do_the_same_are_never_a_regression() {
    let _alone = alone();
    let servers = [serving("const:2ms"), serving("const:2ms")];
    let urls = servers.each_ref().map(Running::url);
    let gated =
        run_until_valid(&["--base", &urls[0], "--head", &urls[1], "--metric", "p50", "--metric", "errors"]);
    assert!([Some(0), Some(3)].contains(&gated.code), "{gated:?}");
    assert_eq!(gated.gate["schema"], "keeplive.gate/1");
    assert_eq!(gated.gate["findings"][1]["verdict"], "PASS", "neither fails: {}", gated.gate["findings"]);
    assert!(gated.stderr.contains("looking after 10, 20, 31"), "{}", gated.stderr);
    assert!(gated.stderr.contains("p50 worse by 5 % will be found if its rounds scatter by at most"));
    assert!(gated.stderr.contains("such rounds can find p50 +"), "{}", gated.stderr);
}

#[test]
fn a_head_that_is_half_slower_has_regressed_and_every_form_says_so() {
    let _alone = alone();
    let servers = [serving("const:2ms"), serving("const:4ms")];
    let urls = servers.each_ref().map(Running::url);
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("gate.xml");
    let results = folder.path().join("results");
    let words = ["--base", &urls[0], "--head", &urls[1], "--metric", "p50", "--junit"];
    let gated = tries()
        .map(|_| {
            let _ = std::fs::remove_dir_all(&results);
            run(short(&words).arg(&junit).arg("--out").arg(&results))
        })
        .find(|gated| gated.code != Some(4))
        .expect("six runs in which the generator was the limit");
    assert_eq!(gated.code, Some(1), "{gated:?}");
    assert!(gated.sentence().starts_with("p50 is worse by at least "), "{}", gated.sentence());
    assert!([10, 20, 31].contains(&gated.rounds()), "it ends at a look: {}", gated.rounds());

    let document = std::fs::read_to_string(&junit).unwrap();
    assert!(document.contains("<failure message=\"p50 is worse by at least"), "{document}");
    let result = saved(&results);
    assert_eq!(
        (&result["schema"], &result["measurement"]["schema"]),
        (&gated.gate["schema"], &"keeplive.result/1".into())
    );
    is_shown_again(&results);
}

/// `report` shows the saved gate in every form that it has, with the verdict's exit code, and refuses the others.
fn is_shown_again(results: &Path) {
    let file = std::fs::read_dir(results).unwrap().next().unwrap().unwrap().path();
    for (format, begins) in
        [("text", "REGRESSED: p50"), ("markdown", "### ❌"), ("json", "{"), ("junit", "<?xml")]
    {
        let output = program().args(["report", "--format", format]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{format}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(begins), "{format}: {output:?}");
    }
    let refused = program().args(["report", "--format", "hgrm"]).arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a gate is not shown as hgrm"));
}

#[test]
fn a_head_that_fails_where_the_base_never_does_has_regressed() {
    let _alone = alone();
    let servers = [serving("const:1ms"), serving("error:10")];
    let urls = servers.each_ref().map(Running::url);
    let gated = run_until_valid(&["--base", &urls[0], "--head", &urls[1], "--metric", "errors"]);
    assert_eq!(gated.code, Some(1), "{gated:?}");
    assert!(
        gated.sentence().contains("points (99 % confidence; tolerance 0.1 points)"),
        "{}",
        gated.sentence()
    );
}

#[test]
fn a_head_that_falls_behind_a_rate_that_the_base_holds_has_regressed() {
    let _alone = alone();
    let capped: Vec<Profile> = ["const:1ms", "rate-cap:150"].map(|text| text.parse().unwrap()).into();
    let head = capped.into_iter().fold(Behaviour::default(), Behaviour::profile);
    let servers = [serving("const:1ms"), Server::new(head).start().unwrap()];
    let urls = servers.each_ref().map(Running::url);
    let gated = run_until_valid(&["--base", &urls[0], "--head", &urls[1], "--metric", "p50"]);
    assert_eq!(gated.code, Some(1), "{gated:?}");
    let headline = gated.gate["headline"].as_str().unwrap();
    assert!(headline.ends_with("the head fell behind the offered rate, which the base held"), "{headline}");
}

#[test]
fn a_generator_that_is_the_limit_is_invalid() {
    let _alone = alone();
    let servers = [serving("const:0"), serving("const:0")];
    let urls = servers.each_ref().map(Running::url);
    let words = [
        "--base",
        &urls[0],
        "--head",
        &urls[1],
        "--metric",
        "p50",
        "--rate",
        "200000",
        "-m",
        "300ms",
        "--no-save",
    ];
    let mut command = short(&words);
    command.args(["--budget", "2s"]);
    let gated = run(&mut command);
    assert_eq!(gated.code, Some(4), "{gated:?}");
    assert!(gated.gate["headline"].as_str().unwrap().starts_with("INVALID: "));
}

#[test]
fn commands_are_started_on_ports_of_their_own_started_anew_and_ended_and_their_cpu_is_known() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let command = format!("echo $$ >> {}; {}", pids.display(), serve("const:1ms"));
    let words = ["--base-cmd", &command, "--head-cmd", &command, "--metric", "p50", "--metric", "cpu"];
    let gated = run(short(&words).args(["--budget", "2s", "--no-save"]));
    assert!(gated.code != Some(2), "{gated:?}");
    assert_eq!(gated.gate["method"]["restarted"], true, "{gated:?}");
    assert!(gated.gate["findings"][1]["base"].as_f64().is_some_and(|ns| ns > 1_000.0), "{gated:?}");
    let started: Vec<i32> =
        std::fs::read_to_string(&pids).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    // Twelve rounds: both at the beginning and after each; fewer when it was decided before.
    assert!(started.len() >= 4 && started.len().is_multiple_of(2), "{started:?}");
    assert!(started.iter().all(|&pid| kill(Pid::from_raw(pid), None).is_err()), "none is left");
}

/// Servers that are slower while they are young would else favour whoever is the older in every round.
#[test]
fn both_servers_have_ended_before_either_starts_anew_and_each_is_at_times_the_first() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let logging = |arm: &str| {
        let server = serve("const:1ms").replace("exec ", "");
        let says = |what: &str| format!("echo {what} {arm} >> {}", log.display());
        // The signal reaches the group: the shell need not pass it on.
        format!("trap '{}; exit' TERM; {}; {server} & wait", says("ended"), says("started"))
    };
    let words = ["--base-cmd", &logging("base"), "--head-cmd", &logging("head"), "--metric", "p50"];
    let gated = run(short(&words).args(["--budget", "2s", "--no-save"]));
    assert!(gated.code != Some(2), "{gated:?}");
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<(&str, &str)> = log.lines().map(|line| line.split_once(' ').unwrap()).collect();
    // Now and then a shell ends without its trap: of an end nothing is told then, but none is told late.
    let alike = lines.chunk_by(|(what, _), (next, _)| what == next);
    let starts: Vec<_> = alike.filter(|run| run[0].0 == "started").collect();
    assert!(starts.len() >= 8, "{log}");
    assert!(starts.iter().all(|both| both.len() == 2 && both[0].1 != both[1].1), "{log}");
    let is_first = |arm: &str| starts.iter().any(|both| both[0].1 == arm);
    assert!(is_first("base") && is_first("head"), "{log}");
}

#[test]
fn two_commands_at_one_port_are_refused_before_anything_is_started() {
    let url = "http://127.0.0.1:18080/";
    let words = ["--base-cmd", "touch started", "--base", url, "--head-cmd", "touch started", "--head", url];
    let folder = tempfile::tempdir().unwrap();
    let gated = run(short(&words).arg("--no-save").current_dir(folder.path()));
    assert_eq!(gated.code, Some(2), "{gated:?}");
    assert!(gated.stderr.contains("both commands would serve at 127.0.0.1:18080"), "{}", gated.stderr);
    assert!(gated.stderr.contains("write {port}"), "{}", gated.stderr);
    assert!(!folder.path().join("started").exists());
}

#[test]
fn a_command_that_dies_is_told_with_what_it_wrote() {
    let dying = "echo 'cannot open the database' >&2; exit 1";
    let good = serve("const:0");
    let gated = run(short(&[
        "--base-cmd",
        &good,
        "--head-cmd",
        dying,
        "--head",
        "http://127.0.0.1:{port}/",
        "--no-save",
    ])
    .args(["--metric", "p50"]));
    assert_eq!(gated.code, Some(2), "{gated:?}");
    assert!(
        gated.stderr.contains("the head has ended") && gated.stderr.contains("cannot open the database"),
        "{}",
        gated.stderr
    );
}

#[test]
fn a_command_that_never_answers_ends_the_gate_and_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let deaf = format!("echo $$ > {}; exec sleep 1000", file.display());
    let url = "http://127.0.0.1:{port}/";
    let gated =
        run(short(&["--base-cmd", &deaf, "--base", url, "--head-cmd", &deaf, "--head", url, "--no-save"])
            .args(["--metric", "p50", "--start-timeout", "300ms"]));
    assert_eq!(gated.code, Some(2), "{gated:?}");
    assert!(gated.stderr.contains("did not answer within 300ms of its start"), "{}", gated.stderr);
    let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert!(kill(Pid::from_raw(pid), None).is_err(), "{pid} is left");
}

/// Starts a gate of two servers by this program and these first words, sends it the signal when both run, and waits for its
/// end: its exit code, and how many servers are left.
fn signalled(program: &mut Command, signal: Signal) -> (Option<i32>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let command = format!("echo $$ >> {}; {}", pids.display(), serve("const:1ms"));
    let gate = program
        .args(["gate", "--base-cmd", &command, "--head-cmd", &command, "--metric", "p50", "--no-save"])
        .args(["--slot", "60ms", "--washout", "20ms", "-c", "4", "--rate", "400", "--budget", "2s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = until("both servers", || {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        (text.lines().count() >= 2 && text.ends_with('\n')).then_some(text)
    });
    // It listens for signals before it starts anything.
    kill(Pid::from_raw(gate.id().cast_signed()), signal).unwrap();
    let output = gate.wait_with_output().unwrap();
    let started = started.lines().map(|pid| Pid::from_raw(pid.parse().unwrap()));
    (output.status.code(), started.filter(|&pid| kill(pid, None).is_ok()).count())
}

#[test]
fn ctrl_c_ends_the_servers_and_shows_what_there_is() {
    let _alone = alone();
    assert_eq!(signalled(&mut program(), Signal::SIGINT), (Some(130), 0), "no server is left");
}

/// A terminal that is closed takes the gate with it, and must not leave its servers.
#[test]
fn a_hangup_ends_the_servers_too_unless_it_is_to_be_ignored() {
    let _alone = alone();
    assert_eq!(signalled(&mut program(), Signal::SIGHUP), (Some(130), 0), "no server is left");
    let mut nohup = Command::new("nohup");
    let (code, left) = signalled(nohup.arg(env!("CARGO_BIN_EXE_keeplive")), Signal::SIGHUP);
    assert!(code.is_some_and(|code| code != 130) && left == 0, "it goes on to its end: {code:?}");
}

#[test]
fn what_cannot_be_gated_is_refused_with_the_cure() {
    let url = "http://127.0.0.1:1/";
    let both = ["--base", url, "--head", url];
    for (words, cure) in [
        (vec!["--metric", "p42"], "choose one of: p50"),
        (vec!["--metric", "rps"], "add --closed"),
        (vec!["--closed", "--metric", "p50"], "gate rps"),
        (vec!["--metric", "cpu"], "--base-pid"),
        (vec!["--metric", "on:p50"], "use it with --baseline"),
        (vec!["--tolerance", "p50=5%", "--detect", "p50=4%"], "larger than what is tolerated"),
        (vec!["--tolerance", "p50"], "such as p99=2%"),
        (vec!["--budget", "500ms"], "raise --budget"),
    ] {
        let mut command = program();
        let output = command.args(["gate", "--no-save"]).args(both).args(&words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(cure), "{words:?}: {stderr}");
    }
    let output = program().args(["gate", "--base", url]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "without a head");
}

#[test]
fn a_tail_that_is_too_thin_is_refused_when_asked_for_and_left_out_when_usual() {
    let _alone = alone();
    let servers = [serving("const:1ms"), serving("const:1ms")];
    let urls = servers.each_ref().map(Running::url);
    let both = ["--base", urls[0].as_str(), "--head", urls[1].as_str(), "--no-save"];
    let refused = run(short(&both).args(["--metric", "p99"]));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("p99 cannot be gated") && refused.stderr.contains("gate p50"),
        "{}",
        refused.stderr
    );
    let usual = run(&mut short(&both));
    assert!(usual.code != Some(2), "{usual:?}");
    let gated: Vec<&str> = usual.gate["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["metric"].as_str().unwrap())
        .collect();
    assert_eq!(gated, ["p50", "errors", "reuse"]);
    assert_eq!(usual.gate["left_out"].as_array().unwrap().len(), 2, "p90 and p99");
}

/// A saved run, its server a little slower each time, and another one at `slow`.
fn saved_runs(folder: &Path, n: usize, slow: &str) -> Vec<std::path::PathBuf> {
    let profiles = ["const:2ms", "const:2200us", "const:2100us"].into_iter().cycle().take(n).chain([slow]);
    let load = |profile: &str| {
        let server = serving(profile);
        let words = ["-z", "200ms", "--warm-up", "20ms", "--rate", "200", "-c", "2"];
        let output =
            program().args(["load", &server.url()]).args(words).arg("--out").arg(folder).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        stderr.lines().find_map(|line| line.strip_prefix("saved ")).expect("a result was saved").into()
    };
    profiles.map(load).collect()
}

#[test]
fn ten_saved_runs_carry_a_verdict_and_fewer_an_advisory() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let runs = saved_runs(folder.path(), 10, "const:60ms");
    let (current, earlier) = runs.split_last().unwrap();
    let judge = |earlier: &[std::path::PathBuf], words: &[&str]| {
        let mut command = program();
        command.args(["gate", "--format", "json", "--no-save", "--baseline"]).args(earlier).arg(current);
        run(command.args(words).stdin(Stdio::null()))
    };
    let regressed = judge(earlier, &[]);
    assert!([Some(1), Some(4)].contains(&regressed.code), "{regressed:?}");
    assert_eq!(regressed.gate["findings"][0]["verdict"], "REGRESSED", "{}", regressed.gate["findings"]);
    let few = judge(&earlier[..3], &[]);
    assert!([Some(0), Some(4)].contains(&few.code), "an advisory: {few:?}");
    assert!(few.sentence().contains("3 baseline runs are too few"), "{}", few.sentence());
    let strict = judge(&earlier[..3], &["--strict"]);
    assert!([Some(3), Some(4)].contains(&strict.code), "{strict:?}");
    let shares = judge(earlier, &["--metric", "errors"]);
    assert_eq!(shares.code, Some(2), "{shares:?}");
}
