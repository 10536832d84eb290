//! Without keep-alive: every request on a connection of its own, and TIME_WAIT on the server's side.

use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{CloseReason, PoolConfig};

use super::{HI, answering, get, pool, server, tls_server, url};
use crate::support::sockets::{State, state};
use crate::support::{now, soon};

fn off() -> PoolConfig {
    PoolConfig::default().keep_alive(false)
}

#[tokio::test]
async fn every_request_says_close_and_has_a_connection_of_its_own() {
    let peer = answering(HI);
    let pool = pool(off().linger(Duration::ZERO));
    for _ in 0..3 {
        assert_eq!(get(&pool, &url(peer.addr())).await.nth, 1);
    }
    let received = peer.received();
    assert_eq!(received.iter().map(|received| received.connection).collect::<Vec<_>>(), [1, 2, 3]);
    for received in received {
        let request = String::from_utf8_lossy(&received.request).into_owned();
        assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
    }
    assert_eq!(pool.stats().closed[&CloseReason::KeepAliveOff], 3);
}

#[tokio::test]
async fn a_server_that_ignores_close_is_waited_for_and_then_closed_first() {
    let linger = Duration::from_millis(100);
    let peer = answering(HI);
    let pool = pool(off().linger(linger));
    let asked = now();
    let exchange = get(&pool, &url(peer.addr())).await;
    assert_eq!((pool.stats().lingering, pool.stats().busy), (1, 0));
    let stats = soon("our close", || Some(pool.stats()).filter(|stats| stats.closed_first == 1)).await;
    assert!(asked.elapsed() >= linger, "{:?}", asked.elapsed());
    assert_eq!((stats.peer_closed_first, stats.lingering), (0, 0));
    let (local, remote) = (exchange.connection.local, exchange.connection.remote);
    soon("a TIME_WAIT of ours", || (state(local, remote) == Some(State::TimeWait)).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_closes_keeps_the_time_wait() {
    for server in [server(Behaviour::default()), tls_server(Behaviour::default())] {
        let pool = pool(off());
        for nth in 1..=5 {
            let exchange = get(&pool, &server.url()).await;
            soon("its close", || (pool.stats().peer_closed_first == nth).then_some(())).await;
            let (local, remote) = (exchange.connection.local, exchange.connection.remote);
            let gone = || match state(local, remote) {
                None => Some(()),
                Some(state) => {
                    assert_ne!(state, State::TimeWait, "{}", server.url());
                    None
                }
            };
            soon("our side's end", gone).await;
        }
        let stats = pool.stats();
        assert_eq!((stats.closed_first, stats.lingering, stats.reused), (0, 0, 0));
        assert_eq!(server.counts().connections, 5);
    }
}

#[tokio::test]
async fn over_plain_tcp_the_time_wait_is_the_servers() {
    let server = server(Behaviour::default());
    let pool = pool(off());
    let exchange = get(&pool, &server.url()).await;
    let (local, remote) = (exchange.connection.local, exchange.connection.remote);
    soon("its TIME_WAIT", || (state(remote, local) == Some(State::TimeWait)).then_some(())).await;
}

#[tokio::test]
async fn no_more_than_a_few_connections_linger_at_a_time() {
    let peer = answering(HI);
    let pool = pool(off().linger(Duration::from_secs(60)));
    for _ in 0..260 {
        get(&pool, &url(peer.addr())).await;
    }
    assert_eq!((pool.stats().lingering, pool.stats().closed_first), (256, 4));
}

#[tokio::test]
async fn no_more_connections_linger_than_may_be_open() {
    let peer = answering(HI);
    let pool = pool(off().linger(Duration::from_secs(60)).max_connections(Some(3)));
    for _ in 0..5 {
        get(&pool, &url(peer.addr())).await;
    }
    let stats = pool.stats();
    assert_eq!((stats.lingering, stats.closed_first, stats.busy), (3, 2, 0));
}

#[test]
fn what_lingered_on_a_runtime_that_ended_is_closed_and_counted() {
    let peer = answering(HI);
    let pool = pool(off().linger(Duration::from_secs(60)));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime().block_on(async { get(&pool, &url(peer.addr())).await });
    assert_eq!((pool.stats().lingering, pool.stats().closed_first), (0, 1));
}
