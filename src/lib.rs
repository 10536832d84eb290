//! keeplive.
#![forbid(unsafe_code)]

mod clock;

mod body;
mod config;
mod error;
mod exchange;
mod idle;
mod origin;
mod phase;

mod connect;
mod connection;
mod pool;
#[cfg(feature = "tls")]
mod tls;
mod wire;

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

#[cfg(feature = "load")]
pub mod histogram;
#[cfg(feature = "load")]
pub mod machine;
#[cfg(feature = "load")]
pub mod measurement;
#[cfg(feature = "load")]
pub mod plan;
