//! [`Line`]: one connection of a probe, and how it ended.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::time::timeout_at;

use super::answer::{Head, Reader};
use super::diag::{Diag, Told};
use crate::clock;
use crate::connect::{Opened, Stream};
use crate::exchange::Address;
use crate::findings::CloseKind;
use crate::phase::ConnectTimings;

/// How often the kernel is asked about a request that nobody has answered yet.
pub(super) const GLANCE: Duration = Duration::from_millis(50);

/// A request that was sent twice again without an acknowledgement goes nowhere: two losses in a row are rarer than
/// any middlebox. It takes about a second from the smallest retransmission timeout (RFC 6298; Linux: 200 ms).
const RETRANSMITS: u8 = 2;

/// And nothing is called silent before this time.
const PATIENCE: Duration = Duration::from_millis(600);

/// After this time and one retransmission, before which Linux sends a probe for the tail's loss (RFC 8985, section 7.2),
/// an unacknowledged question is in doubt.
const DOUBT: Duration = Duration::from_millis(300);

/// A question goes into an empty send buffer: at once.
const WRITE: Duration = Duration::from_secs(1);

/// What is said on a line.
#[derive(Clone, Debug)]
pub(super) enum Speech {
    /// HTTP: the request as it goes out.
    Http { request: Vec<u8>, to_head: bool },
    /// Anything: these bytes, if any, and what the answer contains, if that is known.
    Bytes { send: Vec<u8>, expect: Vec<u8> },
}

impl Speech {
    /// Whether a line can be asked whether it is alive.
    pub(super) fn can_ask(&self) -> bool {
        match self {
            Speech::Http { .. } => true,
            Speech::Bytes { send, .. } => !send.is_empty(),
        }
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Answered(Head),
    /// It ended instead.
    Ended(CloseKind),
    /// The peer's kernel has it, or may have it, and no answer came in time.
    NoAnswer,
    /// What came is not an answer, or only a part of one.
    Broken,
}

/// An end, or whatever else a line said unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) kind: CloseKind,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Line {
    stream: Stream,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) timings: ConnectTimings,
    pub(super) tls_version: Option<String>,
    /// When the last byte of an answer came; before the first answer: when the connection was open.
    pub(super) quiet_since: Instant,
    pub(super) answered: u64,
}

impl Line {
    pub(super) fn new(opened: Opened) -> Line {
        Line {
            stream: opened.stream,
            local: ip(opened.local),
            remote: ip(opened.remote),
            timings: opened.timings,
            tls_version: opened.tls.map(|tls| tls.version),
            quiet_since: clock::now(),
            answered: 0,
        }
    }

    pub(super) fn told(&self, diag: Option<&Diag>) -> Option<Told> {
        diag?.ask(self.local, self.remote)
    }

    /// TCP keepalive from our side: the first probe after `every`, and then as often.
    pub(super) fn keepalive(&self, every: Duration) -> io::Result<()> {
        let keepalive = socket2::TcpKeepalive::new().with_time(every);
        #[cfg(not(target_os = "openbsd"))]
        let keepalive = keepalive.with_interval(every);
        socket2::SockRef::from(self.stream.wire().socket()).set_tcp_keepalive(&keepalive)
    }

    /// Waits, saying nothing, for whatever the other side does. What TLS says to itself (tickets, key updates) is
    /// nothing.
    ///
    /// *Cancel safety.* Nothing is lost: bytes are read only to be judged in the same poll.
    pub(super) async fn listen(&mut self) -> Ending {
        let mut bytes = [0_u8; 1024];
        let read = self.stream.hear(&mut bytes).await;
        let at = clock::now();
        let kind = match read {
            Ok(0) => CloseKind::Fin,
            Ok(n) if is_408(&bytes[..n]) => CloseKind::Answered408,
            Ok(_) => CloseKind::Unsolicited,
            Err(error) => end_by(&error),
        };
        Ending { kind, at }
    }

    /// Asks, and waits for the answer until `limit` has passed.
    ///
    /// An end without an answer is a [`CloseKind::Race`] when it was a FIN, for that had been sent before our
    /// question came, and a [`CloseKind::ResetOnSend`] when it was a RST. Whether a RST was a race too, only those
    /// tell that watched.
    pub(super) async fn ask(&mut self, speech: &Speech, limit: Duration, diag: Option<&Diag>) -> Reply {
        self.ask_in_company(speech, limit, diag, &mut |_| false).await
    }

