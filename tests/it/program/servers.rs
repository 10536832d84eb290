//! Real servers on loopback: the right arms, and counts on which both sides agree.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{Ran, alone, program, run_until_valid, short};
use crate::support::certificate::{Tls, Version};
use crate::support::haproxy::Haproxy;
use crate::support::nginx::Nginx;

fn against(url: &str, certificate: Option<&str>, folder: &Path) -> Command {
    let mut command = program();
    short(&mut command, folder);
    if let Some(pem) = certificate {
        // Beside the folder for results, not in it.
        let file = folder.with_extension("pem");
        std::fs::write(&file, pem).unwrap();
        command.arg("--cacert").arg(file);
    }
    command.arg(url);
    command
}

fn sound(ran: &Ran, arms: &[&str]) {
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.reasons());
    assert_eq!(ran.summary["schema"], "keeplive.summary/1");
    assert_eq!(ran.arms(), arms);
    for arm in ran.summary["arms"].as_array().unwrap() {
        assert_eq!(arm["errors"], serde_json::json!({}), "{arm}");
        assert!(arm["requests"].as_u64().unwrap() > 0);
    }
    assert!(ran.arm("on")["reuse_ratio"].as_f64().unwrap() > 0.99);
    for off in &arms[1..] {
        assert_eq!(ran.arm(off)["reuse_ratio"].as_f64(), Some(0.0));
        assert_eq!(ran.arm(off)["connections"]["reused"], 0);
        assert!(ran.difference(off, "p50")["interval"].is_array());
    }
}

/// Handshakes of the slots' arms are what their names say, by the TLS library's own account.
fn pure_tls(ran: &Ran) {
    let count = |arm: &str, kind: &str| ran.arm(arm)["connections"][kind].as_u64().unwrap();
    assert_eq!(count("off-full", "handshakes_resumed"), 0);
    assert_eq!(count("off-full", "handshakes_full"), count("off-full", "opened"));
    let (resumed, opened) = (count("off-resumed", "handshakes_resumed"), count("off-resumed", "opened"));
    assert!(resumed as f64 >= 0.99 * opened as f64, "{resumed} of {opened}");
}

#[test]
fn plain_nginx_has_two_arms_and_its_log_agrees_on_requests_and_connections() {
    let _alone = alone();
    let nginx = Nginx::new().start();
    let mut before = (0, 0);
    let seen = || {
        let log = nginx.log(0);
        let connections: BTreeSet<u64> = log.iter().map(|line| line.connection).collect();
        (log.len() as u64, connections.len() as u64)
    };
    let url = format!("http://{}/", nginx.addr());
    let ran = run_until_valid(|folder| {
        before = seen();
        against(&url, None, folder)
    });
    sound(&ran, &["on", "off"]);
    nginx.log((before.0 + ran.total("exchanges")) as usize);
    let after = seen();
    assert_eq!(after.0 - before.0, ran.total("exchanges"), "requests");
    assert_eq!(after.1 - before.1, ran.total("opened"), "connections");
    assert_eq!(ran.arm("off")["connections"]["closed_first"], 0, "nginx closes first");
}

#[test]
fn nginx_over_tls_1_3_has_three_arms_and_logs_the_same_resumptions() {
    let _alone = alone();
    let nginx = Nginx::new().tls(Tls { version: Version::Tls13, resumption: true }).start();
    let url = format!("https://{}/", nginx.addr());
    let mut before = 0;
    let ran = run_until_valid(|folder| {
        before = nginx.log(0).len();
        against(&url, Some(nginx.certificate_pem()), folder)
    });
    sound(&ran, &["on", "off-resumed", "off-full"]);
    pure_tls(&ran);
    assert_eq!(ran.summary["target"]["tls_version"], "TLSv1.3");
    let log = nginx.log(before + ran.total("exchanges") as usize).split_off(before);
    let resumed: BTreeSet<u64> = log.iter().filter(|line| line.resumed).map(|line| line.connection).collect();
    assert_eq!(resumed.len() as u64, ran.total("handshakes_resumed"));
}

