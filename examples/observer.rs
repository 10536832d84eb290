//! An observer that counts, and shows its counts in the text form that Prometheus reads.
//!
//!     cargo run --example observer -- https://example.com/

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use http::Request;
use keeplive::server::{Behaviour, Server};
use keeplive::{Event, Observer, Pool, PoolConfig};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Counts by metric name and label. An observer is called while a request waits: it counts, and prints elsewhere.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<(&'static str, String), u64>>);

impl Observer for Metrics {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Opened { .. } => self.count("connections_opened_total", String::new()),
            Event::Granted { idle, .. } => {
                self.count("requests_total", format!("{{reused=\"{}\"}}", idle.is_some()));
            }
            Event::Exchanged { exchange, .. } => {
                self.add("sent_bytes_total", String::new(), exchange.bytes_out);
                self.add("received_bytes_total", String::new(), exchange.bytes_in);
            }
            Event::Failed { error, .. } | Event::Refused { error, .. } => {
                self.count("failures_total", format!("{{kind=\"{}\"}}", error.kind().as_str()));
            }
            Event::Closed { reason, .. } => {
                self.count("connections_closed_total", format!("{{reason=\"{}\"}}", reason.as_str()));
            }
            // There will be more events; what is not counted is ignored.
            _ => {}
        }
    }
}

impl Metrics {
    fn count(&self, name: &'static str, labels: String) {
        self.add(name, labels, 1);
    }

    fn add(&self, name: &'static str, labels: String, n: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((name, labels)).or_default() += n;
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for ((name, labels), n) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            writeln!(text, "http_client_{name}{labels} {n}").expect("a string takes everything");
        }
        text
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(target: Option<String>) -> Result<(), BoxError> {
    let server = Server::new(Behaviour::default().close_after(4)).start()?;
    let url = target.unwrap_or_else(|| server.url());

    let metrics = Arc::new(Metrics::default());
    let pool = Pool::new(PoolConfig::default())?.observed_by(Arc::clone(&metrics))?;
    for _ in 0..10 {
        pool.send(Request::get(&url).body(())?).await?.into_body().finish().await?;
    }
    pool.close();
    print!("{}", metrics.text());
    Ok(())
}
