//! Response bodies that their caller drops before the end: which rest is read to save the connection, and which is not.

use std::time::Duration;

use http_body_util::BodyExt;
use keeplive::server::Behaviour;
use keeplive::{CloseReason, Pool, PoolConfig};

use super::{assert_nothing_is_lost, get, pool, send, server, url};
use crate::support::gate::Gate;
use crate::support::scripted::Scripted;
use crate::support::{PATIENCE, now, soon};

/// A peer that sends ten bytes of each response at once, and the rest when it may.
fn hesitant(rest: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> (Scripted, Gate, Gate) {
    let (go, ended) = (Gate::default(), Gate::default());
    let (may_go, has_ended) = (go.clone(), ended.clone());
    let peer = Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            let rest = rest();
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nten bytes.", 10 + rest.len()));
            may_go.wait();
            conn.write(rest);
        }
        has_ended.open();
    });
    (peer, go, ended)
}

/// Reads the first ten bytes of a response and drops the rest.
async fn begin_to_read(pool: &Pool, peer: &Scripted) {
    let mut body = send(pool, &url(peer.addr())).await.expect("a response").into_body();
    let frame = body.frame().await.expect("data").expect("no error");
    assert_eq!(frame.into_data().expect("data"), "ten bytes.");
}

fn patient() -> PoolConfig {
    PoolConfig::default().unread_timeout(PATIENCE)
}

#[tokio::test]
async fn a_body_whose_rest_has_arrived_may_be_dropped_and_its_connection_is_reused() {
    for body in [13, 8 * 1024] {
        let server = server(Behaviour::default().body(body));
        let pool = pool(PoolConfig::default().unread_timeout(Duration::ZERO));
        let response = send(&pool, &server.url()).await.expect("a response");
        // Written in one go, the body has arrived with the head, or is at least in the kernel.
        drop(response);
        assert_eq!(pool.stats().idle, 1, "{:?}", pool.stats());
        assert_eq!(get(&pool, &server.url()).await.nth, 2);
    }
}

#[tokio::test]
async fn a_short_rest_that_comes_soon_saves_its_connection_while_its_caller_goes_on() {
    let (peer, go, _) = hesitant(|| vec![b'x'; 10_000]);
    let pool = pool(patient().max_connections_per_origin(Some(1)));
    begin_to_read(&pool, &peer).await;
    assert_eq!((pool.stats().busy, pool.stats().idle), (1, 0), "the rest is on its way");
    // Who waits for the only connection is given it when the rest has come.
    let (asking, address) = (pool.clone(), url(peer.addr()));
    let next = tokio::spawn(async move { get(&asking, &address).await });
    soon("a waiter", || (pool.stats().waiting == 1).then_some(())).await;
    go.open();
    assert_eq!(next.await.expect("no panic").nth, 2);
    assert_eq!((peer.connections(), pool.stats().closed.len()), (1, 0));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_rest_that_does_not_come_in_time_closes_its_connection() {
    let (peer, go, ended) = hesitant(|| vec![b'x'; 10]);
    let limit = Duration::from_millis(50);
    let pool = pool(PoolConfig::default());
    assert_eq!(pool.config().unread_timeout, limit);
    let dropping = now();
    begin_to_read(&pool, &peer).await;
    soon("its close", || (pool.stats().busy == 0).then_some(())).await;
    assert!(dropping.elapsed() >= limit, "{:?}", dropping.elapsed());
    assert_eq!(pool.stats().closed[&CloseReason::BodyDropped], 1);
    go.open();
    ended.wait();
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_rest_that_drips_is_not_waited_for_any_longer() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nten bytes.\r\n");
        while conn.is_idle_for(Duration::from_millis(5)) {
            conn.write("1\r\nx\r\n");
        }
    });
    let pool = pool(PoolConfig::default());
    begin_to_read(&pool, &peer).await;
    soon("its close", || (pool.stats().busy == 0).then_some(())).await;
    assert_eq!(pool.stats().closed[&CloseReason::BodyDropped], 1);
}

#[tokio::test]
async fn a_long_rest_is_not_read_only_to_save_a_connection() {
    let server = server(Behaviour::default().body(8 << 20));
    let pool = pool(patient());
    drop(send(&pool, &server.url()).await.expect("a response"));
    assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::BodyDropped]), (0, 1));
}

#[tokio::test]
async fn a_rest_that_turns_out_to_be_long_closes_its_connection_at_the_bound() {
    // The bound itself may come, and a byte more may not.
    for (more, idle) in [(0, 1), (1, 0)] {
        let (go, bound) = (Gate::default(), 30_000);
        let may_go = go.clone();
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nten bytes.\r\n");
            may_go.wait();
            let length = bound + more;
            conn.write(format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length)));
            conn.until_closed();
        });
        let pool = pool(patient().max_unread(bound));
        begin_to_read(&pool, &peer).await;
        go.open();
        soon("its end", || (pool.stats().busy == 0).then_some(())).await;
        assert_eq!(pool.stats().idle, idle, "{more} {:?}", pool.stats());
        assert_eq!(pool.stats().closed.contains_key(&CloseReason::BodyDropped), idle == 0);
        assert_nothing_is_lost(&pool);
    }
}

#[tokio::test]
async fn where_nothing_is_to_be_read_or_waited_for_the_connection_closes_at_once() {
    let never = [
        PoolConfig::default().unread_timeout(Duration::ZERO),
        patient().max_unread(0),
        // It would not be used again.
        patient().keep_alive(false),
        patient().max_exchanges(Some(1)),
    ];
    for config in never {
        let (peer, go, ended) = hesitant(|| vec![b'x'; 10]);
        let pool = pool(config);
        begin_to_read(&pool, &peer).await;
        assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::BodyDropped]), (0, 1));
        go.open();
        ended.wait();
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_a_rest_until_its_deadline() {
    let (peer, go, _) = hesitant(|| vec![b'x'; 10]);
    let pool = pool(patient());
    begin_to_read(&pool, &peer).await;
    let drained = pool.shutdown(Duration::from_millis(20)).await;
    assert_eq!((drained.cut, drained.held, pool.stats().busy), (1, 0, 0));
    go.open();
}

#[test]
fn a_rest_that_is_waited_for_when_its_runtime_ends_closes_its_connection() {
    let (peer, go, ended) = hesitant(|| vec![b'x'; 10]);
    let pool = pool(patient());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(begin_to_read(&pool, &peer));
    assert_eq!(pool.stats().busy, 1);
    drop(runtime);
    assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::BodyDropped]), (0, 1));
    go.open();
    ended.wait();
}
