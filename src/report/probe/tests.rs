//! Whole reports of typical findings, word for word, and what holds for all of them.

use serde_json::Value;

use super::*;
use crate::advice::samples::{layer, longer, nothing, seconds, several, spread, timer, unstable};
use crate::findings::{
    Behind, Caveat, CaveatKind, CloseKind, Ended, FirstRequest, LayerVerdict, MaxRequests, Tally,
};
use crate::report::terminal::Style;

/// Everything that a web team may ask of an nginx.
fn nginx() -> (Findings, Questions) {
    let mut findings = timer(75.0, CloseKind::Fin);
    findings.first_request_timeout = Some(FirstRequest {
        after_tcp: Some(Ended {
            lower: seconds(59.9),
            upper: Some(seconds(60.1)),
            close: Some(CloseKind::Fin),
            samples: 3,
        }),
        after_tls: None,
    });
    findings.max_requests = Some(MaxRequests {
        value: Some(1000),
        announced: true,
        counted_down: false,
        tried: 2000,
        repeated: true,
    });
    let text = "the name has 1 other address, which was not probed: 192.0.2.2".into();
    findings.caveats = vec![Caveat { kind: CaveatKind::OtherAddresses, text }];
    let questions = Questions {
        client_idle: Some(seconds(90.0)),
        gap: Some(seconds(30.0)),
        expectations: vec![
            Expectation::idle(">=60s").unwrap(),
            Expectation::close("rst").unwrap(),
            Expectation::requests(">=1000").unwrap(),
        ],
    };
    (findings, questions)
}

fn nat() -> Findings {
    let mut findings = timer(350.0, CloseKind::Silent);
    findings.target.server = None;
    findings.layer = Some(layer(LayerVerdict::Packets, 350.0));
    findings
}

fn not_kept() -> Findings {
    let mut findings = nothing();
    findings.idle_timeout.verdict = Verdict::NotKept;
    findings
}

fn with_408() -> Findings {
    let mut findings = timer(10.0, CloseKind::Answered408);
    findings.target.server = None;
    findings.layer = Some(layer(LayerVerdict::Http, 10.0));
    findings
}

fn chain() -> Findings {
    let mut findings = timer(60.0, CloseKind::Fin);
    findings.behind = Some(Behind {
        statuses: vec![502],
        from: seconds(5.1),
        seen: Tally { hits: 6, of: 7 },
        lost: Tally::default(),
        redial: None,
    });
    findings
}

fn all() -> Vec<(&'static str, &'static str, Findings, Questions)> {
    let plain = Questions::default;
    let (nginx, questions) = nginx();
    vec![
        ("nginx", include_str!("golden/nginx.txt"), nginx, questions),
        ("nat", include_str!("golden/nat.txt"), nat(), plain()),
        ("longer", include_str!("golden/longer.txt"), longer(), plain()),
        ("several", include_str!("golden/several.txt"), several(), plain()),
        ("unstable", include_str!("golden/unstable.txt"), unstable(), plain()),
        ("not_kept", include_str!("golden/not_kept.txt"), not_kept(), plain()),
        ("with_408", include_str!("golden/with_408.txt"), with_408(), plain()),
        ("chain", include_str!("golden/chain.txt"), chain(), plain()),
        ("nothing", include_str!("golden/nothing.txt"), nothing(), plain()),
    ]
}

fn text(report: &Report, width: u16) -> String {
    let mut out = Vec::new();
    terminal::write(report, Style { colour: false, width }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// `KEEPLIVE_GOLDEN=write cargo test --lib golden` writes the files anew, to be read and committed.
#[test]
fn every_kind_of_findings_reads_as_in_its_golden_file() {
    for (name, golden, findings, questions) in all() {
        let report = Report::new(&findings, &questions);
        let text = text(&report, 80);
        let document = serde_json::to_string_pretty(&json::document(&report)).unwrap() + "\n";
        if std::env::var_os("KEEPLIVE_GOLDEN").is_some_and(|it| it == "write") {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/probe/golden");
            std::fs::write(format!("{folder}/{name}.txt"), &text).unwrap();
            if name == "nginx" {
                std::fs::write(format!("{folder}/{name}.json"), &document).unwrap();
            }
            continue;
        }
        assert_eq!(text, golden, "{name}");
        if name == "nginx" {
            assert_eq!(document, include_str!("golden/nginx.json"));
        }
    }
}

#[test]
fn no_line_is_wider_than_asked_whatever_the_server_calls_itself() {
    for (name, _, mut findings, questions) in all() {
        findings.target.server = Some("x".repeat(300));
        findings.caveats = vec![Caveat { kind: CaveatKind::Other, text: "y".repeat(200) }];
        for width in [40, 80, 100] {
            for line in text(&Report::new(&findings, &questions), width).lines() {
                assert!(line.chars().count() <= usize::from(width), "{name} {width}: {line}");
            }
        }
    }
}

#[test]
fn the_json_report_has_the_agreed_keys_and_is_read_back_as_the_same_findings() {
    for (name, _, findings, questions) in all() {
        let report = Report::new(&findings, &questions);
        let document = serde_json::to_value(json::document(&report)).unwrap();
        for key in [
            "schema",
            "idle_timeout",
            "first_request_timeout",
            "max_requests",
            "max_lifetime",
            "advertised",
            "layer",
            "recommendation",
            "raw",
        ] {
            assert!(document.get(key).is_some(), "{name}: no {key}");
        }
        for pointer in ["lower_ns", "upper_ns", "close", "samples"].map(|key| format!("/idle_timeout/{key}"))
        {
            assert!(document.pointer(&pointer).is_some(), "{name}: no {pointer}");
        }
        assert!(document.pointer("/recommendation/client_idle_timeout_ns").is_some(), "{name}");
        assert!(document.pointer("/recommendation/reasons").is_some_and(Value::is_array), "{name}");
        let again: Findings = serde_json::from_value(document).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&findings).unwrap(), "{name}");
    }
}

