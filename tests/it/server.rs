//! The embedded server does what its behaviour says.

use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use keeplive::server::{Behaviour, Certificate, Running, Server, ServerTls, TlsVersions};
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion};

use crate::support::raw::{Ending, Raw, trusting};
use crate::support::{now, until};

const CLOSING: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

fn server(behaviour: Behaviour) -> Running {
    Server::new(behaviour).start().expect("a free port of the loopback")
}

fn tls_server(tls: ServerTls) -> Running {
    Server::new(Behaviour::default()).tls(tls).start().expect("a free port of the loopback")
}

fn trusted(server: &Running) -> &str {
    server.certificate_pem().expect("a server over TLS has a certificate")
}

#[test]
fn a_kept_connection_carries_many_requests() {
    let server = server(Behaviour::default());
    let mut client = Raw::connect(server.addr());
    for _ in 0..100 {
        let answer = client.get("/");
        assert!(answer.head.starts_with("http/1.1 200 ok\r\n"), "{}", answer.head);
        assert!(!answer.says_close(), "{}", answer.head);
        assert_eq!(answer.body, b"Hello, world!");
    }
    let counts = server.counts();
    assert_eq!((counts.connections, counts.requests), (1, 100));
}

#[test]
fn a_request_that_says_close_is_answered_and_then_closed() {
    let server = server(Behaviour::default());
    let mut client = Raw::connect(server.addr());
    client.send(CLOSING);
    assert!(client.answer().says_close());
    assert_eq!(client.ending(), Ending::Orderly);
}

#[test]
fn without_keep_alive_every_response_closes() {
    let server = server(Behaviour::default().keep_alive(false));
    for _ in 0..3 {
        let mut client = Raw::connect(server.addr());
        assert!(client.get("/").says_close());
        assert_eq!(client.ending(), Ending::Orderly);
    }
    assert_eq!(server.counts().connections, 3);
}

#[test]
fn the_nth_response_announces_the_close() {
    let server = server(Behaviour::default().close_after(3));
    let mut client = Raw::connect(server.addr());
    let closes: Vec<_> = (0..3).map(|_| client.get("/").says_close()).collect();
    assert_eq!(closes, [false, false, true]);
    assert_eq!(client.ending(), Ending::Orderly);
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout() {
    let timeout = Duration::from_millis(300);
    let server = server(Behaviour::default().idle_timeout(timeout));
    let mut client = Raw::connect(server.addr());
    let asked = now();
    client.get("/");
    assert_eq!(client.ending(), Ending::Orderly);
    assert!(asked.elapsed() >= timeout, "{:?}", asked.elapsed());
}

#[test]
fn a_connection_that_never_asks_is_closed_after_the_idle_timeout() {
    let server = server(Behaviour::default().idle_timeout(Duration::from_millis(50)));
    assert_eq!(Raw::connect(server.addr()).ending(), Ending::Orderly);
}

#[test]
fn an_answer_that_takes_longer_than_the_idle_timeout_still_comes() {
    let behaviour = Behaviour::default().idle_timeout(Duration::from_millis(50));
    let server = server(behaviour.delay(Duration::from_millis(200)));
    let mut client = Raw::connect(server.addr());
    assert_eq!(client.get("/").body, b"Hello, world!");
    assert_eq!(client.ending(), Ending::Orderly);
}

#[test]
fn the_delay_comes_before_the_response() {
    let delay = Duration::from_millis(100);
    let server = server(Behaviour::default().delay(delay));
    let mut client = Raw::connect(server.addr());
    let asked = now();
    client.get("/");
    assert!(asked.elapsed() >= delay, "{:?}", asked.elapsed());
}

#[test]
fn every_nth_connection_is_reset_when_its_request_arrives() {
    let server = server(Behaviour::default().reset_every(2));
    for _ in 0..2 {
        assert_eq!(Raw::connect(server.addr()).get("/").body, b"Hello, world!");
        let mut unlucky = Raw::connect(server.addr());
        unlucky.send(CLOSING);
        assert_eq!(unlucky.ending(), Ending::Reset);
    }
    assert_eq!(server.counts().requests, 4);
}

#[test]
fn a_request_after_the_nth_gets_no_response_on_any_connection() {
    let server = server(Behaviour::default().stall_after(1));
    assert_eq!(Raw::connect(server.addr()).get("/").body, b"Hello, world!");
    let address = server.addr();
    let mut waiting = Raw::connect(address);
    waiting.send(CLOSING);
    // A second connection is accepted and read meanwhile; when both have arrived, neither has been answered.
    let mut another = Raw::connect(address);
    another.send(CLOSING);
    until("the requests", || (server.counts().requests == 3).then_some(()));
    server.stop();
    assert_ne!(waiting.ending(), Ending::Truncated);
    assert_ne!(another.ending(), Ending::Truncated);
}

#[test]
fn the_body_is_as_long_as_asked_and_the_status_as_given() {
    let server = server(Behaviour::default().body(100_000).status(503));
    let answer = Raw::connect(server.addr()).get("/");
    assert!(answer.head.starts_with("http/1.1 503 "), "{}", answer.head);
    assert_eq!(answer.body.len(), 100_000);
}

#[test]
fn a_status_without_a_body_keeps_the_connection() {
    let server = server(Behaviour::default().status(204));
    let mut client = Raw::connect(server.addr());
    for _ in 0..2 {
        assert!(client.get("/").head.starts_with("http/1.1 204 "));
    }
}

#[test]
fn a_request_with_a_body_keeps_the_connection() {
    let server = server(Behaviour::default());
    let mut client = Raw::connect(server.addr());
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n");
        client.send([b'x'; 200_000]);
        assert!(!client.answer().says_close());
    }
    assert_eq!(server.counts().connections, 1);
}

