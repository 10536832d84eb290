//! Which requests are sent again, how often, over what, and where it is written down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request};
use keeplive::{
    CloseReason, Error, ErrorKind, Exchange, Idempotent, Lookup, Pool, PoolConfig, RequestBody, Resolver,
    RetryPolicy,
};
use tokio::sync::Semaphore;

use super::stale::Troublemaker;
use super::{HI, assert_nothing_is_lost, get, id, origin, pool, send, url};
use crate::support::gate::Gate;
use crate::support::scripted::{Conn, Scripted};
use crate::support::soon;

/// A peer whose first connection answers once and treats its second request so; all others answer.
fn unreliable(treat: impl Fn(&mut Conn) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        if conn.number() == 1 && conn.read_request().is_some() {
            return treat(conn);
        }
        while conn.read_request().is_some() {
            conn.write(HI);
        }
    })
}

/// One that leaves its second request without a response.
fn leaving() -> Scripted {
    unreliable(Conn::close)
}

fn with_method(method: Method, url: &str) -> Request<RequestBody> {
    Request::builder().method(method).uri(url).body("again".into()).expect("a request")
}

/// A request after another, which its connection has answered.
async fn second(pool: &Pool, request: Request<RequestBody>) -> Result<Exchange, Error> {
    get(pool, &request.uri().to_string()).await;
    pool.send(request).await?.into_body().finish().await
}

fn kinds(retries: &[keeplive::Retry]) -> Vec<ErrorKind> {
    retries.iter().map(|retry| retry.kind).collect()
}

#[tokio::test]
async fn an_idempotent_request_without_a_response_is_sent_once_more_on_a_fresh_connection() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
        let peer = leaving();
        let pool = pool(PoolConfig::default());
        let exchange =
            second(&pool, with_method(method.clone(), &url(peer.addr()))).await.expect("a response");
        assert_eq!((id(&exchange), exchange.nth, exchange.idle_before), (2, 1, None), "{method}");
        assert_eq!(kinds(&exchange.retries), [ErrorKind::NoResponse], "{method}");
        assert!(exchange.retries[0].idle_before > Duration::ZERO);
        let received = peer.received();
        assert_eq!(received.len(), 3, "{method}");
        assert_eq!(received[1].request, received[2].request, "{method}");
        assert_nothing_is_lost(&pool);
    }
}

#[tokio::test]
async fn a_reset_instead_of_a_response_is_no_response() {
    let peer = unreliable(Conn::reset);
    let pool = pool(PoolConfig::default());
    let exchange = second(&pool, with_method(Method::PUT, &url(peer.addr()))).await.expect("a response");
    assert_eq!(kinds(&exchange.retries), [ErrorKind::Reset]);
    assert_eq!(peer.received().len(), 3);
}

#[tokio::test]
async fn a_post_without_a_response_is_not_sent_again_and_its_error_tells_what_was_written() {
    let peer = leaving();
    let pool = pool(PoolConfig::default());
    let error = second(&pool, with_method(Method::POST, &url(peer.addr()))).await.expect_err("no response");
    assert_eq!((error.kind(), peer.received().len()), (ErrorKind::NoResponse, 2));
    assert_eq!(error.bytes_out(), Some(peer.received()[1].request.len() as u64));
    assert!(error.idle_before().is_some_and(|idle| idle > Duration::ZERO) && error.retries().is_empty());
    let expected = format!("({} bytes of the request were written, after ", peer.received()[1].request.len());
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(peer.connections(), 1);
}

/// As an extension of a request: as it is dropped, hyper has looked at the connection and taken the request, and has not
/// written anything. It happens once, to the request and not to its copy.
#[derive(Clone)]
struct Midway(Arc<dyn Fn() + Send + Sync>);

impl Drop for Midway {
    fn drop(&mut self) {
        self.0();
    }
}

