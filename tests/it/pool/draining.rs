//! How a pool is shut down: what ends at once, what may end by itself, and what the deadline cuts.

use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{CloseReason, Drained, ErrorKind, PoolConfig};

use super::{HI, answering, assert_nothing_is_lost, get, origin, origin_form, pool, send, server, url};
use crate::support::gate::Gate;
use crate::support::scripted::{Conn, Scripted};
use crate::support::{PATIENCE, now, soon};

/// A deadline that is meant to come.
const SOON: Duration = Duration::from_millis(50);

/// A peer that writes the head of a response at once and its body when it may.
fn in_two_parts() -> (Scripted, Gate) {
    let rest = Gate::default();
    let may_end = rest.clone();
    let peer = Scripted::start(move |conn| {
        if conn.read_request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            may_end.wait();
            conn.write("hi");
        }
        conn.until_closed();
    });
    (peer, rest)
}

/// A peer that reads requests and never answers, and opens the gate when a connection has ended.
fn silent() -> (Scripted, Gate) {
    let ended = Gate::default();
    let has_ended = ended.clone();
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.until_closed();
        has_ended.open();
    });
    (peer, ended)
}

#[tokio::test]
async fn a_pool_without_requests_is_shut_down_at_once() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    get(&pool, &server.url()).await;
    assert_eq!(pool.shutdown(PATIENCE).await, Drained::default());
    assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Shutdown]), (0, 1));
    assert_eq!(send(&pool, &server.url()).await.expect_err("it is shut").kind(), ErrorKind::Closed);
    assert_eq!(pool.shutdown(PATIENCE).await, Drained::default());
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_under_way_and_for_no_longer() {
    let (peer, rest) = in_two_parts();
    let pool = pool(PoolConfig::default());
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    let shutting = pool.clone();
    let shutdown = tokio::spawn(async move { shutting.shutdown(PATIENCE).await });
    soon("the end of new requests", || pool.lease_is_refused().then_some(())).await;
    assert!(!shutdown.is_finished());
    rest.open();
    let (body, _) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "hi");
    assert_eq!(shutdown.await.expect("no panic"), Drained::default());
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Shutdown, 1)]);
}

/// Whether the pool begins nothing any more, asked without waiting.
trait Refuses {
    fn lease_is_refused(&self) -> bool;
}

impl Refuses for keeplive::Pool {
    fn lease_is_refused(&self) -> bool {
        let nowhere = origin("http://127.0.0.1:1/");
        let mut asking = std::pin::pin!(self.lease(&nowhere));
        let mut quietly = std::task::Context::from_waker(std::task::Waker::noop());
        match asking.as_mut().poll(&mut quietly) {
            std::task::Poll::Ready(Err(error)) => error.kind() == ErrorKind::Closed,
            _ => false,
        }
    }
}

#[tokio::test]
async fn a_request_not_yet_written_says_close() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    let lease = pool.lease(&origin(&url(peer.addr()))).await.expect("a lease");
    let shutting = pool.clone();
    let shutdown = tokio::spawn(async move { shutting.shutdown(PATIENCE).await });
    soon("the end of new requests", || pool.lease_is_refused().then_some(())).await;
    let response = lease.exchange(origin_form()).await.expect("a response");
    response.into_body().finish().await.expect("a whole body");
    assert_eq!(shutdown.await.expect("no panic"), Drained::default());
    let request = String::from_utf8_lossy(&peer.received()[0].request).into_owned();
    assert!(request.contains("connection: close\r\n"), "{request}");
}

#[tokio::test]
async fn who_waits_for_a_connection_is_told_at_once() {
    let (peer, rest) = in_two_parts();
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    let (waiting, address) = (pool.clone(), url(peer.addr()));
    let waiter = tokio::spawn(async move { send(&waiting, &address).await.map(drop) });
    soon("a waiter", || (pool.stats().waiting == 1).then_some(())).await;
    let shutting = pool.clone();
    let shutdown = tokio::spawn(async move { shutting.shutdown(PATIENCE).await });
    assert_eq!(waiter.await.expect("no panic").expect_err("it is shut").kind(), ErrorKind::Closed);
    assert!(!shutdown.is_finished());
    rest.open();
    response.into_body().finish().await.expect("a whole body");
    assert_eq!(shutdown.await.expect("no panic"), Drained::default());
}

