//! How a pool ends, and what it makes of runtimes that end before it.

use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{CloseReason, ErrorKind, Exchange, Pool, PoolConfig};
use tokio::runtime::Runtime;

use super::{HI, answering, assert_nothing_is_lost, get, origin, pool, send, server, tls_server, url};
use crate::support::gate::Gate;
use crate::support::scripted::Scripted;
use crate::support::{PATIENCE, soon, until};

/// A peer that answers, and opens the gate when its first connection has ended.
fn watching() -> (Scripted, Gate) {
    let ended = Gate::default();
    let has_ended = ended.clone();
    let peer = Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write(HI);
        }
        has_ended.open();
    });
    (peer, ended)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// One that works on while nobody waits for it.
fn working_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[tokio::test]
async fn a_closed_pool_closes_its_idle_connections_and_begins_nothing() {
    let (peer, ended) = watching();
    let pool = pool(PoolConfig::default());
    get(&pool, &url(peer.addr())).await;
    pool.close();
    ended.wait();
    assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Shutdown]), (0, 1));
    let error = send(&pool, &url(peer.addr())).await.expect_err("the pool is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    pool.close();
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn who_waits_for_a_connection_of_a_closed_pool_is_told_at_once() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    let lease = pool.lease(&origin(&server.url())).await.expect("a lease");
    let (waiting, address) = (pool.clone(), server.url());
    let waiter = tokio::spawn(async move { send(&waiting, &address).await.map(drop) });
    soon("a waiter", || (pool.stats().waiting == 1).then_some(())).await;
    pool.close();
    let error = waiter.await.expect("no panic").expect_err("the pool is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(lease);
    assert_eq!((pool.stats().busy, pool.stats().idle, pool.stats().waiting), (0, 0, 0));
}

#[tokio::test]
async fn an_exchange_under_way_ends_well_although_its_pool_is_closed() {
    let (peer, ended) = watching();
    let pool = pool(PoolConfig::default());
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    pool.close();
    response.into_body().finish().await.expect("a whole body");
    ended.wait();
    assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::Shutdown]), (0, 1));
}

#[tokio::test]
async fn dropping_the_last_handle_closes_idle_connections() {
    let (peer, ended) = watching();
    let pool = pool(PoolConfig::default());
    get(&pool, &url(peer.addr())).await;
    let other = pool.clone();
    drop(pool);
    assert_eq!(get(&other, &url(peer.addr())).await.nth, 2);
    drop(other);
    ended.wait();
}

#[test]
fn the_last_handle_may_be_dropped_outside_any_runtime() {
    let (peer, ended) = watching();
    let pool = pool(PoolConfig::default());
    let runtime = runtime();
    runtime.block_on(get(&pool, &url(peer.addr())));
    drop(pool);
    ended.wait();
}

#[test]
fn a_body_may_be_dropped_outside_any_runtime() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    let runtime = runtime();
    drop(runtime.block_on(send(&pool, &server.url())).expect("a response"));
    assert_eq!(pool.stats().busy, 0);
    assert_eq!(runtime.block_on(get(&pool, &server.url())).nth, 2);
}

#[tokio::test]
async fn a_response_outlives_its_pool() {
    let (peer, ended) = watching();
    let pool = pool(PoolConfig::default());
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    drop(pool);
    let (body, _) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "hi");
    ended.wait();
}

#[test]
fn connections_of_a_runtime_that_ended_are_replaced() {
    for server in [server(Behaviour::default()), tls_server(Behaviour::default())] {
        let pool = pool(PoolConfig::default().max_connections_per_origin(Some(2)));
        for _ in 0..3 {
            let runtime = runtime();
            for nth in 1..=2 {
                let exchange = runtime.block_on(get(&pool, &server.url()));
                assert_eq!(exchange.nth, nth);
            }
        }
        assert_nothing_is_lost(&pool);
    }
}

#[test]
fn an_exchange_that_ended_with_its_runtime_gives_its_place_up() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    let runtime = runtime();
    let (sending, address) = (pool.clone(), url(peer.addr()));
    runtime.spawn(async move { send(&sending, &address).await.map(drop) });
    runtime.block_on(soon("the request", || (peer.received().len() == 1).then_some(())));
    drop(runtime);
    assert_eq!(pool.stats().busy, 0);
    assert_nothing_is_lost(&pool);
}

