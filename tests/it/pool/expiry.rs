//! When a connection's time is over.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keeplive::server::Behaviour;
use keeplive::{CloseReason, PoolConfig};

use super::{HI, answering, get, pool, send, server, url};
use crate::support::scripted::Scripted;
use crate::support::{now, soon};

/// How late a close on the wire may be. A busy machine may be later once, and not every time.
const LATE: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 5;

/// A connection, as the peer saw it: when its last answer was written, and when its end was read.
#[derive(Clone, Copy, Debug)]
struct Life {
    number: usize,
    answered: Instant,
    ended: Instant,
}

/// A peer that answers and writes lives down.
fn chronicler() -> (Scripted, Arc<Mutex<Vec<Life>>>) {
    let lives = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&lives);
    let peer = Scripted::start(move |conn| {
        let mut answered = now();
        while conn.read_request().is_some() {
            answered = now();
            conn.write(HI);
        }
        let life = Life { number: conn.number(), answered, ended: now() };
        book.lock().expect("no script panics").push(life);
    });
    (peer, lives)
}

#[tokio::test]
async fn an_unused_connection_is_closed_on_the_wire_at_its_idle_timeout() {
    let timeout = Duration::from_millis(200);
    let pool = pool(PoolConfig::default().idle_timeout(Some(timeout)));
    let mut late = Duration::MAX;
    for attempt in 1..=ATTEMPTS {
        let (peer, lives) = chronicler();
        get(&pool, &url(peer.addr())).await;
        let life = soon("the close", || lives.lock().expect("no script panics").first().copied()).await;
        let lived = life.ended - life.answered;
        assert!(lived >= timeout, "{lived:?}");
        assert_eq!(pool.stats().closed[&CloseReason::IdleTimeout], attempt as u64);
        late = late.min(lived - timeout);
        if late <= LATE {
            break;
        }
    }
    assert!(late <= LATE, "{late:?}");
}

#[tokio::test]
async fn a_connection_past_its_idle_timeout_is_not_reused() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default().idle_timeout(Some(Duration::from_millis(5))));
    get(&pool, &server.url()).await;
    // Nobody else runs on this runtime meanwhile: not the minder closes it, but who would have taken it.
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(get(&pool, &server.url()).await.nth, 1);
    assert_eq!(pool.stats().closed[&CloseReason::IdleTimeout], 1);
}

#[tokio::test]
async fn without_an_idle_timeout_connections_stay() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default().idle_timeout(None));
    get(&pool, &server.url()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(&pool, &server.url()).await.nth, 2);
}

#[tokio::test]
async fn each_idle_connection_is_closed_when_its_own_lifetime_ends() {
    let lifetime = Duration::from_millis(400);
    for idle_timeout in [None, Some(Duration::from_secs(30))] {
        let pool = pool(
            PoolConfig::default()
                .idle_timeout(idle_timeout)
                .max_lifetime(Some(lifetime))
                .lifetime_jitter(0.0),
        );
        let mut late = Duration::MAX;
        for _ in 0..ATTEMPTS {
            let (peer, lives) = chronicler();
            let mut asked = vec![now()];
            let elder = send(&pool, &url(peer.addr())).await.expect("a response");
            tokio::time::sleep(lifetime / 2).await;
            asked.push(now());
            let younger = send(&pool, &url(peer.addr())).await.expect("a response");
            // The younger one rests first: the elder's end must be noticed all the same, and in time.
            younger.into_body().finish().await.expect("a whole body");
            tokio::task::yield_now().await;
            elder.into_body().finish().await.expect("a whole body");
            let all =
                || Some(lives.lock().expect("no script panics").clone()).filter(|lives| lives.len() == 2);
            let lives = soon("both ends", all).await;
            assert_eq!(lives.iter().map(|life| life.number).collect::<Vec<_>>(), [1, 2]);
            let lived = lives.iter().zip(&asked).map(|(life, asked)| life.ended - *asked);
            assert!(lived.clone().all(|lived| lived >= lifetime), "{lives:?} {asked:?}");
            late = late.min(lived.max().expect("two") - lifetime);
            if late <= LATE {
                break;
            }
        }
        assert!(late <= LATE, "{late:?} with {idle_timeout:?}");
        let stats = pool.stats();
        assert_eq!(stats.closed.keys().collect::<Vec<_>>(), [&CloseReason::MaxLifetime]);
    }
}

#[tokio::test]
async fn a_hundred_lifetimes_end_within_their_jitter_and_not_together() {
    let (lifetime, jitter) = (Duration::from_secs(1), 0.5);
    let config = PoolConfig::default().max_lifetime(Some(lifetime)).lifetime_jitter(jitter);
    let mut late = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let pool = pool(config.clone().max_idle_per_origin(100));
        let (peer, lives) = chronicler();
        let (mut asked, mut responses) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            asked.push(now());
            responses.push(send(&pool, &url(peer.addr())).await.expect("a response"));
        }
        let opened = now();
        for response in responses {
            response.into_body().finish().await.expect("a whole body");
        }
        let all = || Some(lives.lock().expect("no script panics").clone()).filter(|lives| lives.len() == 100);
        let lives = soon("all ends", all).await;
        let lived = |life: &Life| life.ended - asked[life.number - 1];
        assert!(lives.iter().all(|life| lived(life) >= lifetime.mul_f64(1.0 - jitter)), "{lives:?}");
        let last = lives.iter().map(|life| life.ended).max().expect("a hundred");
        let young = lives.iter().filter(|life| lived(life) < lifetime.mul_f64(1.0 - jitter / 2.0)).count();
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::MaxLifetime, 100)]);
        late = late.min(last.saturating_duration_since(opened + lifetime));
        // Half of them by their jitter; fewer than 20 would be a wonder of one in a thousand million.
        if late <= LATE && (20..=80).contains(&young) {
            return;
        }
    }
    panic!("in no attempt were they spread and in time: {late:?} late");
}

#[tokio::test]
async fn an_exchange_under_way_outlives_its_connections_lifetime() {
    let server = server(Behaviour::default().delay(Duration::from_millis(50)));
    let pool = pool(PoolConfig::default().max_lifetime(Some(Duration::from_millis(5))));
    let exchange = get(&pool, &server.url()).await;
    assert!(exchange.age < exchange.timings.total());
    assert_eq!(pool.stats().closed[&CloseReason::MaxLifetime], 1);
    assert_eq!(get(&pool, &server.url()).await.nth, 1);
}

#[tokio::test]
async fn the_last_of_max_exchanges_says_close() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default().max_exchanges(Some(3)).linger(Duration::ZERO));
    let mut nths = Vec::new();
    for _ in 0..4 {
        nths.push(get(&pool, &url(peer.addr())).await.nth);
    }
    assert_eq!(nths, [1, 2, 3, 1]);
    assert_eq!(says_close(&peer), [false, false, true, false]);
    assert_eq!(pool.stats().closed[&CloseReason::MaxExchanges], 1);
}

#[tokio::test]
async fn with_one_exchange_per_connection_every_request_says_close() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default().max_exchanges(Some(1)).linger(Duration::ZERO));
    for _ in 0..3 {
        assert_eq!(get(&pool, &url(peer.addr())).await.nth, 1);
    }
    assert_eq!(says_close(&peer), [true, true, true]);
}

fn says_close(peer: &Scripted) -> Vec<bool> {
    let says = |request: &[u8]| String::from_utf8_lossy(request).contains("connection: close\r\n");
    peer.received().iter().map(|received| says(&received.request)).collect()
}
