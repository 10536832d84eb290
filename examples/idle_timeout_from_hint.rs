//! An idle timeout chosen from what the server says of its own: one request asks, the pool is made accordingly.
//!
//! A server that closes idle connections after N seconds may tell so: `Keep-Alive: timeout=N`. A request that is sent
//! just then meets the close half way. So the client lets go first, with a margin for the way and for the server's
//! clock, which often counts whole seconds.
//!
//!     cargo run --example idle_timeout_from_hint -- https://example.com/

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use http::{HeaderMap, Request};
use keeplive::{Pool, PoolConfig};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How much earlier than the server we let go.
const MARGIN: Duration = Duration::from_secs(1);

/// The seconds in `Keep-Alive: timeout=5, max=100`, in any order and any case.
pub(crate) fn hint(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let mut parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// The idle timeout for a server that says this; the pool's own for one that says nothing. A server that keeps
/// connections no longer than the margin is one to which none is worth keeping.
pub(crate) fn idle_timeout(hint: Option<Duration>) -> Option<Duration> {
    match hint {
        None => PoolConfig::default().idle_timeout,
        Some(hint) => Some(hint.saturating_sub(MARGIN)),
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
    let ask = Pool::new(PoolConfig::default())?;
    let response = ask.send(Request::get(&url).body(())?).await?;
    let hint = hint(response.headers());
    response.into_body().finish().await?;
    ask.close();

    let timeout = idle_timeout(hint);
    println!("{url} says {hint:?}: idle connections are kept for {timeout:?}");
    let pool = Pool::new(PoolConfig::default().idle_timeout(timeout))?;
    for _ in 0..3 {
        let exchange = pool.send(Request::get(&url).body(())?).await?.into_body().finish().await?;
        println!(
            "exchange {} after {:?} of idleness",
            exchange.nth,
            exchange.idle_before.unwrap_or_default()
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
                            b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 2\r\n\r\nhi",
                        )?;
                    }
                }
                Ok(())
            });
        }
    });
    Ok(url)
}