#[test]
fn idle_connections_are_minded_on_the_next_runtime() {
    let timeout = Duration::from_millis(50);
    let pool = pool(PoolConfig::default().idle_timeout(Some(timeout)));
    for _ in 0..2 {
        let (peer, ended) = watching();
        let runtime = runtime();
        runtime.block_on(get(&pool, &url(peer.addr())));
        runtime.block_on(soon("the idle timeout", || (pool.stats().idle == 0).then_some(())));
        ended.wait();
    }
    assert_eq!(pool.stats().closed[&CloseReason::IdleTimeout], 2);
}

#[test]
fn idle_connections_are_minded_although_the_minders_runtime_ended() {
    let pool = pool(PoolConfig::default().idle_timeout(Some(Duration::from_millis(50))));
    let peer = answering(HI);
    let (first, second) = (runtime(), runtime());
    first.block_on(get(&pool, &url(peer.addr())));
    first.block_on(soon("the idle timeout", || (pool.stats().idle == 0).then_some(())));
    // Opened on the second runtime while the minder lives on the first, and returned after that has ended.
    let response = second.block_on(send(&pool, &url(peer.addr()))).expect("a response");
    drop(first);
    second.block_on(response.into_body().finish()).expect("a whole body");
    second.block_on(soon("the idle timeout", || (pool.stats().idle == 0).then_some(())));
}

/// One GET that has to wait for its body, so that its connection's timer is armed in the runtime that it runs in.
async fn wait_for_a_body(pool: &Pool, peer: &Scripted, go: &Gate) -> Exchange {
    let body = send(pool, &url(peer.addr())).await.expect("a response").into_body();
    tokio::join!(body.finish(), async { go.open() }).0.expect("a whole body")
}

#[test]
fn a_timer_that_was_armed_in_a_runtime_that_has_ended_is_made_anew() {
    let gates = [(); 2].map(|()| Gate::default());
    let go = gates.clone();
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        for gate in &go {
            conn.read_request();
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            gate.wait();
            conn.write("hi");
        }
    });
    let pool = pool(PoolConfig::default().body_idle_timeout(Some(PATIENCE)));
    let (stays, ends) = (working_runtime(), runtime());
    // The connection itself lives on; a body that comes with its head waits for no timer.
    stays.block_on(get(&pool, &url(peer.addr())));
    ends.block_on(wait_for_a_body(&pool, &peer, &gates[0]));
    drop(ends);
    let exchange = stays.block_on(wait_for_a_body(&pool, &peer, &gates[1]));
    assert_eq!((exchange.nth, exchange.retries.len()), (3, 0));
}

#[test]
fn a_timer_rings_although_the_runtime_in_which_it_was_armed_before_is_not_driven() {
    let gate = Gate::default();
    let go = gate.clone();
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        go.wait();
        conn.write(HI);
        conn.until_closed();
    });
    let limit = Duration::from_millis(500);
    let pool = pool(PoolConfig::default().response_timeout(Some(limit)));
    let (parked, driven) = (runtime(), working_runtime());
    parked.block_on(async {
        let answering = async {
            soon("the request", || (peer.received().len() == 1).then_some(())).await;
            gate.open();
        };
        tokio::join!(get(&pool, &url(peer.addr())), answering)
    });
    let waiting = send(&pool, &url(peer.addr()));
    let outcome = driven.block_on(async { tokio::time::timeout(PATIENCE, waiting).await });
    let error = outcome.expect("in time").expect_err("no response");
    assert_eq!(error.kind(), ErrorKind::ResponseTimeout, "{error}");
    drop(parked);
}

#[test]
fn what_rests_on_another_runtime_is_minded_when_the_minders_own_has_ended() {
    let pool = pool(PoolConfig::default().idle_timeout(Some(Duration::from_millis(300))));
    let ((first_peer, _), (peer, ended)) = (watching(), watching());
    let (first, second) = (runtime(), working_runtime());
    first.block_on(get(&pool, &url(first_peer.addr())));
    second.block_on(get(&pool, &url(peer.addr())));
    drop(first);
    until("the idle timeout", || (pool.stats().idle == 0).then_some(()));
    ended.wait();
    assert!(pool.stats().closed.contains_key(&CloseReason::IdleTimeout));
}

#[test]
fn two_runtimes_share_a_pool() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    // Each uses the other's connections, which live as long as the runtime that opened them.
    let runtimes = [(); 2].map(|()| working_runtime());
    let tasks = runtimes.each_ref().map(|runtime| {
        let (pool, url) = (pool.clone(), server.url());
        runtime.spawn(async move {
            for _ in 0..200 {
                get(&pool, &url).await;
            }
        })
    });
    for task in tasks {
        runtimes[0].block_on(task).expect("no panic");
    }
    assert_eq!(server.counts().requests, 400);
    assert!(server.counts().connections <= 2);
    assert_nothing_is_lost(&pool);
}
