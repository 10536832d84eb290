//! What is advised, and that nothing is made up.

use proptest::prelude::*;

use super::samples::{layer, longer, nothing, seconds, several, spread, timer, unstable};
use super::*;
use crate::findings::{Advertised, Behind, MaxRequests, RaceWindow};

fn said(advice: &Recommendation) -> String {
    advice.reasons.join("\n")
}

#[test]
fn a_pool_stays_below_the_timer_by_the_margin() {
    let advice = recommend(&timer(75.0, CloseKind::Fin));
    assert_eq!(advice.client_idle_timeout, Some(seconds(74.0)));
    assert_eq!(advice.margin, Some(seconds(1.0)));
    assert!(advice.reasons[0].starts_with("74 s stays below the 75 s"), "{}", said(&advice));
    assert!(said(&advice).contains("at most 1 in 6"), "{}", said(&advice));
    assert!(said(&advice).contains("fewer than 14 in 100"), "{}", said(&advice));
}

#[test]
fn a_long_way_and_a_spread_timer_widen_the_margin() {
    let mut findings = timer(60.0, CloseKind::Fin);
    findings.round_trip = Some(spread(5, 0.3, 0.35, 0.4));
    findings.idle_timeout.seen = Some(spread(5, 60.0, 60.5, 61.0));
    let advice = recommend(&findings);
    assert_eq!(advice.margin, Some(seconds(2.05)));
    assert_eq!(advice.client_idle_timeout, Some(seconds(57.0)));
    findings.race_window = Some(RaceWindow { width: Some(seconds(3.0)), lost: Tally { hits: 2, of: 10 } });
    assert_eq!(recommend(&findings).margin, Some(seconds(3.25)));
}

#[test]
fn a_short_timer_is_halved_and_a_very_short_one_is_not_pooled() {
    assert_eq!(recommend(&timer(2.0, CloseKind::Fin)).client_idle_timeout, Some(seconds(1.0)));
    let advice = recommend(&timer(0.5, CloseKind::Fin));
    assert_eq!((advice.client_idle_timeout, advice.pool), (None, Some(false)));
    assert!(advice.reasons[0].contains("Do not pool"), "{}", said(&advice));
}

#[test]
fn a_server_that_promises_less_than_it_keeps_is_taken_at_its_word() {
    let mut findings = timer(6.0, CloseKind::Fin);
    let promise = |seconds_| Advertised {
        timeout: Some(seconds(seconds_)),
        max: None,
        next_max: None,
        field: format!("timeout={seconds_}"),
    };
    findings.advertised = Some(promise(5.0));
    assert_eq!(recommend(&findings).client_idle_timeout, Some(seconds(4.0)));
    findings.advertised = Some(promise(60.0));
    assert_eq!(recommend(&findings).client_idle_timeout, Some(seconds(5.0)), "never more than was seen");
}

#[test]
fn every_hop_outlasts_the_one_before_it() {
    let order = recommend(&timer(60.0, CloseKind::Fin)).ordering.unwrap();
    assert_eq!((order.client, order.proxy), (seconds(59.0), seconds(54.0)));
    assert_eq!(order.behind, seconds(67.0), "60.04 s and a tenth, rounded up");
    let short = recommend(&timer(5.0, CloseKind::Fin)).ordering.unwrap();
    assert_eq!((short.client, short.proxy, short.behind), (seconds(4.0), seconds(4.0), seconds(11.0)));
}

#[test]
fn nothing_is_made_up_where_there_is_no_timer() {
    for findings in [nothing(), longer(), several(), unstable()] {
        let advice = recommend(&findings);
        let verdict = findings.idle_timeout.verdict;
        assert_eq!(advice.client_idle_timeout, None, "{verdict:?}");
        assert_eq!((advice.pool, advice.ordering, advice.tcp_keepalive), (None, None, None), "{verdict:?}");
    }
    assert!(said(&recommend(&several())).contains("12 × 5–5.02 s, 20 × 65–65.03 s"));
    assert!(said(&recommend(&longer())).contains("All 32 connections were alive after 600 s"));
}

#[test]
fn tcp_keepalive_is_advised_only_where_it_was_shown_to_help() {
    let mut findings = timer(350.0, CloseKind::ResetOnSend);
    assert_eq!(recommend(&findings).tcp_keepalive, None);
    findings.layer = Some(layer(LayerVerdict::Packets, 350.0));
    let keepalive = recommend(&findings).tcp_keepalive.unwrap();
    assert_eq!((keepalive.idle, keepalive.interval), (seconds(116.0), seconds(116.0)));
    assert_eq!((keepalive.count, keepalive.user_timeout), (3, seconds(464.0)));
    let mut http = timer(75.0, CloseKind::Fin);
    http.layer = Some(layer(LayerVerdict::Http, 75.0));
    let advice = recommend(&http);
    assert_eq!(advice.tcp_keepalive, None);
    assert!(
        said(&advice).contains("TCP keepalive does not help here: the timer is HTTP's"),
        "{}",
        said(&advice)
    );
}

#[test]
fn a_wrong_order_behind_the_proxy_is_named() {
    let mut findings = timer(60.0, CloseKind::Fin);
    let seen = Tally { hits: 6, of: 6 };
    findings.behind =
        Some(Behind { statuses: vec![502], from: seconds(5.1), seen, lost: Tally::default(), redial: None });
    let text = said(&recommend(&findings));
    assert!(text.contains("After 5.1 s of idle time 6 of 6 answers were 502"), "{text}");
    assert!(text.contains("a client's setting cannot cure it"), "{text}");
}

