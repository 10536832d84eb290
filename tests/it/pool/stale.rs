//! Connections that ended, or were spoilt, while they were idle.
//!
//! These tests run on one thread. As long as it blocks, its reactor sees nothing: what the peer does meanwhile is in
//! the kernel, and only a look at the socket itself can find it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use keeplive::{CloseReason, ErrorKind, Exchange, Pool, PoolConfig, RequestBody};

use super::{HI, answering, assert_nothing_is_lost, get, pool, post, url};
use crate::support::gate::Gate;
use crate::support::scripted::{Conn, Scripted};
use crate::support::sockets::{State, state};
use crate::support::soon;

/// A second response, to a question that was not asked.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// A peer that makes trouble on its first connection, after the first answer, when it is told to.
pub(super) struct Troublemaker {
    pub(super) peer: Scripted,
    go: Gate,
    done: Gate,
}

impl Troublemaker {
    pub(super) fn start(trouble: impl Fn(&mut Conn) + Send + Sync + 'static) -> Troublemaker {
        let (go, done) = (Gate::default(), Gate::default());
        let (gone, has_done) = (go.clone(), done.clone());
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(HI);
            if conn.number() == 1 {
                gone.wait();
                trouble(conn);
                has_done.open();
            }
            while conn.read_request().is_some() {
                conn.write(HI);
            }
        });
        Troublemaker { peer, go, done }
    }

    pub(super) fn url(&self) -> String {
        url(self.peer.addr())
    }

    /// The trouble is in our kernel when this returns, and our reactor has not run.
    pub(super) fn make_trouble_behind_our_back(&self) {
        self.go.open();
        self.done.wait();
    }

    fn received_on(&self, connection: usize) -> usize {
        self.peer.received().iter().filter(|received| received.connection == connection).count()
    }
}

/// A POST whose body can be sent only once.
async fn post_once(pool: &Pool, url: &str) -> Exchange {
    let body = RequestBody::new(Full::<Bytes>::from("once").boxed_unsync());
    let response = pool.send(post(url, body)).await.expect("a response");
    let (body, exchange) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "hi", "the response to another question");
    exchange
}

/// The POST went out once, on another connection, and its record tells the one attempt before.
fn assert_sent_once_elsewhere(trouble: &Troublemaker, exchange: &Exchange) {
    assert_eq!((exchange.connection.id.0, exchange.nth), (2, 1));
    let kinds: Vec<_> = exchange.retries.iter().map(|retry| retry.kind).collect();
    assert_eq!(kinds, [ErrorKind::NotSent]);
    assert_eq!((trouble.received_on(1), trouble.received_on(2)), (1, 1));
    assert!(trouble.peer.received()[1].request.ends_with(b"\r\n\r\nonce"));
}

