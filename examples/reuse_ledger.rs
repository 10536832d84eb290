//! The ledger of reuse: what the pool tells of each exchange, and of all its connections. Nothing is sampled or guessed:
//! requests per connection, how long connections rested, what was sent twice, and why connections were closed.
//!
//!     cargo run --example reuse_ledger -- https://example.com/

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use keeplive::server::{Behaviour, Server};
use keeplive::{ConnectionId, Exchange, Pool, PoolConfig, PoolStats};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the exchanges say together.
#[derive(Default)]
pub(crate) struct Ledger {
    per_connection: BTreeMap<ConnectionId, u32>,
    longest_rest: Duration,
    spent_opening: Duration,
    sent_again: usize,
}

impl Ledger {
    fn enter(&mut self, exchange: &Exchange) {
        *self.per_connection.entry(exchange.connection.id).or_default() += 1;
        self.longest_rest = self.longest_rest.max(exchange.idle_before.unwrap_or_default());
        self.spent_opening += exchange.timings.connect.unwrap_or_default().total();
        self.sent_again += exchange.retries.len();
    }

    pub(crate) fn requests(&self) -> u32 {
        self.per_connection.values().sum()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(target: Option<String>) -> Result<(), BoxError> {
    // Without an argument, a server that ends each connection after ten requests.
    let server = Server::new(Behaviour::default().close_after(10)).start()?;
    let url = target.unwrap_or_else(|| server.url());

    let pool = Pool::new(PoolConfig::default())?;
    let ledger = visit(&pool, &url, 25).await?;
    pool.close();
    print(&ledger, &pool.stats());
    Ok(())
}

pub(crate) async fn visit(pool: &Pool, url: &str, times: usize) -> Result<Ledger, BoxError> {
    let mut ledger = Ledger::default();
    for _ in 0..times {
        let response = pool.send(Request::get(url).body(())?).await?;
        // The exchange is known when its last byte has been read; that also gives the connection back.
        ledger.enter(&response.into_body().finish().await?);
    }
    Ok(ledger)
}

fn print(ledger: &Ledger, stats: &PoolStats) {
    println!("{} requests over {} connections", ledger.requests(), stats.opened);
    for (id, requests) in &ledger.per_connection {
        println!("  connection {}: {requests}", id.0);
    }
    println!("longest rest before a reuse: {:?}", ledger.longest_rest);
    println!("spent on opening connections: {:?}", ledger.spent_opening);
    println!("sent again, because a connection had ended unseen: {}", ledger.sent_again);
    for (reason, connections) in &stats.closed {
        println!("closed, {}: {connections}", reason.as_str());
    }
}
