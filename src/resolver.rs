//! [`Resolver`]: who is asked for a host's addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// What [`Resolver::lookup`] returns.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the addresses of a host: [`PoolConfig::resolver`](crate::PoolConfig::resolver). Without one the pool asks
/// the system (`getaddrinfo`) on a thread of tokio's blocking pool.
///
/// It is asked once for every connection to a name that is neither an address nor overridden
/// ([`PoolConfig::resolve`](crate::PoolConfig::resolve)), and nothing that it says is cached: a resolver that
/// shall remember does so itself. No lock of the pool is held meanwhile.
///
/// ```
/// use std::{io, net::SocketAddr, sync::Arc};
/// use keeplive::{Lookup, PoolConfig, Resolver};
///
/// #[derive(Debug)]
/// struct Local;
///
/// impl Resolver for Local {
///     fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a> {
///         Box::pin(async move {
///             match host.ends_with(".test") {
///                 true => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
///                 false => Err(io::Error::other("only names that end with .test are known here")),
///             }
///         })
///     }
/// }
///
/// let config = PoolConfig::default().resolver(Some(Arc::new(Local)));
/// ```
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The addresses at which `host` may be reached, best first (RFC 6724); `host` is in lower case, and `port` is
    /// what most will put into every address. They are tried in the order of RFC 8305, section 4.
    ///
    /// *Cancel safety.* The future is dropped when the request is, and when a timeout ends.
    ///
    /// # Errors
    ///
    /// Any: the request fails with [`ErrorKind::Dns`](crate::ErrorKind::Dns) and this as its source. An answer
    /// without addresses fails it too. A panic goes through to the request, whose place in the pool is freed.
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a>;
}
