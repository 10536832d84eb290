use super::*;
use crate::compare::samples;
use crate::gate::metric::Metric;
use crate::gate::session::{BASE, Gated, HEAD, Session};
use crate::report::terminal::Style;

fn gate(head_ms: f64, rounds: u32, is_starved: bool) -> Gate {
    let mut measurement = samples::run(rounds, 500).arm(BASE, 1.0).arm(HEAD, head_ms).measurement();
    for slot in &mut measurement.slots {
        slot.client.run_queue_ns = if is_starved { slot.client.wall_ns } else { 0 };
    }
    let gated = [Metric::P50, Metric::Errors].map(|metric| Gated { metric, demand: metric.demand() });
    let session = Session::new(gated.to_vec(), 30).unwrap();
    let findings = session.look(&measurement.slots);
    Gate::paired(measurement, &session, &findings, vec!["p99 cannot be gated: <too thin>".into()], false)
}

fn junit(gate: &Gate) -> quick_junit::Report {
    let mut bytes = Vec::new();
    junit::write(gate, &mut bytes).unwrap();
    quick_junit::Report::deserialize(&bytes[..]).expect("it is JUnit's XML")
}

/// How a reader of JUnit sees the case of p50.
fn status_of_p50(gate: &Gate) -> quick_junit::TestCaseStatus {
    let suite = junit(gate).test_suites.remove(0);
    suite.test_cases.into_iter().find(|case| case.name.as_str() == "p50").unwrap().status
}

#[test]
fn in_junit_a_regression_failed_what_is_open_was_skipped_and_what_is_invalid_is_an_error() {
    use quick_junit::{NonSuccessKind, TestCaseStatus};
    assert!(matches!(status_of_p50(&gate(1.0, 30, false)), TestCaseStatus::Success { .. }));
    let TestCaseStatus::NonSuccess { kind, message, .. } = status_of_p50(&gate(1.5, 30, false)) else {
        panic!("a regression is no success")
    };
    assert_eq!(kind, NonSuccessKind::Failure);
    assert!(message.unwrap().as_str().contains("p50 is worse by at least"));
    assert!(matches!(status_of_p50(&gate(1.5, 4, false)), TestCaseStatus::Skipped { .. }));
    let TestCaseStatus::NonSuccess { kind, message, .. } = status_of_p50(&gate(1.5, 30, true)) else {
        panic!("what is invalid is no success")
    };
    assert_eq!(kind, NonSuccessKind::Error);
    assert!(message.unwrap().as_str().starts_with("INVALID: "));
}

#[test]
fn a_terminal_shows_the_verdict_first_each_metric_and_no_line_that_is_too_wide() {
    let mut bytes = Vec::new();
    terminal::write(&gate(1.5, 30, false), Style { colour: false, width: 80 }, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("REGRESSED: p50 is worse by at least"), "{text}");
    assert!(
        text.contains("✓ the error rate is worse by at most 0.03 points (95 % confidence; 1 points"),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.starts_with("p50 ") && line.contains("ms") && line.contains("+50")),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn markdown_has_a_row_for_each_metric_and_nothing_in_it_is_markup() {
    let mut bytes = Vec::new();
    markdown::write(&gate(1.5, 30, false), &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("### ❌ keeplive gate: REGRESSED: p50"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.matches('|').count() == 7), "{text}");
    assert!(text.contains("&lt;too thin&gt;") && !text.contains("<too"), "{text}");
}
