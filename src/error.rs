//! [`Error`] and [`ErrorKind`]: what went wrong, as a kind to count and a text that tells the cure.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::phase::{ConnectTimings, Phase};

type Source = Box<dyn StdError + Send + Sync>;

/// What went wrong, as something to count. The text form ([`ErrorKind::as_str`]) is the key in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or the configuration cannot work: nothing was sent.
    InvalidRequest,
    /// The host's name could not be resolved.
    Dns,
    /// Nobody listens at the target's address (ECONNREFUSED).
    ConnectRefused,
    /// The TCP connection failed otherwise.
    Connect,
    /// Opening the connection took longer than the connect timeout, or one of its phases longer than its own; the
    /// phase tells which.
    ConnectTimeout,
    /// This machine has no local port left for another connection (EADDRNOTAVAIL): a limit of the client.
    NoPorts,
    /// This process may open no further file descriptor (EMFILE, ENFILE): a limit of the client.
    NoFiles,
    /// A proxy made no tunnel.
    Proxy,
    /// The TLS handshake failed.
    Tls,
    /// No connection became free within the acquire timeout.
    AcquireTimeout,
    /// The whole request took longer than the total timeout allows.
    Timeout,
    /// The response head did not come within the response timeout.
    ResponseTimeout,
    /// The response's body stopped coming for as long as the body idle timeout.
    BodyIdleTimeout,
    /// The request was not sent: the connection had ended before a byte was written.
    NotSent,
    /// The connection ended after the request was sent and before any byte of a response.
    NoResponse,
    /// The connection ended in the middle of the response, or TLS did: what came is not the whole.
    Partial,
    /// The peer reset the connection while the request was under way (ECONNRESET, EPIPE).
    Reset,
    /// What came, on a connection that still stands, is not HTTP/1.1 that we understand: the head, or the body's chunks.
    Protocol,
    /// The request body failed while it was sent.
    RequestBody,
    /// The pool is closed.
    Closed,
    /// As many requests as may wait for a connection to the origin already wait.
    QueueFull,
}

impl ErrorKind {
    /// Every kind, for whoever counts them in fixed places.
    #[cfg(feature = "load")]
    pub(crate) const ALL: [ErrorKind; 21] = [
        ErrorKind::InvalidRequest,
        ErrorKind::Dns,
        ErrorKind::ConnectRefused,
        ErrorKind::Connect,
        ErrorKind::ConnectTimeout,
        ErrorKind::NoPorts,
        ErrorKind::NoFiles,
        ErrorKind::Proxy,
        ErrorKind::Tls,
        ErrorKind::AcquireTimeout,
        ErrorKind::Timeout,
        ErrorKind::ResponseTimeout,
        ErrorKind::BodyIdleTimeout,
        ErrorKind::NotSent,
        ErrorKind::NoResponse,
        ErrorKind::Partial,
        ErrorKind::Reset,
        ErrorKind::Protocol,
        ErrorKind::RequestBody,
        ErrorKind::Closed,
        ErrorKind::QueueFull,
    ];

