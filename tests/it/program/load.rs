//! `keeplive load` against servers whose truth is known: what it reports is what they did.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keeplive::server::{Behaviour, Profile, Running, Server};

use super::{Ran, alone, program, run, run_until_valid};
use crate::support::scripted::Scripted;

fn serving(profiles: &[&str]) -> Running {
    let profiles = profiles.iter().map(|text| text.parse::<Profile>().unwrap());
    Server::new(profiles.fold(Behaviour::default(), Behaviour::profile)).start().unwrap()
}

fn loading(folder: &Path, url: &str, words: &[&str]) -> Command {
    let mut command = program();
    command
        .args(["load", url, "--seed", "1", "--allow-invalid", "--format", "json", "--out"])
        .arg(folder)
        .args(words);
    command
}

/// Runs until the machine, which others may be using too, let every request start when it was due.
fn run_in_time(server: &Running, words: &[&str]) -> Ran {
    // Whoever else uses this machine may stop it for tens of milliseconds at a time, for a minute.
    for _ in 0..10 {
        let ran = run_until_valid(|folder| loading(folder, &server.url(), words));
        if ran.summary["arms"][0]["lag_ns"]["p99"].as_u64().unwrap() < 500_000 {
            return ran;
        }
    }
    run_until_valid(|folder| loading(folder, &server.url(), words))
}

/// Requests that are held for their millisecond and no longer: beyond it they take half a millisecond and more in a
/// program that is not optimized, on a processor that falls asleep between two of them.
fn unheld() -> Ran {
    run_in_time(&serving(&["const:1ms"]), &["-r", "500", "--arrivals", "constant", "-c", "20", "-z", "2s"])
}

fn told(ran: &Ran, point: &str) -> f64 {
    ran.summary["arms"][0]["response_ns"][point].as_f64().unwrap() / 1e6
}

/// Within 5 % or half a millisecond of the truth, beyond what a request takes when nobody holds it.
#[track_caller]
fn is_true(ran: &Ran, unheld: &Ran, point: &str, truth: Duration) {
    let (told, unheld, truth) = (told(ran, point), told(unheld, point) - 1.0, truth.as_secs_f64() * 1e3);
    let allowed = (0.05 * truth).max(0.5);
    let is_true = truth - allowed <= told && told <= truth + unheld + allowed;
    assert!(is_true, "{point}: {told} ms, not {truth} ms and {unheld} ms; {}", ran.reasons());
}

/// How long the server held the last `n` of its requests, by its own log.
fn mean_hold(server: &Running, n: usize) -> Duration {
    let log = server.log().expect("a server with a profile");
    let numbers = |line: &str| line.split(',').map(|field| field.parse().unwrap()).collect::<Vec<u64>>();
    let mut log: Vec<_> = str::from_utf8(&log).unwrap().lines().skip(1).map(numbers).collect();
    log.sort_by_key(|entry| entry[0]);
    let last = &log[log.len() - n..];
    Duration::from_nanos(last.iter().map(|entry| entry[1]).sum::<u64>() / n as u64)
}

const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[test]
fn a_stall_of_100_ms_each_second_is_felt_by_those_who_were_due_in_it() {
    let _alone = alone();
    let unheld = unheld();
    let server = serving(&["const:1ms", "stall:1s,100ms"]);
    let words = ["-r", "500", "--arrivals", "constant", "-c", "80", "-z", "6s"];
    let ran = run_in_time(&server, &words);
    assert_eq!(ran.code, Some(0), "{}", ran.reasons());
    // P(L > x) = (S + s - x)/T, mean = s + S^2/(2T).
    is_true(&ran, &unheld, "p50", us(1_000));
    is_true(&ran, &unheld, "p99", us(91_000));
    // Fifty answers that are due together take a server time, and its log says how much.
    let held = mean_hold(&server, 3_000);
    assert!(held >= us(5_900), "{held:?}");
    is_true(&ran, &unheld, "mean", held.max(us(6_000)));
    let scheduled = ran.result["slots"][0]["scheduled"].as_u64().unwrap();
    assert!(scheduled.abs_diff(3_000) <= 5, "{scheduled}");
    let line = ran.result["slots"][0]["timeline"]["intervals"].as_array().unwrap();
    let due: u64 = line.iter().map(|interval| interval["scheduled"].as_u64().unwrap()).sum();
    assert_eq!((line.len(), due), (6, scheduled), "every request stands in one second");
}

