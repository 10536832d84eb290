//! Truth by round-trip time: over a link of 20 ms the median saving is a whole number of round trips. The link is
//! measured beside the run, by raw connects: on a busy machine the relay that carries its packets is late too.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::{Ran, alone, run_until_valid, short};
use crate::support::certificate::{Tls, Version};
use crate::support::link::Link;
use crate::support::nginx::Nginx;
use crate::support::now;

const RTT: Duration = Duration::from_millis(20);

fn over(link: &Link, url: &str, folder: &Path) -> Command {
    let mut command = link.client_command(env!("CARGO_BIN_EXE_keeplive"));
    short(&mut command, folder);
    // The certificate is for loopback names.
    command.args(["--slot", "400ms", "-k", url]);
    command
}

/// A run, and the round-trip time that raw connects saw meanwhile.
struct Compared {
    ran: Ran,
    rtt: Duration,
}

impl Compared {
    /// The median saving is `trips` round trips, to 5 % and what the processors of both sides took for it.
    fn saves(&self, arm: &str, trips: u32) {
        let saved = self.ran.difference(arm, "p50")["saved_ns"].as_f64().unwrap();
        let cpu = |arm: &str| self.ran.arm(arm)["client_cpu_ns_per_request"].as_f64().unwrap();
        // The server's share of a handshake is at least the client's: it signs.
        let handshake_cpu = 2.0 * (cpu(arm) - cpu("on")).max(0.0);
        let truth = f64::from(trips) * self.rtt.as_nanos() as f64;
        assert!(
            saved >= 0.95 * truth && saved <= 1.05 * truth + handshake_cpu,
            "{arm}: saved {saved} ns, truth {truth} ns, processors {handshake_cpu} ns"
        );
    }
}

fn compared(link: &Link, tls: Option<Tls>) -> Compared {
    let mut nginx = Nginx::new().at(link);
    if let Some(tls) = tls {
        nginx = nginx.tls(tls);
    }
    let nginx = nginx.start();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/", nginx.addr());
    let over = AtomicBool::new(false);
    let (ran, rtt) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| link.at_client(|| round_trip(nginx.addr(), &over)));
        let ran = run_until_valid(|folder| self::over(link, &url, folder));
        over.store(true, Relaxed);
        (ran, watch.join().unwrap())
    });
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.reasons());
    assert!(rtt >= RTT && rtt < RTT * 2, "a link of {RTT:?} took {rtt:?}");
    Compared { ran, rtt }
}

/// The median of connects, one every 50 ms, until it is over.
fn round_trip(server: SocketAddr, over: &AtomicBool) -> Duration {
    let mut took = Vec::new();
    while !over.load(Relaxed) {
        let began = now();
        drop(TcpStream::connect(server).unwrap());
        took.push(now() - began);
        std::thread::sleep(Duration::from_millis(50));
    }
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn plain_http_saves_one_round_trip() {
    let _alone = alone();
    let link = Link::new(RTT).unwrap();
    let compared = compared(&link, None);
    compared.saves("off", 1);
}

#[test]
fn a_full_tls_1_3_handshake_costs_two_round_trips_and_a_resumed_one_costs_two() {
    let _alone = alone();
    let link = Link::new(RTT).unwrap();
    let compared = compared(&link, Some(Tls { version: Version::Tls13, resumption: true }));
    compared.saves("off-full", 2);
    // TCP, and one for TLS: without early data a resumed TLS 1.3 handshake saves processor time, not time.
    compared.saves("off-resumed", 2);
}

#[test]
fn a_full_tls_1_2_handshake_costs_three_round_trips_and_a_resumed_one_costs_two() {
    let _alone = alone();
    let link = Link::new(RTT).unwrap();
    let compared = compared(&link, Some(Tls { version: Version::Tls12, resumption: true }));
    compared.saves("off-full", 3);
    compared.saves("off-resumed", 2);
}