    /// The same; `doubt` hears, each time that the kernel is asked, whether the question seems to be lost, and says
    /// whether the fate of others decides that it is.
    pub(super) async fn ask_in_company(
        &mut self,
        speech: &Speech,
        limit: Duration,
        diag: Option<&Diag>,
        doubt: &mut (dyn FnMut(bool) -> bool + Send),
    ) -> Reply {
        let asked = clock::now();
        let latest = asked + limit;
        // A wire that was reset takes nothing and says so to its reader only: the writing must not wait for long.
        if let Ok(Err(error)) = timeout_at((asked + WRITE).min(latest).into(), self.say(speech)).await {
            return Reply::Ended(on_send(&error));
        }
        let mut ear = Ear::new(speech);
        let mut bytes = [0_u8; 16 * 1024];
        loop {
            let read = timeout_at((clock::now() + GLANCE).into(), self.stream.hear(&mut bytes)).await;
            let now = clock::now();
            let heard = match read {
                Ok(Ok(0)) => ear.end(),
                Ok(Ok(n)) => ear.hear(&bytes[..n]),
                Ok(Err(error)) => {
                    Some(if ear.has_heard() { Reply::Broken } else { Reply::Ended(on_send(&error)) })
                }
                Err(_) if !ear.has_heard() => {
                    let unheard = self.unheard(diag, now - asked);
                    let is_silent = doubt(unheard.is_some()) || unheard == Some(Unheard::Silent);
                    is_silent.then_some(Reply::Ended(CloseKind::Silent))
                }
                Err(_) => None,
            };
            // A peer that talks on and on has not answered either.
            if let Some(reply) = heard.or_else(|| (now >= latest).then_some(Reply::NoAnswer)) {
                if matches!(reply, Reply::Answered(_)) {
                    self.quiet_since = now;
                    self.answered += 1;
                }
                return reply;
            }
        }
    }

    async fn say(&mut self, speech: &Speech) -> io::Result<()> {
        let bytes = match speech {
            Speech::Http { request, .. } => request,
            Speech::Bytes { send, .. } => send,
        };
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Whether the kernel sends our question again and again, and nobody acknowledges it.
    fn unheard(&self, diag: Option<&Diag>, waited: Duration) -> Option<Unheard> {
        if waited < DOUBT {
            return None;
        }
        let facts = self.told(diag)?.facts;
        match facts.retransmits {
            _ if facts.unacked == 0 => None,
            0 => None,
            RETRANSMITS.. if waited >= PATIENCE => Some(Unheard::Silent),
            _ => Some(Unheard::Doubtful),
        }
    }
}

/// A question that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unheard {
    /// Two segments may be lost by accident.
    Doubtful,
    /// It goes nowhere.
    Silent,
}

/// The probe dials IP addresses itself.
fn ip(end: Address) -> SocketAddr {
    match end {
        Address::Ip(address) => address,
        Address::Unix => unreachable!("a probe's configuration has no route"),
    }
}

/// What makes an answer.
enum Ear<'a> {
    Http(Reader),
    Bytes { expect: &'a [u8], heard: Vec<u8> },
}

impl<'a> Ear<'a> {
    fn new(speech: &'a Speech) -> Ear<'a> {
        match speech {
            Speech::Http { to_head, .. } => Ear::Http(Reader::new(*to_head)),
            Speech::Bytes { expect, .. } => Ear::Bytes { expect, heard: Vec::new() },
        }
    }

    fn has_heard(&self) -> bool {
        match self {
            Ear::Http(reader) => reader.has_begun(),
            Ear::Bytes { heard, .. } => !heard.is_empty(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Option<Reply> {
        match self {
            Ear::Http(reader) => match reader.feed(bytes) {
                Ok(head) => head.map(Reply::Answered),
                Err(_) => Some(Reply::Broken),
            },
            Ear::Bytes { expect, heard } => {
                heard.extend_from_slice(bytes);
                let found = expect.is_empty() || heard.windows(expect.len()).any(|part| part == *expect);
                found.then(|| Reply::Answered(Head::default()))
            }
        }
    }

    fn end(&mut self) -> Option<Reply> {
        Some(match self {
            Ear::Http(reader) => match reader.end() {
                Some(head) => Reply::Answered(head),
                None if reader.has_begun() => Reply::Broken,
                None => Reply::Ended(CloseKind::Race),
            },
            Ear::Bytes { heard, .. } if heard.is_empty() => Reply::Ended(CloseKind::Race),
            Ear::Bytes { .. } => Reply::Broken,
        })
    }
}

fn is_408(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 408") || bytes.starts_with(b"HTTP/1.0 408")
}

/// An end while nothing was said. Over TLS a FIN without close_notify is an error of its own (RFC 8446, section
/// 6.1), and as graceful as plain TCP's.
fn end_by(error: &io::Error) -> CloseKind {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CloseKind::Fin,
        io::ErrorKind::TimedOut => CloseKind::Silent,
        io::ErrorKind::InvalidData => CloseKind::Unsolicited,
        _ => CloseKind::Reset,
    }
}

/// An end after something was said.
fn on_send(error: &io::Error) -> CloseKind {
    match error.kind() {
        io::ErrorKind::ConnectionReset => CloseKind::ResetOnSend,
        io::ErrorKind::TimedOut => CloseKind::Silent,
        _ => CloseKind::Race,
    }
}
