//! [`PoolConfig`]: the pool's limits as plain data.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hint::HintPolicy;
use crate::origin::Origin;
use crate::resolver::Resolver;
use crate::retry::RetryPolicy;
use crate::route::Route;

mod choices;
mod fault;

pub use choices::{Keepalive, OnMiss, Resolve, ReuseOrder};

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
    /// first. Default: on, as HTTP/1.1 has it (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// A connection that has been idle for this long is closed and not reused; `None`: never. Reuse needs
    /// `idle < idle_timeout`; with 0 none would ever be, which is refused. Default: 4 s, just under the 5 s after which the shortest-tempered common
    /// servers close (Apache httpd, Node before 26, uvicorn); undici and agentkeepalive chose the same.
    pub idle_timeout: Option<Duration>,
    /// How long a request may wait for a connection when all that are allowed are busy; `None`: for ever; 0: whoever
    /// would have to wait fails at once. It does not include opening a connection. Default: 30 s, as HikariCP: a
    /// program that has leaked its connections says so, instead of standing still.
    pub acquire_timeout: Option<Duration>,
    /// How long opening a connection may take as a whole, from the lookup of the name, over every address that
    /// is tried, to the end of the TLS handshake; `None`: as long as the system lets it. It neither includes
    /// waiting for a free place ([`PoolConfig::acquire_timeout`]) nor the request. 1 ms or more. Default: 10 s, as
    /// undici and Go's TLS handshake: enough for three SYNs that are lost (Linux sends again after 1, 3 and 7 s), and
    /// far from the two minutes of the system's own.
    pub connect_timeout: Option<Duration>,
    /// A connection that is as old as this, less what [`PoolConfig::lifetime_jitter`] takes off, is closed when it is
    /// idle, and not reused: reuse needs `age < max_lifetime`. `None`: any age. An exchange under way is never cut. For
    /// clients that are to notice new servers behind a name, which an unbroken connection hides (go#23427): 5 min or so.
    /// More than 0. Default: none, because only the user knows whether servers come and go.
    pub max_lifetime: Option<Duration>,
    /// The number of exchanges after which a connection is closed, 1 or more; `None`: any number. With 1, or at the
    /// last one, the request says `Connection: close`. Default: none: servers have such limits of their own (nginx
    /// 1000, Apache httpd 100), say when one is reached, and every connection more is a handshake.
    pub max_exchanges: Option<u32>,
    /// The most connections to one origin at a time, 1 or more: those being opened, busy and idle together; `None`: no
    /// limit. Beyond it requests wait, oldest first. Default: none, as Go and hyper-util: a limit that nobody asked for
    /// makes requests wait where nobody looks for it.
    pub max_connections_per_origin: Option<usize>,
    /// The most idle connections to one origin; the longest idle is closed for a newer one. With 0 none is kept, and a
    /// request that waits for a connection takes it as ever. Default: 32: Go's 2 is known to close and open without
    /// end under load (go#16012), and hyper-util's any number holds what a burst has opened.
    pub max_idle_per_origin: usize,
    /// How long to wait for the server's FIN after a response that ends its connection, so that TIME_WAIT
    /// stays with the server (RFC 9293, section 3.6.1: the side that closes first keeps it). One that waits has given
    /// its place up, since no request can use it and another may need the place: so there are up to as many sockets
    /// more than [`PoolConfig::max_connections`] as wait, which are at most 256 and at most `max_connections`. One more
    /// is closed at once. With 0 none is waited for. Default: 1 s: a server that closes does so within a round trip.
    pub linger: Duration,
    /// TCP_NODELAY: off, Nagle's algorithm can hold a request back for a delayed ACK (40 ms on Linux).
    /// Default: on.
    pub tcp_nodelay: bool,
    /// Addresses to use for a host and port instead of asking the resolver, as curl's `--resolve`. Several for
    /// the same host and port are tried as the several addresses of a name are. Default: none.
    pub resolve: Vec<Resolve>,
    // limits and queue
    /// The most connections at a time, 1 or more, to all origins together: those being opened, busy and idle; `None`: no
    /// limit. At the limit the longest idle connection, of whatever origin, is closed for one to another; when
    /// none is idle requests wait, the oldest first among all that could use the place. A connection that waits
    /// for its peer's FIN ([`PoolConfig::linger`]) has given its place up. Default: none, as for one origin.
    pub max_connections: Option<usize>,
    /// The most idle connections to all origins together; beyond it the longest idle is closed, of whatever
    /// origin. With 0 none is kept. Default: 512, so that many origins, one request each, do not add up to as many descriptors
    /// (hyper#3785, reqwest#2424).
    pub max_idle: usize,
    /// Which idle connection is reused first. Default: the newest.
    pub reuse_order: ReuseOrder,
    /// The most requests that may wait for a connection to one origin; one more fails at once with
    /// [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull) instead of joining a queue that would only make it
    /// late (Envoy's `max_pending_requests`). With 0 nobody waits; `None`: no limit. Default: none, for the acquire
    /// timeout bounds the wait, and a number that suits everybody there is not.
    pub max_waiting_per_origin: Option<usize>,
    /// The most connections to one origin that are being opened at a time, 1 or more; beyond it requests wait, and take what
    /// comes first, a place to open or a connection that comes back. It keeps an origin that does not answer
    /// from being dialled without end (go#76784). Default: 64, half of the shortest queue of connections that a common
    /// system gives a listening socket (128, Linux' SOMAXCONN until 5.4).
    pub max_opening_per_origin: usize,
    /// What a request does that finds no idle connection where another may be opened. Default: [`OnMiss::Open`].
    pub on_miss: OnMiss,
    // dialling
    /// Who is asked for a host's addresses; `None`: the system (getaddrinfo). Default: the system, which knows what its
    /// administrator has set up.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// How long the lookup of a name may take, 1 ms or more; `None`: as long as the connect timeout leaves. Default:
    /// none: that is bound enough, and a resolver repeats its question after 5 s.
    pub dns_timeout: Option<Duration>,
    /// How long a TLS handshake may take, 1 ms or more; `None`: as long as the connect timeout leaves. Default: none:
    /// that is bound enough.
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
    /// decides, in place of [`Keepalive::count`], how long probes may stay unanswered. 1 ms or more. The system knows none
    /// beyond 24.8 days, and a longer one is that. Default: 30 s, as reqwest.
    pub tcp_user_timeout: Option<Duration>,
    /// By which way origins are reached. Default: directly. No environment variable is read (`http_proxy`,
    /// `NO_PROXY`, ...): a library whose connections depend on where it runs surprises its user.
    pub route: Route,
    /// Origins that are reached by another way than [`PoolConfig::route`]; the first that fits counts. Default: none.
    pub routes: Vec<(Origin, Route)>,
    // exchange
    /// How long a server may take to answer: from the last byte of the request that the kernel took to the end of the
    /// response head, interim (1xx) responses not counted as an answer. More than 0. While the request waits for its own body the
    /// time stands still; while the server takes no more of an upload it runs, from the last byte it took. `None`: for
    /// ever. Default: none, because only the user knows how long a query may take.
    pub response_timeout: Option<Duration>,
    /// How long a server may pause in the middle of a response body: from the moment at which the caller asks for a
    /// piece that is not there. A slow caller does not use it up. More than 0; `None`: for ever. Default: none, because
    /// only the user knows how long a stream of events may be silent.
    pub body_idle_timeout: Option<Duration>,
    /// How long a request may take in all: from asking the pool (for a [`Lease`](crate::Lease), from asking for the
    /// lease) to the last byte of the response body, waiting, opening and retries included. An upgrade ends it. More than
    /// 0; `None`: for ever. Default: none, because only the user knows how large a download is. A peer that drips, a byte
    /// now and then, ends by this limit and by no other.
    pub total_timeout: Option<Duration>,
    /// The most header fields of a response, 1 or more, and of its trailers; above it the exchange fails with
    /// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol). More than 100 cost an allocation per response. At most
    /// 24,576, which is what an [`http::HeaderMap`] holds. Default: 100, as hyper and Apache httpd.
    pub max_headers: usize,
    /// The most bytes of a response head, 1 or more, with its status line and with the informational (1xx) responses before it;
    /// and of the trailers. Above it the exchange fails with [`ErrorKind::Protocol`](crate::ErrorKind::Protocol).
    /// Default: 64 KiB, four times what Node accepts. A proxy's answer to CONNECT has the same limits.
    pub max_header_size: usize,
    /// The most informational (1xx) responses before the response; `None`: as many as fit into
    /// [`PoolConfig::max_header_size`]. Counting costs some allocations per request. Default: none, for
    /// the size is bound enough.
    pub max_informational: Option<u32>,
    /// The most bytes of a response body's unread rest that are read to save its connection when the body is dropped;
    /// a rest that is announced to be longer, or turns out to be, closes the connection. With 0 it is closed unless the
    /// body was at its end. Default: 64 KiB: about what a server sends in the first three round trips of a connection
    /// (RFC 6928's ten segments, doubled twice), which is what a new one with TLS takes to begin with.
    pub max_unread: usize,
    /// How long that rest is waited for, in a task of its own: whoever drops the body does not wait. Meanwhile the
    /// connection counts as busy. With zero nothing is waited for, and only what has already arrived is read; so it is
    /// outside any runtime. Default: 50 ms, a few round trips across a continent; whoever reads much longer is waited
    /// for in vain by the requests that could have opened a connection meanwhile. (Go, too, reads within 50 ms:
    /// go#77370.)
    pub unread_timeout: Duration,
    // reuse and retries
    /// When a request is sent again whose attempt failed on a connection that had been idle. Default:
    /// [`RetryPolicy::Safe`].
    pub retry: RetryPolicy,
    /// What a server's `Keep-Alive: timeout=5, max=100` does to [`PoolConfig::idle_timeout`]. Default: it takes its
    /// place, with a margin of 1 s, up to 600 s.
    pub hint: HintPolicy,
    /// The largest part of [`PoolConfig::max_lifetime`] that is taken off it at random, for each connection anew, so
    /// that connections opened together do not end together: 0 or more, and less than 1. Default: 0.1, so that with 5 min
    /// they end over half a minute; HikariCP takes a fortieth.
    pub lifetime_jitter: f64,
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
            // limits and queue
            max_connections: None,
            max_idle: 512,
            reuse_order: ReuseOrder::default(),
            max_waiting_per_origin: None,
            max_opening_per_origin: 64,
            on_miss: OnMiss::default(),
            // dialling
            resolver: None,
            dns_timeout: None,
            tls_timeout: None,
            local_addresses: Vec::new(),
            tcp_keepalive: Some(Keepalive::default()),
            tcp_user_timeout: Some(Duration::from_secs(30)),
            route: Route::Direct,
            routes: Vec::new(),
            // exchange
            response_timeout: None,
            body_idle_timeout: None,
            total_timeout: None,
            max_headers: 100,
            max_header_size: 64 * 1024,
            max_informational: None,
            max_unread: 64 * 1024,
            unread_timeout: Duration::from_millis(50),
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
    // limits and queue
    max_connections: Option<usize>,
    max_idle: usize,
    reuse_order: ReuseOrder,
    max_waiting_per_origin: Option<usize>,
    max_opening_per_origin: usize,
    on_miss: OnMiss,
    // dialling
    resolver: Option<Arc<dyn Resolver>>,
    dns_timeout: Option<Duration>,
    tls_timeout: Option<Duration>,
    local_addresses: Vec<IpAddr>,
    tcp_keepalive: Option<Keepalive>,
    tcp_user_timeout: Option<Duration>,
    route: Route,
    routes: Vec<(Origin, Route)>,
    // exchange
    response_timeout: Option<Duration>,
    body_idle_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    max_headers: usize,
    max_header_size: usize,
    max_informational: Option<u32>,
    max_unread: usize,
    unread_timeout: Duration,
    // reuse and retries
    retry: RetryPolicy,
    hint: HintPolicy,
    lifetime_jitter: f64,
}

impl PoolConfig {
    /// When a request that was asked for at this time must be over.
    pub(crate) fn latest(&self, asked: Instant) -> Option<Instant> {
        self.total_timeout.and_then(|limit| asked.checked_add(limit))
    }

    /// By which way this origin is reached.
    pub fn route_to(&self, origin: &Origin) -> &Route {
        self.routes.iter().find(|(other, _)| other == origin).map_or(&self.route, |(_, route)| route)
    }
}