#[test]
fn saved_findings_are_read_back_and_so_is_their_json_report() {
    let folder = tempfile::tempdir().unwrap();
    let (findings, questions) = nginx();
    let path = findings.save(folder.path()).unwrap();
    assert!(path.ends_with("20261122T120000Z-probe.json"), "{}", path.display());
    let as_json = |findings: &Findings| serde_json::to_value(findings).unwrap();
    assert_eq!(as_json(&Findings::load(&path).unwrap()), as_json(&findings));
    let report = folder.path().join("report.json");
    let document = serde_json::to_vec(&json::document(&Report::new(&findings, &questions))).unwrap();
    std::fs::write(&report, document).unwrap();
    assert_eq!(as_json(&Findings::load(&report).unwrap()), as_json(&findings));
}

#[test]
fn junit_has_a_case_for_each_demand_and_the_judged_setting_and_an_open_one_is_an_error() {
    let (findings, mut questions) = nginx();
    questions.expectations.push(Expectation::idle(">75s").unwrap());
    let mut out = Vec::new();
    junit::write(&Report::new(&findings, &questions), &mut out).unwrap();
    let read = quick_junit::Report::deserialize(std::io::Cursor::new(&out)).unwrap();
    let suite = &read.test_suites[0];
    assert_eq!((suite.tests, suite.failures, suite.errors), (5, 2, 1));
    let failed = String::from_utf8(out).unwrap();
    assert!(failed.contains("idle connections end with a FIN"), "{failed}");
}

#[test]
fn one_failure_fails_the_whole_and_one_open_question_keeps_it_from_passing() {
    let findings = timer(75.0, CloseKind::Fin);
    let outcome = |idle: &[&str], client: Option<f64>| {
        let expectations = idle.iter().map(|text| Expectation::idle(text).unwrap()).collect();
        let questions = Questions { expectations, client_idle: client.map(seconds), gap: None };
        Report::new(&findings, &questions).outcome()
    };
    assert_eq!(outcome(&[], None), Outcome::Holds);
    assert_eq!(outcome(&[">=60s"], Some(60.0)), Outcome::Holds);
    assert_eq!(outcome(&[">=60s", ">75s"], None), Outcome::Undecided);
    assert_eq!(outcome(&[">75s", ">=80s"], None), Outcome::Fails);
    assert_eq!(outcome(&[], Some(90.0)), Outcome::Fails);
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let (mut findings, questions) = nginx();
    let evil = "<script>alert(1)</script>\"'&";
    findings.target.server = Some(evil.into());
    findings.target.url = format!("http://example.test/{evil}");
    findings.caveats[0].text = evil.into();
    findings.command = vec![evil.into()];
    let page = html::page(&Report::new(&findings, &questions));
    assert!(!page.contains("<script"), "a script got in");
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn a_page_is_one_file_that_loads_nothing() {
    for (name, _, findings, questions) in all() {
        let page = html::page(&Report::new(&findings, &questions));
        assert!(page.contains("default-src 'none'"), "{name}");
        let outside = page.replace("http://www.w3.org/2000/svg", "").replace("data:,", "");
        for loads in ["<script", "<link rel=\"stylesheet", "src=", "@import", "url("] {
            assert!(!outside.contains(loads), "{name}: {loads}");
        }
    }
}

#[test]
fn the_picture_tells_by_shape_as_well_as_by_colour_and_in_words() {
    let (findings, questions) = nginx();
    let report = Report::new(&findings, &questions);
    let page = html::page(&report).replace('\u{a0}', " ");
    assert!(
        page.contains("23 alive (idle for 15–74.5 s), 27 ended with a FIN (idle for 75–97.5 s)"),
        "{page}"
    );
    let svg = picture::svg(&findings, &report.recommendation, picture::View::Whole, 760).unwrap();
    let circles = svg.matches("<circle").count();
    assert_eq!(circles, 23, "one for each that lived");
    assert!(svg.matches("<polygon").count() >= 27, "one for each that died");
    let near = picture::svg(&findings, &report.recommendation, picture::View::AroundTheTimer, 760).unwrap();
    assert_eq!(near.matches("<circle").count(), 20, "those that were confirmed to be alive");
}

#[test]
fn a_race_window_and_a_lifetime_have_their_words() {
    let mut findings = timer(75.0, CloseKind::Fin);
    findings.race_window =
        Some(crate::findings::RaceWindow { width: Some(seconds(0.04)), lost: Tally { hits: 3, of: 20 } });
    findings.max_lifetime = Some(crate::findings::MaxLifetime {
        ended: Some(spread(3, 3600.0, 3601.0, 3610.0)),
        announced: false,
        tried: seconds(4000.0),
    });
    let text = text(&Report::new(&findings, &Questions::default()), 100);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("requests are lost from 40 ms before the close on: 3 of 20"), "{text}");
    assert!(text.contains("3600–3610 s (3 connections), not announced"), "{text}");
    assert!(text.contains("retire connections at 3599 s"), "{text}");
}
