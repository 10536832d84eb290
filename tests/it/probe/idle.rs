//! The idle timeout between requests, and how it ends.

use std::io::{Read, Write};
use std::sync::Arc;

use keeplive::server::{Behaviour, Server, ServerTls, TlsVersions};
use socket2::{SockRef, TcpKeepalive};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, Stream};

use super::*;
use crate::support::certificate::Certificate;
use crate::support::now;

#[test]
fn a_visible_close_is_found_in_its_own_time_and_confirmed_in_as_much_again() {
    let timeout = ms(1700);
    let server = Server::new(Behaviour::default().idle_timeout(timeout)).start().unwrap();
    let began = now();
    let mut found_after = None;
    let findings = run_watched(at(server.addr()), &mut |progress| {
        if let Progress::Found { .. } = progress {
            found_after = Some(began.elapsed());
        }
    });
    brackets(&findings, timeout, ms(0), CloseKind::Fin);
    let idle = &findings.idle_timeout;
    assert_eq!((idle.confirmed_alive.hits, idle.confirmed_alive.of), (5, 5), "{}", brief(&findings));
    assert_eq!((idle.confirmed_dead.hits, idle.confirmed_dead.of), (5, 5), "{}", brief(&findings));
    assert!(found_after.unwrap() < timeout + ms(2000), "{found_after:?}");
    assert!(findings.took < timeout * 2 + ms(2000), "{:?}", findings.took);
}

#[test]
fn a_close_over_tls_is_found_and_tickets_are_none() {
    std::thread::scope(|scope| {
        for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
            scope.spawn(move || {
                let tls = ServerTls::default().versions(versions);
                let server =
                    Server::new(Behaviour::default().idle_timeout(ms(1100))).tls(tls).start().unwrap();
                let mut probing = probing(server.url());
                probing.tls.roots_pem = server.certificate_pem().map(|pem| pem.as_bytes().to_vec());
                let findings = run(probing);
                brackets(&findings, ms(1100), ms(0), CloseKind::Fin);
                assert!(findings.target.tls_version.is_some());
            });
        }
    });
}

#[test]
fn a_reset_while_idle_is_told_from_a_fin() {
    let peer = after_idle(ms(1100), Conn::reset);
    brackets(&run(at(peer.addr())), ms(1100), ms(0), CloseKind::Reset);
}

#[test]
fn an_unsolicited_408_is_an_end_and_no_answer() {
    let peer = after_idle(ms(1100), |conn| {
        conn.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    brackets(&run(at(peer.addr())), ms(1100), ms(0), CloseKind::Answered408);
}

#[test]
fn a_timeout_longer_than_was_tried_is_an_honest_lower_bound() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(60_000))).start().unwrap();
    let mut probing = at(server.addr());
    probing.limits.max_idle = ms(1000);
    let findings = run(probing);
    let idle = &findings.idle_timeout;
    assert_eq!(idle.verdict, Verdict::Longer, "{}", brief(&findings));
    assert!(idle.lower >= ms(1000) && idle.upper.is_none() && idle.close.is_none(), "{}", brief(&findings));
    assert!(findings.took < ms(3000), "{:?}", findings.took);
}

#[test]
fn an_answer_that_the_budget_left_unconfirmed_says_so() {
    let server = Server::new(Behaviour::default().idle_timeout(ms(1500))).start().unwrap();
    let mut probing = at(server.addr());
    probing.limits.max_idle = ms(2500);
    probing.limits.budget = Some(ms(3000));
    let findings = run(probing);
    let idle = &findings.idle_timeout;
    assert_eq!((idle.verdict, idle.confirmed_alive.of, idle.confirmed_dead.of), (Verdict::Found, 0, 0));
    assert!(idle.lower <= ms(1500) && idle.upper.unwrap() >= ms(1499), "{}", brief(&findings));
    assert!(tells(&findings, CaveatKind::BudgetSpent), "{}", brief(&findings));
    assert!(findings.took < ms(3000), "{}", brief(&findings));
}

#[test]
fn a_server_that_closes_after_every_answer_has_nothing_to_be_idle() {
    let server = Server::new(Behaviour::default().keep_alive(false)).start().unwrap();
    let findings = run(at(server.addr()));
    assert_eq!(findings.idle_timeout.verdict, Verdict::NotKept);
    assert!(findings.took < ms(1000), "{:?}", findings.took);
}

#[test]
fn a_probe_that_is_stopped_tells_what_it_knows_by_then() {
    let server = Server::new(Behaviour::default()).start().unwrap();
    let stop = Stop::default();
    let began = now();
    let findings = probe::run(at(server.addr()), &stop.clone(), &mut |progress| {
        if let Progress::Holding { .. } = progress {
            stop.set();
        }
    })
    .unwrap();
    assert!(findings.interrupted && began.elapsed() < ms(3000), "{}", brief(&findings));
    assert_eq!(findings.idle_timeout.verdict, Verdict::Unknown);
    assert!(findings.idle_timeout.lower >= ms(250), "{}", brief(&findings));
}

/// A server that, while a connection is idle, changes its TLS keys, and later closes with or without close_notify.
fn changing_keys(certificate: &Certificate) -> Scripted {
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let config =
        Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    Scripted::start(move |conn| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tcp = conn.tcp();
        while let Ok(1..) = Stream::new(&mut tls, &mut tcp).read(&mut [0; 1024]) {
            if Stream::new(&mut tls, &mut tcp).write_all(ANSWER.as_bytes()).is_err()
                || !conn.is_idle_for(ms(400))
            {
                continue;
            }
            tls.refresh_traffic_keys().unwrap();
            let _ = tls.write_tls(&mut tcp);
            if conn.is_idle_for(ms(700)) {
                if conn.number().is_multiple_of(2) {
                    tls.send_close_notify();
                    let _ = tls.write_tls(&mut tcp);
                }
                return;
            }
        }
    })
}

#[test]
fn a_key_update_is_no_close_and_close_notify_is_a_graceful_one() {
    let certificate = Certificate::new();
    let peer = changing_keys(&certificate);
    let mut probing = probing(format!("https://{}/", peer.addr()));
    probing.tls.roots_pem = Some(certificate.pem.into_bytes());
    brackets(&run(probing), ms(1100), ms(0), CloseKind::Fin);
}

#[test]
fn a_peer_that_sends_tcp_keepalive_is_noticed_and_its_probes_are_no_end() {
    let peer = Scripted::start(|conn| {
        let every_second = TcpKeepalive::new().with_time(ms(1000)).with_interval(ms(1000));
        SockRef::from(conn.tcp()).set_tcp_keepalive(&every_second).unwrap();
        while conn.read_request().is_some() {
            conn.write(ANSWER);
            if conn.is_idle_for(ms(3300)) {
                return;
            }
        }
    });
    let silent = Server::new(Behaviour::default().idle_timeout(ms(3300))).start().unwrap();
    let [probing, without] = [peer.addr(), silent.addr()].map(at);
    let (findings, without) = std::thread::scope(|scope| {
        let without = scope.spawn(|| run(without));
        (run(probing), without.join().unwrap())
    });
    brackets(&findings, ms(3300), ms(0), CloseKind::Fin);
    assert!(tells(&findings, CaveatKind::PeerProbes), "{}", brief(&findings));
    assert!(!tells(&without, CaveatKind::PeerProbes), "{}", brief(&without));
}
