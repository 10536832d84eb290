//! How many requests a connection may carry, how old it may become, what is advertised, and when requests are lost.

use keeplive::server::{Behaviour, Server};

use super::*;
use crate::support::link::Link;
use crate::support::nginx::Nginx;

#[test]
fn the_keepalive_requests_of_nginx_are_counted_exactly() {
    let nginx = Nginx::new().keepalive_timeout(ms(500)).keepalive_requests(123).start();
    let mut probing = at(nginx.addr());
    probing.limits.requests = 2000;
    let findings = run(probing);
    brackets(&findings, ms(500), ms(0), CloseKind::Fin);
    let limit = findings.max_requests.unwrap();
    assert_eq!((limit.value, limit.announced, limit.repeated), (Some(123), true, true), "{limit:?}");
}

#[test]
fn no_limit_on_requests_is_an_honest_lower_bound() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(500))).start().unwrap();
    let mut probing = at(server.addr());
    probing.limits.requests = 150;
    let limit = run(probing).max_requests.unwrap();
    assert_eq!((limit.value, limit.tried), (None, 150), "{limit:?}");
}

#[test]
fn a_limit_on_age_is_no_limit_on_requests() {
    let nginx = Nginx::new().keepalive_timeout(ms(700)).keepalive_time(ms(1200)).start();
    let mut probing = at(nginx.addr());
    probing.limits.requests = 2000;
    probing.limits.lifetime = Some(ms(4000));
    let findings = run(probing);
    let requests = findings.max_requests.as_ref().unwrap();
    assert!(requests.value.is_some() && !requests.repeated, "{requests:?}");
    let lifetime = findings.max_lifetime.as_ref().unwrap();
    let ended = lifetime.ended.unwrap();
    // nginx looks when a request comes, and one comes every 350 ms.
    assert!(ended.n == 3 && ended.min >= ms(1200) && ended.max <= ms(1200 + 350 + 100), "{ended:?}");
    assert!(lifetime.announced, "{lifetime:?}");
}

#[test]
fn what_is_advertised_is_read_and_compared_with_what_was_seen() {
    let peer = Scripted::start(|conn| {
        let mut left = 100;
        while conn.read_request().is_some() {
            left -= 1;
            conn.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5, max={left}\r\n\r\nhi"
            ));
            if conn.is_idle_for(ms(900)) {
                return;
            }
        }
    });
    let findings = run(at(peer.addr()));
    brackets(&findings, ms(900), ms(0), CloseKind::Fin);
    let advertised = findings.advertised.as_ref().unwrap();
    assert_eq!(
        (advertised.timeout, advertised.max, advertised.next_max),
        (Some(ms(5000)), Some(99), Some(98))
    );
    assert!(tells(&findings, CaveatKind::AdvertisedDiffers), "{}", brief(&findings));
}

#[test]
fn requests_are_lost_within_a_round_trip_of_the_timeout() {
    let rtt = ms(100);
    let link = Link::new(rtt).unwrap_or_else(|error| panic!("{error}"));
    let server =
        Server::new(Behaviour::default().idle_timeout(ms(1500))).listen((link.server_ip(), 0).into());
    let server = link.at_server(|| server.start()).unwrap();
    let mut probing = at(server.addr());
    probing.limits.race = true;
    let findings = link.at_client(|| run(probing));
    brackets(&findings, ms(1500), ms(0), CloseKind::Fin);
    let race = findings.race_window.as_ref().unwrap();
    let width = race.width.unwrap();
    // Asked for: at 0.25, 0.5, 0.75, 1 and 1.5 round trips before it, as near as the timeout itself was found.
    assert!(width >= rtt * 3 / 4 - ms(5) && width <= rtt * 3 / 2 + ms(20), "{race:?}");
    assert!(race.lost.hits >= 20 && race.lost.of >= race.lost.hits, "{race:?}");
}