async fn trouble_unseen_by_the_reactor(
    trouble: impl Fn(&mut Conn) + Send + Sync + 'static,
    reason: CloseReason,
) {
    let trouble = Troublemaker::start(trouble);
    let pool = pool(PoolConfig::default());
    get(&pool, &trouble.url()).await;
    trouble.make_trouble_behind_our_back();
    let exchange = post_once(&pool, &trouble.url()).await;
    assert_sent_once_elsewhere(&trouble, &exchange);
    let stats = pool.stats();
    assert_eq!(stats.closed.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_fin_that_the_reactor_has_not_seen_is_found_before_writing() {
    trouble_unseen_by_the_reactor(Conn::close, CloseReason::PeerFin).await;
}

#[tokio::test]
async fn a_reset_that_the_reactor_has_not_seen_is_found_before_writing() {
    trouble_unseen_by_the_reactor(Conn::reset, CloseReason::PeerReset).await;
}

#[tokio::test]
async fn bytes_that_the_reactor_has_not_seen_are_found_before_writing() {
    trouble_unseen_by_the_reactor(|conn| conn.write(POISON), CloseReason::Unsolicited).await;
}

#[tokio::test]
async fn bytes_and_a_fin_are_unsolicited_bytes() {
    let trouble = |conn: &mut Conn| {
        conn.write(POISON);
        conn.close();
    };
    trouble_unseen_by_the_reactor(trouble, CloseReason::Unsolicited).await;
}

#[tokio::test]
async fn trouble_that_the_reactor_sees_removes_an_idle_connection() {
    type Trouble = fn(&mut Conn);
    let cases: [(Trouble, CloseReason); 3] = [
        (Conn::close, CloseReason::PeerFin),
        (Conn::reset, CloseReason::PeerReset),
        (|conn| conn.write(POISON), CloseReason::Unsolicited),
    ];
    for (trouble, reason) in cases {
        let trouble = Troublemaker::start(trouble);
        let pool = pool(PoolConfig::default());
        get(&pool, &trouble.url()).await;
        trouble.go.open();
        soon("the end", || (pool.stats().idle == 0).then_some(())).await;
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        let exchange = get(&pool, &trouble.url()).await;
        assert_eq!((exchange.nth, exchange.retries.len()), (1, 0));
    }
}

#[tokio::test]
async fn bytes_that_come_with_a_response_spoil_its_connection() {
    let peer = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n");
    let pool = pool(PoolConfig::default());
    for _ in 0..2 {
        let exchange = get(&pool, &url(peer.addr())).await;
        assert_eq!((exchange.nth, exchange.retries.len()), (1, 0));
    }
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Unsolicited, 2)]);
}

