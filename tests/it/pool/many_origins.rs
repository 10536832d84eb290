//! Limits over all origins, and what becomes of origins that are asked once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keeplive::server::{Behaviour, Running, Server, ServerTls};
use keeplive::{CloseReason, PoolConfig};

use super::limits::begin;
use super::{assert_nothing_is_lost, get, id, pool, send, server};
use crate::support::link::Link;
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

/// Set in the process that visits them.
const VISITOR: &str = "KEEPLIVE_TEST_VISITS_ORIGINS";

/// In a process and a network namespace of its own: so its memory and its descriptors are all that is counted, and the
/// TIME_WAITs of the connections that are closed for others are nobody else's.
fn elsewhere(test: &str, scheme: &str) {
    let link = Link::new(Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
    let this = std::env::current_exe().expect("a process knows its program");
    let mut visitor = link.client_command(this);
    visitor.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(VISITOR, scheme);
    let output = visitor.output().expect("a program that runs can run again");
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}{errors}");
    print!("{told}");
}

/// How much memory this process has, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of a process");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    resident.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// One request to each of so many origins, at as many addresses of one server. From the first mark on the memory is to
/// stay as it is.
async fn visit(scheme: &str, mark: usize, origins: usize) {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let server = Server::new(Behaviour::default()).listen(anywhere);
    let server = match scheme {
        "https" => server.tls(ServerTls::default()),
        _ => server,
    };
    let server = server.start().expect("a free port");
    let caps = 100;
    let pool = pool(PoolConfig::default().max_idle(caps).idle_timeout(Some(Duration::from_secs(1))));
    let before = descriptors();
    let mut at_the_mark = 0;
    for nth in 0..origins {
        get(&pool, &nth_url(&server, nth).replace("http", scheme)).await;
        let stats = pool.stats();
        assert!(stats.idle <= caps && stats.origins <= caps && stats.lingering == 0, "{stats:?}");
        if nth % 1_000 == 999 {
            // Each connection has two ends in this process, and the peer hears of the close a moment later.
            soon("closed descriptors", || (descriptors() <= before + 3 * caps).then_some(())).await;
        }
        if nth + 1 == mark {
            at_the_mark = resident();
        }
    }
    let at_the_end = resident();
    assert_eq!(server.counts().connections, origins as u64);
    println!("{scheme}: {at_the_mark} kB after {mark} origins, {at_the_end} kB after {origins}");
    assert!(at_the_end <= at_the_mark + 2_048, "{at_the_mark} kB, then {at_the_end} kB");
    soon("the idle timeout", || (pool.stats().origins == 0).then_some(())).await;
    soon("closed descriptors", || (descriptors() <= before + 10).then_some(())).await;
    assert_nothing_is_lost(&pool);
}

fn visit_elsewhere(test: &str, scheme: &str, mark: usize, origins: usize) {
    match std::env::var(VISITOR) {
        Ok(asked) if asked == scheme => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(visit(scheme, mark, origins));
        }
        _ => elsewhere(&format!("pool::many_origins::{test}"), scheme),
    }
}

#[test]
fn ten_thousand_origins_stay_within_the_caps_in_memory_and_descriptors_and_leave_nothing_behind() {
    let this = "ten_thousand_origins_stay_within_the_caps_in_memory_and_descriptors_and_leave_nothing_behind";
    visit_elsewhere(this, "http", 2_000, 10_000);
}

#[test]
fn many_origins_behind_tls_leave_no_more_sessions_than_are_kept() {
    // More than there are names in the store when the memory is looked at first.
    visit_elsewhere("many_origins_behind_tls_leave_no_more_sessions_than_are_kept", "https", 2_000, 5_000);
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
