//! What is seen best from within: time that is put forward, and what lies in the idle set.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::Poll;

use http::StatusCode;

use super::*;
use crate::error::ErrorKind;
use crate::exchange::{Exchange, Obtained};
use crate::wire::tests::IS_BLIND;

/// A peer that answers until it is left.
fn peer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                }
            });
        }
    });
    address
}

async fn get(pool: &Pool, peer: SocketAddr) -> Exchange {
    let request = Request::get(format!("http://{peer}/")).body(()).unwrap();
    pool.send(request).await.unwrap().into_body().finish().await.unwrap()
}

#[tokio::test]
async fn connections_grow_old_while_the_machine_is_suspended() {
    let hour = Duration::from_secs(3600);
    for (config, reason) in [
        (PoolConfig::default().idle_timeout(Some(hour)), CloseReason::IdleTimeout),
        (PoolConfig::default().idle_timeout(None).max_lifetime(Some(hour)), CloseReason::MaxLifetime),
    ] {
        let (pool, peer) = (Pool::new(config).unwrap(), peer());
        get(&pool, peer).await;
        assert_eq!(get(&pool, peer).await.nth, 2);
        pool.shared().ages.put_forward(hour);
        assert_eq!(get(&pool, peer).await.nth, 1);
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        // What is opened after it is young.
        assert_eq!(get(&pool, peer).await.nth, 2);
    }
}

#[tokio::test]
async fn a_suspend_counts_as_idleness() {
    let hour = Duration::from_secs(3600);
    let (pool, peer) = (Pool::new(PoolConfig::default().idle_timeout(None)).unwrap(), peer());
    get(&pool, peer).await;
    pool.shared().ages.put_forward(hour);
    assert!(get(&pool, peer).await.idle_before.is_some_and(|idle| idle >= hour));
    assert!(get(&pool, peer).await.idle_before.is_some_and(|idle| idle < hour));
}

/// Asks for a connection, and leaves the request in the queue.
async fn queued<'a>(
    pool: &'a Pool,
    origin: &'a Origin,
) -> Pin<Box<impl Future<Output = Result<Lease, Error>> + 'a>> {
    let mut asking = Box::pin(pool.lease(origin));
    assert!(poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await.is_pending());
    asking
}

#[tokio::test]
async fn a_connection_whose_time_is_over_when_it_is_given_back_unused_goes_to_nobody() {
    let hour = Duration::from_secs(3600);
    for (config, reason) in [
        (PoolConfig::default().idle_timeout(Some(hour)), CloseReason::IdleTimeout),
        (PoolConfig::default().idle_timeout(None).max_lifetime(Some(hour)), CloseReason::MaxLifetime),
    ] {
        let (pool, peer) = (Pool::new(config.max_connections_per_origin(Some(1))).unwrap(), peer());
        let origin: Origin = format!("http://{peer}").parse().unwrap();
        // By a lease, and by one who was given it and has gone before he knew.
        for receives in [true, false] {
            get(&pool, peer).await;
            let lease = pool.lease(&origin).await.unwrap();
            assert!(lease.is_reused());
            let first = queued(&pool, &origin).await;
            let second = queued(&pool, &origin).await;
            if receives {
                pool.shared().ages.put_forward(pool.shared().ages.ahead() + hour);
                drop((lease, second));
                assert_eq!(first.await.unwrap().obtained(), Obtained::Opened);
            } else {
                drop(lease);
                pool.shared().ages.put_forward(pool.shared().ages.ahead() + hour);
                drop(first);
                assert_eq!(second.await.unwrap().obtained(), Obtained::Opened);
            }
        }
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(reason, 2)]);
    }
}

/// A future is moved several times before it is polled, and with it all that its rarer branches would hold.
#[test]
fn what_a_request_moves_is_small() {
    let pool = Pool::new(PoolConfig::default()).unwrap();
    let origin: Origin = "http://127.0.0.1:1".parse().unwrap();
    let request = || Request::new(RequestBody::empty());
    let lease = size_of_val(&pool.lease(&origin));
    let send_to = size_of_val(&pool.send_to(&origin, request()));
    assert!(lease <= 1024 && send_to <= 4096, "{lease} and {send_to} bytes");
}

/// A peer whose connections the test has in its own hand.
struct Hand {
    listener: TcpListener,
    pool: Pool,
}

impl Hand {
    fn new() -> Hand {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Hand { listener, pool: Pool::new(PoolConfig::default().idle_timeout(None)).unwrap() }
    }

