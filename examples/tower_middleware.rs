//! The pool as a drop-in beneath tower's middleware: a deadline, a bound on requests under way, and a retry that knows
//! from the error's kind when another attempt may help.
//!
//!     cargo run --example tower_middleware -- https://example.com/

use std::future::{Ready, ready};
use std::time::Duration;

use http::{Method, Request};
use keeplive::server::{Behaviour, Server};
use keeplive::{Error, ErrorKind, Pool, PoolConfig, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, retry};

/// Makes a request again that got no answer, if its method allows that (RFC 9110, section 9.2.2). The pool itself
/// repeats what was never written, and once, on another connection, what met the end of one that had been idle.
#[derive(Clone)]
struct OnceMore {
    left: u8,
}

impl retry::Policy<Request<String>, Response, Error> for OnceMore {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request<String>,
        result: &mut Result<Response, Error>,
    ) -> Option<Self::Future> {
        let kind = result.as_ref().err()?.kind();
        let may_help = matches!(kind, ErrorKind::NoResponse | ErrorKind::Reset | ErrorKind::ConnectRefused);
        if !may_help || !request.method().is_idempotent() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<String>) -> Option<Request<String>> {
        Some(request.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(target: Option<String>) -> Result<(), BoxError> {
    // The embedded server resets every third connection: the retry has something to do.
    let server = Server::new(Behaviour::default().close_after(2).reset_every(3)).start()?;
    let url = target.unwrap_or_else(|| server.url());

    let pool = Pool::new(PoolConfig::default())?;
    let mut client = ServiceBuilder::new()
        .timeout(Duration::from_secs(10))
        .concurrency_limit(16)
        .retry(OnceMore { left: 2 })
        .service(pool.clone());

    for _ in 0..8 {
        let request = Request::builder().method(Method::GET).uri(&url).body(String::new())?;
        let response = client.ready().await?.call(request).await?;
        let status = response.status();
        let exchange = response.into_body().finish().await?;
        println!("{status}: exchange {} on connection {}", exchange.nth, exchange.connection.id.0);
    }
    println!("{:?}", pool.stats());
    Ok(())
}
