//! [`Exchange`]: the facts of one request and its response.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Retry};
use crate::hint::Hint;
use crate::phase::Timings;

/// A connection's number, counted from 1 within one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// Protocol version as its specification spells it, for example `TLSv1.3`.
    pub version: String,
    /// Cipher suite, for example `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: String,
    /// What the server chose by ALPN, for example `http/1.1`; `None` when it did not take part, which RFC 7301 lets it.
    pub alpn: Option<String>,
    /// Whether the handshake resumed an earlier session (a ticket or a session id) or was a full one.
    pub resumed: bool,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// IP address and port.
    Ip(SocketAddr),
    /// A Unix socket; its path is that of the [`Route`](crate::Route).
    Unix,
}

impl Address {
    /// The IP address; `None` for a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Address::Ip(address) => Some(address.ip()),
            Address::Unix => None,
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(self) -> Option<u16> {
        match self {
            Address::Ip(address) => Some(address.port()),
            Address::Unix => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        *self == Address::Ip(*other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix => f.write_str("unix socket"),
        }
    }
}

/// What stays the same for all exchanges of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionFacts {
    /// The connection's number in its pool.
    pub id: ConnectionId,
    /// The peer's address: the hop that we are connected to, which may be a proxy.
    pub remote: Address,
    /// Our own address and port.
    pub local: Address,
    /// TLS, where there is any.
    pub tls: Option<TlsFacts>,
}

/// How a request came by its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obtained {
    /// It was opened for this request, whose [`Timings::connect`] tells how long that took.
    Opened,
    /// An earlier request had used it.
    Reused,
    /// This request had begun to open a connection, and another one was there first
    /// ([`OnMiss::LateBind`](crate::OnMiss::LateBind)).
    LateBound,
    /// It was opened for another request, which did without it, and nobody had used it.
    Spare,
}

impl Obtained {
    /// The word as a key: lower case, one word or two joined by an underscore.
    pub fn as_str(self) -> &'static str {
        match self {
            Obtained::Opened => "opened",
            Obtained::Reused => "reused",
            Obtained::LateBound => "late_bound",
            Obtained::Spare => "spare",
        }
    }
}

/// What happened to one request, once its response has been read to the end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// The connection it went over.
    pub connection: Arc<ConnectionFacts>,
    /// How the request came by that connection.
    pub obtained: Obtained,
    /// Which exchange on its connection it was: 1 on a fresh connection.
    pub nth: u32,
    /// How old the connection was when the request was sent.
    pub age: Duration,
    /// How long the connection had been idle before; `None` on one that was opened for this request.
    pub idle_before: Option<Duration>,
    /// Where the time went.
    pub timings: Timings,
    /// Attempts that were given up before this one, oldest first.
    pub retries: Vec<Retry>,
    /// What the response's `Keep-Alive` field announced, where it counts: see [`Hint`].
    pub hint: Option<Hint>,
    /// Bytes that the kernel took for the request, TLS framing included.
    pub bytes_out: u64,
    /// Bytes read for the response, TLS framing included.
    pub bytes_in: u64,
    /// When its last byte had been read, or it had failed.
    pub done: Instant,
}

impl Exchange {
    /// Whether the request went over a connection that an earlier exchange had opened.
    pub fn is_reused(&self) -> bool {
        self.nth > 1
    }

    /// How long the request waited for its turn, for the connection that it went over: [`Phase::Blocked`] without the
    /// attempts that were given up.
    ///
    /// [`Phase::Blocked`]: crate::Phase::Blocked
    pub fn queued(&self) -> Duration {
        self.timings.blocked.saturating_sub(self.given_up())
    }

    /// The time of the attempt that came last.
    pub(crate) fn last_attempt(&self) -> Duration {
        self.timings.total().saturating_sub(self.given_up())
    }

    fn given_up(&self) -> Duration {
        self.retries.iter().map(|retry| retry.took).sum()
    }
}

impl Error {
    /// It ended an exchange, which came so far. Whoever asks what was written of the request asks this, so no way to fail
    /// may leave it out.
    pub(crate) fn after_exchange(self, so_far: Exchange) -> Error {
        self.after_idle(so_far.idle_before).after_sending(so_far.bytes_out).with_facts(so_far)
    }

    /// The exchange as far as it came, when it had its connection: which one, how long that had been idle, the bytes
    /// both ways, earlier attempts, and the time so far, of which the last belongs to the phase that failed. `None`
    /// when there was no connection to fail on.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.facts()
    }
}
