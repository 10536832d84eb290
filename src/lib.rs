//! A pooled HTTP/1.1 client that tells what happened to every request, and the experiments that show what its
//! reuse of connections saves.
//!
//! ```no_run
//! # async fn example() -> Result<(), keeplive::Error> {
//! let pool = keeplive::Pool::new(keeplive::PoolConfig::default())?;
//! let request = http::Request::get("https://example.com/").body(()).expect("a valid request");
//! let response = pool.send(request).await?;
//! let exchange = response.into_body().finish().await?;
//! println!("reused: {}, {:?}", exchange.is_reused(), exchange.timings);
//! # Ok(())
//! # }
//! ```
//!
#![doc = include_str!("docs/architecture.md")]
#![forbid(unsafe_code)]

mod alarm;
mod clock;
#[cfg(feature = "load")]
mod pauses;
#[cfg(feature = "load")]
mod timer;

mod body;
mod config;
#[cfg(feature = "load")]
pub mod duration;
mod error;
mod exchange;
mod hint;
mod idle;
mod informational;
mod lifetime;
mod observer;
mod origin;
mod phase;
mod powers;
mod proxy;
mod resolver;
mod retry;
mod route;

#[cfg(feature = "load")]
pub mod estimate;
#[cfg(feature = "load")]
pub mod findings;
#[cfg(feature = "load")]
pub mod histogram;
#[cfg(feature = "load")]
pub mod known;
#[cfg(feature = "load")]
pub mod machine;
#[cfg(feature = "load")]
pub mod measurement;
#[cfg(feature = "load")]
pub mod plan;
#[cfg(feature = "load")]
pub mod ports;
#[cfg(feature = "load")]
pub mod saved;
#[cfg(feature = "load")]
pub mod targets;
#[cfg(feature = "load")]
pub mod timeline;

mod connect;
mod connection;
mod heads;
mod pool;
#[cfg(feature = "load")]
pub mod server;
mod service;
#[cfg(feature = "tls")]
mod tls;
mod wire;

#[cfg(feature = "load")]
pub mod load;
#[cfg(feature = "load")]
pub mod probe;

#[cfg(feature = "load")]
pub mod advice;
#[cfg(feature = "load")]
pub mod compare;
#[cfg(feature = "load")]
pub mod expect;
#[cfg(feature = "load")]
pub mod gate;

#[cfg(feature = "load")]
pub mod report;
#[cfg(feature = "load")]
pub mod schema;

pub use body::RequestBody;
pub use config::{Keepalive, OnMiss, PoolConfig, Resolve, ReuseOrder};
pub use error::{Error, ErrorKind, Retry};
pub use exchange::{Address, ConnectionFacts, ConnectionId, Exchange, Obtained, TlsFacts};
pub use hint::{Hint, HintPolicy};
pub use idle::CloseReason;
pub use informational::OnInformational;
#[cfg(feature = "tracing")]
pub use observer::TracingObserver;
pub use observer::{Event, Observer, Step, StepEnd};
pub use origin::{Origin, Scheme};
pub use phase::{ConnectTimings, Phase, Timings};
pub use pool::{Body, Drained, Lease, LeaseError, Pool, PoolStats, Response, Upgraded};
pub use powers::Powers;
pub use proxy::Proxy;
pub use resolver::{Lookup, Resolver};
pub use retry::{FailedAttempt, Idempotent, RetryPolicy};
pub use route::Route;
pub use service::Sending;
#[cfg(feature = "tls")]
pub use tls::{ClientCertificate, TlsClient, TlsConfig, TlsVersion};

/// The README's examples are compiled with the documentation tests.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
