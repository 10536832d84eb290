//! Which layer's keep-alive holds a path open.

use keeplive::findings::LayerVerdict;
use keeplive::server::{Behaviour, Server};

use super::*;
use crate::support::link::{Forgotten, Link};
use crate::support::now;

fn verdict(middlebox: Option<Duration>, server: Option<Duration>) -> (LayerVerdict, String) {
    let link = match middlebox {
        Some(after) => Link::forgetting(ms(2), after, Forgotten::Dropped),
        None => Link::new(ms(2)),
    };
    let link = link.unwrap_or_else(|error| panic!("{error}"));
    let server = Server::new(Behaviour::default().idle_timeout(server)).listen((link.server_ip(), 0).into());
    let server = link.at_server(|| server.start()).unwrap();
    let mut probing = at(server.addr());
    probing.limits.layer = true;
    let findings = link.at_client(|| run(probing));
    let layer = findings.layer.as_ref().unwrap_or_else(|| panic!("{}", brief(&findings)));
    (layer.verdict, format!("{layer:#?}\n{}", brief(&findings)))
}

#[test]
fn the_layer_whose_timer_it_is_is_named() {
    let cases = [
        (None, Some(ms(1600)), LayerVerdict::Http),
        (Some(ms(1600)), None, LayerVerdict::Packets),
        (Some(ms(1600)), Some(ms(2700)), LayerVerdict::Both),
    ];
    let verdicts = std::thread::scope(|scope| {
        let runs = cases.map(|(middlebox, server, _)| scope.spawn(move || verdict(middlebox, server)));
        runs.map(|run| run.join().unwrap())
    });
    for ((.., expected), (verdict, told)) in cases.iter().zip(verdicts) {
        assert_eq!(verdict, *expected, "{told}");
    }
}

/// What is found of a peer whose connections end so long after they were accepted, whatever is asked on them.
fn of_age(age: Duration) -> Findings {
    let peer = Scripted::start(move |conn| {
        let ends = now() + age;
        while !conn.is_idle_for(ends.saturating_duration_since(now())) && conn.read_request().is_some() {
            conn.write(ANSWER);
        }
    });
    let mut probing = at(peer.addr());
    probing.limits.layer = true;
    run(probing)
}

#[test]
fn where_age_ends_connections_no_keepalive_is_said_to_help() {
    let findings = of_age(ms(1600));
    let layer = findings.layer.as_ref().unwrap_or_else(|| panic!("{}", brief(&findings)));
    assert_eq!(layer.verdict, LayerVerdict::Neither, "{layer:#?}");
}

#[test]
fn a_timer_that_has_gone_meanwhile_is_held_open_by_nothing() {
    // A setting that was changed after the search.
    let findings = on_time(|| {
        let began = now();
        let peer = Scripted::start(move |conn| {
            let idle = if began.elapsed() < ms(2900) { ms(1600) } else { ms(60_000) };
            while conn.read_request().is_some() {
                conn.write(ANSWER);
                if conn.is_idle_for(idle) {
                    return;
                }
            }
        });
        let mut probing = at(peer.addr());
        probing.limits.layer = true;
        run_watched(probing, &mut |_| {})
    });
    let layer = findings.layer.as_ref().unwrap_or_else(|| panic!("{}", brief(&findings)));
    assert_eq!(layer.verdict, LayerVerdict::NoTimer, "{layer:#?}");
}

#[test]
fn a_timer_too_short_for_the_kernels_keepalive_is_said_to_be() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(700))).start().unwrap();
    let mut probing = at(server.addr());
    probing.limits.layer = true;
    let findings = run(probing);
    assert!(findings.layer.is_none());
    assert!(
        findings.caveats.iter().any(|caveat| caveat.text.contains("whole seconds")),
        "{}",
        brief(&findings)
    );
}