#[test]
fn two_requests_in_one_write_get_two_responses_in_order() {
    let server = server(Behaviour::default());
    let mut client = Raw::connect(server.addr());
    client.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\nGET /2 HTTP/1.1\r\nHost: test\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(client.answer().body, b"Hello, world!");
    }
}

#[test]
fn it_listens_where_it_is_told() {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let server = Server::new(Behaviour::default()).listen(address).start().expect("a loopback of IPv6");
    assert_eq!(server.url(), format!("http://[::1]:{}/", server.addr().port()));
    assert_eq!(Raw::connect(server.addr()).get("/").body, b"Hello, world!");
}

#[test]
fn a_stopped_server_is_gone() {
    let server = server(Behaviour::default());
    let address = server.addr();
    let mut client = Raw::connect(address);
    client.get("/");
    server.stop();
    assert_eq!(client.ending(), Ending::Orderly);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn it_starts_and_stops_inside_another_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let server = server(Behaviour::default());
        assert_eq!(Raw::connect(server.addr()).get("/").body, b"Hello, world!");
        server.stop();
    });
}

#[test]
fn its_processor_time_grows_with_its_work() {
    let server = server(Behaviour::default());
    let before = server.cpu_time().expect("the thread answers");
    let mut client = Raw::connect(server.addr());
    for _ in 0..100 {
        client.get("/");
    }
    let after = server.cpu_time().expect("the thread answers");
    assert!(after > before, "{before:?} then {after:?}");
}

#[test]
fn over_tls_the_close_is_announced_before_the_fin() {
    let server = tls_server(ServerTls::default());
    assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
    let mut client = Raw::connect_tls(server.addr(), &trusting(trusted(&server), false));
    client.send(CLOSING);
    assert!(client.answer().says_close());
    assert_eq!(client.ending(), Ending::Orderly);
}

#[test]
fn an_idle_tls_connection_is_closed_in_order() {
    let behaviour = Behaviour::default().idle_timeout(Duration::from_millis(50));
    let server = Server::new(behaviour).tls(ServerTls::default()).start().expect("a free port");
    let mut client = Raw::connect_tls(server.addr(), &trusting(trusted(&server), false));
    client.get("/");
    assert_eq!(client.ending(), Ending::Orderly);
}

#[test]
fn a_tls_connection_is_reset_without_farewell() {
    let server = Server::new(Behaviour::default().reset_every(1))
        .tls(ServerTls::default())
        .start()
        .expect("a free port");
    let mut client = Raw::connect_tls(server.addr(), &trusting(trusted(&server), false));
    client.send(CLOSING);
    assert_eq!(client.ending(), Ending::Reset);
}

#[test]
fn sessions_are_resumed_when_both_sides_agree() {
    let versions =
        [(TlsVersions::Tls12, ProtocolVersion::TLSv1_2), (TlsVersions::Tls13, ProtocolVersion::TLSv1_3)];
    for (versions, negotiated) in versions {
        for (server_resumes, client_resumes) in [(true, true), (true, false), (false, true)] {
            let server = tls_server(ServerTls::default().versions(versions).resumption(server_resumes));
            let config = trusting(trusted(&server), client_resumes);
            let handshakes = [(); 2].map(|()| {
                let mut client = Raw::connect_tls(server.addr(), &config);
                client.get("/");
                assert_eq!(client.version(), negotiated);
                client.handshake()
            });
            let resumed = u64::from(server_resumes && client_resumes);
            let second = if resumed == 1 { HandshakeKind::Resumed } else { HandshakeKind::Full };
            let setting = (versions, server_resumes, client_resumes);
            assert_eq!(handshakes, [HandshakeKind::Full, second], "{setting:?}");
            let counts = server.counts();
            assert_eq!(
                (counts.handshakes_full, counts.handshakes_resumed),
                (2 - resumed, resumed),
                "{setting:?}"
            );
        }
    }
}

#[test]
fn a_certificate_from_files_is_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).expect("a file in the temporary folder");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file in the temporary folder");
    let server = tls_server(ServerTls::default().certificate(Certificate::Files { chain, key }));
    assert_eq!(server.certificate_pem(), Some(made.cert.pem().as_str()));
    let mut client = Raw::connect_tls(server.addr(), &trusting(&made.cert.pem(), false));
    assert_eq!(client.get("/").body, b"Hello, world!");
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let files = Certificate::Files { chain: "no/such/chain.pem".into(), key: "no/such/key.pem".into() };
    let tls = ServerTls::default().certificate(files);
    let error = Server::new(Behaviour::default()).tls(tls).start().expect_err("there is no such file");
    let source = std::error::Error::source(&error).expect("the file's own error");
    assert!(source.to_string().starts_with("no/such/chain.pem: "), "{source}");
}