#[test]
fn nginx_over_tls_1_2_has_three_arms() {
    let _alone = alone();
    let nginx = Nginx::new().tls(Tls { version: Version::Tls12, resumption: true }).start();
    let url = format!("https://{}/", nginx.addr());
    let ran = run_until_valid(|folder| against(&url, Some(nginx.certificate_pem()), folder));
    sound(&ran, &["on", "off-resumed", "off-full"]);
    pure_tls(&ran);
    assert_eq!(ran.summary["target"]["tls_version"], "TLSv1.2");
}

#[test]
fn a_server_that_resumes_nothing_has_no_resumed_arm_and_it_is_said() {
    let _alone = alone();
    let nginx = Nginx::new().tls(Tls { version: Version::Tls13, resumption: false }).start();
    let url = format!("https://{}/", nginx.addr());
    let ran = run_until_valid(|folder| against(&url, Some(nginx.certificate_pem()), folder));
    sound(&ran, &["on", "off-full"]);
    assert!(ran.reasons().contains("resumed no TLS session"), "{}", ran.reasons());
}

#[test]
fn plain_haproxy_counts_the_same_requests_and_connections() {
    let _alone = alone();
    let haproxy = Haproxy::new().start();
    let url = format!("http://{}/", haproxy.addr());
    let mut before = haproxy.counts();
    let ran = run_until_valid(|folder| {
        before = haproxy.counts();
        against(&url, None, folder)
    });
    sound(&ran, &["on", "off"]);
    let after = haproxy.counts();
    assert_eq!(after.requests - before.requests, ran.total("exchanges"));
    assert_eq!(after.connections - before.connections, ran.total("opened"));
}

#[test]
fn haproxy_over_tls_of_either_version_has_three_arms() {
    let _alone = alone();
    for (version, name) in [(Version::Tls12, "TLSv1.2"), (Version::Tls13, "TLSv1.3")] {
        let haproxy = Haproxy::new().tls(Tls { version, resumption: true }).start();
        let url = format!("https://{}/", haproxy.addr());
        let ran = run_until_valid(|folder| against(&url, Some(haproxy.certificate_pem()), folder));
        sound(&ran, &["on", "off-resumed", "off-full"]);
        pure_tls(&ran);
        assert_eq!(ran.summary["target"]["tls_version"], name);
    }
}

#[test]
fn without_a_url_the_embedded_server_is_compared_over_tls() {
    let _alone = alone();
    let ran = run_until_valid(|folder| {
        let mut command = program();
        short(&mut command, folder);
        command
    });
    sound(&ran, &["on", "off-resumed", "off-full"]);
    pure_tls(&ran);
    assert_eq!(ran.summary["target"]["embedded"], true);
}

#[test]
fn a_closed_loop_compares_requests_per_second() {
    let _alone = alone();
    let nginx = Nginx::new().start();
    let url = format!("http://{}/", nginx.addr());
    let ran = run_until_valid(|folder| {
        let mut command = against(&url, None, folder);
        command.arg("--closed");
        command
    });
    sound(&ran, &["on", "off"]);
    assert!(ran.difference("off", "requests_per_s")["ratio"].as_f64().unwrap() > 1.0);
}

#[test]
fn two_threads_and_a_given_rate_send_what_they_were_told() {
    let _alone = alone();
    let nginx = Nginx::new().start();
    let url = format!("http://{}/", nginx.addr());
    let ran = run_until_valid(|folder| {
        let mut command = against(&url, None, folder);
        command.args(["--threads", "2", "--rate", "500", "--arrivals", "constant"]);
        command
    });
    sound(&ran, &["on", "off"]);
    for arm in ["on", "off"] {
        let requests = ran.arm(arm)["requests"].as_u64().unwrap();
        assert_eq!(requests, 600, "6 slots of 200 ms at 500 requests/s");
    }
}
