//! The limits of time of an exchange: which one ends it, in which phase, and what is left of it then.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use keeplive::server::Behaviour;
use keeplive::{CloseReason, Error, ErrorKind, Phase, Pool, PoolConfig};

use super::cancelling::{made, part};
use super::{HI, answering, assert_nothing_is_lost, get, origin, pool, post, send, server, url};
use crate::support::gate::Gate;
use crate::support::now;
use crate::support::scripted::{Conn, Scripted};

const LIMIT: Duration = Duration::from_millis(60);

fn response_limit() -> PoolConfig {
    PoolConfig::default().response_timeout(Some(LIMIT))
}

fn total_limit() -> PoolConfig {
    PoolConfig::default().total_timeout(Some(LIMIT))
}

/// One GET whose body is read to the end, and how it failed.
async fn failure(pool: &Pool, url: &str) -> Error {
    let asked = now();
    let error = match send(pool, url).await {
        Ok(response) => response.into_body().finish().await.expect_err("no whole response in time"),
        Err(error) => error,
    };
    assert!(asked.elapsed() >= LIMIT, "{:?}: {error}", asked.elapsed());
    error
}

fn assert_timed_out(pool: &Pool, error: &Error, kind: ErrorKind, phase: Phase, so_far: &str) {
    assert_eq!((error.kind(), error.phase()), (kind, Some(phase)), "{error}");
    let told = format!("of {LIMIT:?}, in the phase `{}`{so_far}", phase.as_str());
    assert!(error.to_string().contains(&told), "{error}");
    let stats = pool.stats();
    assert_eq!((stats.busy, stats.idle, stats.waiting), (0, 0, 0));
    assert_nothing_is_lost(pool);
}

/// A peer whose first connection follows the script; what comes after it is answered.
fn first(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |conn| {
        conn.read_request();
        if conn.number() == 1 {
            script(conn);
            conn.until_closed();
        } else {
            conn.write(HI);
            conn.until_closed();
        }
    })
}

#[tokio::test]
async fn a_server_that_does_not_answer_runs_into_the_response_timeout() {
    let ended = Gate::default();
    let has_ended = ended.clone();
    let peer = first(move |conn| {
        conn.until_closed();
        has_ended.open();
    });
    let pool = pool(response_limit().max_connections_per_origin(Some(1)));
    let error = failure(&pool, &url(peer.addr())).await;
    let sent = peer.received()[0].request.len();
    let so_far = format!(" ({sent} bytes sent, 0 received)");
    assert_timed_out(&pool, &error, ErrorKind::ResponseTimeout, Phase::Wait, &so_far);
    assert_eq!(pool.stats().closed[&CloseReason::TimedOut], 1);
    ended.wait();
    assert_eq!(get(&pool, &url(peer.addr())).await.nth, 1, "its place is free and its connection gone");
}

#[tokio::test]
async fn half_a_head_is_no_answer() {
    let peer = first(|conn| conn.write("HTTP/1.1 200 OK\r\nContent-"));
    let pool = pool(response_limit());
    let error = failure(&pool, &url(peer.addr())).await;
    assert_timed_out(&pool, &error, ErrorKind::ResponseTimeout, Phase::Wait, "");
    assert!(error.to_string().contains(" 25 received"), "{error}");
}

#[tokio::test]
async fn interim_responses_do_not_hold_the_response_timeout_up() {
    let peer = first(|conn| {
        let begun = now();
        while begun.elapsed() < 4 * LIMIT {
            conn.write("HTTP/1.1 102 Processing\r\n\r\n");
            std::thread::sleep(LIMIT / 20);
        }
    });
    let pool = pool(response_limit());
    let error = failure(&pool, &url(peer.addr())).await;
    assert_timed_out(&pool, &error, ErrorKind::ResponseTimeout, Phase::Wait, "");
}

#[tokio::test]
async fn the_servers_time_stands_still_while_the_request_waits_for_its_own_body() {
    let peer = Scripted::start(|conn| {
        while conn.read_request().is_some() && conn.read_past(b"0\r\n\r\n").is_some() {
            conn.write(HI);
        }
    });
    let pool = pool(response_limit());
    for _ in 0..2 {
        let mut fed_again = None;
        let slow = made(move |nth, waker| match (nth, fed_again) {
            (0, _) => part(),
            (_, None) => {
                fed_again = Some(now() + 2 * LIMIT);
                let waker = waker.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(2 * LIMIT);
                    waker.wake();
                });
                Poll::Pending
            }
            (_, Some(at)) if now() < at => Poll::Pending,
            _ => Poll::Ready(None),
        });
        let response = pool.send(post(&url(peer.addr()), slow)).await.expect("a response");
        response.into_body().finish().await.expect("a whole body");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_more_of_an_upload_runs_into_the_response_timeout_while_sending() {
    let over = Gate::default();
    let is_over = over.clone();
    let peer = Scripted::start(move |_| is_over.wait());
    for upload in [made(|_, _| part()), Bytes::from(vec![b'x'; 32 << 20]).into()] {
        let pool = pool(response_limit());
        let error = pool.send(post(&url(peer.addr()), upload)).await.expect_err("no answer");
        assert_timed_out(&pool, &error, ErrorKind::ResponseTimeout, Phase::Send, "");
    }
    over.open();
}

