//! How a request is put on the wire: its version, and how its peer knows where its body ends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Version};
use http_body::{Body, Frame, SizeHint};
use keeplive::{CloseReason, Error, ErrorKind, Exchange, Pool, PoolConfig, RequestBody, RetryPolicy};

use super::cancelling::made;
use super::{HI, answering, assert_nothing_is_lost, get, id, origin, pool, url};
use crate::support::scripted::Scripted;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// What peers say that speak HTTP/1.0 and keep their connections.
const OLD: &str = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";

/// What streams of unknown length look like in chunks.
const CHUNKS: &[u8] = b"\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";

/// A body in two parts, of which nobody knows that they are all.
fn stream() -> RequestBody {
    made(|nth, _| Poll::Ready([&b"hello"[..], b"world"].get(nth).map(|part| Ok(Bytes::from_static(part)))))
}

fn request(method: Method, url: &str, body: RequestBody) -> Request<RequestBody> {
    Request::builder().method(method).uri(url).body(body).expect("a request")
}

async fn send(pool: &Pool, request: Request<RequestBody>) -> Result<Exchange, Error> {
    pool.send(request).await?.into_body().finish().await
}

/// A body that does not come is not waited for as long as a peer would.
fn impatient() -> Pool {
    pool(PoolConfig::default().total_timeout(Some(Duration::from_secs(10))))
}

