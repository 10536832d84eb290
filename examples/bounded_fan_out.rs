//! A thousand requests at once over at most eight connections. The pool's queue is the bound: oldest first, nobody
//! overtakes, and who waits too long is told so. Each kind of failure gets the answer that it calls for.
//!
//!     cargo run --example bounded_fan_out -- https://example.com/

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use keeplive::server::{Behaviour, Server};
use keeplive::{Error, ErrorKind, Pool, PoolConfig};
use tokio::task::JoinSet;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const REQUESTS: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(target: Option<String>) -> Result<(), BoxError> {
    let server = Server::new(Behaviour::default().delay(Duration::from_millis(1))).start()?;
    let url = target.unwrap_or_else(|| server.url());

    let limits = PoolConfig::default()
        .max_connections_per_origin(Some(8))
        .acquire_timeout(Some(Duration::from_secs(20)));
    let pool = Pool::new(limits)?;
    let outcomes = fan_out(&pool, &url, REQUESTS).await?;
    for (outcome, requests) in &outcomes {
        println!("{outcome}: {requests}");
    }
    println!("over {} connections", pool.stats().opened);
    Ok(())
}

/// Sends them all, and counts what came of them.
pub(crate) async fn fan_out(
    pool: &Pool,
    url: &str,
    requests: usize,
) -> Result<BTreeMap<&'static str, usize>, BoxError> {
    let mut running = JoinSet::new();
    for _ in 0..requests {
        // A clone is a handle: all share the connections and the limits.
        let (pool, request) = (pool.clone(), Request::get(url).body(())?);
        running.spawn(async move { pool.send(request).await?.into_body().finish().await });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(outcome) = running.join_next().await {
        let outcome = outcome?.map_or_else(|error| what_to_do(&error), |_| "answered");
        *outcomes.entry(outcome).or_default() += 1;
    }
    Ok(outcomes)
}

/// The kind says whose turn it is.
fn what_to_do(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::AcquireTimeout => "too many at once: allow more connections, or ask for less",
        ErrorKind::ConnectRefused | ErrorKind::ConnectTimeout | ErrorKind::Dns => "the server is not there",
        kind if kind.is_client_limit() => "this machine is the limit",
        // Not one byte was processed: it can be sent again, whatever it was.
        ErrorKind::NotSent => "send it again",
        // It may have been processed: send it again only if twice is as good as once.
        ErrorKind::NoResponse | ErrorKind::Reset | ErrorKind::Partial => "ask whether it was done",
        _ => "give up",
    }
}
