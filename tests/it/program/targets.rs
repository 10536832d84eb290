//! Targets that misbehave: each gives the right report.

use std::path::Path;
use std::process::{Command, Stdio};

use keeplive::server::{Behaviour, Running, Server};

use super::{alone, program, run, run_until_valid, short};
use crate::pool::certificates::demanding_members;
use crate::support::scripted::Scripted;

fn against(url: &str, folder: &Path) -> Command {
    let mut command = program();
    short(&mut command, folder);
    command.args(["--rate", "100", url]);
    command
}

fn server(behaviour: Behaviour) -> Running {
    Server::new(behaviour).start().unwrap()
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_server_that_ignores_connection_close_is_never_reused_by_the_off_arm() {
    let _alone = alone();
    let peer = Scripted::start(|connection| {
        while connection.read_request().is_some() {
            connection.write(ANSWER);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut against(&format!("http://{}/", peer.addr()), folder.path()), folder.path());
    let off = ran.arm("off");
    assert_eq!(off["connections"]["reused"], 0);
    assert_eq!(off["connections"]["opened"], off["connections"]["exchanges"]);
    assert_eq!(off["connections"]["closed_first"], off["connections"]["opened"]);
    assert!(ran.reasons().contains("does not close"), "{}", ran.reasons());
    let closing =
        |request: &[u8]| request.windows(17).any(|words| words.eq_ignore_ascii_case(b"connection: close"));
    let received = peer.received();
    let closed: Vec<usize> =
        received.iter().filter(|one| closing(&one.request)).map(|one| one.connection).collect();
    let mut once = closed.clone();
    once.dedup();
    assert_eq!(closed, once, "every Connection: close was its connection's only request");
}

#[test]
fn an_override_leads_every_request_to_its_address_and_leaves_the_name() {
    let _alone = alone();
    let peer = Scripted::start(|connection| {
        while connection.read_request().is_some() {
            connection.write(ANSWER);
        }
    });
    let port = peer.addr().port();
    let folder = tempfile::tempdir().unwrap();
    let mut command = against(&format!("http://name.test:{port}/"), folder.path());
    command.args(["--resolve", &format!("Name.Test:{port}:127.0.0.1")]);
    let ran = run(&mut command, folder.path());
    assert_eq!(ran.summary["target"]["address"], peer.addr().to_string(), "{}", ran.stderr);
    let host = format!("host: name.test:{port}\r\n");
    let received = peer.received();
    assert!(received.iter().all(|one| String::from_utf8_lossy(&one.request).contains(&host)));
    assert_eq!(received.len() as u64, ran.total("exchanges"));
    let slots = ran.result["slots"].as_array().unwrap();
    assert!(slots.iter().all(|slot| slot["phases"]["dns_ns"] == 0), "nobody was asked for name.test");
}

#[test]
fn a_server_that_demands_a_certificate_is_measured_with_one() {
    let _alone = alone();
    let server = demanding_members();
    let folder = tempfile::tempdir().unwrap();
    // Beside the folder for results, not in it.
    let file = folder.path().with_extension("both.pem");
    std::fs::write(&file, server.member_pem).unwrap();
    let mut command = against(&server.url, folder.path());
    command.arg("-k").arg("--cert").arg(&file);
    let ran = run(&mut command, folder.path());
    std::fs::remove_file(&file).unwrap();
    assert!(ran.arm("on")["requests"].as_u64().unwrap() > 0, "{}", ran.stderr);
    assert_eq!(ran.arm("on")["errors"], serde_json::json!({}));
    let without = against(&server.url, folder.path()).arg("-k").output().unwrap();
    let said = String::from_utf8(without.stderr).unwrap();
    assert!(without.status.code() == Some(2) && said.contains("demands a client certificate"), "{said}");
}

#[test]
fn a_server_that_refuses_keep_alive_makes_the_comparison_invalid_and_is_named() {
    let _alone = alone();
    let server = server(Behaviour::default().keep_alive(false));
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut against(&server.url(), folder.path()), folder.path());
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert_eq!(ran.summary["validity"]["ok"], false);
    assert!(ran.reasons().contains("does not keep connections open"), "{}", ran.reasons());
}

#[test]
fn a_server_that_resets_every_tenth_connection_shows_a_tenth_of_errors_in_the_off_arm() {
    let _alone = alone();
    let server = server(Behaviour::default().reset_every(10));
    let ran = run_until_valid(|folder| against(&server.url(), folder));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.reasons());
    let off = ran.arm("off");
    let errors: u64 = off["errors"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let share = errors as f64 / off["requests"].as_f64().unwrap();
    assert!((0.05..0.15).contains(&share), "{off}");
    let kinds: Vec<&String> = off["errors"].as_object().unwrap().keys().collect();
    assert!(kinds.iter().all(|kind| ["reset", "no_response"].contains(&kind.as_str())), "{kinds:?}");
}

#[test]
fn a_server_that_stops_answering_ends_the_run_early_with_what_was_measured() {
    let _alone = alone();
    // Enough for the first look, the warm-up and the first slots; it is the only request on its connection.
    let server = server(Behaviour::default().stall_after(400));
    let folder = tempfile::tempdir().unwrap();
    let mut command = against(&server.url(), folder.path());
    command.args(["--max-time", "300ms", "-c", "4", "--rounds", "40"]);
    let ran = run(&mut command, folder.path());
    let text = ran.summary.to_string();
    assert!(text.contains("answered nothing any more") || text.contains("timeout"), "{text}");
    assert!(ran.result["slots"].as_array().unwrap().len() < 80, "ended early");
}

#[test]
fn error_statuses_are_counted_as_errors_and_still_measured() {
    let _alone = alone();
    let server = server(Behaviour::default().status(503));
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut against(&server.url(), folder.path()), folder.path());
    assert_eq!(ran.code, Some(4), "{}\n{}", ran.stderr, ran.reasons());
    assert!(ran.reasons().contains("had no good answer"), "{}", ran.reasons());
    assert_eq!(ran.arm("on")["errors"]["status_5xx"], ran.arm("on")["requests"]);
    assert!(ran.reasons().contains("status 503"), "{}", ran.reasons());
}

#[test]
fn ctrl_c_before_the_first_answer_exits_130_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut command = program();
    command
        .args(["compare", "--max-time", "60s", "--allow-invalid", "--format", "json", "--out"])
        .arg(folder.path())
        .arg(url);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It is connected to, and asks.
    let _connection = listener.accept().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["interrupted"], true);
}

