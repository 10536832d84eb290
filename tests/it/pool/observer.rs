//! What an observer of the pool hears.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use keeplive::server::Behaviour;
use keeplive::{CloseReason, ErrorKind, Event, Observer, Pool, PoolConfig, RetryPolicy};

use super::{HI, assert_nothing_is_lost, get, pool, send, server, url};
use crate::support::gate::Gate;
use crate::support::scripted::Scripted;

/// Writes down the name of every event, with the one fact that a story needs.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Observer for Diary {
    fn event(&self, event: &Event<'_>) {
        let fact = match event {
            Event::Granted { exchanges, .. } => format!(" {exchanges}"),
            Event::Head { status, .. } => format!(" {}", status.as_u16()),
            Event::Failed { error, .. } | Event::Refused { error, .. } | Event::NotOpened { error, .. } => {
                format!(" {}", error.kind().as_str())
            }
            Event::Retried { retry, .. } => format!(" {}", retry.kind.as_str()),
            Event::Closed { reason, idle, .. } => format!(" {} idle={}", reason.as_str(), idle.is_some()),
            _ => String::new(),
        };
        self.0.lock().unwrap().push(format!("{}{fact}", event.as_str()));
    }
}

impl Diary {
    fn pool(&self, config: PoolConfig) -> Pool {
        pool(config).observed_by(self.clone()).expect("its first observer")
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn an_observer_hears_the_story_of_a_request_on_a_fresh_and_on_a_used_connection() {
    let (server, diary) = (server(Behaviour::default()), Diary::default());
    let pool = diary.pool(PoolConfig::default());
    get(&pool, &server.url()).await;
    assert_eq!(
        diary.take(),
        ["asked", "opening", "opened", "granted 0", "head 200", "exchanged", "returned"]
    );
    get(&pool, &server.url()).await;
    assert_eq!(diary.take(), ["asked", "granted 1", "head 200", "exchanged", "returned"]);
    pool.close();
    assert_eq!(diary.take(), ["closed shutdown idle=true"]);
    send(&pool, &server.url()).await.unwrap_err();
    assert_eq!(diary.take(), ["asked", "refused closed"]);
}

#[tokio::test]
async fn an_observer_hears_of_a_failure_and_of_a_second_attempt() {
    let (go, done) = (Gate::default(), Gate::default());
    let (gone, has_done) = (go.clone(), done.clone());
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        if conn.number() == 1 {
            gone.wait();
            conn.close();
            has_done.open();
        }
        conn.read_request();
    });
    let diary = Diary::default();
    let pool = diary.pool(PoolConfig::default().retry(RetryPolicy::Unsent));
    get(&pool, &url(peer.addr())).await;
    diary.take();
    // The end is in our kernel, and our reactor has not run.
    go.open();
    done.wait();
    get(&pool, &url(peer.addr())).await;
    let story = "asked; granted 1; failed not_sent; closed peer_fin idle=true; retried not_sent; \
                 asked; opening; opened; granted 0; head 200; exchanged; returned";
    assert_eq!(diary.take().join("; "), story);
    let error = send(&pool, &url(peer.addr())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponse);
    let so_far = error.exchange().expect("it had a connection");
    assert_eq!((so_far.connection.id.0, so_far.nth, so_far.bytes_in), (2, 2, 0));
    assert_eq!(so_far.bytes_out, peer.received()[2].request.len() as u64);
    assert!(so_far.idle_before.is_some() && so_far.retries.is_empty());
    assert_eq!(diary.take(), ["asked", "granted 1", "failed no_response", "closed failed idle=false"]);
}

#[tokio::test]
async fn an_observer_hears_of_a_connection_that_could_not_be_opened() {
    let diary = Diary::default();
    let pool = diary.pool(PoolConfig::default());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = send(&pool, &url(nobody)).await.unwrap_err();
    assert!(error.exchange().is_none());
    assert_eq!(diary.take(), ["asked", "opening", "not_opened connect_refused", "refused connect_refused"]);
}

#[tokio::test]
async fn a_body_cut_short_tells_how_far_its_exchange_came() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(format!("{head}half"));
    });
    let pool = pool(PoolConfig::default());
    let error = send(&pool, &url(peer.addr())).await.unwrap().into_body().finish().await.unwrap_err();
    let so_far = error.exchange().expect("it had a connection");
    assert_eq!((error.kind(), so_far.nth), (ErrorKind::Partial, 1));
    assert_eq!(so_far.bytes_in, (head.len() + 4) as u64);
    assert!(so_far.timings.connect.is_some() && so_far.idle_before.is_none());
}

#[tokio::test]
async fn an_observer_may_ask_the_pool_and_hears_of_every_connection_that_is_closed() {
    let server = server(Behaviour::default());
    let asked: Arc<Mutex<Option<Pool>>> = Arc::default();
    let (closed, handle) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&asked));
    let count = Arc::clone(&closed);
    let pool = pool(PoolConfig::default().keep_alive(false))
        .observed_by(move |event: &Event<'_>| {
            // It would wait for ever if the pool's lock were held.
            let stats = handle.lock().unwrap().as_ref().map(Pool::stats);
            if let Event::Closed { reason: CloseReason::KeepAliveOff, .. } = event {
                assert!(stats.is_some());
                count.fetch_add(1, Relaxed);
            }
        })
        .expect("its first observer");
    *asked.lock().unwrap() = Some(pool.clone());
    for _ in 0..5 {
        get(&pool, &server.url()).await;
    }
    assert_eq!(closed.load(Relaxed), 5);
    *asked.lock().unwrap() = None;
}

#[tokio::test]
async fn an_observer_that_panics_costs_no_connection_and_no_place() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)))
        .observed_by(|_: &Event<'_>| std::panic::resume_unwind(Box::new("an observer's own mistake")))
        .expect("its first observer");
    for nth in 1..=3 {
        assert_eq!(get(&pool, &server.url()).await.nth, nth);
    }
    let cancelled = pool.lease(&super::origin(&server.url())).await.expect("the connection");
    drop(cancelled);
    assert_eq!(get(&pool, &server.url()).await.nth, 4);
    assert_nothing_is_lost(&pool);
    pool.close();
    assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0));
}

#[test]
fn a_pool_has_one_observer_and_says_how_to_have_two() {
    let (one, two) = (Diary::default(), Diary::default());
    let observed = one.pool(PoolConfig::default());
    let error = observed.observed_by(two.clone()).unwrap_err();
    assert!(error.to_string().ends_with("give it both at once, as a pair"), "{error}");
    pool(PoolConfig::default()).observed_by((one, Arc::new(two))).expect("its first observer");
}