#[tokio::test]
async fn a_body_that_stops_coming_runs_into_the_body_idle_timeout() {
    for (head, told) in [
        ("Content-Length: 10\r\n\r\nhalf", " (4 of 10 bytes of its body had come)"),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n1", " (4 bytes of its body had come)"),
        ("X: close-delimited\r\n\r\nhalf", " (4 bytes of its body had come)"),
    ] {
        let peer = first(move |conn| conn.write(format!("HTTP/1.1 200 OK\r\n{head}")));
        let pool = pool(PoolConfig::default().body_idle_timeout(Some(LIMIT)));
        let error = failure(&pool, &url(peer.addr())).await;
        assert_timed_out(&pool, &error, ErrorKind::BodyIdleTimeout, Phase::Receive, told);
        assert_eq!(pool.stats().closed[&CloseReason::TimedOut], 1);
        get(&pool, &url(peer.addr())).await;
    }
}

#[tokio::test]
async fn a_slow_caller_does_not_use_the_body_idle_timeout_up() {
    let written = Gate::default();
    let is_written = written.clone();
    let peer = first(move |conn| {
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        is_written.wait();
        conn.write("half");
    });
    let pool = pool(PoolConfig::default().body_idle_timeout(Some(LIMIT)));
    let mut body = send(&pool, &url(peer.addr())).await.expect("a response").into_body();
    body.frame().await.expect("a piece").expect("half");
    tokio::time::sleep(2 * LIMIT).await;
    written.open();
    body.finish().await.expect("the other half");
}

#[tokio::test]
async fn a_body_that_drips_for_ever_ends_with_the_total_timeout() {
    let peer = first(|conn| {
        conn.write("HTTP/1.1 200 OK\r\n\r\n");
        let begun = now();
        while begun.elapsed() < 4 * LIMIT {
            conn.write("x");
            std::thread::sleep(LIMIT / 20);
        }
    });
    let pool = pool(total_limit().body_idle_timeout(Some(LIMIT)));
    let error = failure(&pool, &url(peer.addr())).await;
    assert_timed_out(&pool, &error, ErrorKind::Timeout, Phase::Receive, "");
}

#[tokio::test]
async fn a_body_that_never_pauses_ends_with_the_total_timeout() {
    let peer = first(|conn| {
        conn.write("HTTP/1.1 200 OK\r\n\r\n");
        let begun = now();
        while begun.elapsed() < 4 * LIMIT {
            conn.write([b'x'; 64 * 1024]);
        }
    });
    let pool = pool(total_limit());
    let error = failure(&pool, &url(peer.addr())).await;
    assert_timed_out(&pool, &error, ErrorKind::Timeout, Phase::Receive, "");
}

#[tokio::test]
async fn the_total_timeout_names_the_phase_in_which_it_ran_out() {
    let silent = Scripted::start(Conn::until_closed);
    let (plain, secure) = (url(silent.addr()), url(silent.addr()).replace("http", "https"));
    let wait = pool(total_limit());
    let error = failure(&wait, &plain).await;
    assert_timed_out(&wait, &error, ErrorKind::Timeout, Phase::Wait, " (");
    let tls = pool(total_limit());
    let error = failure(&tls, &secure).await;
    assert_timed_out(&tls, &error, ErrorKind::Timeout, Phase::Tls, "");
    let blocked = pool(total_limit().max_connections_per_origin(Some(1)));
    let busy = blocked.lease(&origin(&plain)).await.expect("a lease");
    let error = failure(&blocked, &plain).await;
    drop(busy);
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, Some(Phase::Blocked)), "{error}");
    assert_eq!((blocked.stats().busy, blocked.stats().waiting), (0, 0));
}

#[tokio::test]
async fn the_limit_that_ends_first_is_the_one_that_is_named() {
    let silent = Scripted::start(Conn::until_closed);
    let secure = url(silent.addr()).replace("http", "https");
    let long = Duration::from_secs(60);
    let config = || PoolConfig::default().total_timeout(Some(long));
    let connect = pool(config().connect_timeout(Some(LIMIT)));
    assert_eq!(failure(&connect, &secure).await.kind(), ErrorKind::ConnectTimeout);
    let response = pool(config().response_timeout(Some(LIMIT)));
    assert_eq!(failure(&response, &url(silent.addr())).await.kind(), ErrorKind::ResponseTimeout);
    let both = pool(total_limit().response_timeout(Some(long)));
    assert_eq!(failure(&both, &url(silent.addr())).await.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn limits_that_are_not_reached_leave_a_connection_alone() {
    // The timer that was armed for one exchange goes off in the middle of another.
    let server = server(Behaviour::default().delay(LIMIT / 3));
    let config = response_limit().body_idle_timeout(Some(LIMIT)).total_timeout(Some(20 * LIMIT));
    let pool = pool(config);
    for nth in 1..=12 {
        assert_eq!(get(&pool, &server.url()).await.nth, nth);
    }
}

#[tokio::test]
async fn a_limit_beyond_what_the_clock_counts_is_none() {
    let peer = answering(HI);
    let forever = Some(Duration::MAX);
    let config = PoolConfig::default().response_timeout(forever).body_idle_timeout(forever);
    get(&pool(config.total_timeout(forever)), &url(peer.addr())).await;
}
