//! Edges of HTTP/1.1: when a response lets its connection live, and when it is no response.

use std::error::Error as _;
use std::time::Duration;

use keeplive::{CloseReason, ErrorKind, PoolConfig};

use super::{answering, get, pool, send, url};
use crate::support::scripted::Scripted;

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

#[tokio::test]
async fn a_connection_that_switched_protocols_is_not_pooled() {
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\nfoo!");
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default().linger(Duration::ZERO));
    let response = send(&pool, &url(peer.addr())).await.expect("a response");
    assert_eq!(response.status(), 101);
    drop(response);
    assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0));
}

#[tokio::test]
async fn a_response_cut_short_is_an_error_and_its_connection_is_closed() {
    for (answer, reset, kind) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false, ErrorKind::Partial),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true, ErrorKind::Reset),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false, ErrorKind::Partial),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", false, ErrorKind::Partial),
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
async fn what_ends_before_its_head_is_named_by_what_came() {
    for (answer, reset, kind) in [
        ("", false, ErrorKind::NoResponse),
        ("", true, ErrorKind::Reset),
        ("HTTP/1.1 200 OK\r\nContent-Le", false, ErrorKind::Partial),
        ("SSH-2.0-OpenSSH_9.6\r\n", false, ErrorKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false, ErrorKind::Protocol),
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
        assert!(error.source().is_some(), "{answer:?}");
        assert_eq!((pool.stats().idle, pool.stats().closed[&CloseReason::Failed]), (0, 1));
        assert_eq!(peer.connections(), 1, "a request that was written is not sent again");
    }
}
