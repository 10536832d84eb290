//! The pool, as its users and its peers see it.

mod addresses;
mod cancelling;
pub(crate) mod certificates;
mod draining;
mod ending;
mod expiry;
mod facts;
mod framing;
mod given_up;
mod hints;
mod hostile;
mod limits;
mod many_origins;
mod observer;
mod off;
mod on_miss;
mod opening;
mod protocol;
mod proxies;
mod race;
mod resolving;
mod retries;
mod reuse;
mod scarce;
mod service;
mod stale;
mod timeouts;
mod timings;
mod tls;
mod unix;
mod unread;
mod upgrade;
mod vanishing;

use std::net::SocketAddr;

use http::Request;
use keeplive::server::{Behaviour, Running, Server, ServerTls};
use keeplive::{Error, Exchange, Origin, Pool, PoolConfig, RequestBody, Response, TlsConfig};

use crate::support::scripted::Scripted;

/// A response that keeps its connection.
const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn pool(config: PoolConfig) -> Pool {
    Pool::with_tls(config, trusting(None).build().expect("TLS that anybody may speak")).expect("a pool")
}

/// Trusts this certificate, or anybody.
fn trusting(certificate_pem: Option<&str>) -> TlsConfig {
    let mut tls = TlsConfig::default();
    tls.verify = certificate_pem.is_some();
    tls.roots_pem = certificate_pem.map(|pem| pem.as_bytes().to_vec());
    tls
}

fn server(behaviour: Behaviour) -> Running {
    Server::new(behaviour).start().expect("a free port of the loopback")
}

fn tls_server(behaviour: Behaviour) -> Running {
    Server::new(behaviour).tls(ServerTls::default()).start().expect("a free port of the loopback")
}

/// A peer that answers every request with these bytes, and leaves the close to us.
fn answering(answer: &'static str) -> Scripted {
    Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write(answer);
        }
    })
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

fn origin(url: &str) -> Origin {
    url.parse().expect("an origin")
}

fn request(url: &str) -> Request<()> {
    Request::get(url).body(()).expect("a request")
}

fn post(url: &str, body: impl Into<RequestBody>) -> Request<RequestBody> {
    Request::post(url).body(body.into()).expect("a request")
}

/// As [`Pool::lease`] wants it: the origin is known, and only the path is asked for.
fn origin_form() -> Request<RequestBody> {
    Request::get("/").header("host", "test").body(RequestBody::empty()).expect("a request")
}

fn send<'a>(pool: &'a Pool, url: &str) -> impl Future<Output = Result<Response, Error>> + use<'a> {
    pool.send(request(url))
}

/// One GET, read to its end.
fn get<'a>(pool: &'a Pool, url: &str) -> impl Future<Output = Exchange> + use<'a> {
    let sending = send(pool, url);
    async { sending.await.expect("a response").into_body().finish().await.expect("a whole body") }
}

fn id(exchange: &Exchange) -> u64 {
    exchange.connection.id.0
}

/// Every connection that was opened is idle, busy or was closed for a reason.
fn assert_nothing_is_lost(pool: &Pool) {
    let stats = pool.stats();
    let closed: u64 = stats.closed.values().sum();
    assert_eq!(stats.opened, closed + stats.idle as u64 + stats.busy as u64, "{stats:?}");
}
