//! Limits, and who waits for whom.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{ErrorKind, Phase, Pool, PoolConfig, PoolStats};

use super::{
    HI, answering, assert_nothing_is_lost, get, id, origin, pool, request, send, server, tls_server, url,
};
use crate::support::deaf::Deaf;
use crate::support::{now, soon};

fn one() -> PoolConfig {
    PoolConfig::default().max_connections_per_origin(Some(1))
}

/// Polls a future once, which must not be enough.
pub(super) async fn begin<F: Future + Unpin>(future: &mut F) {
    poll_fn(|cx| {
        assert!(Pin::new(&mut *future).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// An address at which nobody listens.
pub(super) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address")
}

#[tokio::test]
async fn ten_requests_never_use_more_than_two_connections() {
    let server = server(Behaviour::default().delay(Duration::from_millis(5)));
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(2)));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (pool, url) = (pool.clone(), server.url());
            tokio::spawn(async move { get(&pool, &url).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
        let stats = pool.stats();
        assert!(stats.busy + stats.idle <= 2, "{stats:?}");
    }
    assert_eq!((server.counts().connections, server.counts().requests), (2, 10));
}

#[tokio::test]
async fn with_no_room_for_idle_connections_one_still_goes_to_whoever_waits_for_it() {
    for config in [one().max_idle(0), one().max_idle_per_origin(0)] {
        let (peer, pool) = (answering(HI), pool(config));
        let busy = send(&pool, &url(peer.addr())).await.expect("a response");
        let mut waiting = pin!(pool.send(request(&url(peer.addr()))));
        begin(&mut waiting).await;
        let first = busy.into_body().finish().await.expect("a whole body");
        let second = waiting.await.expect("a response").into_body().finish().await.expect("a whole body");
        assert_eq!((id(&first), second.nth), (id(&second), 2));
        soon("the end of what nobody waits for", || (pool.stats().idle == 0).then_some(())).await;
        assert_eq!(get(&pool, &url(peer.addr())).await.nth, 1);
    }
}

#[tokio::test]
async fn requests_are_served_in_the_order_in_which_they_asked() {
    let peer = answering(HI);
    let pool = pool(one());
    let tasks: Vec<_> = (0..10)
        .map(|nth| {
            let (pool, url) = (pool.clone(), format!("{}{nth}", url(peer.addr())));
            tokio::spawn(async move { get(&pool, &url).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let paths: String =
        peer.received().iter().map(|received| received.request["GET /".len()] as char).collect();
    assert_eq!(paths, "0123456789");
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn whoever_waits_too_long_is_told_so_and_sends_nothing() {
    let limit = Duration::from_millis(30);
    let peer = answering(HI);
    let pool = pool(one().acquire_timeout(Some(limit)));
    let busy = send(&pool, &url(peer.addr())).await.expect("a response");
    let asked = now();
    let error = send(&pool, &url(peer.addr())).await.expect_err("the only connection is busy");
    assert!(asked.elapsed() >= limit);
    assert_eq!((error.kind(), error.phase()), (ErrorKind::AcquireTimeout, Some(Phase::Blocked)));
    assert!(error.to_string().contains("30ms"), "{error}");
    assert_eq!((pool.stats().busy, pool.stats().waiting), (1, 0));
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(peer.received().len(), 1);
    assert_eq!(get(&pool, &url(peer.addr())).await.nth, 2);
}

#[tokio::test]
async fn a_newcomer_does_not_overtake_who_waits() {
    let peer = answering(HI);
    let pool = pool(one());
    let busy = send(&pool, &url(peer.addr())).await.expect("a response");
    let (waiting_pool, waiting_url) = (pool.clone(), format!("{}waiter", url(peer.addr())));
    let waiter = tokio::spawn(async move { get(&waiting_pool, &waiting_url).await });
    soon("a waiter", || (pool.stats().waiting == 1).then_some(())).await;
    busy.into_body().finish().await.expect("a whole body");
    // The connection is free, and the waiter has not run yet.
    get(&pool, &format!("{}newcomer", url(peer.addr()))).await;
    waiter.await.expect("no panic");
    let received = peer.received();
    assert!(received[1].request.starts_with(b"GET /waiter "));
    assert!(received[2].request.starts_with(b"GET /newcomer "));
}

#[tokio::test]
async fn a_connection_given_to_a_waiter_who_has_gone_is_not_lost() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let busy = send(&pool, &server.url()).await.expect("a response");
    let mut waiter = Box::pin(send(&pool, &server.url()));
    begin(&mut waiter).await;
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!((pool.stats().idle, pool.stats().busy), (0, 1), "it is on its way to the waiter");
    drop(waiter);
    assert_eq!((pool.stats().idle, pool.stats().busy), (1, 0));
    let exchange = get(&pool, &server.url()).await;
    assert_eq!((id(&exchange), exchange.nth), (1, 2));
}

#[tokio::test]
async fn a_connection_goes_past_a_waiter_who_has_gone_to_the_next() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let busy = send(&pool, &server.url()).await.expect("a response");
    let mut first = Box::pin(send(&pool, &server.url()));
    begin(&mut first).await;
    let mut second = Box::pin(get(&pool, &server.url()));
    begin(&mut second).await;
    busy.into_body().finish().await.expect("a whole body");
    drop(first);
    let exchange = second.await;
    assert_eq!((id(&exchange), exchange.nth), (1, 2));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_place_given_to_a_waiter_who_has_gone_is_not_lost() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let mut busy = Box::pin(send(&pool, &server.url()));
    begin(&mut busy).await;
    let mut waiter = Box::pin(send(&pool, &server.url()));
    begin(&mut waiter).await;
    drop(busy);
    assert_eq!((pool.stats().busy, pool.stats().waiting), (1, 0), "the place is the waiter's");
    drop(waiter);
    assert_eq!(pool.stats().busy, 0);
    get(&pool, &server.url()).await;
}

#[tokio::test]
async fn ten_thousand_waiters_leave_in_linear_time() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let busy = send(&pool, &server.url()).await.expect("a response");
    // Eight times as many take eight times as long; were it quadratic, sixty-four times.
    let mut ratio = f64::INFINITY;
    for _ in 0..5 {
        let few = time_to_leave(&pool, &server.url(), 1_250).await;
        let many = time_to_leave(&pool, &server.url(), 10_000).await;
        ratio = ratio.min(many.as_secs_f64() / few.as_secs_f64());
        if ratio < 24.0 {
            break;
        }
    }
    assert!(ratio < 24.0, "{ratio}");
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(get(&pool, &server.url()).await.nth, 2);
}

async fn time_to_leave(pool: &Pool, url: &str, count: usize) -> Duration {
    let mut waiters: Vec<_> = (0..count).map(|_| Box::pin(send(pool, url))).collect();
    for waiter in &mut waiters {
        begin(waiter).await;
    }
    assert_eq!(pool.stats().waiting, count);
    let leaving = now();
    drop(waiters);
    let took = leaving.elapsed();
    assert_eq!((pool.stats().waiting, pool.stats().busy), (0, 1));
    took
}

#[tokio::test]
async fn a_failed_opening_fails_who_asked_and_lets_the_next_one_try() {
    let address = nobody();
    let pool = pool(one());
    let tasks: Vec<_> = (0..5)
        .map(|_| {
            let (pool, url) = (pool.clone(), url(address));
            tokio::spawn(async move { pool.send(request(&url)).await })
        })
        .collect();
    for task in tasks {
        let error = task.await.expect("no panic").expect_err("nobody listens");
        assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectRefused, Some(Phase::Connect)));
    }
    let stats = pool.stats();
    assert_eq!((stats.failed_to_open, stats.opened, stats.busy, stats.waiting), (5, 0, 0, 0));
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(super) async fn many_rounds_with_random_cancels(pool: &Pool, url: &str, rounds: usize) {
    let mut dice = Dice(1);
    for _ in 0..rounds {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (pool, url) = (pool.clone(), url.to_owned());
                tokio::spawn(
                    async move { Some(pool.send(request(&url)).await.ok()?.into_body().finish().await) },
                )
            })
            .collect();
        for _ in 0..dice.roll(12) {
            tokio::task::yield_now().await;
        }
        for task in &tasks {
            if dice.roll(2) == 0 {
                task.abort();
            }
        }
        for task in tasks {
            let _ = task.await;
        }
        // Whoever minds idle connections may have one in hand for a moment.
        let is_quiet = |stats: PoolStats| (stats.busy, stats.waiting) == (0, 0);
        soon("all places", || is_quiet(pool.stats()).then_some(())).await;
    }
    assert_nothing_is_lost(pool);
}

#[tokio::test]
async fn a_thousand_rounds_of_failing_openings_and_cancels_leak_no_place() {
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(2)));
    many_rounds_with_random_cancels(&pool, &url(nobody()), 1_000).await;
    assert!(pool.stats().failed_to_open > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rounds_of_failing_openings_on_two_threads_leak_no_place() {
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(2)));
    many_rounds_with_random_cancels(&pool, &url(nobody()), 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_rounds_of_answers_and_cancels_lose_no_connection() {
    for server in [server(Behaviour::default()), tls_server(Behaviour::default())] {
        let pool = pool(PoolConfig::default().max_connections_per_origin(Some(2)));
        many_rounds_with_random_cancels(&pool, &server.url(), 300).await;
        assert!(pool.stats().reused > 0);
        get(&pool, &server.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_resets_closes_and_forgets_makes_the_pool_lose_nothing() {
    let behaviour = Behaviour::default().reset_every(3).close_after(4).idle_timeout(Duration::from_millis(2));
    for server in [server(behaviour.clone()), tls_server(behaviour)] {
        let pool = pool(PoolConfig::default().max_connections_per_origin(Some(3)));
        many_rounds_with_random_cancels(&pool, &server.url(), 150).await;
    }
}

#[tokio::test]
async fn an_origin_at_its_limit_holds_no_other_up() {
    let (here, there) = (server(Behaviour::default()), server(Behaviour::default()));
    let pool = pool(one());
    let lease = pool.lease(&origin(&here.url())).await.expect("a lease");
    get(&pool, &there.url()).await;
    lease.discard();
}

#[tokio::test]
async fn hung_openings_are_no_more_than_allowed_and_each_that_is_given_up_lets_another_begin() {
    let deaf = Deaf::new();
    let pool = pool(PoolConfig::default().max_opening_per_origin(3));
    let mut asking: Vec<_> = (0..10).map(|_| Box::pin(send(&pool, &url(deaf.address())))).collect();
    for request in &mut asking {
        begin(request).await;
    }
    let opening_and_waiting = || (pool.stats().opening, pool.stats().waiting);
    assert_eq!(opening_and_waiting(), (3, 7));
    drop(asking.remove(0));
    assert_eq!(opening_and_waiting(), (3, 6));
    begin(&mut asking[2]).await;
    drop(asking.remove(2));
    assert_eq!(opening_and_waiting(), (3, 5), "the one that had waited gave its place on as well");
    drop(asking);
    let stats = pool.stats();
    assert_eq!((stats.opening, stats.waiting, stats.busy, stats.origins), (0, 0, 0, 0));
}

#[tokio::test]
async fn with_one_opening_at_a_time_connections_are_opened_one_after_another() {
    let server = server(Behaviour::default().delay(Duration::from_millis(20)));
    let pool = pool(PoolConfig::default().max_opening_per_origin(1));
    let tasks: Vec<_> = (0..5)
        .map(|_| {
            let (pool, url) = (pool.clone(), server.url());
            tokio::spawn(async move { (get(&pool, &url).await, pool.stats()) })
        })
        .collect();
    for task in tasks {
        let (exchange, stats) = task.await.expect("no panic");
        assert!(exchange.nth == 1 && stats.opening <= 1, "{stats:?}");
    }
    assert_eq!(pool.stats().idle, 5);
}

#[tokio::test]
async fn one_more_than_may_wait_fails_at_once() {
    let peer = answering(HI);
    let pool = pool(one().max_waiting_per_origin(Some(2)));
    let busy = send(&pool, &url(peer.addr())).await.expect("a response");
    let mut waiters: Vec<_> = (0..2).map(|_| Box::pin(get(&pool, &url(peer.addr())))).collect();
    for waiter in &mut waiters {
        begin(waiter).await;
    }
    let error = send(&pool, &url(peer.addr())).await.expect_err("two wait");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::QueueFull, Some(Phase::Blocked)));
    assert_eq!(pool.stats().waiting, 2);
    drop(waiters.pop());
    let mut another = Box::pin(get(&pool, &url(peer.addr())));
    begin(&mut another).await;
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!((waiters.remove(0).await.nth, another.await.nth), (2, 3));
    assert_eq!(peer.received().len(), 3, "the one that failed sent nothing");
}

#[tokio::test]
async fn where_nobody_may_wait_an_origin_without_a_place_leaves_nothing_behind() {
    let (here, there) = (server(Behaviour::default()), server(Behaviour::default()));
    let pool = pool(PoolConfig::default().max_connections(Some(1)).max_waiting_per_origin(Some(0)));
    let busy = send(&pool, &here.url()).await.expect("a response");
    let error = send(&pool, &there.url()).await.expect_err("the only place is taken");
    assert_eq!((error.kind(), pool.stats().origins), (ErrorKind::QueueFull, 1));
    busy.into_body().finish().await.expect("a whole body");
    get(&pool, &there.url()).await;
}

/// A waker that does what it should not.
struct Rude<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Rude<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn poll_rudely(future: &mut (impl Future + Unpin), rudeness: impl Fn() + Send + Sync + 'static) {
    let waker = Waker::from(Arc::new(Rude(rudeness)));
    assert!(Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
}

#[tokio::test]
async fn a_waker_that_panics_harms_nobody_and_loses_no_connection() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let busy = send(&pool, &server.url()).await.expect("a response");
    let mut waiter = Box::pin(get(&pool, &server.url()));
    poll_rudely(&mut waiter, || panic!("this panic is meant"));
    busy.into_body().finish().await.expect("whoever gives back does not suffer");
    assert_eq!(waiter.await.nth, 2);
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 1));
    get(&pool, &server.url()).await;
}

#[tokio::test]
async fn a_waker_that_panics_when_the_pool_closes_leaves_the_others_awake() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let busy = send(&pool, &server.url()).await.expect("a response");
    let mut rude = Box::pin(send(&pool, &server.url()));
    poll_rudely(&mut rude, || panic!("this panic is meant"));
    let (waiting_pool, waiting_url) = (pool.clone(), server.url());
    let waiter = tokio::spawn(async move { send(&waiting_pool, &waiting_url).await.map(drop) });
    soon("two waiters", || (pool.stats().waiting == 2).then_some(())).await;
    pool.close();
    for error in [waiter.await.expect("no panic").err(), rude.await.err()] {
        assert_eq!(error.expect("the pool is closed").kind(), ErrorKind::Closed);
    }
    drop(busy);
}

#[tokio::test]
async fn a_waker_may_ask_the_pool_itself() {
    let server = server(Behaviour::default());
    let pool = pool(one());
    let busy = send(&pool, &server.url()).await.expect("a response");
    let mut waiter = Box::pin(get(&pool, &server.url()));
    let asking = pool.clone();
    poll_rudely(&mut waiter, move || assert_eq!(asking.stats().waiting, 0));
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(waiter.await.nth, 2);
}