#[test]
fn an_unannounced_limit_of_requests_becomes_the_clients_own() {
    let mut findings = timer(75.0, CloseKind::Fin);
    let limit = |announced| MaxRequests {
        value: Some(100),
        announced,
        counted_down: false,
        tried: 1000,
        repeated: true,
    };
    findings.max_requests = Some(limit(false));
    assert_eq!(recommend(&findings).max_requests, Some(99));
    findings.max_requests = Some(limit(true));
    assert_eq!(recommend(&findings).max_requests, None);
}

#[test]
fn a_given_setting_is_judged() {
    let findings = timer(75.0, CloseKind::Fin);
    let safety = |idle: f64| judge(&findings, seconds(idle), None).safety;
    assert_eq!(
        [safety(60.0), safety(74.0), safety(74.5), safety(75.0), safety(90.0)],
        [Safety::Safe, Safety::Safe, Safety::Tight, Safety::AtRisk, Safety::AtRisk]
    );
    let risk = judge(&findings, seconds(90.0), Some(seconds(30.0)));
    let text = risk.sentences.join(" ");
    assert!(text.contains("A 90 s pool against this 75.02 s path: about 1 in "), "{text}");
    // exp(-75/30) of all gaps are longer than 75 s, exp(-90/30) longer than 90 s
    let exposure = risk.exposure.unwrap();
    assert!((exposure.not_looking - 0.0323).abs() < 0.001, "{exposure:?}");
    assert!(exposure.looking < 0.001, "{exposure:?}");
}

#[test]
fn before_a_silent_middlebox_no_pool_can_look() {
    let risk = judge(&timer(240.0, CloseKind::Silent), seconds(300.0), Some(seconds(120.0)));
    let exposure = risk.exposure.unwrap();
    assert!((exposure.looking - exposure.not_looking).abs() < 1e-12, "{exposure:?}");
    assert!(risk.sentences[1].contains("no pool can see it"), "{:?}", risk.sentences);
}

#[test]
fn traffic_with_a_period_near_the_timer_is_warned_of() {
    let findings = timer(60.0, CloseKind::Fin);
    let warned = |gap: f64| judge(&findings, seconds(90.0), Some(seconds(gap))).sentences.join(" ");
    assert!(warned(60.0).contains("each of them races"), "{}", warned(60.0));
    assert!(!warned(30.0).contains("races"), "{}", warned(30.0));
}

#[test]
fn a_setting_beyond_what_was_tried_is_not_called_safe() {
    assert_eq!(judge(&longer(), seconds(300.0), None).safety, Safety::Safe);
    assert_eq!(judge(&longer(), seconds(900.0), None).safety, Safety::Unknown);
    assert_eq!(judge(&several(), seconds(10.0), None).safety, Safety::AtRisk);
    assert_eq!(judge(&several(), seconds(4.0), None).safety, Safety::Unknown);
    assert_eq!(judge(&unstable(), seconds(4.0), None).safety, Safety::Unknown);
}

fn found(lower: f64, round_trip: f64, jitter: f64) -> Findings {
    let mut findings = timer(lower, CloseKind::Fin);
    findings.round_trip = Some(spread(5, 0.0, round_trip, round_trip));
    findings.idle_timeout.seen = Some(spread(5, lower, lower, lower + jitter));
    findings
}

proptest! {
    #[test]
    fn the_advice_is_always_below_the_limit_by_the_margin_or_half(
        lower in 0.0..100_000f64, round_trip in 0.0..3f64, jitter in 0.0..30f64,
    ) {
        let advice = recommend(&found(lower, round_trip, jitter));
        if let Some(client) = advice.client_idle_timeout {
            let (lower, margin) = (seconds(lower), advice.margin.unwrap());
            prop_assert!(!client.is_zero() && client < lower);
            prop_assert!(client + margin <= lower || client <= lower / 2);
            let order = advice.ordering.unwrap();
            prop_assert!(order.proxy <= order.client && order.client < order.here && order.here < order.behind);
        } else {
            prop_assert!(lower < 1.0);
        }
    }

    #[test]
    fn a_longer_timer_never_gives_a_shorter_advice(
        one in 0.0..10_000f64, more in 0.0..1_000f64, round_trip in 0.0..3f64, jitter in 0.0..30f64,
    ) {
        let advised = |lower| recommend(&found(lower, round_trip, jitter)).client_idle_timeout;
        prop_assert!(advised(one) <= advised(one + more));
    }

    #[test]
    fn a_share_at_risk_is_a_share_and_not_looking_is_never_better(
        timer_ in 1.0..1000f64, client in 0.0..2000f64, gap in 0.001..5000f64,
    ) {
        let risk = judge(&timer(timer_, CloseKind::Fin), seconds(client), Some(seconds(gap)));
        let exposure = risk.exposure.unwrap();
        prop_assert!((0.0..=1.0).contains(&exposure.looking) && (0.0..=1.0).contains(&exposure.not_looking));
        prop_assert!(exposure.looking <= exposure.not_looking + 1e-12);
    }
}
