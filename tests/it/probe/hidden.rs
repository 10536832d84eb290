//! Ends that nobody sees: what looks alive is dead, and a question tells.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use keeplive::findings::{Fate, Role};
use keeplive::server::{Behaviour, Server};

use super::*;
use crate::support::link::{Forgotten, Link};
use crate::support::lost::{goes_silent, is_forgotten};

/// The answer is one hidden timer: a bracket that holds the truth, to a few percent, confirmed on both sides.
fn is_hidden(findings: &Findings, truth: Duration, granularity: Duration, close: CloseKind) {
    let idle = &findings.idle_timeout;
    let told = brief(findings);
    assert_eq!((idle.verdict, idle.close), (Verdict::Found, Some(close)), "{told}");
    let upper = idle.upper.unwrap();
    assert!(idle.lower <= truth + granularity && truth <= upper, "{truth:?} is not within: {told}");
    assert!(
        idle.lower + ms(50) >= truth && upper <= truth + granularity + ms(50),
        "{truth:?} is not close: {told}"
    );
    for tally in [idle.confirmed_alive, idle.confirmed_dead] {
        assert!(tally.of >= 5 && tally.hits == tally.of, "{told}");
    }
    // Two passes, a little apart, and their doubts: two lost segments, whose time-outs grow with the round trip.
    let round_trip = findings.round_trip.unwrap().median;
    assert!(findings.took < truth * 9 / 4 + ms(2200) + round_trip * 20, "{told}");
}

#[test]
fn silence_is_told_in_about_a_second() {
    let peer = after_idle(ms(1500), |conn| {
        goes_silent(conn.tcp());
        conn.until_closed();
    });
    let findings = run(at(peer.addr()));
    is_hidden(&findings, ms(1500), ms(0), CloseKind::Silent);
    let dead = findings.raw.iter().find(|sample| sample.fate == Fate::Dead).unwrap();
    let tcp = dead.tcp.unwrap();
    assert!(tcp.unacked >= 1 && tcp.retransmits >= 2 && tcp.state == 1, "{tcp:?}");
}

#[test]
fn state_that_was_lost_without_a_word_is_told_by_the_reset_of_the_next_packet() {
    let peer = after_idle(ms(1500), |conn| is_forgotten(conn.tcp()));
    is_hidden(&run(at(peer.addr())), ms(1500), ms(0), CloseKind::ResetOnSend);
}

/// The middlebox last saw the acknowledgement of the answer, which our kernel may delay by 40 ms.
const DELAYED_ACK: Duration = ms(40);

#[test]
fn a_nat_that_forgets_is_found_at_any_distance() {
    let cases = [
        (ms(0), Forgotten::Dropped, CloseKind::Silent),
        (ms(20), Forgotten::Reset, CloseKind::ResetOnSend),
        (ms(100), Forgotten::Dropped, CloseKind::Silent),
    ];
    std::thread::scope(|scope| {
        for (rtt, then, close) in cases {
            scope.spawn(move || {
                let link = Link::forgetting(rtt, ms(1500), then).unwrap_or_else(|error| panic!("{error}"));
                let server = Server::new(Behaviour::default()).listen((link.server_ip(), 0).into());
                let server = link.at_server(|| server.start()).unwrap();
                let findings = link.at_client(|| run(at(server.addr())));
                is_hidden(&findings, ms(1500), DELAYED_ACK, close);
                let round_trip = findings.round_trip.unwrap();
                assert!(round_trip.min >= rtt && round_trip.min < rtt + ms(20), "{round_trip:?}");
            });
        }
    });
}

#[test]
fn a_server_that_answers_slowly_is_alive() {
    let server = Server::new(Behaviour::default().delay(ms(900)).idle_timeout(ms(1700))).start().unwrap();
    let findings = run(at(server.addr()));
    brackets(&findings, ms(1700), ms(0), CloseKind::Fin);
    assert!(tells(&findings, CaveatKind::Slow), "{}", brief(&findings));
    let asked =
        findings.raw.iter().filter(|sample| sample.role == Role::Sender && sample.fate == Fate::Alive);
    assert!(asked.clone().count() >= 3 && asked.clone().all(|sample| sample.answered_in.unwrap() >= ms(900)));
}

#[test]
fn a_single_loss_is_an_accident_and_no_timer() {
    let findings = on_time(|| run_watched(at(losing_one().addr()), &mut |_| {}));
    let idle = &findings.idle_timeout;
    assert_eq!((idle.verdict, idle.close), (Verdict::Found, Some(CloseKind::Fin)), "{}", brief(&findings));
    let median = idle.seen.unwrap().median;
    assert!(median >= ms(1499) && median < ms(1550), "{}", brief(&findings));
    assert!(tells(&findings, CaveatKind::Restarted), "{}", brief(&findings));
}

/// One of its connections is forgotten, once; all others live until the timer ends them.
fn losing_one() -> Scripted {
    let happened = AtomicBool::new(false);
    Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            if conn.number() > 7 && conn.is_idle_for(ms(400)) && !happened.swap(true, Relaxed) {
                return is_forgotten(conn.tcp());
            }
            if conn.is_idle_for(ms(if conn.number() > 7 { 1100 } else { 1500 })) {
                return;
            }
        }
    })
}
