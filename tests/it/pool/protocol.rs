//! Edges of HTTP/1.1: when a response lets its connection live, and when it is no response.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use keeplive::{CloseReason, ErrorKind, OnInformational, Pool, PoolConfig, RequestBody};

use super::{HI, answering, get, pool, send, url};
use crate::support::scripted::Scripted;

/// RFC 9112, section 6.3: what a response-splitting attack looks like.
const TWO_LENGTHS: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n";

/// How many exchanges each of two requests finds on its connection.
async fn nths(answer: &'static str) -> [u32; 2] {
    let peer = answering(answer);
    let pool = pool(PoolConfig::default().linger(Duration::ZERO));
    let first = get(&pool, &url(peer.addr())).await.nth;
    [first, get(&pool, &url(peer.addr())).await.nth]
}

#[tokio::test]
async fn http_1_0_closes_unless_it_says_keep_alive() {
    assert_eq!(nths("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi").await, [1, 1]);
    let kept = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(nths(kept).await, [1, 2]);
}

#[tokio::test]
async fn connection_close_is_understood_however_it_is_written() {
    for close in [
        "Connection: close",
        "connection: CLOSE",
        "Connection: foo, close",
        "Connection: foo\r\nConnection: close",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{close}\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(nths(answer.leak()).await, [1, 1], "{close}");
    }
}

#[tokio::test]
async fn a_response_that_says_close_is_counted_as_the_servers_close() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    });
    let pool = pool(PoolConfig::default());
    get(&pool, &url(peer.addr())).await;
    assert_eq!(pool.stats().closed[&CloseReason::ServerClose], 1);
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let pool = pool(PoolConfig::default());
    for _ in 0..2 {
        let response = send(&pool, &url(peer.addr())).await.expect("a response");
        let (body, exchange) = response.into_body().collect_all().await.expect("a whole body");
        assert_eq!((&body[..], exchange.nth), (&b"until the end"[..], 1));
    }
    assert_eq!(pool.stats().closed[&CloseReason::ServerClose], 2);
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let peer = answering(answer);
    let pool = pool(PoolConfig::default());
    for nth in 1..=2 {
        let response = send(&pool, &url(peer.addr())).await.expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().finish().await.expect("a whole body").nth, nth);
    }
}

/// How a GET fails whose answer is this.
async fn refusal(config: PoolConfig, answer: String) -> keeplive::Error {
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(&answer);
        conn.until_closed();
    });
    let pool = pool(config);
    let error = send(&pool, &url(peer.addr())).await.expect_err("a refusal");
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 0));
    error
}

#[tokio::test]
async fn a_head_may_be_as_large_as_the_limits_say_and_no_larger() {
    let sized = |size: usize| {
        let frame = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: \r\n\r\n";
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: {}\r\n\r\n", "x".repeat(size - frame.len()))
    };
    let fields =
        |n: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
    let default = PoolConfig::default;
    for (config, fits, larger) in [
        (default(), sized(64 * 1024), sized(64 * 1024 + 1)),
        (default().max_header_size(100), sized(100), sized(101)),
        (default().max_header_size(1_000_000), sized(1_000_000), sized(1_000_001)),
        (default(), fields(100), fields(101)),
        (default().max_headers(7), fields(7), fields(8)),
        (default().max_headers(1000), fields(1000), fields(1001)),
    ] {
        let peer = answering(fits.leak());
        let response = send(&pool(config.clone()), &url(peer.addr())).await.expect("a response");
        response.into_body().finish().await.expect("no body");
        let error = refusal(config, larger).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(
            error.to_string().contains("max_headers") && error.to_string().contains("max_header_size"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn as_many_fields_as_a_header_map_holds_are_read_and_no_more_can_be_asked_for() {
    const MOST: usize = 24_576;
    let names: String = (1..MOST).map(|nth| format!("x-{nth}: y\r\n")).collect();
    let peer = answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{names}\r\n").leak());
    let config = PoolConfig::default().max_header_size(1_000_000);
    let roomy = pool(config.clone().max_headers(MOST));
    assert_eq!(send(&roomy, &url(peer.addr())).await.expect("a response").headers().len(), MOST);
    for more in [MOST + 1, usize::MAX / 1000, usize::MAX] {
        let error = Pool::new(config.clone().max_headers(more)).expect_err("no room for as many");
        assert!(error.kind() == ErrorKind::InvalidRequest && error.to_string().contains("24576"), "{error}");
    }
}

#[tokio::test]
async fn informational_responses_count_with_the_head() {
    let interims = "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000);
    let error = refusal(PoolConfig::default(), interims).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("1xx"), "{error}");
}

#[tokio::test]
async fn more_informational_responses_than_allowed_are_refused() {
    let answer = |n| format!("{}{HI}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(n));
    let config = PoolConfig::default().max_informational(Some(5));
    let peer = answering(answer(5).leak());
    assert_eq!(get(&pool(config.clone()), &url(peer.addr())).await.nth, 1);
    let error = refusal(config, answer(6)).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("max_informational"), "{error}");
}

#[tokio::test]
async fn a_caller_who_wants_to_know_is_told_of_every_informational_response() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let peer = answering(format!("{answer}{HI}").leak());
    let pool = pool(PoolConfig::default());
    for _ in 0..2 {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let on_informational = OnInformational::new(move |status, headers| {
            tell.lock().unwrap().push((status.as_u16(), headers.contains_key("link")));
        });
        let mut request = super::request(&url(peer.addr()));
        request.extensions_mut().insert(on_informational);
        let response = pool.send(request).await.expect("a response");
        response.into_body().finish().await.expect("a whole body");
        assert_eq!(*told.lock().unwrap(), [(100, false), (103, true)]);
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_response_cut_short_is_an_error_and_its_connection_is_closed() {
    for (answer, reset, kind) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false, ErrorKind::Partial),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true, ErrorKind::Reset),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false, ErrorKind::Partial),
        ("HTTP/1.1 200 OK\r\n\r\nhalf", true, ErrorKind::Reset),
    ] {
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(answer);
            match reset {
                true => conn.reset(),
                false => conn.close(),
            }
            conn.until_closed();
        });
        let pool = pool(PoolConfig::default());
        let response = send(&pool, &url(peer.addr())).await.expect("a response");
        let error = response.into_body().finish().await.expect_err("half a body");
        assert_eq!(error.kind(), kind, "{answer}");
        assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Failed]), (0, 1));
    }
}

