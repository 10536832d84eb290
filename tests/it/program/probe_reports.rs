//! `keeplive report` of what a probe saved: its forms, and what its exit code says.

use std::process::Output;
use std::time::Duration;

use keeplive::server::{Behaviour, Server};

use super::browser::open;
use super::program;

/// What a probe of an nginx with a timer of 75 s saved.
const SAVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/probe/golden/nginx.json");

fn report(arguments: &[&str]) -> Output {
    program().args(["report", SAVED]).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_saved_probe_is_shown_again_in_every_form() {
    let output = report(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).starts_with("This path keeps an idle connection for 75.02 s"), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_str(&text(&report(&["--format", "json"]))).unwrap();
    assert_eq!(json["schema"], "keeplive.probe/1");
    assert_eq!(json["recommendation"]["client_idle_timeout_ns"], 74_000_000_000_u64);
    let html = text(&report(&["--format", "html"]));
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    let junit = text(&report(&["--format", "junit", "--expect-idle", ">=60s"]));
    assert!(junit.contains("<testcase name=\"idle &gt;=60s\""), "{junit}");
}

#[test]
fn the_exit_code_says_whether_what_was_demanded_holds() {
    for (arguments, code) in [
        (["--expect-idle", ">=60s"], 0),
        (["--expect-idle", ">=80s"], 1),
        (["--expect-idle", ">75s"], 3),
        (["--expect-close", "fin"], 0),
        (["--expect-close", "silent"], 1),
        (["--expect-requests", ">=1000"], 0),
        (["--expect-requests", ">1000"], 1),
        (["--client-idle", "60s"], 0),
        (["--client-idle", "90s"], 1),
    ] {
        assert_eq!(report(&arguments).status.code(), Some(code), "{arguments:?}");
    }
    let range = ["--expect-idle", ">=80s", "--expect-idle", "<=90s"];
    assert_eq!(report(&range).status.code(), Some(1), "each of several counts, not only the last");
}

#[test]
fn what_cannot_be_demanded_is_refused_with_an_example() {
    for (arguments, cure) in [
        (["--expect-idle", "60s"], "write '>=60s'"),
        (["--expect-close", "bye"], "write fin, rst, 408"),
        (["--expect-requests", "many"], "write '>=1000'"),
        (["--client-idle", "soon"], "write 2.5 (seconds)"),
        (["--gap", "30s"], "--client-idle"),
    ] {
        let output = report(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said.contains(cure), "{arguments:?}: {said}");
    }
}

#[test]
fn the_html_page_opens_in_a_browser_without_an_error_and_without_the_network() {
    let page = text(&report(&["--format", "html", "--client-idle", "90s"]));
    let opened = open(&page);
    assert!(opened.dom.contains("This path keeps an idle connection for 75.02"), "{}", opened.dom);
    assert!(opened.dom.contains("<svg"), "{}", opened.dom);
    assert_eq!((opened.console, opened.asked_for), (vec![], vec![]));
}

#[test]
fn the_page_of_a_soak_opens_in_a_browser_without_an_error_and_without_the_network() {
    let server = Server::new(Behaviour::default().idle_timeout(Duration::from_millis(500))).start().unwrap();
    let output = program()
        .args(["soak", &server.url(), "--idle", "900ms", "-c", "5", "--no-save", "--format", "html"])
        .output()
        .unwrap();
    let opened = open(&text(&output));
    assert!(opened.dom.contains("all 5 connections were lost"), "{}", opened.dom);
    assert_eq!((opened.console, opened.asked_for), (vec![], vec![]));
}

#[test]
fn a_page_that_loads_something_or_complains_would_be_noticed() {
    let opened = open("<script>console.log('here')</script><img src='http://127.0.0.1:1/picture.png'>");
    assert!(opened.console.iter().any(|line| line.contains("here")), "{:?}", opened.console);
    assert!(opened.asked_for.iter().any(|line| line.contains("picture.png")), "{:?}", opened.asked_for);
}