/// What meets this method on a used connection that is reset between the look at it and the write; and what its peer received.
async fn reset_midway(policy: RetryPolicy, method: Method) -> (Result<Exchange, Error>, usize) {
    let it = Arc::new(Troublemaker::start(Conn::reset));
    let pool = pool(PoolConfig::default().retry(policy));
    let mut request = with_method(method, &it.url());
    let trouble = Arc::clone(&it);
    request.extensions_mut().insert(Midway(Arc::new(move || trouble.make_trouble_behind_our_back())));
    let outcome = second(&pool, request).await;
    assert_nothing_is_lost(&pool);
    (outcome, it.peer.received().len())
}

#[tokio::test]
async fn what_was_not_written_because_of_a_reset_is_sent_again_whatever_its_method() {
    for policy in [RetryPolicy::Safe, RetryPolicy::Unsent, RetryPolicy::Custom(Arc::new(|_| true))] {
        for method in [Method::POST, Method::PATCH, Method::GET] {
            let (outcome, received) = reset_midway(policy.clone(), method.clone()).await;
            let exchange = outcome.unwrap_or_else(|error| panic!("{policy:?} {method}: {error}"));
            assert_eq!((kinds(&exchange.retries), received), (vec![ErrorKind::NotSent], 2));
        }
    }
    let (outcome, received) = reset_midway(RetryPolicy::Never, Method::POST).await;
    let error = outcome.expect_err("no further attempt");
    assert_eq!((error.kind(), error.bytes_out(), received), (ErrorKind::NotSent, Some(0), 1));
}

#[tokio::test]
async fn a_post_of_which_a_part_was_written_is_not_sent_again() {
    for policy in [RetryPolicy::Safe, RetryPolicy::Unsent] {
        let peer = Scripted::start(|conn| {
            conn.read_request();
            conn.write(HI);
            conn.read_past(b"\r\n\r\n");
            conn.reset();
        });
        let pool = pool(PoolConfig::default().retry(policy));
        let large = Request::post(url(peer.addr())).body(vec![b'a'; 8 << 20].into()).expect("a request");
        let error = second(&pool, large).await.expect_err("a reset");
        assert_eq!((error.kind(), peer.connections()), (ErrorKind::Reset, 1), "{error}");
        assert!(
            error.bytes_out().is_some_and(|written| written > 0) && error.retries().is_empty(),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_post_that_may_be_processed_twice_is_sent_again() {
    let keyed = |mut request: Request<RequestBody>| {
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("7"));
        request
    };
    let marked = |mut request: Request<RequestBody>| {
        request.extensions_mut().insert(Idempotent);
        request
    };
    for mark in [&keyed as &dyn Fn(_) -> _, &marked] {
        let peer = leaving();
        let pool = pool(PoolConfig::default());
        let post = mark(with_method(Method::POST, &url(peer.addr())));
        let exchange = second(&pool, post).await.expect("a response");
        assert_eq!((exchange.nth, kinds(&exchange.retries)), (1, vec![ErrorKind::NoResponse]));
        assert_eq!(peer.received()[1].request, peer.received()[2].request);
    }
}

#[tokio::test]
async fn a_retry_that_fails_is_not_retried_and_both_stand_in_the_error() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        if conn.number() == 1 {
            conn.write(HI);
            conn.read_request();
        }
    });
    let pool = pool(PoolConfig::default());
    let error = second(&pool, with_method(Method::GET, &url(peer.addr()))).await.expect_err("no response");
    assert_eq!(error.kind(), ErrorKind::NoResponse);
    assert_eq!((kinds(error.retries()), error.idle_before()), (vec![ErrorKind::NoResponse], None));
    assert!(error.to_string().contains("(tried before: no_response, after "), "{error}");
    assert_eq!((peer.connections(), peer.received().len()), (2, 3));
}

