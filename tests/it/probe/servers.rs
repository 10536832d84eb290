//! Real servers with short timeouts of odd values, alone and in chains: those that system packages have. Traefik is in
//! none of Debian's or Ubuntu's, so that it is not here.

use super::*;
use crate::support::haproxy::Haproxy;
use crate::support::idle_servers::{apache, caddy, gunicorn, nginx_before, node, node_at, uvicorn, varnish};
use crate::support::link::Link;
use crate::support::nginx::Nginx;
use crate::support::now;
use crate::support::raw::{Ending, Raw};

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
    let before_nginx = nginx_before(nginx.addr(), ms(1500), ms(1000));
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

/// What must not be sent twice, a proxy does not try again.
fn posting(address: SocketAddr) -> Probing {
    let mut probing = at(address);
    if let ProbeTarget::Http(target) = &mut probing.target {
        (target.method, target.body, target.body_len) = ("POST".into(), b"x".to_vec(), 1);
    }
    probing
}

#[test]
fn of_a_chain_in_the_wrong_order_the_hop_behind_is_recognised_by_its_502() {
    // nginx's clients share its connections: they are idle for as long as no client asks.
    let origin = forgetful(ms(150));
    let nginx = nginx_before(origin.addr(), ms(2500), ms(10_000));
    let findings = run(posting(nginx.addr()));
    brackets(&findings, ms(2500), ms(0), CloseKind::Fin);
    let behind = findings.behind.as_ref().unwrap_or_else(|| panic!("{}", brief(&findings)));
    assert_eq!(behind.statuses, [502], "{behind:?}");
    assert!(behind.from >= ms(150) && behind.seen.hits >= 3, "{behind:?}");
}

#[test]
fn haproxy_closes_when_the_hop_behind_it_has_gone_and_that_is_told() {
    let origin = forgetful(ms(900));
    let haproxy = Haproxy::new().keep_alive_timeout(ms(2500)).backend(origin.addr()).reuse("never").start();
    let findings = run(at(haproxy.addr()));
    brackets(&findings, ms(900), ms(0), CloseKind::Race);
    let text = findings.caveats.iter().find(|caveat| caveat.kind == CaveatKind::Other).unwrap();
    assert!(text.text.contains("hop behind"), "{text:?}");
}

/// The hop behind is this far from the proxy before it: so much earlier than it closes, a request may be lost.
const BEHIND: Duration = ms(100);

/// What the probe says of HAProxy in front of a real Node server, both with these timeouts.
fn haproxy_before_node(haproxy: Duration, node: Duration, reuse: &'static str) -> Findings {
    let link = Link::new(BEHIND).unwrap_or_else(|error| panic!("{error}"));
    let node = node_at(Some(&link), node, 0);
    link.at_client(|| {
        let haproxy = Haproxy::new().keep_alive_timeout(haproxy).backend(node.addr()).reuse(reuse).start();
        run(at(haproxy.addr()))
    })
}

/// This Node may let a connection live a second longer than it is told (keepAliveTimeoutBuffer).
fn is_about_nodes(idle: Duration, timeout: Duration) -> bool {
    [timeout, timeout + ms(1000)].iter().any(|truth| idle.abs_diff(*truth) < BEHIND + ms(50))
}

#[test]
fn node_behind_haproxy_that_closes_first_is_recognised_by_lost_requests() {
    let [own, shared] = std::thread::scope(|scope| {
        let runs = ["never", "safe"]
            .map(|reuse| scope.spawn(move || haproxy_before_node(ms(5000), ms(1500), reuse)));
        runs.map(|run| run.join().unwrap())
    });
    for findings in [&own, &shared] {
        brackets(findings, ms(5000), ms(0), CloseKind::Fin);
        let behind = findings.behind.as_ref().unwrap_or_else(|| panic!("{}", brief(findings)));
        assert!(behind.lost.hits >= 2 && behind.statuses.is_empty(), "{behind:?} {}", brief(findings));
    }
    // Where no client uses another's connection, it is seen when the hop behind gives it up.
    let behind = own.behind.unwrap();
    assert!(is_about_nodes(behind.from, ms(1500)), "{behind:?}");
    let redial = behind.redial.unwrap();
    assert!(redial.slower_by.abs_diff(BEHIND) < ms(50), "{redial:?}");
    assert!(redial.shorter < behind.from + BEHIND && behind.from < redial.longer, "{behind:?}");
}

