//! Which layer's keep-alive holds a path open.

use keeplive::findings::LayerVerdict;
use keeplive::server::{Behaviour, Server};

use super::*;
use crate::support::link::{Forgotten, Link};

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
