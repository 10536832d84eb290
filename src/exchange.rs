//! [`Exchange`]: the facts of one request and its response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::phase::Timings;

/// A connection's number, counted from 1 within one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// Protocol version as its specification spells it, for example `TLSv1.3`.
    pub version: String,
    /// Cipher suite, for example `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: String,
    /// Whether the handshake resumed an earlier session (a ticket or a session id) or was a full one.
    pub resumed: bool,
}

/// What stays the same for all exchanges of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The connection's number in its pool.
    pub id: ConnectionId,
    /// The peer's address: the hop that we are connected to, which may be a proxy.
    pub remote: SocketAddr,
    /// Our own address and port.
    pub local: SocketAddr,
    /// TLS, where there is any.
    pub tls: Option<TlsFacts>,
}

/// An attempt that was given up and made again on another connection. Nothing is retried without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How the attempt ended: [`ErrorKind::NotSent`] or [`ErrorKind::NoResponse`].
    pub kind: ErrorKind,
    /// How long the connection had been idle before that attempt.
    pub idle_before: Duration,
}

/// What happened to one request, once its response has been read to the end.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The connection it went over.
    pub connection: Arc<ConnectionFacts>,
    /// Which exchange on its connection it was: 1 on a fresh connection.
    pub nth: u32,
    /// How old the connection was when the request was sent.
    pub age: Duration,
    /// How long the connection had been idle before; `None` on a fresh connection.
    pub idle_before: Option<Duration>,
    /// Where the time went.
    pub timings: Timings,
    /// Attempts that were given up before this one, oldest first.
    pub retries: Vec<Retry>,
    /// Bytes that the kernel took for the request, TLS framing included.
    pub bytes_out: u64,
    /// Bytes read for the response, TLS framing included.
    pub bytes_in: u64,
}

impl Exchange {
    /// Whether the request went over a connection that an earlier exchange had opened.
    pub fn is_reused(&self) -> bool {
        self.nth > 1
    }
}

impl Error {
    /// The exchange as far as it came, when it had its connection: which one, how long that had been idle, the bytes
    /// both ways, earlier attempts, and the time so far, of which the last belongs to the phase that failed. `None`
    /// when there was no connection to fail on.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.facts()
    }
}