#[tokio::test]
async fn the_deadline_cuts_a_request_that_waits_for_its_response() {
    let (peer, ended) = silent();
    let pool = pool(PoolConfig::default());
    let (sending, address) = (pool.clone(), url(peer.addr()));
    let request = tokio::spawn(async move { send(&sending, &address).await.map(drop) });
    soon("the request", || (peer.received().len() == 1).then_some(())).await;
    let began = now();
    let drained = pool.shutdown(SOON).await;
    assert!(began.elapsed() >= SOON);
    assert_eq!((drained.cut, drained.held), (1, 0));
    let error = request.await.expect("no panic").expect_err("it was cut");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.bytes_out(), Some(peer.received()[0].request.len() as u64));
    assert!(error.to_string().contains("its deadline came before the end of the response"), "{error}");
    ended.wait();
    assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::Shutdown]), (0, 1));
    assert_nothing_is_lost(&pool);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_cuts_bodies_that_are_being_read_on_other_threads() {
    let (peer, rest) = in_two_parts();
    let pool = pool(PoolConfig::default());
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let response = send(&pool, &url(peer.addr())).await.expect("a response");
        reading.spawn(response.into_body().finish());
    }
    let drained = pool.shutdown(SOON).await;
    assert_eq!((drained.cut, drained.held), (20, 0));
    for outcome in reading.join_all().await {
        assert_eq!(outcome.expect_err("it was cut").kind(), ErrorKind::Closed);
    }
    rest.open();
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn the_deadline_cuts_an_opening() {
    // It takes the connection and leaves the handshake unanswered.
    let peer = Scripted::start(Conn::until_closed);
    let pool = pool(PoolConfig::default().connect_timeout(None));
    let (sending, address) = (pool.clone(), format!("https://{}/", peer.addr()));
    let request = tokio::spawn(async move { send(&sending, &address).await.map(drop) });
    soon("a connection", || (peer.connections() == 1).then_some(())).await;
    let drained = pool.shutdown(SOON).await;
    assert_eq!((drained.cut, drained.held), (1, 0));
    assert_eq!(request.await.expect("no panic").expect_err("it was cut").kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn the_deadline_ends_the_wait_for_a_peers_fin() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default().keep_alive(false).linger(Duration::from_secs(3600)));
    get(&pool, &url(peer.addr())).await;
    assert_eq!(pool.stats().lingering, 1);
    let drained = pool.shutdown(SOON).await;
    assert_eq!((drained.cut, drained.held, pool.stats().lingering), (0, 0, 0));
    assert_eq!(pool.stats().closed_first, 1);
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_named_and_ends_when_it_is_read() {
    let (peer, rest) = in_two_parts();
    let pool = pool(PoolConfig::default());
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    let drained = pool.shutdown(SOON).await;
    assert_eq!((drained.cut, drained.held), (1, 1));
    let error = response.into_body().finish().await.expect_err("it was cut");
    assert_eq!((error.kind(), pool.stats().busy), (ErrorKind::Closed, 0));
    rest.open();
}

#[tokio::test]
async fn a_shutdown_that_is_given_up_leaves_the_pool_closed_and_cuts_nothing() {
    let (peer, rest) = in_two_parts();
    let pool = pool(PoolConfig::default());
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    assert!(tokio::time::timeout(SOON, pool.shutdown(PATIENCE)).await.is_err());
    assert!(pool.lease_is_refused());
    rest.open();
    response.into_body().finish().await.expect("a whole body");
}

#[tokio::test]
async fn the_minder_ends_with_the_last_handle() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    get(&pool, &server.url()).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1);
    drop(pool);
    soon("the minder's end", || (tasks() == 0).then_some(())).await;
}
