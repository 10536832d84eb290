//! Connections that stop speaking HTTP: 101, and tunnels made by CONNECT.

use std::io::ErrorKind;
use std::time::Duration;

use http::Request;
use keeplive::{CloseReason, PoolConfig, RequestBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HI, assert_nothing_is_lost, get, origin, pool, url};
use crate::support::PATIENCE;
use crate::support::gate::Gate;
use crate::support::scripted::{Conn, Scripted};

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

fn upgrading(url: &str) -> Request<()> {
    Request::get(url).header("connection", "upgrade").header("upgrade", "echo").body(()).expect("a request")
}

/// A peer that answers with this and then gives back what it is sent, until the client has ended.
fn echoing(answer: impl Into<String>, ended: &Gate) -> Scripted {
    let (answer, ended) = (answer.into(), ended.clone());
    Scripted::start(move |conn| {
        conn.read_request();
        conn.write(&answer);
        let mut part = [0; 1024];
        while let Ok(n @ 1..) = std::io::Read::read(&mut conn.tcp(), &mut part) {
            conn.write(&part[..n]);
        }
        ended.open();
    })
}

#[tokio::test]
async fn after_a_101_the_caller_has_the_stream_with_what_came_behind_the_head() {
    let ended = Gate::default();
    let peer = echoing(format!("{SWITCHING}early "), &ended);
    for keep_alive in [true, false] {
        let config = PoolConfig::default().keep_alive(keep_alive).max_connections_per_origin(Some(1));
        let pool = pool(config.total_timeout(Some(Duration::from_secs(20))));
        let mut response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
        assert_eq!(response.status(), 101);
        let mut stream = response.body_mut().upgrade().expect("the stream");
        assert!(response.body_mut().upgrade().is_none(), "it is handed over once");
        let exchange = response.into_body().finish().await.expect("an exchange");
        assert_eq!(stream.connection().id, exchange.connection.id);
        stream.write_all(b"words").await.expect("the stream takes bytes");
        let mut read = [0; 11];
        stream.read_exact(&mut read).await.expect("an echo");
        assert_eq!(&read, b"early words");
        assert_eq!((pool.stats().busy, pool.stats().idle), (1, 0), "it keeps its place");
        drop(stream);
        assert_eq!((pool.stats().busy, pool.stats().idle), (0, 0));
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Upgraded, 1)]);
        ended.wait();
    }
    let asked = String::from_utf8(peer.received()[1].request.clone()).expect("text");
    assert!(asked.contains("connection: upgrade\r\n"), "{asked}");
}

#[tokio::test]
async fn a_tunnel_made_by_connect_is_the_callers() {
    for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 204 Yes\r\nContent-Length: 7\r\n\r\n"] {
        let ended = Gate::default();
        let peer = echoing(format!("{answer}early "), &ended);
        let pool = pool(PoolConfig::default());
        let proxy = origin(&url(peer.addr()));
        let request = Request::connect("example.test:443").header("host", "example.test:443");
        let request = request.body(RequestBody::empty()).expect("a request");
        let mut response = pool.send_to(&proxy, request).await.expect("a response");
        let Some(mut stream) = response.body_mut().upgrade() else {
            panic!("no stream after {answer:?}");
        };
        stream.write_all(b"hello").await.expect("the tunnel takes bytes");
        stream.shutdown().await.expect("it takes an end");
        let mut read = String::new();
        stream.read_to_string(&mut read).await.expect("an echo, and its end");
        assert_eq!(read, "early hello");
        drop(stream);
        assert_eq!(pool.stats().closed[&CloseReason::Upgraded], 1);
        assert!(peer.received()[0].request.starts_with(b"CONNECT example.test:443 HTTP/1.1\r\n"));
        ended.wait();
    }
}

