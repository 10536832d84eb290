//! Idle before the first request.

use keeplive::findings::Ended;
use keeplive::server::{Behaviour, Server, ServerTls};

use super::*;
use crate::support::certificate::{Tls, Version};
use crate::support::haproxy::Haproxy;
use crate::support::nginx::Nginx;

fn lies_at(ended: Option<&Ended>, truth: Duration, close: CloseKind) {
    let ended = ended.unwrap();
    let (lower, upper) = (ended.lower, ended.upper.unwrap());
    assert!(lower <= truth + ms(50) && truth <= upper + ms(1) && upper <= truth + ms(50), "{ended:?}");
    assert_eq!((ended.close, ended.samples), (Some(close), 3));
}

#[test]
fn before_its_first_request_a_connection_to_haproxy_is_answered_408() {
    let haproxy = Haproxy::new().keep_alive_timeout(ms(600)).request_timeout(ms(1300)).start();
    let mut probing = at(haproxy.addr());
    probing.limits.first_request = true;
    let findings = run(probing);
    brackets(&findings, ms(600), ms(0), CloseKind::Fin);
    let first = findings.first_request_timeout.as_ref().unwrap();
    lies_at(first.after_tcp.as_ref(), ms(1300), CloseKind::Answered408);
    assert!(first.after_tls.is_none());
}

#[test]
fn a_peer_that_talks_without_end_has_not_answered() {
    for words in ["HTTP/1.1 100 Continue\r\n\r\n", "x"] {
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            // Until the client has gone.
            while std::io::Write::write_all(&mut conn.tcp(), words.as_bytes()).is_ok() {}
        });
        let mut probing = at(peer.addr());
        if words == "x" {
            probing.target = ProbeTarget::Tcp {
                url: format!("tcp://{}", peer.addr()),
                send: b"hello\r\n\r\n".to_vec(),
                expect: b"never said".to_vec(),
            };
        }
        probing.limits.max_time = ms(300);
        let began = crate::support::now();
        let refusal = probe::run(probing, &Stop::default(), &mut |_| {}).expect_err("no answer").to_string();
        assert!(refusal.contains("no answer"), "{refusal}");
        assert!(
            crate::support::now() - began < ms(5000),
            "it waited for {:?}",
            crate::support::now() - began
        );
    }
}

#[test]
fn before_its_first_request_nginx_closes_after_the_accept_and_after_the_handshake() {
    let nginx = Nginx::new()
        .tls(Tls { version: Version::Tls13, resumption: true })
        .keepalive_timeout(ms(600))
        .header_timeout(ms(1300))
        .start();
    let mut probing = probing(format!("https://localhost:{}/", nginx.addr().port()));
    probing.tls.roots_pem = Some(nginx.certificate_pem().into());
    probing.limits.first_request = true;
    let findings = run(probing);
    brackets(&findings, ms(600), ms(0), CloseKind::Fin);
    let first = findings.first_request_timeout.as_ref().unwrap();
    // Its timers count from when its loop last looked at the clock, before the handshakes of that turn; and one that
    // would be moved by less than 300 ms stays where it is (NGX_TIMER_LAZY_DELAY): after the handshake it is still
    // that of the accept.
    for ended in [&first.after_tcp, &first.after_tls] {
        let ended = ended.as_ref().unwrap();
        let upper = ended.upper.unwrap();
        assert!(ended.lower + ms(50) >= ms(1300) && upper <= ms(1350), "{ended:?}");
        assert_eq!((ended.close, ended.samples), (Some(CloseKind::Fin), 3));
    }
}

#[test]
fn without_being_told_to_wait_the_probe_says_how_long_it_watched() {
    let server =
        Server::new(Behaviour::default().idle_timeout(ms(600))).tls(ServerTls::default()).start().unwrap();
    let mut probing = probing(server.url());
    probing.tls.roots_pem = server.certificate_pem().map(|pem| pem.as_bytes().to_vec());
    let findings = run(probing);
    let first = findings.first_request_timeout.as_ref().unwrap();
    let after_tcp = first.after_tcp.as_ref().unwrap();
    assert!(after_tcp.upper.is_none() && after_tcp.lower >= ms(1000), "{after_tcp:?}");
    assert!(first.after_tls.is_some());
}
