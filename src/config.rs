//! [`PoolConfig`]: the pool's limits as plain data.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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
    /// A connection older than this is not reused; `None`: any age. An exchange under way is never cut.
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
    // limits and queue
    /// The most connections at a time, to all origins together: those being opened, busy and idle; `None`: no
    /// limit. At the limit the longest idle connection, of whatever origin, is closed for one to another; when
    /// none is idle requests wait, the oldest first among all that could use the place. A connection that waits
    /// for its peer's FIN ([`PoolConfig::linger`]) has given its place up. Default: none.
    pub max_connections: Option<usize>,
    /// The most idle connections to all origins together; beyond it the longest idle is closed, of whatever
    /// origin. Default: 512, so that many origins, one request each, do not add up to as many descriptors
    /// (hyper#3785, reqwest#2424).
    pub max_idle: usize,
    /// Which idle connection is reused first. Default: the newest.
    pub reuse_order: ReuseOrder,
    /// The most requests that may wait for a connection to one origin; one more fails at once with
    /// [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull) instead of joining a queue that would only make it
    /// late (Envoy's `max_pending_requests`). With 0 nobody waits; `None`: no limit. Default: none.
    pub max_waiting_per_origin: Option<usize>,
    /// The most connections to one origin that are being opened at a time; beyond it requests wait, and take what
    /// comes first, a place to open or a connection that comes back. It keeps an origin that does not answer
    /// from being dialled without end (go#76784). Default: 64.
    pub max_opening_per_origin: usize,
    /// What a request does that finds no idle connection where another may be opened. Default: [`OnMiss::Open`].
    pub on_miss: OnMiss,
}

/// What a request does that finds no idle connection where another may be opened.
///
/// `Open` is the default, for a client as for a measurement: every connection is opened for the request that uses it
/// first, so the record of that request shows the whole cost of it, no connection is opened that nobody asked for, and
/// nothing runs beside the requests. A dial that always races with the connections that come back opens more than are
/// used as soon as requests are as fast as handshakes, and what it costs is paid where it hurts, at the tail
/// (hyper#4134).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMiss {
    /// It opens a connection and uses that one. Dropping the request gives the opening up.
    #[default]
    Open,
    /// It opens a connection and waits for one that comes back at the same time, and uses what is there first, as Go
    /// and Chrome do. For requests that take less time than a handshake, and servers that can do with connections
    /// that are opened and not used. The opening is a task of its own: it goes on when its request has another
    /// connection or was dropped, and what was opened goes to the oldest request that waits, or rests. When it
    /// fails, its own request fails, unless that one was served meanwhile.
    LateBind,
    /// It waits this long for a connection that comes back, and then opens one; where the origin has no connection
    /// that could come back it opens one at once. For servers to whom connections are dearer than this much delay.
    /// The wait is a part of the acquire timeout, which must be longer.
    WaitThenOpen(Duration),
}

/// Which idle connection is reused first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReuseOrder {
    /// The one that was idle for the shortest time: it is warmest, and least likely to have been closed by its
    /// peer, and those that are too many stay idle until they expire.
    #[default]
    Lifo,
    /// The one that was idle for the longest time: load is spread, and every connection is kept warm, which also
    /// keeps too many of them.
    Fifo,
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
            // limits and queue
            max_connections: None,
            max_idle: 512,
            reuse_order: ReuseOrder::default(),
            max_waiting_per_origin: None,
            max_opening_per_origin: 64,
            on_miss: OnMiss::default(),
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
    // limits and queue
    max_connections: Option<usize>,
    max_idle: usize,
    reuse_order: ReuseOrder,
    max_waiting_per_origin: Option<usize>,
    max_opening_per_origin: usize,
    on_miss: OnMiss,
}

impl PoolConfig {
    /// What cannot work, said with the cure; `None` when everything fits.
    pub fn fault(&self) -> Option<String> {
        if self.max_connections_per_origin == Some(0) {
            return Some(
                "max_connections_per_origin is 0: no request could ever be sent; use 1 or more".into(),
            );
        }
        if self.max_connections == Some(0) {
            return Some("max_connections is 0: no request could ever be sent; use 1 or more".into());
        }
        if self.max_opening_per_origin == 0 {
            return Some(
                "max_opening_per_origin is 0: no connection could ever be opened; use 1 or more".into(),
            );
        }
        if !self.keep_alive && self.on_miss != OnMiss::Open {
            return Some(
                "on_miss waits for connections that come back, and with keep_alive off none does: use \
                 OnMiss::Open, or turn keep_alive on"
                    .into(),
            );
        }
        if let (OnMiss::WaitThenOpen(wait), Some(limit)) = (self.on_miss, self.acquire_timeout)
            && wait >= limit
        {
            return Some(format!(
                "on_miss waits {wait:?} before it opens a connection, and acquire_timeout gives a request up after \
                 {limit:?}: make the wait shorter than the timeout"
            ));
        }
        if self.max_exchanges == Some(0) {
            return Some("max_exchanges is 0: use 1 for one request per connection, or none".into());
        }
        if self.max_lifetime == Some(Duration::ZERO) {
            return Some("max_lifetime is 0: turn keep_alive off instead".into());
        }
        None
    }
}
