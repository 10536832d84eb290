//! An idle timeout chosen from what the server says of its own. The pool does that by itself for every connection
//! ([`HintPolicy::Honour`](keeplive::HintPolicy)); this program shows what it hears, and what another client that knows
//! no hints should be told.
//!
//! A server that closes idle connections after N seconds may tell so: `Keep-Alive: timeout=N`. A request that is sent
//! just then meets the close half way. So the client lets go first, with a margin for the way and for the server's
//! clock, which often counts whole seconds.
//!
//!     cargo run --example idle_timeout_from_hint -- https://example.com/

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use http::Request;
use http::header::CONNECTION;
use keeplive::{Hint, Pool, PoolConfig};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How much earlier than the server a client should let go: the pool's own margin.
const MARGIN: Duration = Duration::from_secs(1);

/// The idle timeout for a server that says this; the pool's own for one that says nothing. A server that keeps
/// connections no longer than the margin is one to which none is worth keeping.
pub(crate) fn idle_timeout(hint: Option<Hint>) -> Option<Duration> {
    match hint.and_then(|hint| hint.timeout) {
        None => PoolConfig::default().idle_timeout,
        Some(timeout) => Some(timeout.saturating_sub(MARGIN)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(target: Option<String>) -> Result<(), BoxError> {
    let url = match target {
        Some(url) => url,
        None => a_server_that_hints()?,
    };
    let pool = Pool::new(PoolConfig::default())?;
    for _ in 0..3 {
        // Apache httpd and Tomcat tell only those who ask.
        let request = Request::get(&url).header(CONNECTION, "keep-alive").body(())?;
        let exchange = pool.send(request).await?.into_body().finish().await?;
        println!(
            "exchange {} on its connection, after {:?} of idleness; the server says {:?}: let go after {:?}",
            exchange.nth,
            exchange.idle_before.unwrap_or_default(),
            exchange.hint,
            idle_timeout(exchange.hint)
        );
    }
    Ok(())
}

/// The smallest server that can be asked: it answers every request head alike.
fn a_server_that_hints() -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut answers = &stream;
                for line in BufReader::new(&stream).lines() {
                    if line?.is_empty() {
                        answers.write_all(
                            b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 2\r\n\r\nhi",
                        )?;
                    }
                }
                Ok(())
            });
        }
    });
    Ok(url)
}