    /// An exchange on a new connection, which is then idle.
    async fn opened(&self, head: &'static str) -> std::net::TcpStream {
        let address = self.listener.local_addr().unwrap();
        let listener = self.listener.try_clone().unwrap();
        let serving = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            answer(&mut stream, head);
            stream
        });
        assert_eq!(get(&self.pool, address).await.nth, 1);
        serving.join().unwrap()
    }

    /// Another on the same one, which has slept. Answers with the request as it was written.
    async fn again(&self, stream: &std::net::TcpStream, head: &'static str) -> String {
        let address = self.listener.local_addr().unwrap();
        let mut stream = stream.try_clone().unwrap();
        let serving = std::thread::spawn(move || answer(&mut stream, head));
        assert_eq!(get(&self.pool, address).await.nth, 2);
        serving.join().unwrap()
    }

    /// Time passes, for the minder.
    fn pass(&self, time: Duration) {
        let shared = self.pool.shared();
        let now = shared.ages.at(clock::now()) + time;
        while shared.change(|state, _| state.doze(now)) {}
    }

    /// How many of the idle connections are awake.
    fn awake(&self) -> usize {
        let mut awake = 0;
        let far = clock::now() + Duration::from_secs(3600);
        self.pool
            .shared()
            .lock()
            .visit_idle(far, |pooled| awake += usize::from(pooled.connection.is_awake()));
        awake
    }

    async fn ended(&self) -> Vec<(CloseReason, u64)> {
        let deadline = clock::now() + Duration::from_secs(10);
        while self.pool.stats().idle > 0 && clock::now() < deadline {
            tokio::task::yield_now().await;
        }
        self.pool.stats().closed.into_iter().collect()
    }
}

/// Reads a request's head and answers it.
fn answer(stream: &mut std::net::TcpStream, head: &str) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.extend(byte);
    }
    stream.write_all(head.as_bytes()).unwrap();
    String::from_utf8(request).unwrap()
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn a_connection_that_has_rested_for_a_second_falls_asleep_and_is_used_as_before() {
    let hand = Hand::new();
    let stream = hand.opened(NO_CONTENT).await;
    hand.pass(Duration::from_millis(900));
    assert_eq!(hand.awake(), 1);
    hand.pass(Duration::from_secs(2));
    assert_eq!((hand.awake(), hand.pool.stats().idle), (0, 1));
    let request = hand.again(&stream, NO_CONTENT).await;
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    assert_eq!((hand.awake(), hand.pool.stats().opened), (1, 1));
}

/// What a peer may do to a connection on which nobody says anything, and what that is called.
const ENDS: [(fn(std::net::TcpStream), CloseReason); 3] = [
    (drop, CloseReason::PeerFin),
    (reset, CloseReason::PeerReset),
    (|mut stream| stream.write_all(b"x").unwrap(), CloseReason::Unsolicited),
];

#[tokio::test]
async fn what_happens_to_a_connection_that_sleeps_is_told_as_of_any_other() {
    for (end, reason) in ENDS {
        let hand = Hand::new();
        let stream = hand.opened(NO_CONTENT).await;
        hand.pass(Duration::from_secs(2));
        assert_eq!(hand.awake(), 0);
        end(stream);
        assert_eq!(hand.ended().await, [(reason, 1)]);
    }
}

#[tokio::test]
async fn a_connection_that_nobody_has_used_yet_has_nothing_of_hypers_and_is_watched_as_well() {
    for (end, reason) in ENDS {
        let hand = Hand::new();
        let origin: Origin = format!("http://{}", hand.listener.local_addr().unwrap()).parse().unwrap();
        hand.pool.lease(&origin).await.unwrap().discard();
        let (stream, _) = hand.listener.accept().unwrap();
        assert_eq!((hand.awake(), hand.pool.stats().idle), (0, 1));
        end(stream);
        assert_eq!(hand.ended().await, [(reason, 1)]);
    }
}

