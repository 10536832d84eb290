//! Truth by round-trip time: over a link of 20 ms the median saving is a whole number of round trips.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Ran, alone, run_until_valid, short};
use crate::support::certificate::{Tls, Version};
use crate::support::link::Link;
use crate::support::nginx::Nginx;

const RTT: Duration = Duration::from_millis(20);

fn over(link: &Link, url: &str, folder: &Path) -> Command {
    let mut command = link.client_command(env!("CARGO_BIN_EXE_keeplive"));
    short(&mut command, folder);
    // The certificate is for loopback names.
    command.args(["--slot", "400ms", "-k", url]);
    command
}

/// The median saving is `trips` round trips, to 5 % and what the processors of both sides took for it.
fn saves(ran: &Ran, arm: &str, trips: u32) {
    let saved = ran.difference(arm, "p50")["saved_ns"].as_f64().unwrap();
    let cpu = |arm: &str| ran.arm(arm)["client_cpu_ns_per_request"].as_f64().unwrap();
    // The server's share of a handshake is at least the client's: it signs.
    let handshake_cpu = 2.0 * (cpu(arm) - cpu("on")).max(0.0);
    let truth = f64::from(trips) * RTT.as_nanos() as f64;
    assert!(
        saved >= 0.95 * truth && saved <= 1.05 * truth + handshake_cpu,
        "{arm}: saved {saved} ns, truth {truth} ns, processors {handshake_cpu} ns"
    );
}

fn compared(link: &Link, tls: Option<Tls>) -> Ran {
    let mut nginx = Nginx::new().at(link);
    if let Some(tls) = tls {
        nginx = nginx.tls(tls);
    }
    let nginx = nginx.start();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/", nginx.addr());
    let ran = run_until_valid(|folder| over(link, &url, folder));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.reasons());
    ran
}

#[test]
fn plain_http_saves_one_round_trip() {
    let _alone = alone();
    let link = Link::new(RTT).unwrap();
    let ran = compared(&link, None);
    saves(&ran, "off", 1);
}

#[test]
fn a_full_tls_1_3_handshake_costs_two_round_trips_and_a_resumed_one_costs_two() {
    let _alone = alone();
    let link = Link::new(RTT).unwrap();
    let ran = compared(&link, Some(Tls { version: Version::Tls13, resumption: true }));
    saves(&ran, "off-full", 2);
    // TCP, and one for TLS: without early data a resumed TLS 1.3 handshake saves processor time, not time.
    saves(&ran, "off-resumed", 2);
}

#[test]
fn a_full_tls_1_2_handshake_costs_three_round_trips_and_a_resumed_one_costs_two() {
    let _alone = alone();
    let link = Link::new(RTT).unwrap();
    let ran = compared(&link, Some(Tls { version: Version::Tls12, resumption: true }));
    saves(&ran, "off-full", 3);
    saves(&ran, "off-resumed", 2);
}
