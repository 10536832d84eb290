//! The programs in `examples/`, run as they are, against the servers that they start themselves.
#![allow(dead_code, reason = "an example's main is a process of its own")]

#[path = "../../examples/bounded_fan_out.rs"]
mod bounded_fan_out;
#[path = "../../examples/idle_timeout_from_hint.rs"]
mod idle_timeout_from_hint;
#[path = "../../examples/observer.rs"]
mod observer;
#[path = "../../examples/reuse_ledger.rs"]
mod reuse_ledger;
#[path = "../../examples/tower_middleware.rs"]
mod tower_middleware;

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use keeplive::server::{Behaviour, Server};
use keeplive::{Hint, Pool, PoolConfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_runs_to_its_end() {
    bounded_fan_out::run(None).await.expect("bounded_fan_out");
    idle_timeout_from_hint::run(None).await.expect("idle_timeout_from_hint");
    observer::run(None).await.expect("observer");
    reuse_ledger::run(None).await.expect("reuse_ledger");
    tower_middleware::run(None).await.expect("tower_middleware");
}

#[test]
fn an_idle_timeout_from_a_hint_ends_before_the_servers() {
    let chosen = |value: &str| idle_timeout_from_hint::idle_timeout(Hint::parse(value.as_bytes())).unwrap();
    assert_eq!(chosen("timeout=5, max=100"), Duration::from_secs(4));
    assert_eq!(chosen("max=100, Timeout = 75"), Duration::from_secs(74));
    assert_eq!(chosen("timeout=1"), Duration::ZERO);
    assert_eq!(chosen("timeout=soon"), Duration::from_secs(4));
    assert_eq!(chosen("max=7"), Duration::from_secs(4));
}

#[tokio::test]
async fn the_ledger_agrees_with_the_server() {
    let server = Server::new(Behaviour::default().close_after(10)).start().unwrap();
    let pool = Pool::new(PoolConfig::default()).unwrap();
    let ledger = reuse_ledger::visit(&pool, &server.url(), 25).await.unwrap();
    assert_eq!((ledger.requests(), pool.stats().opened), (25, 3));
    assert_eq!((server.counts().requests, server.counts().connections), (25, 3));
}

#[tokio::test]
async fn the_metrics_of_an_observer_agree_with_the_server() {
    let server = Server::new(Behaviour::default().close_after(4)).start().unwrap();
    let metrics = Arc::new(observer::Metrics::default());
    let pool = Pool::new(PoolConfig::default()).unwrap().observed_by(Arc::clone(&metrics)).unwrap();
    for _ in 0..8 {
        let request = Request::get(server.url()).body(()).unwrap();
        pool.send(request).await.unwrap().into_body().finish().await.unwrap();
    }
    let text = metrics.text();
    let has = |line: &str| assert!(text.lines().any(|one| one == line), "{line} in {text}");
    has("http_client_connections_opened_total 2");
    has("http_client_requests_total{reused=\"true\"} 6");
    has("http_client_connections_closed_total{reason=\"server_close\"} 2");
}

#[tokio::test]
async fn a_fan_out_tells_who_waited_too_long() {
    let server = Server::new(Behaviour::default().delay(Duration::from_millis(200))).start().unwrap();
    let limits = PoolConfig::default()
        .max_connections_per_origin(Some(1))
        .acquire_timeout(Some(Duration::from_millis(50)));
    let outcomes = bounded_fan_out::fan_out(&Pool::new(limits).unwrap(), &server.url(), 3).await.unwrap();
    assert_eq!(outcomes.values().sum::<usize>(), 3);
    assert_eq!(outcomes["too many at once: allow more connections, or ask for less"], 2);
}
