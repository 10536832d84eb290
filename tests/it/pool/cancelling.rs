//! Exchanges that are given up: by their caller, by their body, by the server.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use keeplive::{CloseReason, ErrorKind, Event, OnInformational, PoolConfig, RequestBody};

use super::{HI, answering, assert_nothing_is_lost, get, pool, post, send, url};
use crate::support::apache::Apache;
use crate::support::gate::Gate;
use crate::support::haproxy::Haproxy;
use crate::support::nginx::Nginx;
use crate::support::node::Node;
use crate::support::scripted::{Conn, Scripted};
use crate::support::soon;

/// A request body made by a closure, which is told how often it was asked before. Its length is not known.
struct Made<F>(usize, F);

impl<F> Body for Made<F>
where
    F: FnMut(usize, &Waker) -> Poll<Option<Result<Bytes, io::Error>>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let nth = self.0;
        self.0 += 1;
        (self.1)(nth, cx.waker()).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

pub(super) fn made<F>(make: F) -> RequestBody
where
    F: FnMut(usize, &Waker) -> Poll<Option<Result<Bytes, io::Error>>> + Unpin + Send + 'static,
{
    RequestBody::new(Made(0, make))
}

pub(super) fn part() -> Poll<Option<Result<Bytes, io::Error>>> {
    Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 1024]))))
}

#[tokio::test]
async fn a_request_given_up_in_flight_closes_its_connection_at_once() {
    let (asked, ended) = (Gate::default(), Gate::default());
    let (was_asked, has_ended) = (asked.clone(), ended.clone());
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        was_asked.open();
        conn.until_closed();
        has_ended.open();
    });
    let pool = pool(PoolConfig::default());
    let mut exchange = Box::pin(send(&pool, &url(peer.addr())));
    soon("the request", || (peer.received().len() == 1).then_some(())).await_beside(&mut exchange).await;
    asked.wait();
    drop(exchange);
    assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::Cancelled]), (0, 1));
    ended.wait();
}

/// Waits for something while an exchange goes on that must not end before.
trait Beside: Future + Sized {
    async fn await_beside<E: Future + Unpin>(self, exchange: &mut E) -> Self::Output {
        let mut this = std::pin::pin!(self);
        poll_fn(|cx| {
            assert!(Pin::new(&mut *exchange).poll(cx).is_pending(), "the exchange ended");
            this.as_mut().poll(cx)
        })
        .await
    }
}

impl<F: Future> Beside for F {}

/// At the end of the response, not some 50 ms later: a peer that has answered has no use for the rest, and who waits for
/// the place waits for nothing.
#[tokio::test]
async fn a_response_before_the_request_is_finished_ends_the_connection() {
    let ended = Gate::default();
    let has_ended = ended.clone();
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        conn.until_closed();
        has_ended.open();
    });
    let pool = pool(PoolConfig::default().linger(Duration::from_secs(60)));
    let never_ending = made(|nth, _| if nth == 0 { part() } else { Poll::Pending });
    let response = pool.send(post(&url(peer.addr()), never_ending)).await.expect("a response");
    let (body, _) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "hi");
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.busy, stats.lingering), (0, 0, 0));
    assert_eq!(stats.closed[&CloseReason::RequestUnfinished], 1);
    ended.wait();
}

#[tokio::test]
async fn what_the_kernel_has_not_had_of_a_body_in_memory_is_not_left_for_the_next_request() {
    let (go, ended) = (Gate::default(), Gate::default());
    let (gone, has_ended) = (go.clone(), ended.clone());
    let peer = Scripted::start(move |conn| {
        conn.read_past(b"\r\n\r\n");
        conn.write(HI);
        gone.wait();
        conn.until_closed();
        has_ended.open();
    });
    let pool = pool(PoolConfig::default());
    let large = vec![b'a'; 32 << 20];
    let response = pool.send(post(&url(peer.addr()), large)).await.expect("a response");
    let (body, _) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "hi");
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.closed[&CloseReason::RequestUnfinished]), (0, 1));
    go.open();
    ended.wait();
}

