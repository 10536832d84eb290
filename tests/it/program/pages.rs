//! Measurements as pages: what a browser makes of them.

use std::process::Command;

use super::browser::{Opened, open};
use super::{alone, program, short};
use keeplive::server::{Behaviour, Profile, Server};

/// Both widths of each picture stand in the page, and each is told in words.
fn pictures(opened: &Opened) -> usize {
    let pictures = opened.dom.matches("role=\"img\"").count();
    assert_eq!(
        opened.dom.matches("<svg").count() - opened.dom.matches("<li><span aria-hidden").count(),
        pictures
    );
    let told = opened.dom.split("role=\"img\" aria-label=\"").skip(1);
    assert!(
        told.filter(|text| text.split('"').next().is_some_and(|words| words.len() > 40)).count() == pictures
    );
    pictures / 2
}

fn page(command: &mut Command, folder: &std::path::Path) -> String {
    let file = folder.join("page.html");
    let output = command.arg("--html").arg(&file).args(["--no-save", "--allow-invalid"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(&file).unwrap()
}

#[test]
fn a_comparisons_page_shows_every_picture_without_an_error_and_without_the_network() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["compare", "--rounds", "6", "--slot", "150ms", "--washout", "30ms", "--seed", "1"]);
    command.args(["--rate", "400"]);
    let opened = open(&page(&mut command, folder.path()));
    // histograms, percentiles, two differences, phases, over time, connections
    assert_eq!(pictures(&opened), 7);
    assert!(opened.dom.contains("Keep-alive "), "{}", opened.dom);
    assert_eq!((opened.console, opened.asked_for), (vec![], vec![]));
}

#[test]
fn a_loads_page_shows_every_second_and_its_failures() {
    let _alone = alone();
    let behaviour = Behaviour::default().profile("error:10".parse::<Profile>().unwrap());
    let server = Server::new(behaviour).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["load", &server.url(), "-z", "3s", "--rate", "300"]);
    let opened = open(&page(&mut command, folder.path()));
    assert_eq!(pictures(&opened), 5);
    assert!(opened.dom.contains("failed/s\n</text>"), "{}", opened.dom);
    assert_eq!((opened.console, opened.asked_for), (vec![], vec![]));
}

#[test]
fn a_gates_page_opens_with_the_verdict_and_each_metric_and_then_shows_what_was_measured() {
    let _alone = alone();
    let server = Server::new(Behaviour::default().profile("const:1ms".parse::<Profile>().unwrap()));
    let server = server.start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (html, results) = (folder.path().join("gate.html"), folder.path().join("results"));
    let mut command = program();
    command.args([
        "gate",
        "--base",
        &server.url(),
        "--head",
        &server.url(),
        "--metric",
        "p50",
        "--seed",
        "1",
    ]);
    command.args(["--budget", "3s", "--slot", "60ms", "--washout", "20ms", "--rate", "300", "-c", "4"]);
    let output = command.arg("--html").arg(&html).arg("--out").arg(&results).output().unwrap();
    assert!(output.status.code() != Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read_to_string(&html).unwrap();
    let opened = open(&written);
    assert!(pictures(&opened) >= 5, "{}", pictures(&opened));
    let verdict = opened.dom.find("Has it become worse?").unwrap();
    assert!(verdict < opened.dom.find("How it was measured").unwrap());
    assert!(opened.dom.contains("worse by") && opened.dom.contains("could find"));
    assert_eq!((opened.console, opened.asked_for), (vec![], vec![]));

    let saved = std::fs::read_dir(results).unwrap().next().unwrap().unwrap().path();
    let again = program().args(["report", "--format", "html"]).arg(saved).output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap().trim_end(), written.trim_end());
}

#[test]
fn a_page_that_cannot_be_written_is_an_error_and_loses_no_result() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let mut command = program();
    short(&mut command, &out);
    // A folder that is there, and in which nobody can make a file.
    let output = command.args(["--rate", "100", "--html", "/proc/page.html"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not write"));
    assert_eq!(std::fs::read_dir(out).unwrap().count(), 1);
}

/// Two results of this repository's own, saved by an earlier version: an old result stays readable.
#[test]
fn saved_results_stand_side_by_side_and_the_page_opens_without_an_error() {
    let results = concat!(env!("CARGO_MANIFEST_DIR"), "/results/2026-11-22-6166aeb");
    let files = ["embedded", "nginx-tls13"].map(|name| format!("{results}/{name}.json"));
    let output = program().arg("report").args(&files).args(["--format", "html"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let opened = open(&String::from_utf8(output.stdout).unwrap());
    assert!(opened.dom.contains("would mislead") && opened.dom.contains("plan.model.rate"));
    assert_eq!((opened.console, opened.asked_for), (vec![], vec![]));
    let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/probe/golden/nginx.json");
    let output = program().arg("report").args([&files[0], probe]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("only results of `keeplive compare` and `load`")
    );
}