#[test]
fn a_slow_fiftieth_request_is_not_spread_over_the_others() {
    let _alone = alone();
    let unheld = unheld();
    let server = serving(&["kth:50,1ms,200ms"]);
    let words = ["-r", "500", "--arrivals", "constant", "-c", "20", "-z", "4s"];
    let ran = run_in_time(&server, &words);
    is_true(&ran, &unheld, "p50", us(1_000));
    is_true(&ran, &unheld, "p90", us(1_000));
    is_true(&ran, &unheld, "p99", us(200_000));
    is_true(&ran, &unheld, "mean", us(4_980));
}

#[test]
fn a_number_of_requests_is_that_number_and_its_summary_has_one_arm() {
    let _alone = alone();
    let server = serving(&["const:0"]);
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut loading(folder.path(), &server.url(), &["-n", "3000", "-t", "2"]), folder.path());
    assert_eq!(ran.arms(), ["on"]);
    assert_eq!(ran.arm("on")["requests"], 3_000);
    assert_eq!(ran.arm("on")["completed"], 3_000);
    assert_eq!(server.counts().requests, ran.total("exchanges"), "every answer is in a ledger");
}

#[test]
fn who_asks_for_five_requests_gets_five_and_the_first_looks_four() {
    let server = serving(&["const:0"]);
    for (words, warms_up) in [
        (["-n", "5"].as_slice(), false),
        (&["-n", "5", "-r", "100"], false),
        // Of Poisson's arrivals within 50 ms, left to chance, there would be others with these.
        (&["-n", "5", "-r", "100", "--seed", "2"], false),
        (&["-n", "5", "-r", "100", "--seed", "4"], false),
        (&["-n", "5", "-r", "100", "-t", "2", "-c", "2", "--seed", "6"], false),
        (&["-n", "5", "-r", "100", "--arrivals", "constant"], false),
        (&["-n", "5", "--warm-up", "1s"], true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let before = server.counts().requests;
        let ran = run(&mut loading(folder.path(), &server.url(), words), folder.path());
        assert_eq!(ran.arm("on")["completed"], 5);
        if words.contains(&"-r") {
            assert_eq!(
                ran.result["slots"][0]["duration_ns"], 50_000_000,
                "{words:?}: five at a hundred a second"
            );
        }
        let asked = server.counts().requests - before;
        assert_eq!(asked == 5 + 4, !warms_up, "{words:?}: {asked}");
        let notes = ran.result["notes"].to_string();
        assert_eq!(notes.contains("no warm-up"), !warms_up, "{notes}");
    }
}

#[test]
fn what_would_measure_for_a_lifetime_or_not_at_all_is_refused() {
    for (words, cure) in [
        (["-r", "1", "-n", "10000000000000000000"], "more than 31 years"),
        (["--search", "p99<5ms", "--look", "0"], "--look is 0: give a duration such as 2s"),
    ] {
        let output =
            program().args(["load", "http://127.0.0.1:1/", "--no-save"]).args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(cure), "{stderr}");
    }
}