    /// The kind as a key: lower case words joined by underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "invalid_request",
            ErrorKind::Dns => "dns",
            ErrorKind::ConnectRefused => "connect_refused",
            ErrorKind::Connect => "connect",
            ErrorKind::ConnectTimeout => "connect_timeout",
            ErrorKind::NoPorts => "no_ports",
            ErrorKind::NoFiles => "no_files",
            ErrorKind::Proxy => "proxy",
            ErrorKind::Tls => "tls",
            ErrorKind::AcquireTimeout => "acquire_timeout",
            ErrorKind::Timeout => "timeout",
            ErrorKind::ResponseTimeout => "response_timeout",
            ErrorKind::BodyIdleTimeout => "body_idle_timeout",
            ErrorKind::NotSent => "not_sent",
            ErrorKind::NoResponse => "no_response",
            ErrorKind::Partial => "partial",
            ErrorKind::Reset => "reset",
            ErrorKind::Protocol => "protocol",
            ErrorKind::RequestBody => "request_body",
            ErrorKind::Closed => "closed",
            ErrorKind::QueueFull => "queue_full",
        }
    }

    /// Whether a limit of time was reached: the error then tells in which phase.
    pub fn is_timeout(self) -> bool {
        use ErrorKind::{AcquireTimeout, BodyIdleTimeout, ConnectTimeout, ResponseTimeout, Timeout};
        matches!(self, AcquireTimeout | ConnectTimeout | ResponseTimeout | BodyIdleTimeout | Timeout)
    }

    /// Whether this machine, not the target, was the limit.
    pub fn is_client_limit(self) -> bool {
        matches!(self, ErrorKind::NoPorts | ErrorKind::NoFiles)
    }

    /// Whether a request whose exchange failed so before the head of its response was written, and got no byte of one.
    pub(crate) fn is_unanswered(self) -> bool {
        matches!(self, ErrorKind::NoResponse | ErrorKind::Reset)
    }

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "the request cannot be sent",
            ErrorKind::Dns => "the host's name could not be resolved",
            ErrorKind::ConnectRefused => "connection refused: nothing listens at that address and port",
            ErrorKind::Connect => "could not connect",
            ErrorKind::ConnectTimeout => "the connection was not open within the connect timeout",
            ErrorKind::NoPorts => {
                "no local port is left (EADDRNOTAVAIL): open fewer connections, or widen net.ipv4.ip_local_port_range"
            }
            ErrorKind::NoFiles => {
                "no file descriptor is left (EMFILE): raise `ulimit -n`, or open fewer connections"
            }
            ErrorKind::Proxy => "the proxy made no tunnel",
            ErrorKind::Tls => "the TLS handshake failed",
            ErrorKind::AcquireTimeout => "no connection of the pool became free within the acquire timeout",
            ErrorKind::Timeout => "no complete response within the total timeout",
            ErrorKind::ResponseTimeout => "no response head within the response timeout",
            ErrorKind::BodyIdleTimeout => "nothing more of the response's body within the body idle timeout",
            ErrorKind::NotSent => "the connection had ended before the request was written",
            ErrorKind::NoResponse => "the connection ended before any byte of a response",
            ErrorKind::Partial => "the connection ended in the middle of the response",
            ErrorKind::Reset => "the connection was reset by the peer",
            ErrorKind::Protocol => "the response is not HTTP/1.1 as it should be",
            ErrorKind::RequestBody => "the request body failed",
            ErrorKind::Closed => "the pool is closed",
            ErrorKind::QueueFull => {
                "as many requests as allowed already wait for a connection to this origin: send fewer at a time, or \
                 raise max_waiting_per_origin or max_connections_per_origin"
            }
        }
    }

    /// The kind of a failed system call on a socket that was being opened.
    pub(crate) fn of_connect(error: &io::Error) -> ErrorKind {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorKind::ConnectRefused,
            // EADDRINUSE is what bind() says when every port of a local address is taken.
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => ErrorKind::NoPorts,
            io::ErrorKind::TimedOut => ErrorKind::ConnectTimeout,
            _ if is_out_of_files(error) => ErrorKind::NoFiles,
            _ => ErrorKind::Connect,
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// An attempt that failed and was made again on another connection. Nothing is sent again without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// How the attempt ended: [`ErrorKind::NotSent`]; or, when the request was written and no byte of a response
    /// came, [`ErrorKind::NoResponse`] after a FIN and [`ErrorKind::Reset`] after an RST.
    pub kind: ErrorKind,
    /// How long the connection had been idle before that attempt.
    pub idle_before: Duration,
    /// How long the attempt took: from asking the pool, or from the end of the attempt before, until it failed. A part of
    /// [`Phase::Blocked`] of the attempt that came of it.
    pub took: Duration,
}

