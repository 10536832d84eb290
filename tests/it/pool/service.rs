//! The pool under tower's middleware, and what its types promise.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use keeplive::server::Behaviour;
use keeplive::{
    Body, Error, ErrorKind, Exchange, Lease, LeaseError, Pool, PoolConfig, RequestBody, Response, Sending,
};
use tower::retry::Policy;
use tower::{Service, ServiceBuilder, ServiceExt};

use super::{HI, answering, pool, post, request, server, url};
use crate::support::scripted::Scripted;

#[test]
fn the_pool_can_be_shared_and_what_it_gives_can_move_between_threads() {
    fn shared<T: Send + Sync + Clone + Unpin + 'static>() {}
    fn moves<T: Send + Unpin + 'static>() {}
    fn both<T: Send + Sync>() {}
    fn future<F: Future + Send>(_: impl FnOnce(&'static Pool) -> F) {}
    fn service<S: Service<Request<B>, Response = Response, Error = Error, Future = Sending>, B>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    shared::<Pool>();
    shared::<PoolConfig>();
    moves::<Body>();
    both::<RequestBody>();
    both::<Exchange>();
    moves::<Lease>();
    moves::<Sending>();
    error::<Error>();
    error::<LeaseError>();
    future(|pool| pool.send(request("http://test/")));
    future(|pool| async { pool.lease(&"http://test".parse().unwrap()).await });
    service::<Pool, Full<Bytes>>();
    service::<&Pool, Empty<Bytes>>();
    service::<Pool, RequestBody>();
    service::<Pool, String>();
    service::<Pool, http_body_util::combinators::BoxBody<Bytes, std::io::Error>>();
    service::<Pool, Body>();
    service::<Pool, Full<VecDeque<u8>>>();
}

/// The same story, whatever runtime it is told in.
async fn a_call_reuses_the_connection_of_the_one_before() {
    let server = server(Behaviour::default());
    let mut pool = pool(PoolConfig::default());
    for nth in 1..=3 {
        let request = Request::get(server.url()).body(Empty::<Bytes>::new()).unwrap();
        let calling = ServiceExt::<Request<Empty<Bytes>>>::ready(&mut pool).await.unwrap().call(request);
        let response = tokio::spawn(calling).await.unwrap().expect("a response");
        assert_eq!(response.into_body().finish().await.expect("a whole body").nth, nth);
    }
    // A shared handle is enough.
    let response = (&pool).oneshot(Request::get(server.url()).body(String::new()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().finish().await.expect("a whole body").nth, 4);
}

#[tokio::test]
async fn it_is_a_service_on_a_current_thread_runtime() {
    a_call_reuses_the_connection_of_the_one_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_service_on_a_multi_thread_runtime() {
    a_call_reuses_the_connection_of_the_one_before().await;
}

#[tokio::test]
async fn any_body_goes_out_with_the_framing_it_calls_for() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    let chunked = Full::<Bytes>::from("abc").boxed_unsync();
    let post = |body| Request::post(url(peer.addr())).body(body).unwrap();
    let response = (&pool).oneshot(post(chunked)).await.expect("a response");
    response.into_body().finish().await.expect("a whole body");
    assert!(peer.received()[0].request.ends_with(b"\r\n\r\nabc"), "{:?}", peer.received());
}

#[tokio::test]
async fn a_body_whose_pieces_are_no_bytes_goes_out_whole() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    let halves: VecDeque<u8> = b"one and two".iter().copied().collect();
    let joined = Buf::chain(&b"one"[..], &b" and two"[..]);
    for body in [RequestBody::new(Full::new(halves)), RequestBody::new(Full::new(joined))] {
        let response = pool.send(post(&url(peer.addr()), body)).await.expect("a response");
        response.into_body().finish().await.expect("a whole body");
        let received = peer.received().pop().expect("a request").request;
        let text = String::from_utf8_lossy(&received);
        assert!(text.contains("content-length: 11\r\n") && text.ends_with("\r\n\r\none and two"), "{text}");
    }
}

#[tokio::test]
async fn a_timeout_above_the_pool_ends_the_request_and_its_connection() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default());
    let client = ServiceBuilder::new().timeout(Duration::from_millis(50)).service(pool.clone());
    let error =
        client.oneshot(Request::get(url(peer.addr())).body(String::new()).unwrap()).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_limit_above_the_pool_lets_every_request_through_in_the_end() {
    let server = server(Behaviour::default().delay(Duration::from_millis(1)));
    let pool = pool(PoolConfig::default());
    let client = ServiceBuilder::new().concurrency_limit(4).service(pool.clone());
    let calls = (0..64).map(|_| {
        let request = Request::get(server.url()).body(String::new()).unwrap();
        tokio::spawn(client.clone().oneshot(request))
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().expect("a response").into_body().finish().await.expect("a whole body");
    }
    assert_eq!(server.counts().requests, 64);
}

/// Says yes twice when nothing came back.
#[derive(Clone)]
struct Twice(u8);

impl Policy<Request<Full<Bytes>>, Response, Error> for Twice {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        result: &mut Result<Response, Error>,
    ) -> Option<Ready<()>> {
        let again = matches!(result, Err(error) if error.kind() == ErrorKind::NoResponse) && self.0 > 0;
        self.0 -= u8::from(again);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_retry_above_the_pool_repeats_what_the_pool_alone_does_not() {
    let peer = Scripted::start(|conn| {
        if conn.read_request().is_some() && conn.number() == 3 {
            conn.write(HI);
            conn.until_closed();
        }
    });
    let pool = pool(PoolConfig::default());
    let post = || Request::post(url(peer.addr())).body(Full::from("abc")).unwrap();
    let error = (&pool).oneshot(post()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponse);
    let client = ServiceBuilder::new().retry(Twice(2)).service(pool.clone());
    let response = client.oneshot(post()).await.expect("the third connection answers");
    assert_eq!(response.status(), 200);
    assert_eq!(peer.received().len(), 3);
}
