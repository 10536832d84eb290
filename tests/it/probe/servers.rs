//! Real servers with short timeouts of odd values, alone and in chains: those that system packages have. Traefik is in
//! none of Debian's or Ubuntu's, so that it is not here.

use super::*;
use crate::support::haproxy::Haproxy;
use crate::support::idle_servers::{apache, caddy, gunicorn, nginx_before, node, node_at, uvicorn, varnish};
use crate::support::link::Link;
use crate::support::nginx::Nginx;

#[test]
fn the_keepalive_timeout_of_nginx_is_found() {
    let nginx = Nginx::new().keepalive_timeout(ms(1700)).start();
    brackets(&run(at(nginx.addr())), ms(1700), ms(0), CloseKind::Fin);
}

#[test]
fn the_keep_alive_timeout_of_haproxy_is_found() {
    let haproxy = Haproxy::new().keep_alive_timeout(ms(1300)).start();
    brackets(&run(at(haproxy.addr())), ms(1300), ms(0), CloseKind::Fin);
}

#[test]
fn the_timers_of_apache_are_found_as_it_advertises_them() {
    let apache = apache(ms(2000), 60);
    let mut probing = probing(format!("http://{}/index.txt", apache.addr()));
    probing.limits.requests = 2000;
    let findings = run(probing);
    // The event MPM rounds its timers up by as much as 100 ms.
    brackets(&findings, ms(2000), ms(100), CloseKind::Fin);
    let advertised = findings.advertised.as_ref().unwrap();
    assert_eq!(
        (advertised.timeout, advertised.max, advertised.next_max),
        (Some(ms(2000)), Some(60), Some(59))
    );
    let limit = findings.max_requests.as_ref().unwrap();
    // `max` more after the first.
    assert_eq!((limit.value, limit.announced, limit.counted_down), (Some(61), true, true), "{limit:?}");
    assert!(limit.repeated && !tells(&findings, CaveatKind::AdvertisedDiffers), "{}", brief(&findings));
}

#[test]
fn the_timers_of_node_are_found_and_its_max_is_constant() {
    let node = node(ms(2300), 50);
    let mut probing = at(node.addr());
    probing.limits.requests = 2000;
    let findings = run(probing);
    // Many releases let a connection live a second longer than they were told (keepAliveTimeoutBuffer).
    let buffered = findings.idle_timeout.upper.unwrap() > ms(2800);
    brackets(&findings, if buffered { ms(3300) } else { ms(2300) }, ms(0), CloseKind::Fin);
    let advertised = findings.advertised.as_ref().unwrap();
    assert_eq!(
        (advertised.timeout, advertised.max, advertised.next_max),
        (Some(ms(2000)), Some(50), Some(50))
    );
    let limit = findings.max_requests.as_ref().unwrap();
    assert_eq!((limit.value, limit.announced, limit.counted_down), (Some(50), true, false), "{limit:?}");
}

#[test]
fn the_keep_alive_of_gunicorn_is_found_within_the_second_in_which_it_looks() {
    let gunicorn = gunicorn(2);
    let findings = run(at(gunicorn.addr()));
    let idle = &findings.idle_timeout;
    let told = brief(&findings);
    assert_eq!((idle.verdict, idle.close), (Verdict::Found, Some(CloseKind::Fin)), "{told}");
    assert!(idle.lower <= ms(3100) && idle.upper.unwrap() >= ms(2000), "{told}");
    assert!(idle.lower >= ms(1900) && idle.upper.unwrap() <= ms(3150), "{told}");
}

#[test]
fn the_idle_timeout_of_caddy_is_found() {
    let caddy = caddy(ms(1700));
    brackets(&run(at(caddy.addr())), ms(1700), ms(0), CloseKind::Fin);
}

#[test]
fn the_keep_alive_of_uvicorn_is_found() {
    let uvicorn = uvicorn(2);
    brackets(&run(at(uvicorn.addr())), ms(2000), ms(0), CloseKind::Fin);
}

#[test]
fn the_idle_timeout_of_varnish_is_found() {
    let varnish = varnish(ms(1700));
    brackets(&run(at(varnish.addr())), ms(1700), ms(0), CloseKind::Fin);
}