/// A peer that answers once the whole stream has come in chunks.
fn taking_chunks() -> Scripted {
    Scripted::start(|conn| {
        while conn.read_past(CHUNKS).is_some() {
            conn.write(NO_CONTENT);
        }
    })
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_in_chunks_whatever_the_method() {
    let peer = taking_chunks();
    let pool = impatient();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE, Method::POST, Method::PUT] {
        let sent = send(&pool, request(method.clone(), &url(peer.addr()), stream())).await;
        sent.unwrap_or_else(|error| panic!("{method}: {error}"));
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn what_goes_out_is_http_1_1_whatever_version_a_request_carries() {
    let (chunks, peer) = (taking_chunks(), answering(HI));
    let pool = impatient();
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
        let mut streamed = request(Method::POST, &url(chunks.addr()), stream());
        *streamed.version_mut() = version;
        send(&pool, streamed).await.unwrap_or_else(|error| panic!("{version:?}: {error}"));
        let lease = pool.lease(&origin(&url(peer.addr()))).await.expect("a lease");
        let mut plain = super::origin_form();
        *plain.version_mut() = version;
        let response = lease.exchange(plain).await.expect("a response");
        response.into_body().finish().await.expect("a whole body");
    }
    assert_eq!((chunks.connections(), peer.received().len()), (1, 5));
    for received in peer.received() {
        let text = String::from_utf8(received.request).expect("text");
        assert!(text.starts_with("GET / HTTP/1.1\r\n"), "{text}");
    }
}

/// A stream that says how long it is, truly or not.
struct Saying {
    length: Option<u64>,
    parts: VecDeque<&'static str>,
}

impl Body for Saying {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(Bytes::from(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A POST with these parts, whose length the body says, or a field.
fn saying(url: &str, length: u64, in_a_field: bool, parts: &[&'static str]) -> Request<RequestBody> {
    let (length, field) = if in_a_field { (None, Some(length)) } else { (Some(length), None) };
    let body = Saying { length, parts: parts.iter().copied().collect() };
    let mut request = request(Method::POST, url, RequestBody::new(body));
    request.headers_mut().extend(field.map(|length| (CONTENT_LENGTH, length.into())));
    request
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_fails_its_request_and_ends_its_connection() {
    for (length, parts, told) in [
        (5, &["hel"][..], "it ended after 3 of the 5 bytes"),
        (5, &["hello", "world"], "it has more than the 5 bytes"),
        (5, &["hello", "", "world"], "it has more than the 5 bytes"),
        (5, &["helloworld"], "it has more than the 5 bytes"),
        (0, &["hello"], "it has more than the 0 bytes"),
    ] {
        for in_a_field in [true, false] {
            let peer = answering(HI);
            let pool = impatient();
            get(&pool, &url(peer.addr())).await;
            let error =
                send(&pool, saying(&url(peer.addr()), length, in_a_field, parts)).await.expect_err("untrue");
            assert_eq!(error.kind(), ErrorKind::RequestBody, "{length} {parts:?}: {error}");
            assert!(error.to_string().contains(told), "{length} {parts:?}: {error}");
            assert_eq!((peer.received().len(), pool.stats().busy), (1, 0), "{length} {parts:?}");
            // What it had none of was not begun.
            assert_eq!(pool.stats().idle, usize::from(length == 0), "{length} {parts:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_as_long_as_it_says_is_sent_whole_whether_or_not_its_end_is_told() {
    let peer = answering(HI);
    let pool = impatient();
    for (nth, parts) in (1..).zip([&["hello"][..], &["", "hel", "", "lo", ""]]) {
        let sent = send(&pool, saying(&url(peer.addr()), 5, nth % 2 == 0, parts)).await;
        assert_eq!(sent.expect("a response").nth, nth);
    }
    // Who makes it may hold it open until the response has come.
    let held_open = made(|nth, _| match nth {
        0 => Poll::Ready(Some(Ok(Bytes::from_static(b"hello")))),
        _ => Poll::Pending,
    });
    let mut declared = request(Method::POST, &url(peer.addr()), held_open);
    declared.headers_mut().insert(CONTENT_LENGTH, 5.into());
    assert_eq!(send(&pool, declared).await.expect("a response").nth, 3);
    for received in peer.received() {
        let text = String::from_utf8_lossy(&received.request);
        assert!(text.contains("content-length: 5\r\n") && text.ends_with("\r\n\r\nhello"), "{text}");
    }
}

#[tokio::test]
async fn a_method_that_leads_to_expect_a_body_says_that_there_is_none() {
    let peer = answering(HI);
    let pool = impatient();
    let said = |request: Vec<u8>| {
        let text = String::from_utf8(request).expect("text");
        text.lines().filter_map(|line| line.strip_prefix("content-length: ")).map(String::from).collect()
    };
    for (method, length) in [
        (Method::POST, &["0"][..]),
        (Method::PUT, &["0"]),
        (Method::PATCH, &["0"]),
        (Method::GET, &[]),
        (Method::DELETE, &[]),
        (Method::OPTIONS, &[]),
    ] {
        let none = Saying { length: Some(0), parts: VecDeque::new() };
        for body in [RequestBody::empty(), "".into(), RequestBody::new(none)] {
            send(&pool, request(method.clone(), &url(peer.addr()), body)).await.expect("a response");
            let request = peer.received().pop().expect("a request").request;
            let said: Vec<String> = said(request);
            assert_eq!(said, length, "{method}");
        }
    }
    // The caller's own words stay.
    let mut own = request(Method::POST, &url(peer.addr()), RequestBody::empty());
    own.headers_mut().insert(CONTENT_LENGTH, 0.into());
    send(&pool, own).await.expect("a response");
    let said: Vec<String> = said(peer.received().pop().expect("a request").request);
    assert_eq!(said, ["0"]);
}

/// A peer whose first connection answers everything in HTTP/1.0, and all others one stream in chunks.
fn old_at_first() -> Scripted {
    Scripted::start(|conn| match conn.number() {
        1 => {
            while conn.read_request().is_some() {
                conn.write(OLD);
            }
        }
        _ => {
            conn.read_past(CHUNKS).expect("the whole stream");
            conn.write(NO_CONTENT);
        }
    })
}

#[tokio::test]
async fn a_body_of_unknown_length_does_not_go_to_a_peer_that_has_answered_in_http_1_0() {
    let peer = old_at_first();
    let pool = impatient();
    get(&pool, &url(peer.addr())).await;
    let exchange =
        send(&pool, request(Method::POST, &url(peer.addr()), stream())).await.expect("another connection");
    assert_eq!((id(&exchange), exchange.nth), (2, 1));
    assert_eq!(exchange.retries.iter().map(|retry| retry.kind).collect::<Vec<_>>(), [ErrorKind::NotSent]);
    assert_eq!((peer.received().len(), pool.stats().closed[&CloseReason::Evicted]), (1, 1));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn where_no_other_connection_may_be_taken_it_is_told_that_its_peer_is_too_old() {
    let peer = old_at_first();
    let pool = pool(PoolConfig::default().retry(RetryPolicy::Never));
    get(&pool, &url(peer.addr())).await;
    let error = send(&pool, request(Method::POST, &url(peer.addr()), stream())).await.expect_err("too old");
    assert_eq!((error.kind(), error.bytes_out()), (ErrorKind::NotSent, Some(0)));
    assert!(error.to_string().contains("HTTP/1.0, in which a body of unknown length"), "{error}");
    assert_eq!((peer.connections(), peer.received().len()), (1, 1));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_body_of_known_length_is_whole_for_a_peer_that_speaks_http_1_0() {
    let peer = answering(OLD);
    let pool = impatient();
    get(&pool, &url(peer.addr())).await;
    let mut declared = request(Method::POST, &url(peer.addr()), stream());
    declared.headers_mut().insert(CONTENT_LENGTH, 10.into());
    let in_memory = request(Method::POST, &url(peer.addr()), "helloworld".into());
    for (nth, request) in (2..).zip([declared, in_memory]) {
        assert_eq!(send(&pool, request).await.expect("a response").nth, nth);
    }
    for received in &peer.received()[1..] {
        let text = String::from_utf8_lossy(&received.request);
        assert!(text.contains("content-length: 10\r\n") && text.ends_with("\r\n\r\nhelloworld"), "{text}");
    }
}
