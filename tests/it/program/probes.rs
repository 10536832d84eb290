//! `keeplive probe` and `keeplive soak` as a user runs them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use keeplive::findings::{CaveatKind, Findings, SCHEMA, Soak, Verdict};
use keeplive::server::{Behaviour, Running, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::program;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn server(idle: Duration) -> Running {
    Server::new(Behaviour::default().idle_timeout(idle)).start().unwrap()
}

fn probe(address: SocketAddr, words: &[&str]) -> Command {
    let mut command = program();
    command.args(["probe", &format!("http://{address}/"), "--requests", "0"]);
    command.args(["--format", "json", "--no-save"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn findings(output: &Output) -> Findings {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn probe_prints_what_it_found_and_tells_what_it_does() {
    let server = server(ms(1300));
    let output = probe(server.addr(), &[]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let findings = findings(&output);
    assert_eq!((findings.schema.as_str(), findings.idle_timeout.verdict), (SCHEMA, Verdict::Found));
    assert!(findings.idle_timeout.upper.unwrap() >= ms(1299) && findings.idle_timeout.lower < ms(1301));
    assert!(stderr.contains("reached 127.0.0.1") && stderr.contains("trying both sides"), "{stderr}");
}

/// What a run saved into a folder of its own.
fn saved(folder: &Path) -> PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    file.clone()
}

#[test]
fn what_a_probe_saved_is_shown_and_judged_again_as_when_it_was_fresh() {
    let (server, folder) = (server(ms(1300)), tempfile::tempdir().unwrap());
    let url = format!("http://{}/", server.addr());
    let demands = ["--expect-idle", ">=1s", "--expect-close", "rst", "--client-idle", "90s"];
    let fresh = program()
        .args(["probe", &url, "--requests", "0", "--out"])
        .arg(folder.path())
        .args(demands)
        .output()
        .unwrap();
    let text = String::from_utf8(fresh.stdout).unwrap();
    assert_eq!(fresh.status.code(), Some(1), "{text}");
    for words in
        ["closes it with a FIN", "Expected idle >=1s: holds", "Expected close rst: does not hold", "at risk"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let file = saved(folder.path());
    let again = program().arg("report").arg(&file).args(demands).output().unwrap();
    assert_eq!((again.status.code(), String::from_utf8(again.stdout).unwrap()), (Some(1), text));
    let junit =
        program().arg("report").arg(&file).args(demands).args(["--format", "junit"]).output().unwrap();
    let junit = String::from_utf8(junit.stdout).unwrap();
    assert!(junit.contains("tests=\"3\" failures=\"2\" errors=\"0\""), "{junit}");
    let csv = program().arg("report").arg(&file).args(["--format", "csv"]).output().unwrap();
    let refused = String::from_utf8(csv.stderr).unwrap();
    assert!(
        csv.status.code() == Some(2) && refused.contains("choose one of: text, json, junit, html"),
        "{refused}"
    );
}

#[test]
fn a_saved_soak_is_shown_again() {
    let (server, folder) = (server(ms(900)), tempfile::tempdir().unwrap());
    let url = format!("http://{}/", server.addr());
    let fresh = program()
        .args(["soak", &url, "--idle", "300ms", "-c", "5", "--connects-per-second", "100", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let again = program().arg("report").arg(saved(folder.path())).output().unwrap();
    assert_eq!((again.status.code(), again.stdout), (Some(0), fresh.stdout));
}

#[test]
fn an_interrupted_probe_prints_and_saves_what_is_known() {
    let (server, folder) = (server(ms(60_000)), tempfile::tempdir().unwrap());
    let url = format!("http://{}/", server.addr());
    let child = program()
        .args(["probe", &url, "--requests", "0", "--format", "json", "--out"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(ms(1500));
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let findings = findings(&output);
    assert!(findings.interrupted && findings.idle_timeout.lower >= ms(250), "{:?}", findings.idle_timeout);
    assert_eq!(findings.idle_timeout.verdict, Verdict::Unknown);
    assert!(Findings::load(&saved(folder.path())).unwrap().interrupted);
}

#[test]
fn an_interrupted_soak_prints_and_saves_what_is_known() {
    let (server, folder) = (server(ms(60_000)), tempfile::tempdir().unwrap());
    let url = format!("http://{}/", server.addr());
    let child = program()
        .args(["soak", &url, "--idle", "1s", "-c", "4", "--rounds", "100", "--out"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(ms(2500));
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(130) && text.starts_with("Interrupted before the end."), "{text}");
    let soak = Soak::load(&saved(folder.path())).unwrap();
    assert!(soak.interrupted && soak.tried >= 4 && soak.tried == soak.alive, "{soak:?}");
    assert!(soak.discarded > 0, "{soak:?}");
}

#[test]
fn ctrl_c_before_the_first_answer_ends_a_probe_and_a_soak_at_once() {
    for verb in [&["probe"][..], &["soak", "--idle", "1s"]] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let child = program()
            .args(verb)
            .args(["--max-time", "60s", "--no-save", &format!("http://{}/", listener.local_addr().unwrap())])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It is connected to, and asks.
        let _connection = listener.accept().unwrap();
        signal(&child, Signal::SIGINT);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("stopped before it had answered"), "{stderr}");
    }
}

#[test]
fn a_soak_is_shown_as_a_page_and_as_junit() {
    let server = server(ms(500));
    let url = format!("http://{}/", server.addr());
    for (format, words) in [("html", "all 5 connections were lost"), ("junit", "failures=\"1\"")] {
        let output = program()
            .args(["soak", &url, "--idle", "900ms", "-c", "5", "--no-save", "--format", format])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(words), "{format}: {text}");
    }
}

#[test]
fn a_probe_that_was_stopped_for_a_second_invents_nothing() {
    // It is stopped when its connections are about to end, and sees all of that a second late.
    let server = server(ms(2000));
    let child = probe(server.addr(), &["--max-idle", "6s"]).spawn().unwrap();
    std::thread::sleep(ms(1700));
    signal(&child, Signal::SIGSTOP);
    std::thread::sleep(ms(1200));
    signal(&child, Signal::SIGCONT);
    let findings = findings(&child.wait_with_output().unwrap());
    let idle = &findings.idle_timeout;
    assert_eq!(idle.verdict, Verdict::Found, "{idle:?}");
    let upper = idle.upper.unwrap();
    assert!(idle.lower <= ms(2000) && upper >= ms(1999) && upper <= ms(2100), "{idle:?}");
    assert!(findings.caveats.iter().any(|caveat| caveat.kind == CaveatKind::Late), "{:?}", findings.caveats);
}

#[test]
fn soak_answers_with_a_sentence_and_an_exit_code() {
    let server = server(ms(900));
    for (idle, code, words) in [("500ms", 0, "is safe"), ("1200ms", 1, "is not safe")] {
        let url = format!("http://{}/", server.addr());
        let output = program()
            .args(["soak", &url, "--idle", idle, "-c", "10", "--connects-per-second", "100", "--no-save"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(code) && text.contains(words), "{idle}: {text}");
    }
}

#[test]
fn what_cannot_be_probed_is_refused_with_the_cure() {
    for (words, cure) in [
        (&["probe", "http://127.0.0.1:1/"][..], "start the server"),
        (&["probe", "http://127.0.0.1:1/", "--max-idle", "1ms"], "--max-idle is below"),
        (&["probe", "http://127.0.0.1:1/", "--budget", "1s"], "--budget is below"),
        (&["probe", "http://127.0.0.1:1/", "-c", "3"], "--connections is below"),
        (&["probe", "tcp://127.0.0.1"], "tcp://host:port"),
        (&["probe", "http://127.0.0.1:1/", "--send", "x"], "use -d"),
        (&["probe", "http://does-not-exist.invalid/"], "--resolve"),
        (&["soak", "tcp://127.0.0.1:1", "--idle", "0"], "--idle is 0"),
    ] {
        let output = program().args(words).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains(cure), "{words:?}: {text}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}
