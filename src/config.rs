//! [`PoolConfig`]: the pool's limits as plain data.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::origin::Origin;
use crate::resolver::Resolver;
use crate::route::Route;

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
    /// How long opening a connection may take as a whole, from the lookup of the name, over every address that
    /// is tried, to the end of the TLS handshake; `None`: as long as the system lets it. It neither includes
    /// waiting for a free place ([`PoolConfig::acquire_timeout`]) nor the request. Default: 10 s.
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
    /// Addresses to use for a host and port instead of asking the resolver, as curl's `--resolve`. Several for
    /// the same host and port are tried as the several addresses of a name are. Default: none.
    pub resolve: Vec<Resolve>,
    // dialling
    /// Who is asked for a host's addresses; `None`: the system. Default: the system.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// How long the lookup of a name may take; `None`: as long as the connect timeout leaves. Default: none.
    pub dns_timeout: Option<Duration>,
    /// How long a TLS handshake may take; `None`: as long as the connect timeout leaves. Default: none.
    pub tls_timeout: Option<Duration>,
    /// The local addresses to connect from, used in turn; empty: the system chooses. Only addresses of a family that
    /// stands here are connected to. Each of them has local ports of its own, which is what more than one is for.
    /// Default: empty.
    pub local_addresses: Vec<IpAddr>,
    /// TCP keepalive: probes on a connection on which nothing is under way, so that one whose peer vanished without
    /// a FIN ends, and one that a NAT or firewall forgets when it is quiet stays; `None`: off. Default: see
    /// [`Keepalive`].
    pub tcp_keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT (RFC 5482; Linux): how long what was sent may stay unacknowledged before the connection
    /// fails; `None`: as long as the system retransmits, 15 minutes and more on Linux. Keepalive does not probe
    /// meanwhile (reqwest#2655), so a request into a black hole ends by this or not at all. While it is set it also
    /// decides, in place of [`Keepalive::count`], how long probes may stay unanswered. Default: 30 s, as reqwest.
    pub tcp_user_timeout: Option<Duration>,
    /// By which way origins are reached. Default: directly. No environment variable is read (`http_proxy`,
    /// `NO_PROXY`, ...).
    pub route: Route,
    /// Origins that are reached by another way than [`PoolConfig::route`]; the first that fits counts. Default: none.
    pub routes: Vec<(Origin, Route)>,
}

/// When TCP keepalive probes are sent. Linux counts in whole seconds.
///
/// The default is reqwest's: a first probe after 15 s, one every 15 s, 3 of them. Together with the default of
/// [`PoolConfig::tcp_user_timeout`] an idle connection into a black hole ends after 30 s. (The system's own are 2
/// hours, 75 s and 9, and off; Go probes as we do, 15 s apart, but 9 times.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long nothing must have come before the first probe, 1 s to 32767 s (TCP_KEEPIDLE).
    pub time: Duration,
    /// From one probe to the next, 1 s to 32767 s (TCP_KEEPINTVL).
    pub interval: Duration,
    /// How many may stay unanswered before the connection ends, 1 to 127 (TCP_KEEPCNT).
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { time: Duration::from_secs(15), interval: Duration::from_secs(15), count: 3 }
    }
}

impl Keepalive {
    fn fault(self) -> Option<String> {
        // MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT in Linux' include/net/tcp.h.
        let fits = |time: Duration| (1..=32_767).contains(&time.as_secs());
        if !fits(self.time) || !fits(self.interval) {
            return Some("tcp_keepalive: time and interval must be 1 s to 32767 s".into());
        }
        (!(1..=127).contains(&self.count)).then(|| "tcp_keepalive: count must be 1 to 127".into())
    }
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
            // dialling
            resolver: None,
            dns_timeout: None,
            tls_timeout: None,
            local_addresses: Vec::new(),
            tcp_keepalive: Some(Keepalive::default()),
            tcp_user_timeout: Some(Duration::from_secs(30)),
            route: Route::Direct,
            routes: Vec::new(),
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
    // dialling
    resolver: Option<Arc<dyn Resolver>>,
    dns_timeout: Option<Duration>,
    tls_timeout: Option<Duration>,
    local_addresses: Vec<IpAddr>,
    tcp_keepalive: Option<Keepalive>,
    tcp_user_timeout: Option<Duration>,
    route: Route,
    routes: Vec<(Origin, Route)>,
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
        self.dialling_fault()
    }

    // dialling
    /// By which way this origin is reached.
    pub fn route_to(&self, origin: &Origin) -> &Route {
        self.routes.iter().find(|(other, _)| other == origin).map_or(&self.route, |(_, route)| route)
    }

    fn dialling_fault(&self) -> Option<String> {
        for (name, limit) in [
            ("dns_timeout", self.dns_timeout),
            ("tls_timeout", self.tls_timeout),
            ("tcp_user_timeout", self.tcp_user_timeout),
        ] {
            if limit.is_some_and(|limit| limit < Duration::from_millis(1)) {
                return Some(format!("{name} is {:?}: use 1 ms or more, or none", limit.unwrap_or_default()));
            }
        }
        self.tcp_keepalive.and_then(Keepalive::fault)
    }
}