#[tokio::test]
async fn a_refused_upgrade_is_a_response_as_any_other() {
    let peer = Scripted::start(|conn| {
        while conn.read_request().is_some() {
            conn.write(HI);
        }
    });
    let pool = pool(PoolConfig::default());
    for nth in 1..=2 {
        let mut response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
        assert!(response.body_mut().upgrade().is_none());
        assert_eq!(response.into_body().finish().await.expect("a whole body").nth, nth);
    }
    let request = Request::connect("example.test:443").body(RequestBody::empty()).expect("a request");
    let mut response = pool.send_to(&origin(&url(peer.addr())), request).await.expect("a response");
    assert!(response.body_mut().upgrade().is_some(), "a 200 to CONNECT is a tunnel, whatever its fields say");
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_closed_and_its_place_is_free() {
    let ended = Gate::default();
    let peer = echoing(SWITCHING, &ended);
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    let response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
    drop(response);
    ended.wait();
    let response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
    response.into_body().finish().await.expect("an exchange");
    assert_eq!((pool.stats().busy, pool.stats().closed[&CloseReason::Upgraded]), (0, 2));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn an_upgraded_stream_outlives_its_pool_and_no_limit_of_the_pool_cuts_it() {
    let limit = Duration::from_millis(30);
    let peer = echoing(SWITCHING, &Gate::default());
    let config = PoolConfig::default().total_timeout(Some(limit)).body_idle_timeout(Some(limit));
    let pool = pool(config.response_timeout(Some(limit)));
    let mut response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
    let mut stream = response.body_mut().upgrade().expect("the stream");
    drop(pool);
    tokio::time::sleep(2 * limit).await;
    stream.write_all(b"still").await.expect("the stream takes bytes");
    let mut read = [0; 5];
    stream.read_exact(&mut read).await.expect("an echo");
    assert_eq!(&read, b"still");
}

#[tokio::test]
async fn a_stream_that_is_waited_on_ends_with_the_deadline_of_its_pools_shutdown() {
    let ended = Gate::default();
    let peer = echoing(SWITCHING, &ended);
    let pool = pool(PoolConfig::default());
    let mut response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
    let mut stream = response.body_mut().upgrade().expect("the stream");
    let reading = tokio::spawn(async move { stream.read(&mut [0; 16]).await });
    tokio::task::yield_now().await;
    let drained = pool.shutdown(Duration::from_millis(50)).await;
    assert_eq!((drained.cut, drained.held), (1, 0));
    let error = reading.await.expect("no panic").expect_err("nothing to read");
    assert!(error.to_string().contains("shut down"), "{error}");
    ended.wait();
}

#[tokio::test]
async fn whoever_writes_to_an_upgraded_stream_is_told_of_a_reset() {
    let peer = Scripted::start(|conn: &mut Conn| {
        conn.read_request();
        conn.write(SWITCHING);
        conn.read_some();
        conn.reset();
    });
    let pool = pool(PoolConfig::default());
    let mut response = pool.send(upgrading(&url(peer.addr()))).await.expect("a response");
    let stream = response.body_mut().upgrade().expect("the stream");
    // Nobody reads.
    let (_reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        loop {
            if let Err(error) = writer.write_all(b"words").await {
                return error.kind();
            }
            tokio::task::yield_now().await;
        }
    };
    let kind = tokio::time::timeout(PATIENCE, writing).await.expect("in time");
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
    let again = tokio::time::timeout(PATIENCE, writer.write_all(b"words")).await.expect("in time");
    assert_eq!(again.expect_err("it stays so").kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_switch_before_the_whole_request_was_sent_is_not_handed_over() {
    let peer = Scripted::start(|conn: &mut Conn| {
        conn.read_request();
        conn.write(SWITCHING);
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default());
    let endless = super::cancelling::made(|nth, _| match nth {
        0 => super::cancelling::part(),
        _ => std::task::Poll::Pending,
    });
    let mut response = pool.send(super::post(&url(peer.addr()), endless)).await.expect("a response");
    assert!(response.body_mut().upgrade().is_none());
    drop(response);
    assert_eq!(pool.stats().closed[&CloseReason::RequestUnfinished], 1);
    let answering = super::answering(HI);
    get(&pool, &url(answering.addr())).await;
}
