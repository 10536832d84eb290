use super::super::page::Style;
use super::super::prometheus_rules;
use super::*;
use crate::clock;
use crate::load::live::{Account, Sketch, Window};

/// What an arm had done after so many seconds of a minute at 1000 requests/s.
fn account(arm: &str, after: u64) -> Account {
    let mut counts = Counts::default();
    (counts.scheduled, counts.completed, counts.opened) = (after * 1_000 + 15, after * 1_000, 50);
    (counts.queued, counts.taken) = (after * 1_000 + 15, after * 1_000 + 12);
    (counts.started, counts.ended) = (counts.taken, after * 1_000);
    let times: Vec<_> = (0..after * 100).map(|nth| Duration::from_micros(500 + nth % 100 * 10)).collect();
    counts.response = Sketch::of(&times);
    counts.fail("reset", after / 10);
    Account { arm: arm.into(), measured: true, counts }
}

fn watch(arms: &[&str], requests: Option<u64>) -> Watch {
    let begin = clock::now();
    let mut watch = Watch::new(requests, Duration::from_secs(2));
    for after in 0..=10 {
        watch.see(Reading {
            at: begin + Duration::from_secs(after),
            window: Some(Window { opens: begin, lasts: Duration::from_secs(60) }),
            accounts: arms.iter().map(|arm| account(arm, after)).collect(),
        });
    }
    watch
}

#[test]
fn a_line_tells_how_far_the_run_is_and_what_happened_lately() {
    assert_eq!(
        watch(&["on"], None).line().unwrap(),
        "10 s of 60 s: 1,000 requests/s, 12 in flight, 3 waiting, p50 990 µs, p99 1.5 ms, 1 error, 50 connections \
         opened"
    );
    let counted = watch(&["on"], Some(20_000)).line().unwrap();
    assert!(counted.starts_with("10,001 of 20,000 requests: 1,000 requests/s"), "{counted}");
    assert_eq!(Watch::new(None, Duration::ZERO).line(), None);
}

#[test]
fn a_time_has_the_two_digits_that_are_known_of_it() {
    let about = |ns| about(Duration::from_nanos(ns));
    let told = [512, 31_400, 994_000, 996_000, 1_234_000, 12_340_000, 123_400_000, 61_000_000_000].map(about);
    assert_eq!(told, ["0.5 µs", "31 µs", "990 µs", "1.0 ms", "1.2 ms", "12 ms", "120 ms", "61 s"]);
}

#[test]
fn a_quiet_target_has_no_quantiles_and_a_short_window_has_tenths_of_seconds() {
    let mut watch = Watch::new(None, Duration::ZERO);
    let opens = clock::now();
    for after in [0, 500] {
        let lasts = Duration::from_millis(1_500);
        let at = opens + Duration::from_millis(after);
        watch.see(Reading { at, window: Some(Window { opens, lasts }), accounts: Vec::new() });
    }
    let line = "0.5 s of 1.5 s: 0 requests/s, 0 in flight, 0 errors, 0 connections opened";
    assert_eq!(watch.line().unwrap(), line);
}

#[test]
fn the_view_shows_the_last_seconds_and_every_arm_of_several() {
    let now = Now {
        doing: "round 2 of 20, arm on".into(),
        left: Some(Duration::from_secs(30)),
        of: Some(Duration::from_secs(40)),
        stopping: false,
    };
    let lines = view(&watch(&["on", "off"], None), &now, Style { colour: false, width: 72 });
    assert_eq!(lines[0], "round 2 of 20, arm on, 30 s left");
    assert_eq!(lines[1], format!("{}{}", "━".repeat(18), "─".repeat(54)));
    assert_eq!(lines[2], "requests/s 2,000          ██████████");
    assert_eq!(lines[3], "p50        990 µs         ██████████");
    assert_eq!(lines[5], "in flight  24             6 waiting");
    assert_eq!(lines[6], "errors     2              reset 2");
    assert_eq!(lines[8], "on         10,000 answered, p50 990 µs, p99 1.5 ms, 1 error, 50 opened");
    assert_eq!(lines.len(), 10);
}

#[test]
fn a_view_stays_within_any_terminal_and_has_no_escapes_where_no_colour_is_wanted() {
    let now =
        Now { left: Some(Duration::from_secs(50)), of: Some(Duration::from_secs(60)), ..Now::default() };
    let watch = watch(&["on", "off"], None);
    for width in 0..100 {
        let lines = view(&watch, &now, Style { colour: false, width });
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{width}: {lines:#?}");
        assert!(!lines.concat().contains('\x1b'));
    }
    assert!(view(&watch, &now, Style { colour: true, width: 60 }).concat().contains("\x1b[31m"));
}

#[test]
fn metrics_keep_the_formats_rules_and_name_every_arm_and_every_way_to_fail() {
    let at = clock::now();
    let accounts =
        vec![account("on", 20), account("a\"b", 10), Account { measured: false, ..account("on", 5) }];
    let samples = prometheus_rules::read(&prometheus(&Reading { at, window: None, accounts }));
    assert_eq!(samples["keeplive_completed_total{arm=\"on\"}"], 20_000.0);
    assert_eq!(samples["keeplive_failed_total{arm=\"on\",kind=\"reset\"}"], 2.0);
    assert_eq!(samples["keeplive_failed_total{arm=\"on\",kind=\"status_5xx\"}"], 0.0);
    assert_eq!(samples["keeplive_response_seconds_count{arm=\"a\\\"b\"}"], 1_000.0);
    assert_eq!(samples["keeplive_in_flight"], 36.0);
    let half = samples["keeplive_response_seconds_bucket{arm=\"on\",le=\"0.001048576\"}"];
    assert_eq!(half, 2_000.0 * 0.55);
}
