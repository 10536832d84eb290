//! What is seen of a run while it runs: lines in a log, metrics over HTTP, a view on a terminal.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keeplive::server::{Behaviour, Running, Server};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{alone, program, saved};
use crate::support::prometheus::read;
use crate::support::until;

fn serving(behaviour: Behaviour) -> Running {
    Server::new(behaviour).start().unwrap()
}

fn loading(url: &str, folder: &Path, words: &[&str]) -> Command {
    let mut command = program();
    command.args(["load", url, "--allow-invalid", "--seed", "1", "--out"]).arg(folder).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn interrupt(child: &Child) {
    signal(child, Signal::SIGINT);
}

/// `GET` on a connection of its own: status line, head and body.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_log_has_a_line_for_every_fifth_of_a_run_and_no_escapes() {
    let _alone = alone();
    let server = serving(Behaviour::default().delay(Duration::from_millis(2)));
    let folder = tempfile::tempdir().unwrap();
    let output = loading(&server.url(), folder.path(), &["-c", "3", "-z", "4s"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains('\x1b'), "{said:?}");
    for second in 1..=3 {
        let begin = format!("{second} s of 4 s: ");
        let line =
            said.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_else(|| panic!("{said}"));
        for words in [" requests/s, ", " in flight, p50 ", " ms, p99 ", " ms, 0 errors, 3 connections opened"]
        {
            assert!(line.contains(words), "no {words} in {line}");
        }
    }
}

/// The server answers so many and then nothing more, so that what is fetched then is what there is at the end.
#[test]
fn metrics_only_grow_while_a_run_runs_and_end_as_its_result() {
    let _alone = alone();
    let server = serving(Behaviour::default().delay(Duration::from_millis(1)).stall_after(1_000));
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "4", "-z", "20s", "--think", "20ms", "--max-time", "5s", "--metrics", "0"];
    let mut child = loading(&server.url(), folder.path(), &words).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.next().unwrap();
    let address = line.strip_prefix("metrics: http://").and_then(|rest| rest.strip_suffix("/metrics"));
    let address = address.unwrap_or_else(|| panic!("{line}"));
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    let rest = std::thread::spawn(move || said.for_each(drop));
    assert!(get(address, "/").0.starts_with("HTTP/1.1 404"));
    let before = RefCell::new(read(&get(address, "/metrics").1));
    let changed = Cell::new(crate::support::now());
    let last = until("every request under way waits for an answer", || {
        let (head, body) = get(address, "/metrics");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let now = read(&body);
        let total =
            |name: &str| name.contains("_total") || name.contains("_bucket") || name.contains("_count");
        let before = before.replace(now.clone());
        if before != now {
            changed.set(crate::support::now());
        }
        assert!(now.iter().filter(|(name, _)| total(name)).all(|(name, n)| before.get(name) <= Some(n)));
        let of = |name: &str| now.get(name).copied();
        let (due, done) = ("keeplive_requests_total{arm=\"on\"}", "keeplive_completed_total{arm=\"on\"}");
        // Longer than any pause of a connection.
        let is_stalled = changed.get().elapsed() > Duration::from_millis(500);
        let is_last = is_stalled && of(done) > Some(0.0) && of(due) == of(done).map(|n| n + 4.0);
        is_last.then_some(now)
    });
    assert_eq!(last["keeplive_in_flight"], 4.0);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    rest.join().unwrap();
    let slot = &saved(folder.path())["slots"][0];
    let told = |name: &str| last[&format!("keeplive_{name}{{arm=\"on\"}}")];
    assert_eq!(told("completed_total"), slot["completed"].as_f64().unwrap());
    assert_eq!(told("requests_total"), slot["scheduled"].as_f64().unwrap());
    assert_eq!(told("connections_opened_total"), slot["connections"]["opened"].as_f64().unwrap());
    assert_eq!(told("response_seconds_count") + 4.0, slot["response"]["count"].as_f64().unwrap());
}

#[test]
fn metrics_at_a_port_that_is_taken_are_refused_with_the_cure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let output = loading("http://127.0.0.1:1/", folder.path(), &["--metrics", &at]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the port is taken: give another, or 0 for any that is free"), "{said}");
}

/// A run whose stderr is a terminal of that size.
fn on_a_terminal(command: &mut Command, size: (u16, u16)) -> (Child, File) {
    let (ws_col, ws_row) = size;
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
    let child = command.env("TERM", "xterm-256color").stderr(slave).spawn().unwrap();
    // The command keeps the terminal's other end open until it is dropped.
    command.stderr(Stdio::null());
    (child, File::from(master))
}