#[tokio::test]
async fn a_body_cut_short_says_how_much_of_it_came() {
    for (length, told) in [
        ("Content-Length: 10", "(4 of 10 bytes of its body had come)"),
        ("Transfer-Encoding: chunked", "(4 bytes of its body had come)"),
    ] {
        let chunked = if length.starts_with('T') { "4\r\nhalf\r\n" } else { "half" };
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n{chunked}"));
        });
        let response = send(&pool(PoolConfig::default()), &url(peer.addr())).await.expect("a response");
        let error = response.into_body().collect_all().await.expect_err("half a body");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_no_short_body_even_when_the_peer_then_closes() {
    for chunks in [
        "no number\r\n",
        "\r\n",
        "-1\r\nx\r\n",
        "10000000000000000\r\n",
        "4\r\nlonger\r\n0\r\n\r\n",
        "4 4\r\nhalf\r\n0\r\n\r\n",
        "4;bare\nnewline\r\nhalf\r\n0\r\n\r\n",
        "0\r\nno field\r\n\r\n",
    ] {
        for closes in [true, false] {
            let peer = Scripted::start(move |conn| {
                conn.read_request();
                conn.write(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
                if closes {
                    conn.close();
                }
                conn.until_closed();
            });
            let pool = pool(PoolConfig::default());
            let response = send(&pool, &url(peer.addr())).await.expect("a response");
            let error = response.into_body().finish().await.expect_err("no chunks");
            assert_eq!(error.kind(), ErrorKind::Protocol, "{chunks:?}: {error}");
            assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Failed]), (0, 1));
        }
    }
}

#[tokio::test]
async fn what_ends_before_its_head_is_named_by_what_came() {
    for (answer, reset, kind) in [
        ("", false, ErrorKind::NoResponse),
        ("", true, ErrorKind::Reset),
        ("HTTP/1.1 200 OK\r\nContent-Le", false, ErrorKind::Partial),
        ("SSH-2.0-OpenSSH_9.6\r\n", false, ErrorKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false, ErrorKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", false, ErrorKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi", false, ErrorKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", false, ErrorKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi", false, ErrorKind::Protocol),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, ErrorKind::Protocol),
        ("HTTP/2.0 200 OK\r\n\r\n", false, ErrorKind::Protocol),
        ("HTTP/1.1 99 Low\r\n\r\n", false, ErrorKind::Protocol),
        (TWO_LENGTHS, false, ErrorKind::Protocol),
    ] {
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(answer);
            match reset {
                true => conn.reset(),
                false => conn.close(),
            }
            conn.until_closed();
        });
        let pool = pool(PoolConfig::default());
        let error = send(&pool, &url(peer.addr())).await.expect_err("no response");
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
        assert!(error.source().is_some() || answer == TWO_LENGTHS, "{answer:?}");
        assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Failed]), (0, 1));
        assert_eq!(peer.connections(), 1, "a request that was written is not sent again");
    }
}

/// A body of unknown length that ends with two trailers.
struct Trailing(Vec<Frame<Bytes>>);

impl Trailing {
    fn new() -> Trailing {
        let trailers =
            ["x-sum", "x-other"].map(|name| (name.parse().unwrap(), HeaderValue::from_static("7")));
        Trailing(vec![Frame::trailers(HeaderMap::from_iter(trailers)), Frame::data("hello".into())])
    }
}

impl http_body::Body for Trailing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

#[tokio::test]
async fn of_a_requests_trailers_those_are_sent_that_its_trailer_field_names() {
    for (named, sent) in [("X-Sum", "0\r\nx-sum: 7\r\n\r\n"), ("", "0\r\n\r\n")] {
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.read_past(sent.as_bytes());
            conn.write(HI);
            conn.until_closed();
        });
        let body = RequestBody::new(Trailing::new());
        let request = Request::post(url(peer.addr())).header("trailer", named).body(body).expect("a request");
        let response = pool(PoolConfig::default()).send(request).await.expect("they came so");
        response.into_body().finish().await.expect("a whole body");
    }
}