#[tokio::test]
async fn a_408_on_an_idle_connection_is_nobodys_response() {
    let trouble = Troublemaker::start(|conn| {
        conn.write("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        conn.close();
    });
    let pool = pool(PoolConfig::default());
    get(&pool, &trouble.url()).await;
    trouble.make_trouble_behind_our_back();
    let exchange = post_once(&pool, &trouble.url()).await;
    assert_sent_once_elsewhere(&trouble, &exchange);
}

#[tokio::test]
async fn a_408_to_a_request_is_its_response() {
    let peer = answering("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let pool = pool(PoolConfig::default());
    let response = super::send(&pool, &url(peer.addr())).await.expect("a response");
    assert_eq!(response.status(), 408);
    assert_eq!(peer.received().len(), 1);
}

/// Uses up what tokio lets a task do before it must yield: from then on its sockets and channels feign to be busy.
pub(super) fn exhaust_the_budget(cx: &mut std::task::Context<'_>) {
    while let Poll::Ready(budget) = tokio::task::coop::poll_proceed(cx) {
        budget.made_progress();
    }
}

#[tokio::test]
async fn a_fin_is_found_by_a_task_whose_budget_is_spent() {
    let trouble = Troublemaker::start(Conn::close);
    let pool = pool(PoolConfig::default());
    get(&pool, &trouble.url()).await;
    let address = trouble.url();
    let mut sending = pin!(post_once(&pool, &address));
    trouble.make_trouble_behind_our_back();
    // Only the first poll is without budget, or nothing could ever be opened.
    poll_fn(|cx| {
        exhaust_the_budget(cx);
        assert!(sending.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let exchange = sending.await;
    assert_sent_once_elsewhere(&trouble, &exchange);
}

#[tokio::test]
async fn a_fin_between_a_spent_budget_and_the_write_is_found() {
    let trouble = Troublemaker::start(Conn::close);
    let pool = pool(PoolConfig::default());
    get(&pool, &trouble.url()).await;
    let address = trouble.url();
    let mut sending = pin!(post_once(&pool, &address));
    // One poll that looks at the socket, finds it well, and may not write.
    poll_fn(|cx| {
        exhaust_the_budget(cx);
        assert!(sending.as_mut().poll(cx).is_pending());
        assert_eq!(trouble.received_on(1), 1);
        trouble.make_trouble_behind_our_back();
        // The next poll comes before the reactor's turn, with a budget.
        let mut unconstrained = pin!(tokio::task::coop::unconstrained(sending.as_mut()));
        assert!(unconstrained.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let exchange = sending.await;
    assert_sent_once_elsewhere(&trouble, &exchange);
}

#[tokio::test]
async fn a_body_that_ends_with_a_spent_budget_gives_its_connection_back() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    for nth in 1..=3 {
        let response = super::send(&pool, &url(peer.addr())).await.expect("a response");
        let mut finishing = pin!(response.into_body().finish());
        let first_poll = poll_fn(|cx| {
            exhaust_the_budget(cx);
            Poll::Ready(finishing.as_mut().poll(cx))
        });
        let exchange = match first_poll.await {
            Poll::Ready(exchange) => exchange,
            Poll::Pending => finishing.await,
        };
        assert_eq!(exchange.expect("a whole body").nth, nth);
        assert_eq!((pool.stats().idle, pool.stats().busy), (1, 0));
    }
}

#[tokio::test]
async fn requests_that_meet_the_servers_idle_timeout_are_never_sent_twice() {
    let timeout = std::time::Duration::from_millis(10);
    let server = super::server(keeplive::server::Behaviour::default().idle_timeout(timeout));
    let pool = pool(PoolConfig::default());
    let (mut answered, mut unanswered) = (0, 0);
    for round in 0..100_u32 {
        let response = pool.send(post(&server.url(), "order")).await;
        match response {
            Ok(response) => {
                response.into_body().finish().await.expect("a whole body");
                answered += 1;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::NoResponse | ErrorKind::Reset), "{error}");
                unanswered += 1;
            }
        }
        tokio::time::sleep(
            timeout - std::time::Duration::from_micros(1_500) + round * std::time::Duration::from_micros(30),
        )
        .await;
    }
    assert_eq!(answered + unanswered, 100);
    assert!((answered..=100).contains(&server.counts().requests), "{:?}", server.counts());
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn one_request_may_outlive_several_dead_connections() {
    let dead = Gate::default();
    let is_dead = dead.clone();
    let closed = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        if conn.number() <= 3 {
            is_dead.wait();
            conn.close();
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default());
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(super::send(&pool, &url(peer.addr())).await.expect("a response"));
    }
    for response in responses {
        response.into_body().finish().await.expect("a whole body");
    }
    dead.open();
    crate::support::until("three FINs", || {
        (closed.load(std::sync::atomic::Ordering::SeqCst) == 3).then_some(())
    });
    let exchange = post_once(&pool, &url(peer.addr())).await;
    assert_eq!((exchange.nth, exchange.retries.len()), (1, 3));
    assert_eq!(peer.received().len(), 4);
}

#[tokio::test]
async fn no_close_wait_is_left_when_the_peer_closes_its_half() {
    let trouble = Troublemaker::start(Conn::close);
    let pool = pool(PoolConfig::default());
    let exchange = get(&pool, &trouble.url()).await;
    let (local, remote) = (exchange.connection.local, exchange.connection.remote);
    assert_eq!(state(local, remote), Some(State::Established));
    trouble.go.open();
    let well = |state| !matches!(state, Some(State::Established | State::CloseWait));
    soon("our own FIN", || well(state(local, remote)).then_some(())).await;
    assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0));
}

#[tokio::test]
async fn a_connection_that_ended_while_a_lease_held_it_is_not_given_back() {
    let trouble = Troublemaker::start(Conn::close);
    let pool = pool(PoolConfig::default());
    get(&pool, &trouble.url()).await;
    let lease = pool.lease(&super::origin(&trouble.url())).await.expect("a lease");
    trouble.go.open();
    trouble.done.wait();
    lease.discard();
    soon("its end", || (pool.stats().idle == 0).then_some(())).await;
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::PeerFin, 1)]);
}
