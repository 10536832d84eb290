//! Many connections at one idle time.

use keeplive::findings::Soak;
use keeplive::probe::Soaking;
use keeplive::server::{Behaviour, Server};

use super::*;
use crate::support::lost::goes_silent;

fn soak(mut probing: Probing, idle: Duration, connections: u32, rounds: u32) -> Soak {
    probing.limits.connections = connections;
    let soaking = Soaking { idle, rounds };
    probe::soak(probing, soaking, &Stop::default(), &mut |_| {}).unwrap_or_else(|refusal| panic!("{refusal}"))
}

#[test]
fn an_idle_time_below_the_timeout_is_safe_by_the_rule_of_three() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(1500))).start().unwrap();
    let soak = soak(at(server.addr()), ms(700), 40, 2);
    assert!(soak.is_safe() && (soak.tried, soak.alive) == (80, 80), "{soak:?}");
    let bound = soak.death_rate_bound.unwrap();
    assert!(bound > 0.035 && bound < 3.0 / 80.0, "{bound}");
    assert!(
        soak.sentence().contains("0.7 s of idleness is safe as far as 80 connections tell"),
        "{}",
        soak.sentence()
    );
}

#[test]
fn an_idle_time_above_the_timeout_is_not_safe_and_it_is_said_how_connections_died() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(500))).start().unwrap();
    let soak = soak(at(server.addr()), ms(900), 20, 1);
    assert!(!soak.is_safe() && soak.alive == 0 && soak.tried + soak.discarded == 20, "{soak:?}");
    assert_eq!(soak.deaths.len(), 1);
    assert_eq!(soak.deaths[0].close, Some(CloseKind::Fin));
    assert!(soak.deaths[0].at.min >= ms(450) && soak.deaths[0].at.median < ms(600), "{soak:?}");
}

#[test]
fn a_part_that_dies_in_silence_is_counted() {
    let peer = Scripted::start(|conn| {
        let silent = conn.number().is_multiple_of(4);
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            if silent && conn.is_idle_for(ms(300)) {
                goes_silent(conn.tcp());
                return conn.until_closed();
            }
        }
    });
    let soak = soak(at(peer.addr()), ms(700), 20, 1);
    assert_eq!((soak.tried, soak.alive), (20, 15), "{soak:?}");
    assert_eq!((soak.deaths[0].close, soak.deaths[0].at.n), (Some(CloseKind::Silent), 5), "{soak:?}");
    assert!(soak.sentence().contains("5 of 20 connections were lost"), "{}", soak.sentence());
}
