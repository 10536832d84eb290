//! Connections that cannot be opened: each failure by its name, and no place lost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{Error, ErrorKind, Phase, Pool, PoolConfig, Resolve};

use super::{get, send, server, url};
use crate::support::deaf::Deaf;
use crate::support::scripted::{Conn, Scripted};

/// The failure of one request, after which nothing of it is left.
async fn failure(pool: &Pool, url: &str) -> Error {
    let error = send(pool, url).await.expect_err("this cannot be opened");
    let stats = pool.stats();
    assert_eq!((stats.busy, stats.opened, stats.failed_to_open), (0, 0, 1), "{error}");
    error
}

fn fails(error: &Error, kind: ErrorKind, phase: Phase) {
    assert_eq!((error.kind(), error.phase()), (kind, Some(phase)), "{error}");
}

fn pool(config: PoolConfig) -> Pool {
    super::pool(config.max_connections_per_origin(Some(1)))
}

#[tokio::test]
async fn a_name_that_nobody_knows_fails_in_its_lookup() {
    let error = failure(&pool(PoolConfig::default()), "http://no-such-host.invalid/").await;
    fails(&error, ErrorKind::Dns, Phase::Dns);
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_refuses_and_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let error = failure(&pool(PoolConfig::default()), &url(port)).await;
    fails(&error, ErrorKind::ConnectRefused, Phase::Connect);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn an_override_decides_where_a_name_leads() {
    let server = server(Behaviour::default());
    let resolve = Resolve { host: "example.test".into(), port: 80, address: server.addr() };
    let pool = pool(PoolConfig::default().resolve(vec![resolve]));
    let exchange = get(&pool, "http://example.test/").await;
    assert_eq!(exchange.connection.remote, server.addr());
    assert_eq!(exchange.timings.connect.expect("opened").dns, None);
}

#[tokio::test]
async fn an_override_names_its_host_in_any_case_and_an_address_with_brackets_or_without() {
    let server = server(Behaviour::default());
    for (host, uri) in [
        ("Example.TEST", "http://example.test/"),
        ("example.test", "http://EXAMPLE.test/"),
        ("[2001:db8::1]", "http://[2001:db8::1]/"),
        ("2001:DB8::1", "http://[2001:db8::1]/"),
        ("192.0.2.1", "http://192.0.2.1/"),
    ] {
        let resolve = Resolve { host: host.into(), port: 80, address: server.addr() };
        let exchange = get(&pool(PoolConfig::default().resolve(vec![resolve])), uri).await;
        assert_eq!(exchange.connection.remote, server.addr(), "{host}");
    }
}

fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

#[tokio::test]
async fn connections_come_from_the_local_addresses_in_turn() {
    let server = server(Behaviour::default());
    // A local address of the other family does not take part.
    let locals = vec![local(9), Ipv6Addr::LOCALHOST.into(), local(8)];
    let pool = pool(PoolConfig::default().keep_alive(false).local_addresses(locals));
    for expected in [local(9), local(8), local(9)] {
        assert_eq!(get(&pool, &server.url()).await.connection.local.ip(), Some(expected));
    }
}

#[tokio::test]
async fn a_host_without_an_address_of_the_local_family_is_not_reached() {
    let config = PoolConfig::default().local_addresses(vec![Ipv6Addr::LOCALHOST.into()]);
    let error = failure(&pool(config), "http://127.0.0.1:9/").await;
    fails(&error, ErrorKind::Connect, Phase::Connect);
    assert!(error.to_string().contains("add a local address of the other family"), "{error}");
}

#[tokio::test]
async fn a_local_address_that_is_not_this_machines_is_named() {
    let foreign = "192.0.2.1".parse().expect("an address for documentation");
    let error =
        failure(&pool(PoolConfig::default().local_addresses(vec![foreign])), "http://127.0.0.1:9/").await;
    fails(&error, ErrorKind::Connect, Phase::Connect);
    assert!(error.to_string().contains("192.0.2.1 is none of this machine's"), "{error}");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_fails_the_handshake() {
    let peer = Scripted::start(|conn| conn.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error = failure(&pool(PoolConfig::default()), &https(&peer)).await;
    fails(&error, ErrorKind::Tls, Phase::Tls);
    assert_eq!(error.to_string(), "`127.0.0.1` does not speak TLS on this port: use http://");
}

#[tokio::test]
async fn a_peer_that_hangs_up_fails_the_handshake() {
    let peer = Scripted::start(Conn::close);
    let error = failure(&pool(PoolConfig::default()), &https(&peer)).await;
    fails(&error, ErrorKind::Tls, Phase::Tls);
    assert!(error.to_string().contains("ended the connection in the TLS handshake"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_with_the_sooner_timeout_and_in_its_phase() {
    let (short, long) = (Some(Duration::from_millis(50)), Some(Duration::from_secs(20)));
    let peer = Scripted::start(Conn::until_closed);
    for (tls, connect, name) in
        [(short, long, "TLS timeout"), (long, short, "connect timeout"), (None, short, "connect timeout")]
    {
        let pool = pool(PoolConfig::default().tls_timeout(tls).connect_timeout(connect));
        let error = failure(&pool, &https(&peer)).await;
        fails(&error, ErrorKind::ConnectTimeout, Phase::Tls);
        let text = format!("the TLS handshake with `127.0.0.1` was not done within the {name} of 50ms");
        assert_eq!(error.to_string(), text);
        // The connect timeout has begun before the handshake.
        let least = Duration::from_millis(if name == "TLS timeout" { 50 } else { 25 });
        let opening = error.opening().expect("an opening failed");
        assert!(opening.tls.is_some_and(|took| took >= least) && opening.tcp < least, "{opening:?}");
    }
}

#[tokio::test]
async fn a_peer_that_never_accepts_ends_with_the_connect_timeout() {
    let deaf = Deaf::new();
    let pool = pool(PoolConfig::default().connect_timeout(Some(Duration::from_millis(50))));
    let error = failure(&pool, &url(deaf.address())).await;
    fails(&error, ErrorKind::ConnectTimeout, Phase::Connect);
    assert!(error.to_string().contains(&deaf.address().to_string()), "{error}");
}

fn https(peer: &Scripted) -> String {
    format!("https://{}/", peer.addr())
}