#[test]
fn ctrl_c_prints_and_saves_what_was_measured_and_exits_130() {
    use std::io::{BufRead, BufReader, Read};
    let _alone = alone();
    let server = server(Behaviour::default());
    // While it looks for the capacity, and in the middle of the rounds; before an answer, see below.
    for moment in ["warming up", "round 1 "] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program();
        command
            .args(["compare", "--rounds", "200", "--allow-invalid", "--format", "json", "--out"])
            .arg(folder.path());
        command.arg(server.url()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(moment)));
        assert!(said.is_some(), "it never said {moment:?}");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        lines.for_each(drop);
        let mut stdout = String::new();
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{moment}");
        let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(summary["schema"], "keeplive.summary/1");
        assert_eq!(super::saved(folder.path())["interrupted"], true, "{moment}");
    }
}

#[test]
fn an_invalid_run_tells_no_number_unless_they_are_asked_for_and_ends_with_4_in_both_cases() {
    let _alone = alone();
    let server = server(Behaviour::default().keep_alive(false));
    let folder = tempfile::tempdir().unwrap();
    let words = ["compare", "--rounds", "6", "--slot", "100ms", "--rate", "100", "--seed", "1", "--format"];
    let compare = |format: &str, more: &[&str]| {
        let mut command = program();
        command.args(words).args([format, &server.url(), "--out"]).arg(folder.path()).args(more);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = compare("text", &[]);
    assert!(text.starts_with("Invalid:") && text.contains("does not keep connections open"), "{text}");
    assert!(text.contains("--allow-invalid") && !text.contains("p99"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&compare("json", &[])).unwrap();
    assert_eq!((&json["valid"], &json["arms"]), (&false.into(), &serde_json::json!([])));
    assert!(json["validity"]["reasons"].to_string().contains("does not keep connections open"));
    assert_eq!(compare("csv", &[]), "", "it has a place for numbers only");
    let page = folder.path().with_extension("html");
    let allowed = compare("text", &["--allow-invalid"]);
    assert!(allowed.contains("not to be trusted") && allowed.contains("p99"), "{allowed}");
    compare("text", &["--html", page.to_str().unwrap()]);
    let written = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(page).unwrap();
    assert!(written.contains("--allow-invalid") && !written.contains("<svg"), "no pictures");

    let saved = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let report = |more: &[&str]| {
        let output = program().arg("report").arg(&saved).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap().contains("p99"))
    };
    assert_eq!((report(&[]), report(&["--allow-invalid"])), ((Some(4), false), (Some(4), true)));
}

#[test]
fn a_server_that_writes_twice_is_told_by_its_delayed_acknowledgements() {
    let _alone = alone();
    let peer = server(Behaviour::default().profile("two-write:2ms".parse().unwrap()));
    let at_once = server(Behaviour::default().profile("const:2ms".parse().unwrap()));
    let compared = |peer: &Running| {
        let folder = tempfile::tempdir().unwrap();
        run(against(&peer.url(), folder.path()).args(["-c", "8"]), folder.path())
    };
    let ran = compared(&peer);
    let sign = &ran.summary["delayed_ack"];
    assert_eq!((&sign["arm"], &sign["against"]), (&"on".into(), &"off".into()), "{}", ran.summary["arms"]);
    assert!((38e6..60e6).contains(&sign["median_ns"].as_f64().unwrap()), "{sign}");
    assert!(ran.summary["headline"].as_str().unwrap().contains("set TCP_NODELAY in the server"));
    assert!(
        ran.summary["validity"]["notes"].to_string().contains("one delayed acknowledgement (40 ms) later")
    );
    assert!(compared(&at_once).summary["delayed_ack"].is_null());
}

#[test]
fn a_load_names_the_delayed_acknowledgements_that_it_seems_to_meet() {
    let _alone = alone();
    let notes = |profile: &str| {
        let server = server(Behaviour::default().profile(profile.parse().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let mut load = program();
        load.args([
            "load",
            &server.url(),
            "-c",
            "8",
            "-z",
            "1s",
            "--warm-up",
            "100ms",
            "--format",
            "json",
            "--out",
        ]);
        let output = load.arg(folder.path()).output().unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a summary");
        summary["validity"]["notes"].to_string()
    };
    let told = notes("two-write:2ms");
    assert!(told.contains("as late as a delayed acknowledgement (40 ms)"), "{told}");
    assert!(told.contains("TCP_NODELAY") && told.contains("keeplive compare"), "{told}");
    assert!(!told.contains("  "), "{told}");
    let told = notes("const:41ms");
    assert!(!told.contains("acknowledgement"), "new connections take as long: {told}");
}