/// Closing with something unread sends an RST.
fn reset(stream: std::net::TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn what_came_before_a_connection_fell_asleep_is_found_when_it_does() {
    let hand = Hand::new();
    drop(hand.opened(NO_CONTENT).await);
    // No task has run since: the minder has heard of nothing.
    hand.pass(Duration::from_secs(2));
    assert_eq!(hand.ended().await, [(CloseReason::PeerFin, 1)]);
}

#[tokio::test]
async fn a_connection_that_ended_in_its_sleep_costs_no_request() {
    let hand = Hand::new();
    let stream = hand.opened(NO_CONTENT).await;
    hand.pass(Duration::from_secs(2));
    drop(stream);
    let exchange = tokio::spawn({
        let (pool, address) = (hand.pool.clone(), hand.listener.local_addr().unwrap());
        async move { get(&pool, address).await }
    });
    let listener = hand.listener.try_clone().unwrap();
    let serving = std::thread::spawn(move || answer(&mut listener.accept().unwrap().0, NO_CONTENT));
    let exchange = exchange.await.unwrap();
    serving.join().unwrap();
    let kinds: Vec<_> = exchange.retries.iter().map(|retry| retry.kind).collect();
    assert!(exchange.nth == 1 && kinds.iter().all(|kind| *kind == ErrorKind::NotSent), "{kinds:?}");
}

#[tokio::test]
async fn a_peer_that_speaks_http_1_0_keeps_its_hyper_which_knows_that() {
    let hand = Hand::new();
    let head = "HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n";
    let stream = hand.opened(head).await;
    hand.pass(Duration::from_secs(2));
    let request = hand.again(&stream, head).await.to_lowercase();
    assert!(
        request.starts_with("get / http/1.0\r\n") && request.contains("connection: keep-alive"),
        "{request}"
    );
}

#[tokio::test]
async fn who_waits_for_a_slow_response_is_woken_by_what_comes_of_it_and_by_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        answer(&mut stream, "HTTP/1.1 103 Early Hints\r\n\r\n");
        for part in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "b", "o", "d", "y"] {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(part.as_bytes()).unwrap();
        }
        let _ = stream.read(&mut [0]);
    });
    let pool = Pool::new(PoolConfig::default()).unwrap();
    let mut polls = 0;
    let mut getting = std::pin::pin!(get(&pool, address));
    std::future::poll_fn(|cx| {
        polls += 1;
        getting.as_mut().poll(cx).map(drop)
    })
    .await;
    // One to begin, one for the connection, and one for each of the six parts.
    assert!((6..=16).contains(&polls), "{polls} polls");
}

#[tokio::test]
async fn a_connection_that_has_read_all_there_was_is_not_polled_again_to_rest() {
    let (pool, peer) = (Pool::new(PoolConfig::default()).unwrap(), peer());
    get(&pool, peer).await;
    let mut resting = Vec::new();
    let far = clock::now() + Duration::from_secs(3600);
    pool.shared().lock().visit_idle(far, |pooled| {
        resting.push(pooled.connection.is_listening() && !pooled.watch.has_stirred());
    });
    assert_eq!(resting, [true]);
}

/// What becomes of a POST on a connection to which this has happened since the reactor ran.
async fn posted_after(trouble: impl FnOnce(std::net::TcpStream), looks: bool) -> Result<StatusCode, Error> {
    let hand = Hand::new();
    let stream = hand.opened(NO_CONTENT).await;
    trouble(stream.try_clone().unwrap());
    let origin: Origin = format!("http://{}", hand.listener.local_addr().unwrap()).parse().unwrap();
    let lease = hand.pool.lease(&origin).await.unwrap();
    IS_BLIND.set(!looks);
    let request = Request::post("/").header("host", "test").body(RequestBody::empty()).unwrap();
    let answer = lease.exchange(request).await;
    IS_BLIND.set(false);
    answer.map(|response| response.status()).map_err(LeaseError::into_error)
}

/// What the look at the socket is for.
#[tokio::test]
async fn without_the_look_a_post_is_written_into_a_closed_connection_and_a_stray_response_is_taken_for_its_own()
 {
    let closes = |stream: std::net::TcpStream| stream.shutdown(std::net::Shutdown::Both).unwrap();
    let error = posted_after(closes, true).await.unwrap_err();
    assert_eq!((error.kind(), error.bytes_out()), (ErrorKind::NotSent, Some(0)));
    let error = posted_after(closes, false).await.unwrap_err();
    assert!(
        error.kind().is_unanswered() && error.bytes_out() > Some(0),
        "nobody knows what became of it: {error}"
    );

    let says_something = |mut stream: std::net::TcpStream| {
        stream.write_all(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n").unwrap();
    };
    let error = posted_after(says_something, true).await.unwrap_err();
    assert_eq!((error.kind(), error.bytes_out()), (ErrorKind::NotSent, Some(0)));
    assert_eq!(posted_after(says_something, false).await.unwrap(), StatusCode::IM_A_TEAPOT);
}