#[test]
fn haproxy_before_node_in_the_right_order_shows_nothing_of_the_hop_behind() {
    let findings = haproxy_before_node(ms(1500), ms(5000), "safe");
    brackets(&findings, ms(1500), ms(0), CloseKind::Fin);
    assert!(findings.behind.is_none(), "{:?} {}", findings.behind, brief(&findings));
}

/// HAProxy sends a request that it lost on a connection that had been used only if nobody can notice: a client that has used
/// its own connection before has to send it again, and a new one gets a 502.
#[test]
fn haproxy_closes_on_a_client_it_has_answered_before_and_answers_502_to_a_new_one() {
    let link = Link::new(BEHIND).unwrap_or_else(|error| panic!("{error}"));
    let node = node_at(Some(&link), ms(1500), 0);
    link.at_client(|| {
        let haproxy = Haproxy::new().backend(node.addr()).reuse("always").start();
        // How long it really waits.
        let node_closes_after = {
            let mut direct = Raw::connect(node.addr());
            direct.get("/");
            let since = now();
            assert_eq!(direct.ending(), Ending::Orderly);
            since.elapsed()
        };
        // Node has closed by when the request comes, and its FIN is still on the way.
        let idle = node_closes_after - BEHIND * 3 / 4;
        let mut used = Raw::connect(haproxy.addr());
        used.get("/");
        std::thread::sleep(idle);
        used.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(used.ending(), Ending::Orderly);
        Raw::connect(haproxy.addr()).get("/");
        std::thread::sleep(idle);
        assert!(Raw::connect(haproxy.addr()).get("/").head.starts_with("http/1.1 502"));
    });
}

/// nginx, in front of a server at the other end of a link, has 502 for what it must not send twice. Its clients share its
/// connections, which are idle for as long as no client asks: some 300 ms between two senders of the probe, a little before
/// its own timer.
fn nginx_in_front(origin: SocketAddr, link: &Link, upstream: Duration) -> Findings {
    link.at_client(|| {
        let nginx = nginx_before(origin, ms(4000), upstream);
        run(posting(nginx.addr()))
    })
}

#[test]
fn nginx_before_nginx_is_recognised_in_the_wrong_order_by_its_502() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let link = Link::new(BEHIND * 2).unwrap_or_else(|error| panic!("{error}"));
            let origin = Nginx::new().keepalive_timeout(ms(200)).at(&link).start();
            has_502(&nginx_in_front(origin.addr(), &link, ms(10_000)));
        });
        scope.spawn(|| {
            let link = Link::new(BEHIND * 2).unwrap_or_else(|error| panic!("{error}"));
            let origin = Nginx::new().keepalive_timeout(ms(8000)).at(&link).start();
            let right = nginx_in_front(origin.addr(), &link, ms(200));
            brackets(&right, ms(4000), ms(0), CloseKind::Fin);
            let errors = right.behind.as_ref().map_or(0, |behind| behind.seen.hits + behind.lost.hits);
            assert_eq!(errors, 0, "{:?}", right.behind);
        });
    });
}

fn has_502(findings: &Findings) {
    brackets(findings, ms(4000), ms(0), CloseKind::Fin);
    let behind = findings.behind.as_ref().unwrap_or_else(|| panic!("{}", brief(findings)));
    assert!(behind.statuses == [502] && behind.seen.hits >= 1, "{behind:?}");
}
