//! Peers that vanish without a word: cables that are cut, NATs that forget.

use std::time::Duration;

use keeplive::server::{Behaviour, Running, Server};
use keeplive::{CloseReason, Error, ErrorKind, Keepalive, Pool, PoolConfig, RetryPolicy};

use super::{get, pool, send};
use crate::support::link::{Link, SERVER_IP};
use crate::support::{now, soon};

/// As short as Linux takes them.
const KEEPALIVE: Keepalive =
    Keepalive { time: Duration::from_secs(1), interval: Duration::from_secs(1), count: 1 };

/// The only lifelines are those of TCP.
fn no_other_limit() -> PoolConfig {
    PoolConfig::default()
        .retry(RetryPolicy::Never)
        .idle_timeout(None)
        .tcp_keepalive(None)
        .tcp_user_timeout(None)
}

fn link() -> Link {
    Link::new(Duration::ZERO).unwrap_or_else(|error| panic!("{error}"))
}

fn server(link: &Link, behaviour: Behaviour) -> Running {
    let server = Server::new(behaviour).listen((SERVER_IP, 0).into());
    link.at_server(|| server.start()).expect("every port is free there")
}

/// Does this at the client's end, with a pool that has one connection to the server.
fn with_a_connection<T: Send>(
    link: &Link,
    server: &Running,
    config: PoolConfig,
    deed: impl AsyncFnOnce(&Pool, &str) -> T + Send,
) -> T {
    link.at_client(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (pool, url) = (pool(config), server.url());
            get(&pool, &url).await;
            deed(&pool, &url).await
        })
    })
}

fn ends_unpooled(pool: &Pool, error: &Error) {
    assert_eq!(error.kind(), ErrorKind::NoResponse, "{error}");
    assert!(error.to_string().contains("timed out"), "{error}");
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.busy, stats.closed[&CloseReason::Failed]), (0, 0, 1));
}

#[test]
fn an_idle_connection_whose_peer_vanished_is_found_by_keepalive() {
    let link = link();
    let server = server(&link, Behaviour::default());
    let config = no_other_limit().tcp_keepalive(Some(KEEPALIVE));
    with_a_connection(&link, &server, config, async |pool, _| {
        link.cut();
        let cut = now();
        soon("its end", || (pool.stats().idle == 0).then_some(())).await;
        // A probe after one second, and one more without an answer to it.
        assert!(cut.elapsed() < Duration::from_secs(4), "{:?}", cut.elapsed());
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::PeerLost, 1)]);
    });
}

#[test]
fn keepalive_leaves_a_connection_alone_whose_peer_is_there() {
    let link = link();
    let server = server(&link, Behaviour::default());
    let config = no_other_limit().tcp_keepalive(Some(KEEPALIVE));
    with_a_connection(&link, &server, config, async |pool, url| {
        // Longer than two unanswered probes would take.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert_eq!(get(pool, url).await.nth, 2);
    });
}

#[test]
fn a_request_that_is_not_acknowledged_ends_by_the_user_timeout() {
    let link = link();
    let server = server(&link, Behaviour::default());
    let config = no_other_limit().tcp_user_timeout(Some(Duration::from_secs(1)));
    with_a_connection(&link, &server, config, async |pool, url| {
        link.cut();
        let cut = now();
        let error = send(pool, url).await.expect_err("nobody is there");
        assert!(cut.elapsed() < Duration::from_secs(4), "{:?}", cut.elapsed());
        ends_unpooled(pool, &error);
    });
}

#[test]
fn a_request_that_was_acknowledged_and_is_not_answered_ends_by_keepalive() {
    let link = link();
    let slow = Behaviour::default().delay(Duration::from_secs(60));
    let server = server(&link, slow);
    let config = no_other_limit().tcp_keepalive(Some(KEEPALIVE));
    link.at_client(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let pool = pool(config);
            let sending = tokio::spawn({
                let (pool, url) = (pool.clone(), server.url());
                async move { send(&pool, &url).await.map(drop) }
            });
            soon("the request", || (server.counts().requests == 1).then_some(())).await;
            link.cut();
            let error = sending.await.expect("no panic").expect_err("nobody is there");
            ends_unpooled(&pool, &error);
        });
    });
}
