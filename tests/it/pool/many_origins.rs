//! Limits over all origins, and what becomes of origins that are asked once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keeplive::server::{Behaviour, Running, Server};
use keeplive::{CloseReason, PoolConfig};

use super::limits::begin;
use super::{assert_nothing_is_lost, get, id, pool, send, server};
use crate::support::soon;

fn three() -> [Running; 3] {
    [(); 3].map(|()| server(Behaviour::default()))
}

/// A server that answers at every address of 127.0.0.0/8.
fn everywhere() -> Running {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Server::new(Behaviour::default()).listen(anywhere).start().expect("a free port")
}

/// One of many origins, all of them the same server.
fn nth_url(server: &Running, nth: usize) -> String {
    let [_, _, high, low] = u32::try_from(nth).expect("few").to_be_bytes();
    format!("http://127.1.{high}.{low}:{}/", server.addr().port())
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_connection_is_closed_for_another_origin() {
    let [a, b, c] = three();
    let pool = pool(PoolConfig::default().max_connections(Some(2)));
    get(&pool, &a.url()).await;
    let kept = get(&pool, &b.url()).await;
    get(&pool, &c.url()).await;
    assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Evicted]), (2, 1));
    assert_eq!(
        id(&get(&pool, &b.url()).await),
        id(&kept),
        "b's connection was idle for a shorter time than a's"
    );
    assert_eq!(get(&pool, &a.url()).await.nth, 1);
    assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Evicted]), (2, 2));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn when_none_is_idle_the_place_goes_to_the_oldest_request_of_any_origin() {
    let [here, there, _] = three();
    let pool = pool(PoolConfig::default().max_connections(Some(1)));
    let busy = send(&pool, &here.url()).await.expect("a response");
    let mut elder = Box::pin(get(&pool, &there.url()));
    begin(&mut elder).await;
    let mut younger = Box::pin(get(&pool, &here.url()));
    begin(&mut younger).await;
    busy.into_body().finish().await.expect("a whole body");
    begin(&mut younger).await;
    assert_eq!(elder.await.nth, 1);
    assert_eq!(younger.await.nth, 1, "the connection was closed to make place");
    assert_eq!(pool.stats().closed[&CloseReason::Evicted], 2);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_returned_connection_stays_with_its_origin_when_nobody_older_waits() {
    let [here, there, _] = three();
    let pool = pool(PoolConfig::default().max_connections(Some(1)));
    let busy = send(&pool, &here.url()).await.expect("a response");
    let mut elder = Box::pin(get(&pool, &here.url()));
    begin(&mut elder).await;
    let mut younger = Box::pin(get(&pool, &there.url()));
    begin(&mut younger).await;
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(elder.await.nth, 2);
    assert_eq!(younger.await.nth, 1);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn an_origin_at_its_own_limit_leaves_the_place_to_a_younger_request_that_can_use_it() {
    let [here, there, _] = three();
    let config = PoolConfig::default().max_connections(Some(2)).max_connections_per_origin(Some(1));
    let pool = pool(config);
    let busy = send(&pool, &here.url()).await.expect("a response");
    let mut elder = Box::pin(get(&pool, &here.url()));
    begin(&mut elder).await;
    assert_eq!(get(&pool, &there.url()).await.nth, 1);
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(elder.await.nth, 2);
}

#[tokio::test]
async fn beyond_max_idle_the_longest_idle_of_any_origin_goes() {
    let [a, b, c] = three();
    let pool = pool(PoolConfig::default().max_idle(2));
    let first = get(&pool, &a.url()).await;
    let second = get(&pool, &b.url()).await;
    assert_eq!(id(&get(&pool, &a.url()).await), id(&first), "and now b's is the longest idle");
    get(&pool, &c.url()).await;
    assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Evicted]), (2, 1));
    assert_eq!(id(&get(&pool, &a.url()).await), id(&first));
    assert_ne!(id(&get(&pool, &b.url()).await), id(&second));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_thousand_origins_stay_within_the_caps_and_leave_nothing_behind() {
    // Each that is evicted is a TIME_WAIT of ours, and other tests count those: ten thousand are left to the model.
    let (server, caps) = (everywhere(), 50);
    let before = descriptors();
    let config = PoolConfig::default().max_idle(caps).idle_timeout(Some(Duration::from_secs(1)));
    let pool = pool(config);
    for nth in 0..1_000 {
        get(&pool, &nth_url(&server, nth)).await;
        let stats = pool.stats();
        assert!(stats.idle <= caps && stats.origins <= caps, "{stats:?}");
        if nth % 200 == 199 {
            // Each connection has two ends in this process, and the peer hears of the close a moment later.
            soon("closed descriptors", || (descriptors() <= before + 3 * caps).then_some(())).await;
        }
    }
    assert_eq!(server.counts().connections, 1_000);
    soon("the idle timeout", || (pool.stats().origins == 0).then_some(())).await;
    assert_nothing_is_lost(&pool);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux shows a process's descriptors").count()
}

#[tokio::test]
async fn a_thousand_origins_share_ten_places() {
    let server = everywhere();
    let pool = pool(PoolConfig::default().max_connections(Some(10)).acquire_timeout(None));
    let tasks: Vec<_> = (0..2_000)
        .map(|nth| {
            let (pool, url) = (pool.clone(), nth_url(&server, nth / 2));
            tokio::spawn(async move { get(&pool, &url).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
        let stats = pool.stats();
        assert!(stats.busy + stats.idle <= 10, "{stats:?}");
    }
    assert_eq!((pool.stats().waiting, pool.stats().busy), (0, 0));
    assert_nothing_is_lost(&pool);
}