#[tokio::test]
async fn an_early_refusal_reaches_a_caller_who_is_still_uploading() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge");
    });
    let pool = pool(PoolConfig::default());
    for _ in 0..50 {
        let response = pool.send(post(&url(peer.addr()), made(|_, _| part()))).await.expect("a response");
        assert_eq!(response.status(), 413);
        let (body, _) = response.into_body().collect_all().await.expect("a whole body");
        assert_eq!(body, "large");
    }
    assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0));
}

#[tokio::test]
async fn an_early_refusal_wins_over_the_failure_to_write_on() {
    let (halfway, refused) = (Gate::default(), Gate::default());
    let (is_halfway, has_refused) = (halfway.clone(), refused.clone());
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        is_halfway.wait();
        conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge");
        conn.reset();
        has_refused.open();
    });
    let pool = pool(PoolConfig::default());
    // The refusal and the reset are in the kernel, unseen by the reactor, when the last part is written.
    let upload = made(move |nth, waker| match nth {
        0 => part(),
        1 => {
            // What was written so far goes out meanwhile.
            waker.wake_by_ref();
            Poll::Pending
        }
        _ => {
            halfway.open();
            refused.wait();
            part()
        }
    });
    let response = pool.send(post(&url(peer.addr()), upload)).await.expect("a response");
    assert_eq!(response.status(), 413);
    let (body, _) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "large");
    assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0));
}

#[tokio::test]
async fn real_servers_refuse_a_large_upload_early_and_it_stops() {
    let (nginx, haproxy) = (Nginx::new().start(), Haproxy::new().start());
    let (apache, node) = (Apache::new().start(), Node::new().start());
    let servers = [
        ("nginx", url(nginx.addr())),
        ("HAProxy", url(haproxy.addr())),
        ("Apache httpd", apache.url()),
        ("Node", url(node.addr())),
    ];
    let announced = 64_u64 << 20;
    for (name, url) in servers {
        let pool = pool(PoolConfig::default());
        for _ in 0..5 {
            // It says how much will come, sends a little, and would never end by itself: how fast a server reads and
            // throws away what it has refused (nginx does) makes no difference.
            let little = made(|nth, _| if nth < 64 { part() } else { Poll::Pending });
            let mut request = post(&url, little);
            request.headers_mut().insert(CONTENT_LENGTH, announced.into());
            let sent = pool.send(request).await;
            let response = sent.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(response.status(), 413, "{name}");
            let exchange = response.into_body().finish().await.expect("a whole body");
            assert!(exchange.bytes_out < announced, "{name}: {}", exchange.bytes_out);
        }
        assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0), "{name}");
        assert_nothing_is_lost(&pool);
    }
}

#[tokio::test]
async fn a_reset_while_uploading_is_a_reset() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.reset();
    });
    let pool = pool(PoolConfig::default());
    for _ in 0..50 {
        let error = pool.send(post(&url(peer.addr()), made(|_, _| part()))).await.expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
    }
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_request_body_that_fails_closes_its_connection_and_no_other() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    let other = send(&pool, &url(peer.addr())).await.expect("a response");
    let failing = made(|nth, _| match nth {
        0 => part(),
        _ => Poll::Ready(Some(Err(io::Error::other("the disk is on fire")))),
    });
    let error = pool.send(post(&url(peer.addr()), failing)).await.expect_err("the body fails");
    assert_eq!(error.kind(), ErrorKind::RequestBody);
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    assert_eq!(pool.stats().closed[&CloseReason::Failed], 1);
    other.into_body().finish().await.expect("a whole body");
    assert_eq!(get(&pool, &url(peer.addr())).await.nth, 2);
}

#[tokio::test]
async fn a_request_body_that_panics_closes_its_connection_and_leaves_the_pool_working() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    let (panicking, address) = (pool.clone(), url(peer.addr()));
    let body = made(|nth, _| if nth == 0 { part() } else { panic!("this panic is meant") });
    let task = tokio::spawn(async move { panicking.send(post(&address, body)).await.map(drop) });
    assert!(task.await.expect_err("a panic").is_panic());
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 0));
    assert_nothing_is_lost(&pool);
    get(&pool, &url(peer.addr())).await;
}