/// Reads until the text holds the words; `None`: the terminal is closed.
fn read_until(terminal: &mut File, text: &mut String, words: &str) -> Option<()> {
    let mut bytes = [0; 4096];
    while !text.contains(words) {
        // EIO is how the end of a pseudo-terminal looks.
        let n = terminal.read(&mut bytes).ok().filter(|n| *n > 0)?;
        text.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    Some(())
}

#[test]
fn a_load_that_is_interrupted_tells_what_it_measured_until_then() {
    let _alone = alone();
    let server = serving(Behaviour::default().delay(Duration::from_millis(2)));
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "3", "-z", "30s", "--warm-up", "0", "--format", "json", "-d", "30s"];
    let mut child = loading(&server.url(), folder.path(), &words).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = said.find(|line| line.contains("for how long to run")).expect("a note on -d");
    assert!(told.contains("-d 30s is the request's body") && told.contains("-z 30s"), "{told}");
    said.find(|line| line.contains(" s of 30 s: ")).expect("a line of its progress");
    interrupt(&child);
    said.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let reasons = summary["validity"]["reasons"].to_string();
    assert!(!reasons.contains("measured to its end") && summary["interrupted"] == true, "{reasons}");
    assert!(summary["arms"][0]["requests"].as_u64().unwrap() > 100, "{summary}");
}

#[test]
fn a_load_that_did_not_run_for_a_while_tells_no_number_of_its_own_unless_it_is_asked_for() {
    let _alone = alone();
    let server = serving(Behaviour::default().delay(Duration::from_millis(2)));
    let folder = tempfile::tempdir().unwrap();
    let mut load = program();
    load.args([
        "load",
        &server.url(),
        "-r",
        "200",
        "--arrivals",
        "constant",
        "-c",
        "40",
        "-z",
        "3s",
        "--warm-up",
        "0",
    ]);
    load.arg("--out").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = load.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    said.find(|line| line.contains(" s of 3 s: ")).expect("a line of its progress");
    signal(&child, Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(700));
    signal(&child, Signal::SIGCONT);
    said.for_each(drop);
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{printed}");
    assert!(printed.starts_with("Invalid: ") && printed.contains("✗ the generator was late by"), "{printed}");
    assert!(!printed.contains("answers/s"), "{printed}");
    // 700 ms at 200 requests/s, the first of which waited for all of it.
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let report = program().arg("report").arg(&file).arg("--allow-invalid").output().unwrap();
    let printed = String::from_utf8(report.stdout).unwrap();
    let late =
        printed.lines().find(|line| line.trim_start().starts_with("late ")).expect("a row of lateness");
    let longest: f64 = late.rsplit(' ').nth(1).unwrap().parse().unwrap();
    assert!((690.0..3_000.0).contains(&longest) && late.ends_with(" ms"), "{late}");
    assert!(printed.contains("answers/s"), "{printed}");
}

#[test]
fn a_terminal_has_a_view_that_ctrl_c_takes_away_before_the_run_is_saved_and_ends_with_130() {
    let _alone = alone();
    let server = serving(Behaviour::default().delay(Duration::from_millis(2)));
    let folder = tempfile::tempdir().unwrap();
    let mut command = loading(&server.url(), folder.path(), &["-c", "3", "-z", "30s", "--warm-up", "0"]);
    let (mut child, mut terminal) = on_a_terminal(command.env("NO_COLOR", "1"), (50, 12));
    let mut text = String::new();
    read_until(&mut terminal, &mut text, "1 s of 30 s, 2").expect("a view");
    read_until(&mut terminal, &mut text, "3 connections").expect("a view");
    interrupt(&child);
    assert_eq!(read_until(&mut terminal, &mut text, "\0"), None, "nobody says that");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for words in ["requests/s ", "p99 ", "in flight ", "errors ", "29 s left", "stopping; what was measured"]
    {
        assert!(text.contains(words), "no {words} in {text:?}");
    }
    let colours = ["\x1b[1m", "\x1b[2m", "\x1b[3"];
    assert!(colours.iter().all(|colour| !text.contains(colour)), "colours nobody wants: {text:?}");
    // No raw mode, no other screen, no hidden cursor: nothing to restore.
    assert!(["\x1b[?25l", "\x1b[?1049h"].iter().all(|change| !text.contains(change)), "{text:?}");
    // Every frame is erased by the next, and the last by what is said at the end.
    let frames = text.matches("\x1b[?2026l").count();
    assert!(frames > 0 && text.matches("\x1b[J").count() >= frames, "{text:?}");
    let after = text.rsplit("\x1b[J").next().unwrap();
    assert!(after.contains("saved ") && !after.contains("in flight"), "{after:?}");
    assert_eq!(saved(folder.path())["interrupted"], true);
}
