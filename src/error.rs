//! [`Error`] and [`ErrorKind`]: what went wrong, as a kind to count and a text that tells the cure.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::phase::Phase;

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
    /// Opening the connection took longer than the connect timeout.
    ConnectTimeout,
    /// This machine has no local port left for another connection (EADDRNOTAVAIL): a limit of the client.
    NoPorts,
    /// This process may open no further file descriptor (EMFILE, ENFILE): a limit of the client.
    NoFiles,
    /// The TLS handshake failed.
    Tls,
    /// No connection became free within the acquire timeout.
    AcquireTimeout,
    /// The whole request took longer than it may.
    Timeout,
    /// The request was not sent: the connection had ended before a byte was written.
    NotSent,
    /// The connection ended after the request was sent and before any byte of a response.
    NoResponse,
    /// The connection ended, or became unreadable, in the middle of the response.
    Partial,
    /// The peer reset the connection while the request was under way (ECONNRESET, EPIPE).
    Reset,
    /// The response is not HTTP/1.1 that we understand.
    Protocol,
    /// The request body failed while it was sent.
    RequestBody,
    /// The pool is closed.
    Closed,
}

impl ErrorKind {
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
            ErrorKind::Tls => "tls",
            ErrorKind::AcquireTimeout => "acquire_timeout",
            ErrorKind::Timeout => "timeout",
            ErrorKind::NotSent => "not_sent",
            ErrorKind::NoResponse => "no_response",
            ErrorKind::Partial => "partial",
            ErrorKind::Reset => "reset",
            ErrorKind::Protocol => "protocol",
            ErrorKind::RequestBody => "request_body",
            ErrorKind::Closed => "closed",
        }
    }

    /// Whether this machine, not the target, was the limit.
    pub fn is_client_limit(self) -> bool {
        matches!(self, ErrorKind::NoPorts | ErrorKind::NoFiles)
    }

    fn sentence(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "the request cannot be sent",
            ErrorKind::Dns => "the host's name could not be resolved",
            ErrorKind::ConnectRefused => "connection refused: nothing listens at that address and port",
            ErrorKind::Connect => "could not connect",
            ErrorKind::ConnectTimeout => "the connection was not open within the connect timeout",
            ErrorKind::NoPorts => {
                "no local port is left (EADDRNOTAVAIL): lower the rate, or widen net.ipv4.ip_local_port_range"
            }
            ErrorKind::NoFiles => {
                "no file descriptor is left (EMFILE): raise `ulimit -n`, or lower --connections"
            }
            ErrorKind::Tls => "the TLS handshake failed",
            ErrorKind::AcquireTimeout => "no connection of the pool became free within the acquire timeout",
            ErrorKind::Timeout => "no complete response within the time allowed",
            ErrorKind::NotSent => "the connection had ended before the request was written",
            ErrorKind::NoResponse => "the connection ended before any byte of a response",
            ErrorKind::Partial => "the connection ended in the middle of the response",
            ErrorKind::Reset => "the connection was reset by the peer",
            ErrorKind::Protocol => "the response is not HTTP/1.1",
            ErrorKind::RequestBody => "the request body failed",
            ErrorKind::Closed => "the pool is closed",
        }
    }

    /// The kind of a failed system call on a socket that was being opened.
    pub(crate) fn of_connect(error: &io::Error) -> ErrorKind {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorKind::ConnectRefused,
            io::ErrorKind::AddrNotAvailable => ErrorKind::NoPorts,
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

/// Why a request got no complete response. Small (one pointer), so that results stay small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    phase: Option<Phase>,
    detail: Option<String>,
    source: Option<Source>,
    /// What a room further down the stairs knows of it, in a type of its own.
    facts: Option<Box<dyn Any + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Inner { kind, phase: None, detail: None, source: None, facts: None }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Error {
        self.0.detail = Some(detail);
        self
    }

    pub(crate) fn at(mut self, phase: Phase) -> Error {
        self.0.phase = Some(phase);
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.detail {
            Some(detail) => f.write_str(detail)?,
            None => f.write_str(self.0.kind.sentence())?,
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
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
