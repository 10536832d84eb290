//! A pooled HTTP/1.1 client that tells what happened to every request, and the experiments that show what its
//! reuse of connections saves.
#![forbid(unsafe_code)]

mod clock;
#[cfg(feature = "load")]
mod timer;

mod body;
mod config;
mod error;
mod exchange;
mod idle;
mod origin;
mod phase;

#[cfg(feature = "load")]
pub mod estimate;
#[cfg(feature = "load")]
pub mod histogram;
#[cfg(feature = "load")]
pub mod machine;
#[cfg(feature = "load")]
pub mod measurement;
#[cfg(feature = "load")]
pub mod plan;
#[cfg(feature = "load")]
pub mod ports;

mod connect;
mod connection;
mod pool;
#[cfg(feature = "load")]
pub mod server;
#[cfg(feature = "tls")]
mod tls;
mod wire;

#[cfg(feature = "load")]
pub mod load;

#[cfg(feature = "load")]
pub mod compare;

#[cfg(feature = "load")]
pub mod report;

pub use body::RequestBody;
pub use config::{PoolConfig, Resolve};
pub use error::{Error, ErrorKind};
pub use exchange::{ConnectionFacts, ConnectionId, Exchange, Retry, TlsFacts};
pub use idle::CloseReason;
pub use origin::{Origin, Scheme};
pub use phase::{ConnectTimings, Phase, Timings};
pub use pool::{Body, Lease, LeaseError, Pool, PoolStats, Response};
#[cfg(feature = "tls")]
pub use tls::{TlsClient, TlsConfig, TlsVersion};