#[tokio::test]
async fn a_retry_that_finds_nobody_tells_of_the_attempt_that_may_have_been_processed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = listener.local_addr().expect("an address");
    let peer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(HI.as_bytes()).expect("a client");
        drop(listener);
        let _ = stream.read(&mut [0; 1024]);
    });
    let pool = pool(PoolConfig::default());
    let error = second(&pool, with_method(Method::GET, &url(address))).await.expect_err("nobody listens");
    assert_eq!(
        (error.kind(), kinds(error.retries())),
        (ErrorKind::ConnectRefused, vec![ErrorKind::NoResponse])
    );
    peer.join().expect("no panic");
}

#[tokio::test]
async fn a_single_byte_of_a_response_forbids_another_attempt() {
    let peer = unreliable(|conn| conn.write("H"));
    let always = RetryPolicy::Custom(Arc::new(|_| true));
    let pool = pool(PoolConfig::default().retry(always));
    let error = second(&pool, with_method(Method::GET, &url(peer.addr()))).await.expect_err("no response");
    assert_eq!((error.kind(), peer.received().len()), (ErrorKind::Partial, 2));
}

#[tokio::test]
async fn a_body_that_was_begun_and_can_be_read_only_once_forbids_another_attempt() {
    let peer = leaving();
    let pool = pool(PoolConfig::default());
    let once = RequestBody::new(http_body_util::BodyExt::boxed_unsync(
        http_body_util::Full::<bytes::Bytes>::from("once"),
    ));
    let put = Request::put(url(peer.addr())).body(once).expect("a request");
    let error = second(&pool, put).await.expect_err("no response");
    assert_eq!((error.kind(), peer.received().len()), (ErrorKind::NoResponse, 2));
}

#[tokio::test]
async fn a_first_use_is_never_followed_by_another_attempt() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
    });
    let pool = pool(PoolConfig::default());
    let error = send(&pool, &url(peer.addr())).await.expect_err("no response");
    assert_eq!((error.kind(), error.idle_before()), (ErrorKind::NoResponse, None));
    assert_eq!((peer.connections(), peer.received().len()), (1, 1));
}

#[tokio::test]
async fn a_policy_may_forbid_what_is_safe_and_allow_what_the_pool_cannot_know() {
    for (policy, method, again) in [
        (RetryPolicy::Unsent, Method::GET, false),
        (RetryPolicy::Never, Method::GET, false),
        (RetryPolicy::Custom(Arc::new(|failed| failed.retries.is_empty())), Method::POST, true),
        (RetryPolicy::Custom(Arc::new(|_| false)), Method::GET, false),
    ] {
        let peer = leaving();
        let pool = pool(PoolConfig::default().retry(policy.clone()));
        let outcome = second(&pool, with_method(method, &url(peer.addr()))).await;
        assert_eq!(
            (outcome.is_ok(), peer.received().len()),
            (again, if again { 3 } else { 2 }),
            "{policy:?}"
        );
    }
}

#[tokio::test]
async fn a_retry_does_not_end_the_connection_that_it_is_sent_on() {
    let it = Troublemaker::start(Conn::close);
    let pool = pool(PoolConfig::default().max_exchanges(Some(2)));
    get(&pool, &it.url()).await;
    it.make_trouble_behind_our_back();
    // It would have been the last on the connection that had ended.
    let again = get(&pool, &it.url()).await;
    assert_eq!((id(&again), kinds(&again.retries)), (2, vec![ErrorKind::NotSent]));
    assert_eq!(get(&pool, &it.url()).await.nth, 2);
    let says_close =
        |nth: usize| String::from_utf8_lossy(&it.peer.received()[nth].request).contains("connection: close");
    assert_eq!([1, 2].map(says_close), [false, true]);
}

#[tokio::test]
async fn without_retries_a_request_that_meets_a_dead_connection_is_told_so() {
    let (go, gone) = (Gate::default(), Gate::default());
    let (may_go, has_gone) = (go.clone(), gone.clone());
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        may_go.wait();
        conn.close();
        has_gone.open();
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default().retry(RetryPolicy::Never));
    get(&pool, &url(peer.addr())).await;
    go.open();
    gone.wait();
    let error = send(&pool, &url(peer.addr())).await.expect_err("the connection had ended");
    assert_eq!((error.kind(), error.bytes_out(), peer.received().len()), (ErrorKind::NotSent, Some(0), 1));
}