/// Why a request got no complete response. Small (one pointer), so that results stay small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    phase: Option<Phase>,
    detail: Option<String>,
    source: Option<Source>,
    /// The detail says what the source means, in better words.
    is_explained: bool,
    opening: Option<ConnectTimings>,
    idle_before: Option<Duration>,
    bytes_out: Option<u64>,
    retries: Vec<Retry>,
    /// What a room further down the stairs knows of it, in a type of its own.
    facts: Option<Box<dyn Any + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Inner {
            kind,
            phase: None,
            detail: None,
            source: None,
            is_explained: false,
            opening: None,
            idle_before: None,
            bytes_out: None,
            retries: Vec::new(),
            facts: None,
        }))
    }

    /// A limit of time was reached in a phase, with what had happened by then.
    pub(crate) fn out_of_time(kind: ErrorKind, limit: Option<Duration>, phase: Phase, so_far: &str) -> Error {
        let limit = limit.map_or(String::new(), |limit| format!(" of {limit:?}"));
        let text = format!("{}{limit}, in the phase `{}`{so_far}", kind.sentence(), phase.as_str());
        Error::new(kind).at(phase).with_detail(text)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// A text in place of the source's own, which is still there for whoever asks.
    pub(crate) fn told_by(mut self, detail: String, source: impl Into<Source>) -> Error {
        self.0.is_explained = true;
        self.with_detail(detail).with_source(source)
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Error {
        self.0.detail = Some(detail);
        self
    }

    pub(crate) fn at(mut self, phase: Phase) -> Error {
        self.0.phase = Some(phase);
        self
    }

    pub(crate) fn after(mut self, opening: ConnectTimings) -> Error {
        self.0.opening = Some(opening);
        self
    }

    /// It happened on a connection that had been idle for so long; `None`: a fresh one.
    pub(crate) fn after_idle(mut self, idle_before: Option<Duration>) -> Error {
        self.0.idle_before = idle_before;
        self
    }

    /// The kernel had taken so much of the request.
    pub(crate) fn after_sending(mut self, bytes_out: u64) -> Error {
        self.0.bytes_out = Some(bytes_out);
        self
    }

    /// These attempts had failed before.
    pub(crate) fn after_retries(mut self, retries: Vec<Retry>) -> Error {
        self.0.retries = retries;
        self
    }

    pub(crate) fn with_facts(mut self, facts: impl Any + Send + Sync) -> Error {
        self.0.facts = Some(Box::new(facts));
        self
    }

    pub(crate) fn facts<T: Any>(&self) -> Option<&T> {
        self.0.facts.as_deref()?.downcast_ref()
    }

    /// What went wrong, to count by.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The phase in which it went wrong, where one had begun.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// Where the time went until a connection could not be opened; [`Error::phase`] is the last that has any.
    /// `None` for what went wrong elsewhere.
    pub fn opening(&self) -> Option<ConnectTimings> {
        self.0.opening
    }

    /// How long the connection on which it failed had been idle before the request; `None` on a fresh connection, or
    /// when there was none yet.
    pub fn idle_before(&self) -> Option<Duration> {
        self.0.idle_before
    }

    /// Bytes of the request that the kernel had taken, TLS framing included; `None` when no exchange had begun. With
    /// 0 nobody can have processed it; with more, somebody may have.
    pub fn bytes_out(&self) -> Option<u64> {
        self.0.bytes_out
    }

    /// Attempts that failed before this one, oldest first. One that was written may have been processed, whatever
    /// became of the last.
    pub fn retries(&self) -> &[Retry] {
        &self.0.retries
    }

    /// What the pool knows of a connection that ended under the request, and of the attempts before.
    fn tell_circumstances(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A timeout's text has its bytes, and the connection had not ended.
        if let (Some(idle), Some(bytes), false) =
            (self.0.idle_before, self.0.bytes_out, self.0.kind.is_timeout())
        {
            write!(f, " ({bytes} bytes of the request were written, after {idle:.3?} of idleness)")?;
        }
        for retry in &self.0.retries {
            write!(
                f,
                " (tried before: {}, after {:.3?} of idleness)",
                retry.kind.as_str(),
                retry.idle_before
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.detail {
            Some(detail) => f.write_str(detail)?,
            None => f.write_str(self.0.kind.sentence())?,
        }
        self.tell_circumstances(f)?;
        if self.0.is_explained {
            return Ok(());
        }
        let mut cause = self.0.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("phase", &self.0.phase)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .field("idle_before", &self.0.idle_before)
            .field("bytes_out", &self.0.bytes_out)
            .field("retries", &self.0.retries)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