#[test]
fn of_a_chain_in_the_right_order_the_front_is_found_and_nothing_behind_it() {
    let (nginx, node) = (Nginx::new().keepalive_timeout(ms(4000)).start(), node(ms(4000), 0));
    let before_nginx = nginx_before(nginx.addr(), ms(1500));
    let before_node = Haproxy::new().keep_alive_timeout(ms(1500)).backend(node.addr()).start();
    std::thread::scope(|scope| {
        for front in [before_nginx.addr(), before_node.addr()] {
            scope.spawn(move || {
                let findings = run(at(front));
                brackets(&findings, ms(1500), ms(0), CloseKind::Fin);
                assert!(findings.behind.is_none());
            });
        }
    });
}

/// An origin that gives up idle connections without a word, and resets those that are used again: what a proxy sees
/// of an origin whose timeout is shorter than its own, when the close is lost on the way or comes a moment late.
fn forgetful(after: Duration) -> Scripted {
    Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            if conn.is_idle_for(after) {
                let _ = conn.read_request();
                return conn.reset();
            }
        }
    })
}

#[test]
fn of_a_chain_in_the_wrong_order_the_hop_behind_is_recognised_by_its_502() {
    // nginx's clients share its connections: they are idle for as long as no client asks.
    let origin = forgetful(ms(150));
    let nginx = nginx_before(origin.addr(), ms(2500));
    let mut probing = at(nginx.addr());
    if let ProbeTarget::Http(target) = &mut probing.target {
        // What must not be sent twice, nginx does not try again.
        (target.method, target.body, target.body_len) = ("POST".into(), b"x".to_vec(), 1);
    }
    let findings = run(probing);
    brackets(&findings, ms(2500), ms(0), CloseKind::Fin);
    let behind = findings.behind.as_ref().unwrap_or_else(|| panic!("{}", brief(&findings)));
    assert_eq!(behind.statuses, [502], "{behind:?}");
    assert!(behind.from >= ms(150) && behind.seen.hits >= 3, "{behind:?}");
}

#[test]
fn haproxy_closes_when_the_hop_behind_it_has_gone_and_that_is_told() {
    let origin = forgetful(ms(900));
    let haproxy = Haproxy::new().keep_alive_timeout(ms(2500)).backend(origin.addr()).shares_nothing().start();
    let findings = run(at(haproxy.addr()));
    brackets(&findings, ms(900), ms(0), CloseKind::Race);
    let text = findings.caveats.iter().find(|caveat| caveat.kind == CaveatKind::Other).unwrap();
    assert!(text.text.contains("hop behind"), "{text:?}");
}

/// The hop behind is this far from the proxy before it: so much earlier than it closes, a request may be lost.
const BEHIND: Duration = ms(100);

/// What the probe says of HAProxy in front of a real Node server, both with these timeouts.
fn haproxy_before_node(haproxy: Duration, node: Duration, shares: bool) -> Findings {
    let link = Link::new(BEHIND).unwrap_or_else(|error| panic!("{error}"));
    let node = node_at(Some(&link), node, 0);
    let haproxy = || {
        let described = Haproxy::new().keep_alive_timeout(haproxy).backend(node.addr());
        if shares { described } else { described.shares_nothing() }.start()
    };
    link.at_client(|| {
        let haproxy = haproxy();
        run(at(haproxy.addr()))
    })
}

/// This Node may let a connection live a second longer than it is told (keepAliveTimeoutBuffer).
fn is_about_nodes(idle: Duration, timeout: Duration) -> bool {
    [timeout, timeout + ms(1000)].iter().any(|truth| idle.abs_diff(*truth) < BEHIND + ms(50))
}

#[test]
fn node_behind_haproxy_that_closes_first_is_recognised_by_lost_requests_and_slower_answers() {
    let findings = haproxy_before_node(ms(5000), ms(1500), false);
    let told = brief(&findings);
    brackets(&findings, ms(5000), ms(0), CloseKind::Fin);
    let behind = findings.behind.as_ref().unwrap_or_else(|| panic!("{told}"));
    assert!(behind.lost.hits >= 2 && is_about_nodes(behind.from, ms(1500)), "{behind:?} {told}");
    let redial = behind.redial.unwrap_or_else(|| panic!("{told}"));
    assert!(redial.slower_by.abs_diff(BEHIND) < ms(50), "{redial:?}");
    assert!(redial.shorter < behind.from + BEHIND && behind.from < redial.longer, "{behind:?}");
}

#[test]
fn haproxy_before_node_in_the_right_order_shows_nothing_of_the_hop_behind() {
    let findings = haproxy_before_node(ms(1500), ms(5000), false);
    brackets(&findings, ms(1500), ms(0), CloseKind::Fin);
    assert!(findings.behind.is_none(), "{:?} {}", findings.behind, brief(&findings));
}