#[tokio::test]
async fn connections_idle_for_as_long_as_one_that_got_no_response_are_closed() {
    let (asked, go) = (Gate::default(), Gate::default());
    let (was_asked, may_go) = (asked.clone(), go.clone());
    // The third is the newest when all rest.
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        while conn.read_request().is_some() {
            if conn.number() == 3 {
                was_asked.open();
                may_go.wait();
                return;
            }
            conn.write(HI);
        }
    });
    let pool = pool(PoolConfig::default());
    let mut responses = Vec::new();
    for _ in 0..4 {
        responses.push(send(&pool, &url(peer.addr())).await.expect("a response"));
    }
    let young = responses.pop().expect("four");
    for response in responses {
        response.into_body().finish().await.expect("a whole body");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (sending, address) = (pool.clone(), url(peer.addr()));
    let unlucky = tokio::spawn(async move { get(&sending, &address).await });
    soon("the request", || (peer.received().len() == 5).then_some(())).await;
    asked.wait();
    // This one begins to rest when the unlucky one had already rested for long.
    young.into_body().finish().await.expect("a whole body");
    go.open();
    let exchange = unlucky.await.expect("no panic");
    assert_eq!((id(&exchange), kinds(&exchange.retries)), (5, vec![ErrorKind::NoResponse]));
    let stats = pool.stats();
    assert_eq!((stats.closed[&CloseReason::StaleSibling], stats.idle), (2, 2), "{stats:?}");
    assert_nothing_is_lost(&pool);
}

/// Said otherwise than "whoever was idle for as long": of a connection that was hardly idle, all siblings would be as old,
/// and one reset by a server that is not tired of them would cost every one. So a rest counts from 100 ms.
#[tokio::test]
async fn a_connection_that_failed_after_no_rest_to_speak_of_takes_no_other_with_it() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write(HI);
        if conn.number() == 2 {
            conn.read_request();
            return conn.reset();
        }
        while conn.read_request().is_some() {
            conn.write(HI);
        }
    });
    let pool = pool(PoolConfig::default());
    let first = send(&pool, &url(peer.addr())).await.expect("a response");
    let second = send(&pool, &url(peer.addr())).await.expect("a response");
    first.into_body().finish().await.expect("a whole body");
    second.into_body().finish().await.expect("a whole body");
    let exchange = get(&pool, &url(peer.addr())).await;
    assert_eq!((id(&exchange), kinds(&exchange.retries)), (3, vec![ErrorKind::Reset]));
    // On a machine that is busy enough it may have rested for long all the same.
    let young = exchange.retries[0].idle_before < Duration::from_millis(100);
    assert_eq!(
        pool.stats().closed.contains_key(&CloseReason::StaleSibling),
        !young,
        "{:?}",
        exchange.retries
    );
}

