//! No false answer: what is no timer is not called one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use keeplive::server::{Behaviour, Server};

use super::*;
use crate::support::now;

/// Connection n lives this long when it is idle.
fn each(lives: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Scripted {
    let opened = AtomicU64::new(0);
    Scripted::start(move |conn| {
        let idle = lives(opened.fetch_add(1, Relaxed));
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            if conn.is_idle_for(idle) {
                return;
            }
        }
    })
}

/// Numbers without a pattern (SplitMix64, Steele et al. 2014), the same in every run.
fn random(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[test]
fn a_server_that_sheds_load_at_random_has_no_timer() {
    let peer = each(|n| ms(100 + random(n) % 2400));
    let findings = run(at(peer.addr()));
    assert_eq!(findings.idle_timeout.verdict, Verdict::Unstable, "{}", brief(&findings));
    assert!(tells(&findings, CaveatKind::Shedding), "{}", brief(&findings));
}

#[test]
fn backends_that_disagree_are_told_apart() {
    let peer = each(|n| if random(n).is_multiple_of(2) { ms(700) } else { ms(2300) });
    let findings = run(at(peer.addr()));
    assert_eq!(findings.idle_timeout.verdict, Verdict::Several, "{}", brief(&findings));
    let clusters: Vec<_> =
        findings.idle_timeout.clusters.iter().map(|cluster| cluster.at.median.as_millis() / 100).collect();
    assert_eq!(clusters, [7, 23], "{}", brief(&findings));
    assert!(tells(&findings, CaveatKind::BackendsDisagree));
}

#[test]
fn backends_that_differ_by_half_a_second_are_told_apart_from_a_clock_that_ticks_once_in_one() {
    let peer = each(|n| if random(n).is_multiple_of(2) { ms(1700) } else { ms(2200) });
    let findings = run(at(peer.addr()));
    assert_eq!(findings.idle_timeout.verdict, Verdict::Several, "{}", brief(&findings));
    let clusters: Vec<_> =
        findings.idle_timeout.clusters.iter().map(|cluster| cluster.at.median.as_millis() / 100).collect();
    assert_eq!(clusters, [17, 22], "{}", brief(&findings));
}

#[test]
fn a_restart_halfway_is_no_timer() {
    let findings = on_time(|| run_watched(at(restarting().addr()), &mut |_| {}));
    brackets(&findings, ms(1700), ms(0), CloseKind::Fin);
    assert!(tells(&findings, CaveatKind::Restarted), "{}", brief(&findings));
}

/// All of its first connections end at one moment; later ones when they were idle for 1.7 s.
fn restarting() -> Scripted {
    let restart = std::sync::OnceLock::new();
    Scripted::start(move |conn| {
        let at = *restart.get_or_init(|| now() + ms(1100));
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            let left = at.saturating_duration_since(now());
            if conn.is_idle_for(if left.is_zero() { ms(1700) } else { left }) {
                return;
            }
        }
    })
}

#[test]
fn a_server_that_sheds_some_and_times_out_the_rest_has_a_timer_and_a_caveat() {
    let peer = each(|n| if n % 5 == 1 { ms(200 + random(n) % 900) } else { ms(1700) });
    let findings = run(at(peer.addr()));
    let idle = &findings.idle_timeout;
    assert_eq!((idle.verdict, idle.close), (Verdict::Found, Some(CloseKind::Fin)), "{}", brief(&findings));
    let upper = idle.upper.unwrap();
    assert!(idle.lower <= ms(1700) && upper >= ms(1699) && upper <= ms(1750), "{}", brief(&findings));
    assert!(tells(&findings, CaveatKind::Shedding), "{}", brief(&findings));
}

#[test]
fn a_server_that_goes_away_halfway_is_told_and_no_timer_is_made_of_it() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(5000))).start().unwrap();
    let probing = at(server.addr());
    let mut server = Some(server);
    let findings = run_watched(probing, &mut |progress| {
        if let Progress::Holding { .. } = progress {
            server.take();
        }
    });
    assert_eq!(findings.idle_timeout.verdict, Verdict::Unknown, "{}", brief(&findings));
    assert!(tells(&findings, CaveatKind::Restarted), "{}", brief(&findings));
    assert!(findings.took < ms(8000), "{}", brief(&findings));
}
