//! What an observer of the pool hears.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{
    CloseReason, ErrorKind, Event, Lookup, Observer, OnMiss, Pool, PoolConfig, Resolver, RetryPolicy, Step,
    StepEnd,
};

use super::limits::{begin, nobody};
use super::{HI, assert_nothing_is_lost, get, pool, send, server, tls_server, url};
use crate::support::deaf::Deaf;
use crate::support::gate::Gate;
use crate::support::scripted::Scripted;
use crate::support::soon;

/// Writes down the name of every event, with the one fact that a story needs.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Observer for Diary {
    fn event(&self, event: &Event<'_>) {
        let fact = match event {
            Event::Granted { exchanges, .. } => format!(" {exchanges}"),
            Event::Head { status, .. } => format!(" {}", status.as_u16()),
            Event::StepEnded { end, .. } => format!(" {}", end.as_str()),
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

/// Leads every name to these.
#[derive(Debug)]
struct Answer(Vec<SocketAddr>);

impl Resolver for Answer {
    fn lookup<'a>(&'a self, _: &'a str, _: u16) -> Lookup<'a> {
        Box::pin(async { Ok(self.0.clone()) })
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
        [
            "asked",
            "opening",
            "attempt_begun",
            "attempt_ended done",
            "opened",
            "granted 0",
            "head 200",
            "exchanged",
            "returned"
        ]
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
                 asked; opening; attempt_begun; attempt_ended done; opened; granted 0; head 200; exchanged; returned";
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
    let nobody = nobody();
    let error = send(&pool, &url(nobody)).await.unwrap_err();
    assert!(error.exchange().is_none());
    let story = "asked; opening; attempt_begun; attempt_ended failed; not_opened connect_refused; \
                 refused connect_refused";
    assert_eq!(diary.take().join("; "), story);
}

#[tokio::test]
async fn an_observer_hears_of_each_lookup_each_address_and_each_handshake() {
    let server = tls_server(Behaviour::default());
    let nobody = nobody();
    let answer = Arc::new(Answer(vec![nobody, server.addr()]));
    let steps: Arc<Mutex<Vec<(String, Duration)>>> = Arc::default();
    let seen = Arc::clone(&steps);
    let diary = Diary::default();
    let observer = move |event: &Event<'_>| {
        if let Event::StepEnded { step, took, end, .. } = event {
            let what = match (step, end) {
                (Step::Lookup { host }, StepEnd::Found(addresses)) => format!("{host} {}", addresses.len()),
                (Step::Attempt { address }, StepEnd::Failed(_)) => format!("not {address}"),
                (Step::Attempt { address }, StepEnd::Done) => format!("{address}"),
                (Step::Handshake { host }, StepEnd::Done) => format!("with {host}"),
                other => panic!("{other:?}"),
            };
            seen.lock().unwrap().push((what, *took));
        }
    };
    let pool = pool(PoolConfig::default().resolver(Some(answer)))
        .observed_by((diary.clone(), observer))
        .expect("its first observer");
    let exchange = get(&pool, "https://name.test/").await;
    let story = "asked; opening; lookup_begun; lookup_ended done; attempt_begun; attempt_ended failed; \
                 attempt_begun; attempt_ended done; handshake_begun; handshake_ended done; opened; granted 0; \
                 head 200; exchanged; returned";
    assert_eq!(diary.take().join("; "), story);
    let steps = std::mem::take(&mut *steps.lock().unwrap());
    let good = server.addr();
    let expected =
        ["name.test 2".to_owned(), format!("not {nobody}"), good.to_string(), "with name.test".into()];
    assert_eq!(steps.iter().map(|(what, _)| what.clone()).collect::<Vec<_>>(), expected);
    // Each lies within the phase that it is a part of.
    let connect = exchange.timings.connect.expect("opened for it");
    assert!(steps[0].1 <= connect.dns.expect("a lookup") && steps[3].1 <= connect.tls.expect("TLS"));
    assert!(steps[1].1 + steps[2].1 <= connect.tcp, "{steps:?} {connect:?}");
    get(&pool, "https://name.test/").await;
    assert_eq!(diary.take(), ["asked", "granted 1", "head 200", "exchanged", "returned"]);
}

#[tokio::test]
async fn an_observer_hears_of_the_address_that_lost_a_race() {
    let (deaf, server, diary) = (Deaf::new(), server(Behaviour::default()), Diary::default());
    let answer = Arc::new(Answer(vec![deaf.address(), server.addr()]));
    let pool = diary.pool(PoolConfig::default().resolver(Some(answer)));
    get(&pool, "http://name.test/").await;
    let story = "asked; opening; lookup_begun; lookup_ended done; attempt_begun; attempt_begun; \
                 attempt_ended done; attempt_ended given_up; opened; granted 0; head 200; exchanged; returned";
    assert_eq!(diary.take().join("; "), story);
}

#[tokio::test]
async fn an_opening_that_is_given_up_is_told_and_counted() {
    let (deaf, diary) = (Deaf::new(), Diary::default());
    let pool = diary.pool(PoolConfig::default());
    let mut sending = Box::pin(send(&pool, &url(deaf.address())));
    begin(&mut sending).await;
    drop(sending);
    let story = "asked; opening; attempt_begun; attempt_ended given_up; abandoned";
    assert_eq!(diary.take().join("; "), story);
    let stats = pool.stats();
    assert_eq!((stats.abandoned, stats.failed_to_open, stats.opened, stats.opening), (1, 0, 0, 0));
}

#[test]
fn an_opening_whose_runtime_ends_is_told_and_counted_once() {
    let (deaf, diary) = (Deaf::new(), Diary::default());
    let pool = diary.pool(PoolConfig::default().on_miss(OnMiss::LateBind));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut sending = Box::pin(send(&pool, &url(deaf.address())));
        begin(&mut sending).await;
        soon("its opening", || (deaf.knocking() == 1).then_some(())).await;
    });
    assert_eq!(pool.stats().abandoned, 0, "it outlives its request");
    drop(runtime);
    assert_eq!(diary.take().last().map(String::as_str), Some("abandoned"));
    let stats = pool.stats();
    assert_eq!((stats.abandoned, stats.failed_to_open, stats.opening, stats.busy), (1, 0, 0, 0));
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