#[tokio::test]
async fn the_next_attempt_does_not_go_over_another_connection_that_rests() {
    let (asked, go) = (Gate::default(), Gate::default());
    let (was_asked, may_go) = (asked.clone(), go.clone());
    let peer = unreliable(move |_| {
        was_asked.open();
        may_go.wait();
    });
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(2)));
    get(&pool, &url(peer.addr())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (sending, address) = (pool.clone(), url(peer.addr()));
    let unlucky = tokio::spawn(async move { get(&sending, &address).await });
    soon("the request", || (peer.received().len() == 2).then_some(())).await;
    asked.wait();
    get(&pool, &url(peer.addr())).await;
    go.open();
    let exchange = unlucky.await.expect("no panic");
    assert_eq!((id(&exchange), exchange.nth), (3, 1));
    assert_eq!(pool.stats().idle, 2);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn who_waits_for_a_fresh_connection_takes_the_place_of_a_used_one() {
    let (asked, go) = (Gate::default(), Gate::default());
    let (was_asked, may_go) = (asked.clone(), go.clone());
    let peer = unreliable(move |_| {
        was_asked.open();
        may_go.wait();
    });
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    get(&pool, &url(peer.addr())).await;
    let (sending, address) = (pool.clone(), url(peer.addr()));
    let unlucky = tokio::spawn(async move { get(&sending, &address).await });
    soon("the request", || (peer.received().len() == 2).then_some(())).await;
    asked.wait();
    // This one is first in the queue when the connection ends.
    let (sending, address) = (pool.clone(), url(peer.addr()));
    let next = tokio::spawn(async move { get(&sending, &address).await });
    soon("a waiter", || (pool.stats().waiting == 1).then_some(())).await;
    go.open();
    assert_eq!(id(&next.await.expect("no panic")), 2);
    let exchange = unlucky.await.expect("no panic");
    assert_eq!((id(&exchange), exchange.nth), (3, 1));
    assert_eq!((pool.stats().closed[&CloseReason::Evicted], pool.stats().reused), (1, 1));
    assert_nothing_is_lost(&pool);
}

/// Leads every name to one address, as soon as it may.
#[derive(Debug)]
struct Gated(SocketAddr, Semaphore);

impl Resolver for Gated {
    fn lookup<'a>(&'a self, _: &'a str, _: u16) -> Lookup<'a> {
        Box::pin(async move {
            self.1.acquire().await.expect("it stays open").forget();
            Ok(vec![self.0])
        })
    }
}

#[tokio::test]
async fn who_needs_a_fresh_connection_waits_while_as_many_are_being_opened_as_may() {
    let (asked, go) = (Gate::default(), Gate::default());
    let (was_asked, may_go) = (asked.clone(), go.clone());
    let peer = unreliable(move |_| {
        was_asked.open();
        may_go.wait();
    });
    let resolver = Arc::new(Gated(peer.addr(), Semaphore::new(2)));
    let config = PoolConfig::default()
        .max_connections_per_origin(Some(3))
        .max_opening_per_origin(1)
        .resolver(Some(Arc::clone(&resolver) as Arc<dyn Resolver>));
    let (pool, address) = (pool(config), "http://name.test/");
    let first = send(&pool, address).await.expect("a response");
    let second = send(&pool, address).await.expect("a response");
    first.into_body().finish().await.expect("a whole body");
    let ask = || {
        let pool = pool.clone();
        tokio::spawn(async move { get(&pool, address).await })
    };
    let unlucky = ask();
    soon("the request", || (peer.received().len() == 3).then_some(())).await;
    asked.wait();
    let third = ask();
    soon("an opening", || (pool.stats().opening == 1).then_some(())).await;
    go.open();
    soon("a second attempt", || (pool.stats().waiting == 1).then_some(())).await;
    // It could not open another in the place of this one, which therefore stays.
    second.into_body().finish().await.expect("a whole body");
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.opening, stats.waiting), (1, 1, 1), "{stats:?}");
    resolver.1.add_permits(2);
    assert_eq!(id(&third.await.expect("no panic")), 3);
    let exchange = unlucky.await.expect("no panic");
    assert_eq!((id(&exchange), exchange.nth), (4, 1));
    let stats = pool.stats();
    assert!(!stats.closed.contains_key(&CloseReason::Evicted), "{stats:?}");
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_lease_gives_back_only_what_was_not_sent() {
    let peer = leaving();
    let pool = pool(PoolConfig::default());
    get(&pool, &url(peer.addr())).await;
    let lease = pool.lease(&origin(&url(peer.addr()))).await.expect("a lease");
    let mut failure = lease.exchange(super::origin_form()).await.expect_err("no response");
    assert_eq!(failure.error().kind(), ErrorKind::NoResponse);
    assert!(failure.idle_before().is_some() && failure.take_retry().is_none());
}