#[test]
fn a_connection_that_may_carry_ten_requests_carries_ten() {
    let _alone = alone();
    let server = serving(&["const:0"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["-n", "2000", "-c", "4", "--keep-alive", "10"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let connections = &ran.arm("on-10")["connections"];
    let closed = connections["closed"]["max_exchanges"].as_u64().unwrap();
    let (opened, exchanges) =
        (connections["opened"].as_u64().unwrap(), connections["exchanges"].as_u64().unwrap());
    // All but the four that were in use at the end.
    assert_eq!(
        connections["closed"].as_object().unwrap().values().filter_map(|n| n.as_u64()).sum::<u64>(),
        opened
    );
    assert!(opened - closed <= 4 && (closed * 10..=opened * 10).contains(&exchanges), "{connections}");
}

#[test]
fn failures_of_the_target_are_told_and_do_not_make_the_run_invalid() {
    let _alone = alone();
    let server = serving(&["error:2"]);
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut loading(folder.path(), &server.url(), &["-n", "1000", "-c", "2"]), folder.path());
    assert!(ran.code == Some(0) || ran.generator_was_the_limit(), "{}", ran.reasons());
    assert_eq!(ran.arm("on")["errors"]["status_5xx"], 500);
    let headline = ran.summary["headline"].as_str().unwrap();
    assert!(headline.contains("500 of 1,000 requests failed (50 %)"), "{headline}");
}

#[test]
fn stages_offer_what_their_lines_enclose() {
    let _alone = alone();
    let server = serving(&["const:0"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["--stage", "1s:50..150", "--stage", "500ms:20", "--arrivals", "constant", "-t", "2"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let due: Vec<_> = (0..2).map(|nth| ran.summary["stages"][nth]["scheduled"].as_u64().unwrap()).collect();
    assert!(due[0].abs_diff(100) <= 1 && due[1].abs_diff(10) <= 1, "{due:?}; {}", ran.summary["stages"]);
    assert_eq!(ran.arm("on")["requests"].as_u64().unwrap(), due[0] + due[1]);
}

#[test]
fn a_closed_loop_that_thinks_sends_no_more_than_its_pauses_leave_time_for() {
    let _alone = alone();
    let server = serving(&["const:0"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "8", "--think", "50ms", "-z", "1s"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let requests = ran.arm("on")["requests"].as_u64().unwrap();
    // 8 connections, each at most once in 50 ms, and once more at the window's edge.
    assert!((80..=168).contains(&requests), "{requests}");
}

#[test]
fn a_run_of_so_many_requests_ends_with_its_last_response() {
    let _alone = alone();
    let server = serving(&["const:1ms"]);
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut loading(folder.path(), &server.url(), &["-c", "1", "-n", "5"]), folder.path());
    let arm = ran.arm("on");
    let mean = arm["response_ns"]["mean"].as_f64().unwrap() / 1e9;
    let busy = arm["requests_per_s"].as_f64().unwrap() * mean;
    // One connection, never without a request but for what lies between two.
    assert!((0.5..=1.05).contains(&busy), "{busy} {arm}");
    // Also where the first of several is back long before the last: one of them takes 300 ms.
    let server = serving(&["kth:4,1ms,300ms"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "4", "-n", "8", "--warm-up", "0"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let slot = &ran.result["slots"][0];
    let (slowest, lasts) =
        (ran.arm("on")["response_ns"]["max"].as_u64().unwrap(), slot["duration_ns"].as_u64().unwrap());
    assert!(slowest >= 300_000_000 && lasts >= slowest, "{lasts} {slowest}");
}

#[test]
fn the_time_and_the_processor_time_of_several_threads_are_those_of_all_requests() {
    let _alone = alone();
    // One of them takes 300 ms: the thread that has it is not the one that is done first.
    let server = serving(&["kth:4,1ms,300ms"]);
    for _ in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let words = ["-c", "2", "-t", "2", "-n", "2", "--warm-up", "0"];
        let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
        let (slowest, slot) =
            (ran.arm("on")["response_ns"]["max"].as_u64().unwrap(), &ran.result["slots"][0]);
        assert!(slot["duration_ns"].as_u64().unwrap() >= slowest, "{slowest} {slot}");
    }
    // Too short for anybody to look at the clock meanwhile.
    let server = serving(&["const:0"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "1", "-n", "20", "--warm-up", "0"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let cpu = ran.arm("on")["client_cpu_ns_per_request"].as_u64().unwrap();
    assert!((2_000..10_000_000).contains(&cpu), "{cpu}");
}

#[test]
fn a_target_that_falls_behind_is_not_said_to_answer_as_fast_as_it_is_asked() {
    let _alone = alone();
    // Half of what is offered: the other half is answered when the window has long been over.
    let server = serving(&["rate-cap:400"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "10", "-r", "800", "-z", "2s", "--warm-up", "0"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let arm = ran.arm("on");
    assert!(arm["completed"].as_u64().unwrap() > 1_500, "{arm}");
    let per_s = arm["requests_per_s"].as_f64().unwrap();
    assert!((360.0..=420.0).contains(&per_s), "{per_s}");
}

#[test]
fn a_warm_up_in_which_the_target_falls_ever_further_behind_is_said_not_to_have_been_steady() {
    let _alone = alone();
    // Each look's median is that of a longer queue than the one before.
    let server = serving(&["rate-cap:100"]);
    let folder = tempfile::tempdir().unwrap();
    let words = ["-c", "50", "-r", "130", "-z", "1s", "--warm-up", "400ms"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    assert!(ran.reasons().contains("arm `on` was not seen to be steady in the warm-up"), "{}", ran.reasons());
}

#[test]
fn a_search_brackets_the_rate_of_a_server_that_serves_so_many() {
    let _alone = alone();
    // A single server of 2.5 ms a request: at 400 a second it is full.
    let server = serving(&["rate-cap:400"]);
    let folder = tempfile::tempdir().unwrap();
    let words =
        ["--search", "p90<50ms", "--look", "500ms", "-z", "500ms", "--arrivals", "constant", "-c", "64"];
    let ran = run(&mut loading(folder.path(), &server.url(), &words), folder.path());
    let search = &ran.summary["search"];
    let passes = search["passes_at"].as_f64().unwrap_or_else(|| panic!("{search}"));
    // What the machine keeps from running may fail earlier; nothing passes that is too much: a backlog of 0.2 s of
    // 10 % more would have 50 ms after 0.5 s.
    assert!((200.0..470.0).contains(&passes), "{search}");
    assert!(search["ceiling"]["rate"].as_f64().unwrap() > passes, "{search}");
    let headline = ran.summary["headline"].as_str().unwrap();
    // The run that followed is longer than a look, and is told of as well.
    let p90 = ran.summary["arms"][0]["response_ns"]["p90"].as_u64().unwrap();
    let unmet = search["unmet"].is_string();
    assert!(unmet || p90 < 51_000_000, "{p90} {search}");
    let expected = match search["ceiling"]["generator"].as_bool().unwrap() {
        _ if unmet => "not in the run that followed",
        true => "the generator was the limit",
        false => "passes at",
    };
    assert!(headline.contains(expected), "{headline}");
}

#[test]
fn the_ledger_tells_how_much_a_connection_carried_and_how_idle_it_was_when_it_failed() {
    let _alone = alone();
    // Ten requests for each connection; the eleventh finds its connection reset, and is sent again.
    let peer = Scripted::start(|conn| {
        for _ in 0..10 {
            if conn.read_request().is_none() {
                return;
            }
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        conn.read_request();
        conn.reset();
    });
    let folder = tempfile::tempdir().unwrap();
    let words = ["-r", "50", "--arrivals", "constant", "-c", "1", "-n", "100"];
    let ran = run(&mut loading(folder.path(), &format!("http://{}/", peer.addr()), &words), folder.path());
    let arm = &ran.summary["arms"][0];
    let carried = &arm["connections"]["exchanges_per_connection"];
    let opened = arm["connections"]["opened"].as_u64().unwrap();
    assert_eq!((carried["n"].as_u64().unwrap(), carried["max"].as_u64().unwrap()), (opened, 11), "{carried}");
    let idle = &arm["idle_at_failure_ns"];
    assert!(idle["n"].as_u64().unwrap() >= 8, "{arm}");
    let (min, max) = (idle["min"].as_f64().unwrap() / 1e6, idle["max"].as_f64().unwrap() / 1e6);
    assert!(min > 1.0 && max < 200.0, "one request in 20 ms: {idle}");
}
