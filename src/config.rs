//! [`PoolConfig`]: the pool's limits as plain data.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::hint::HintPolicy;
use crate::retry::RetryPolicy;

/// Limits and timeouts of a [`Pool`](crate::Pool). Every field has a chainable setter of the same name.
///
/// ```
/// use std::time::Duration;
/// let config = keeplive::PoolConfig::default()
///     .idle_timeout(Some(Duration::from_secs(30)))
///     .max_connections_per_origin(Some(64));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Whether connections are kept. Off: every request says `Connection: close` (RFC 9112, section 9.6, a
    /// MUST for a client that does not persist), no connection is used twice even when the server ignores
    /// that, and after the response the pool waits, at most [`PoolConfig::linger`], for the server to close
    /// first. Default: on.
    pub keep_alive: bool,
    /// A connection that has been idle for this long is closed and not reused; `None`: never. Reuse needs
    /// `idle < idle_timeout`. Default: 4 s, just under the 5 s after which the shortest-tempered common
    /// servers close (Apache httpd, Node before 26, uvicorn); undici and agentkeepalive chose the same.
    pub idle_timeout: Option<Duration>,
    /// How long a request may wait for a connection when all that are allowed are busy; `None`: for ever.
    /// Default: 30 s, as HikariCP. It does not include opening a connection.
    pub acquire_timeout: Option<Duration>,
    /// How long name lookup, TCP and TLS handshake may take together; `None`: as long as the system lets
    /// them. Default: 10 s.
    pub connect_timeout: Option<Duration>,
    /// A connection older than this, less [`PoolConfig::lifetime_jitter`], is not reused; `None`: any age. An exchange under way is never cut.
    /// Default: none.
    pub max_lifetime: Option<Duration>,
    /// The number of exchanges after which a connection is closed; `None`: any number. With 1, or at the
    /// last one, the request says `Connection: close`. Default: none.
    pub max_exchanges: Option<u32>,
    /// The most connections to one origin at a time: those being opened, busy and idle together; `None`: no
    /// limit. Beyond it requests wait, oldest first. Default: none.
    pub max_connections_per_origin: Option<usize>,
    /// The most idle connections to one origin; the longest idle is closed for a newer one. Default: 32.
    pub max_idle_per_origin: usize,
    /// How long to wait for the server's FIN after a response that ends its connection, so that TIME_WAIT
    /// stays with the server (RFC 9293, section 3.6.1: the side that closes first keeps it). Default: 1 s.
    pub linger: Duration,
    /// TCP_NODELAY: off, Nagle's algorithm can hold a request back for a delayed ACK (40 ms on Linux).
    /// Default: on.
    pub tcp_nodelay: bool,
    /// Addresses to use for a host and port instead of asking the resolver, as curl's `--resolve`. Default:
    /// none.
    pub resolve: Vec<Resolve>,
    /// The local address to connect from; `None`: the system chooses. Default: none.
    pub local_address: Option<IpAddr>,
    // reuse and retries
    /// When a request is sent again whose attempt failed on a connection that had been idle. Default:
    /// [`RetryPolicy::Safe`].
    pub retry: RetryPolicy,
    /// What a server's `Keep-Alive: timeout=5, max=100` does to [`PoolConfig::idle_timeout`]. Default: it takes its
    /// place, with a margin of 1 s, up to 600 s.
    pub hint: HintPolicy,
    /// The largest part of [`PoolConfig::max_lifetime`] that is taken off it at random, for each connection anew, so
    /// that connections opened together do not end together; 0 to 1. Default: 0.1.
    pub lifetime_jitter: f64,
}

/// One override of name resolution: connections to `host:port` go to `address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// Host name in lower case.
    pub host: String,
    /// The port it is for.
    pub port: u16,
    /// Where to connect.
    pub address: SocketAddr,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig {
            keep_alive: true,
            idle_timeout: Some(Duration::from_secs(4)),
            acquire_timeout: Some(Duration::from_secs(30)),
            connect_timeout: Some(Duration::from_secs(10)),
            max_lifetime: None,
            max_exchanges: None,
            max_connections_per_origin: None,
            max_idle_per_origin: 32,
            linger: Duration::from_secs(1),
            tcp_nodelay: true,
            resolve: Vec::new(),
            local_address: None,
            // reuse and retries
            retry: RetryPolicy::Safe,
            hint: HintPolicy::default(),
            lifetime_jitter: 0.1,
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl PoolConfig {
            $(
                #[doc = concat!("Sets [`PoolConfig::", stringify!($name), "`](PoolConfig#structfield.", stringify!($name), ").")]
                pub fn $name(mut self, $name: $type) -> PoolConfig {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    keep_alive: bool,
    idle_timeout: Option<Duration>,
    acquire_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    max_lifetime: Option<Duration>,
    max_exchanges: Option<u32>,
    max_connections_per_origin: Option<usize>,
    max_idle_per_origin: usize,
    linger: Duration,
    tcp_nodelay: bool,
    resolve: Vec<Resolve>,
    local_address: Option<IpAddr>,
    // reuse and retries
    retry: RetryPolicy,
    hint: HintPolicy,
    lifetime_jitter: f64,
}

impl PoolConfig {
    /// What cannot work, said with the cure; `None` when everything fits.
    pub fn fault(&self) -> Option<String> {
        if self.max_connections_per_origin == Some(0) {
            return Some(
                "max_connections_per_origin is 0: no request could ever be sent; use 1 or more".into(),
            );
        }
        if self.max_exchanges == Some(0) {
            return Some("max_exchanges is 0: use 1 for one request per connection, or none".into());
        }
        if self.max_lifetime == Some(Duration::ZERO) {
            return Some("max_lifetime is 0: turn keep_alive off instead".into());
        }
        if !(0.0..1.0).contains(&self.lifetime_jitter) {
            return Some(format!(
                "lifetime_jitter is {}: use 0 or more, and less than 1",
                self.lifetime_jitter
            ));
        }
        if matches!(self.hint, HintPolicy::Honour { cap: Duration::ZERO, .. }) {
            return Some("the hint's cap is 0: use HintPolicy::Ignore to keep to idle_timeout".into());
        }
        None
    }
}