/// Panics as it is dropped.
struct Bomb;

impl Bomb {
    fn waits<T>(&self) -> Poll<T> {
        Poll::Pending
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("this panic is meant");
        }
    }
}

#[tokio::test]
async fn what_panics_as_it_is_dropped_with_its_connection_costs_no_place() {
    let in_the_body = |url: &str| {
        let bomb = Bomb;
        post(url, made(move |_, _| bomb.waits()))
    };
    let in_the_callback = |url: &str| {
        let bomb = Bomb;
        let mut request = post(url, "body");
        let callback = OnInformational::new(move |_, _| assert!(bomb.waits::<()>().is_pending()));
        request.extensions_mut().insert(callback);
        request
    };
    for request in [&in_the_body as &dyn Fn(&str) -> _, &in_the_callback] {
        let peer = Scripted::start(|conn| {
            conn.read_request();
            match conn.number() {
                1 => conn.until_closed(),
                _ => conn.write(HI),
            }
        });
        let config = PoolConfig::default().max_connections_per_origin(Some(1));
        let pool = pool(config.acquire_timeout(Some(Duration::from_secs(5))));
        let mut exchange = Box::pin(pool.send(request(&url(peer.addr()))));
        soon("the request", || (peer.received().len() == 1).then_some(())).await_beside(&mut exchange).await;
        catch_unwind(AssertUnwindSafe(|| drop(exchange))).expect_err("a panic");
        assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::Cancelled]), (0, 1));
        assert_nothing_is_lost(&pool);
        get(&pool, &url(peer.addr())).await;
    }
}

#[tokio::test]
async fn a_body_that_panics_when_its_response_is_already_complete_costs_no_place() {
    let peer = answering("HTTP/1.1 204 No Content\r\n\r\n");
    let config = PoolConfig::default().max_connections_per_origin(Some(1));
    let pool = pool(config.acquire_timeout(Some(Duration::from_secs(5))));
    let is_complete = Arc::new(AtomicBool::new(false));
    let completes = Arc::clone(&is_complete);
    let observer = move |event: &Event<'_>| {
        completes.fetch_or(matches!(event, Event::Exchanged { .. }), Relaxed);
    };
    let pool = pool.observed_by(observer).expect("the first");
    let body = made(move |nth, _| match nth {
        0 => part(),
        _ if is_complete.load(Relaxed) => panic!("this panic is meant"),
        _ => Poll::Pending,
    });
    let (panicking, address) = (pool.clone(), url(peer.addr()));
    let task = tokio::spawn(async move { panicking.send(post(&address, body)).await.map(drop) });
    assert!(task.await.expect_err("a panic").is_panic());
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 0));
    assert_nothing_is_lost(&pool);
    get(&pool, &url(peer.addr())).await;
}

#[tokio::test]
async fn a_boxed_body_is_sent_once_and_whole() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    let known = http_body_util::Full::new(Bytes::from("known")).map_err(|never: Infallible| match never {});
    let response = pool.send(post(&url(peer.addr()), RequestBody::new(known))).await.expect("a response");
    response.into_body().finish().await.expect("a whole body");
    let request = String::from_utf8_lossy(&peer.received()[0].request).into_owned();
    assert!(request.contains("content-length: 5\r\n") && request.ends_with("\r\n\r\nknown"), "{request}");
}

#[tokio::test]
async fn nothing_is_left_of_a_peer_that_never_answers() {
    let peer = Scripted::start(Conn::until_closed);
    let pool = pool(PoolConfig::default());
    for _ in 0..20 {
        let limit = std::time::Duration::from_millis(2);
        assert!(tokio::time::timeout(limit, send(&pool, &url(peer.addr()))).await.is_err());
    }
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 0));
    assert_nothing_is_lost(&pool);
}
