//! [`Connection`]: one HTTP/1.1 conversation over `hyper::client::conn::http1`.
//!
//! *Design.* hyper's connection is polled by whoever holds it: the task of the exchange while one is under
//! way, the pool's minder while it is idle. No task is spawned per connection, so a request crosses no task
//! boundary, and when the last byte of a response has been read it is known at once, in the same poll,
//! whether the connection can be used again. All progress of hyper's response future and body is made by
//! polling the connection, so those two are polled with a waker that does nothing. The connection itself is polled with
//! one waker for as long as it lives, see [`Ear`]. One that rests for long is taken apart, see [`conversation`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use crate::alarm::Alarm;
use crate::body::{self, Feed, RequestBody};
use crate::clock;
use crate::config::PoolConfig;
use crate::connect::{Forward, Opened, Stream};
use crate::error::{Error, ErrorKind};
use crate::exchange::{ConnectionFacts, ConnectionId};
use crate::heads::{HeadLimits, TooMuch, is_too_large};
use crate::idle::CloseReason;
use crate::phase::{ConnectTimings, Phase};
use crate::wire::{End, WireFacts};

mod conversation;

use conversation::{Conversation, Ended, told_by};

/// An open connection and what is known of it.
#[derive(Debug)]
pub(crate) struct Connection {
    conversation: Conversation,
    /// What hyper had read and not used when it was over.
    ahead: Bytes,
    /// Why it ended between two exchanges, when an error told.
    told: Option<CloseReason>,
    wire: Arc<WireFacts>,
    facts: Arc<ConnectionFacts>,
    opening: Option<ConnectTimings>,
    /// Where the peer is a proxy that passes requests on.
    forward: Option<Forward>,
    exchanges: u32,
    idle_since: Option<Instant>,
    alarm: Alarm,
    heads: HeadLimits,
    /// The peer speaks HTTP/1.0, which hyper remembers from one exchange to the next.
    is_old: bool,
    /// Of the exchange whose head came last.
    stamps: Stamps,
}

/// Why an exchange is ended before its response head has come.
#[derive(Clone, Copy, Debug)]
enum Overrun {
    Time(ErrorKind),
    Heads(TooMuch),
}

/// Why there is no response head.
enum Stop {
    Cut,
    Overrun(Overrun),
    Failure(Box<TrySendError<Request<RequestBody>>>),
}

/// How long an exchange may take to come to its response head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// When the request was asked for, and what it may take in all.
    pub(crate) asked: Instant,
    /// When it began on its connection: now.
    pub(crate) began: Instant,
    pub(crate) total: Option<Duration>,
    /// What the server may take to answer.
    pub(crate) response: Option<Duration>,
}

/// An exchange that waits for its response head.
struct Waiting {
    limits: Limits,
    latest: Option<Instant>,
    /// The streamed body, and since when it feeds the request.
    feed: Option<Arc<Feed>>,
    fed: Instant,
}

/// Who hears of a connection's socket while an exchange is under way.
///
/// A connection is polled with the same waker in all its exchanges and between them. So what the last poll of an exchange
/// has left with the reactor is still good when the connection rests, and it need not be polled once more for that.
pub(crate) trait Ear {
    /// The waker to poll the connection with, now: what was heard before will be found by that.
    fn open(&self) -> &Waker;

    /// The task has nothing left to do but wait: it is woken by what is heard from now on, and by what was heard since the
    /// connection was polled. Answers whether it may not wait.
    fn wait(&self, task: &Waker) -> bool;
}

/// A request that could not be exchanged, with the request itself when no byte of it was written.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) request: Option<Request<RequestBody>>,
}

/// The instants of an exchange up to its response head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    pub(crate) began: Instant,
    pub(crate) sent: Instant,
    pub(crate) head: Instant,
    pub(crate) written_before: u64,
    pub(crate) read_before: u64,
}

impl Connection {
    /// A connection over an opened stream. Its conversation begins with its first exchange.
    pub(crate) fn new(opened: Opened, id: ConnectionId, config: &PoolConfig) -> Connection {
        let Opened { stream, wire, timings, remote, local, tls, forward } = opened;
        let stamps = Stamps::none(wire.born());
        Connection {
            conversation: Conversation::Dormant(stream),
            ahead: Bytes::new(),
            told: None,
            wire,
            facts: Arc::new(ConnectionFacts { id, remote, local, tls }),
            opening: Some(timings),
            forward,
            exchanges: 0,
            idle_since: None,
            alarm: Alarm::default(),
            heads: HeadLimits::of(config),
            is_old: false,
            stamps,
        }
    }

    pub(crate) fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.facts
    }

    pub(crate) fn born(&self) -> Instant {
        self.wire.born()
    }

    pub(crate) fn wire(&self) -> &WireFacts {
        &self.wire
    }

    /// How its requests are to be addressed, where its peer is a proxy that passes them on.
    pub(crate) fn forward(&self) -> Option<&Forward> {
        self.forward.as_ref()
    }

    /// Exchanges begun so far.
    pub(crate) fn exchanges(&self) -> u32 {
        self.exchanges
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    pub(crate) fn rest_from(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// The timings of its opening, until they are taken.
    pub(crate) fn opening(&self) -> Option<ConnectTimings> {
        self.opening
    }

    /// The timings of its opening, for the first who asks.
    pub(crate) fn take_opening(&mut self) -> Option<ConnectTimings> {
        self.opening.take()
    }

    /// Whether another request may be written now.
    pub(crate) fn is_ready(&self) -> bool {
        self.conversation.is_ready()
    }

    /// Why a conversation that ended between two exchanges ended.
    pub(crate) fn why_it_ended(&self) -> CloseReason {
        self.told.unwrap_or(match self.wire.end() {
            End::Reset => CloseReason::PeerReset,
            End::Open | End::Fin => CloseReason::PeerFin,
        })
    }

    /// Why a conversation cannot go on after a complete response.
    pub(crate) fn why_it_cannot_go_on(&self) -> CloseReason {
        self.told.unwrap_or(CloseReason::ServerClose)
    }

    /// Whether the conversation goes on and takes no request, because the last one is not yet written. hyper takes a body
    /// in memory for written when it has it in its own buffer, of which the kernel may not have had all.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.conversation.is_unfinished() || self.wire.is_blocked()
    }

    /// Reads and writes what can be. Answers whether the conversation goes on.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.wire.begin_turn_for_one();
        let ended = self.conversation.drive(cx);
        self.wire.end_turn();
        self.note(ended);
        !self.conversation.is_over()
    }

    /// Whether the last poll has read all that there was, so that its waker is told of what comes next.
    pub(crate) fn is_listening(&self) -> bool {
        self.wire.is_listening()
    }

    fn note(&mut self, ended: Option<Ended>) {
        if let Some(ended) = ended {
            (self.told, self.ahead) = (ended.told, ended.ahead);
        }
    }

    /// It has rested for long, and may rest for longer: gives up what it can do without meanwhile. It is to be driven
    /// afterwards, for whoever is to hear of its socket.
    pub(crate) fn fall_asleep(&mut self) {
        if !self.is_old {
            let ended = self.conversation.fall_asleep();
            self.note(ended);
        }
    }

    /// Whether there is something that [`Connection::fall_asleep`] would give up.
    pub(crate) fn is_awake(&self) -> bool {
        self.conversation.is_ready() && !self.conversation.is_dormant() && !self.is_old
    }

    /// Sends a request, which is taken out of its place, and waits for the head of its response. `None`: it may wait no
    /// longer, says the ear.
    ///
    /// *Cancel safety.* When the future is dropped the exchange is unfinished and the connection must be
    /// closed; hyper does not let it be used again.
    pub(crate) async fn exchange(
        &mut self,
        place: &mut Option<Request<RequestBody>>,
        limits: Limits,
        ear: &impl Ear,
    ) -> Option<Result<Response<Incoming>, Box<Failure>>> {
        if self.is_old && place.as_ref().is_some_and(|request| !body::has_length(request)) {
            return Some(Err(self.too_old_for(place.take())));
        }
        let builder = || self.heads.builder();
        if let Err(source) = self.conversation.wake_up(builder) {
            return Some(Err(Error::new(ErrorKind::Protocol).with_source(source).into()));
        }
        let request = place.as_mut().expect("there is a request to send");
        let began = limits.began;
        let (written_before, read_before) = (self.wire.written(), self.wire.read());
        let heard_before = self.wire.heard();
        if self.idle_since.is_some() {
            self.wire.look_before_write();
        }
        self.exchanges += 1;
        let mut waiting = Waiting::new(limits, request.body_mut());
        let informed = self.heads.count_informational(request);
        let Some(answer) = self.conversation.send(place) else {
            return Some(Err(unsent(Error::new(ErrorKind::NotSent), place.take())));
        };
        let mut answer = pin!(answer);
        let result = poll_fn(|cx| {
            waiting.look_at_the_feed();
            self.drive(&mut Context::from_waker(ear.open()));
            let answered = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Some(overrun) = self.overrun(informed.as_deref(), heard_before, answered.is_ready()) {
                return Poll::Ready(Err(Stop::Overrun(overrun)));
            }
            match answered {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                // In a box, for it is as large as a request, and what is returned here is moved.
                Poll::Ready(Err(error)) => Poll::Ready(Err(Stop::Failure(Box::new(error)))),
                Poll::Pending => {
                    if ear.wait(cx.waker()) {
                        return Poll::Ready(Err(Stop::Cut));
                    }
                    waiting.poll_limit(self, cx).map(|kind| Err(Stop::Overrun(Overrun::Time(kind))))
                }
            }
        })
        .await;
        let response = match result {
            Ok(response) => response,
            Err(Stop::Cut) => return None,
            Err(Stop::Overrun(overrun)) => {
                let phase = waiting.phase(self, written_before);
                let (sent, heard) = (self.wire.written() - written_before, self.wire.read() - read_before);
                return Some(Err(self.ended_by(overrun, limits, phase, sent, heard).into()));
            }
            Err(Stop::Failure(error)) => {
                return Some(Err(self.failure(*error, written_before, heard_before)));
            }
        };
        if is_ambiguous(&response) {
            let detail =
                "the response has both Transfer-Encoding and Content-Length, so that its end is in doubt";
            let error = Error::new(ErrorKind::Protocol).at(Phase::Wait).with_detail(detail.into());
            return Some(Err(error.into()));
        }
        self.is_old = response.version() == Version::HTTP_10;
        let head = clock::now();
        // An answer may come before the whole request was written: then sending ended with it.
        let sent = self.wire.last_write().clamp(began, head);
        self.stamps = Stamps { began, sent, head, written_before, read_before };
        Some(Ok(response))
    }

    /// hyper would make an HTTP/1.0 request without a body of it. It ends here, to make room for another connection.
    fn too_old_for(&mut self, request: Option<Request<RequestBody>>) -> Box<Failure> {
        self.told = Some(CloseReason::Evicted);
        let text = "the peer has answered in HTTP/1.0, in which a body of unknown length cannot be sent: give it a \
                    Content-Length, or allow another connection (retry)";
        unsent(Error::new(ErrorKind::NotSent).with_detail(text.into()), request)
    }

    /// The stamps of the exchange whose head came last.
    pub(crate) fn stamps(&self) -> Stamps {
        self.stamps
    }

    /// Why there is no head. hyper hands the request back if it has not begun to write it, even if TLS wrote: it may have
    /// sent an alert.
    fn failure(
        &mut self,
        mut error: TrySendError<Request<RequestBody>>,
        written_before: u64,
        heard_before: u64,
    ) -> Box<Failure> {
        let request = error.take_message();
        self.told = self.told.or_else(|| told_by(error.error()));
        let answered = self.wire.heard() > heard_before;
        let written = self.wire.written() - written_before;
        let kind = self.classify(error.error(), request.is_some(), written, answered);
        let unsent = request.is_some() || written == 0;
        let phase = if unsent { Phase::Send } else { Phase::Wait };
        let source = error.into_error();
        let error = match late_refusal(&source) {
            Some(text) => Error::new(ErrorKind::Tls).at(Phase::Tls).told_by(text, source),
            None if kind == ErrorKind::Protocol && is_too_large(&source) => {
                too_much(self.heads, TooMuch::Size).with_source(source)
            }
            None => Error::new(kind).at(phase).with_source(source),
        };
        Box::new(Failure { error, request })
    }

    /// Whether more has come than may before the end of a head.
    fn overrun(&self, informed: Option<&AtomicU32>, heard_before: u64, answered: bool) -> Option<Overrun> {
        let size = || if answered { None } else { self.heads.ends_before(self.wire.heard() - heard_before) };
        self.heads.has_enough_of(informed).or_else(size).map(Overrun::Heads)
    }

    /// What is said of an exchange that was ended before its head.
    fn ended_by(&self, overrun: Overrun, limits: Limits, phase: Phase, sent: u64, heard: u64) -> Error {
        match overrun {
            Overrun::Heads(which) => too_much(self.heads, which),
            Overrun::Time(kind) => {
                let so_far = format!(" ({sent} bytes sent, {heard} received)");
                let limit = if kind == ErrorKind::Timeout { limits.total } else { limits.response };
                Error::out_of_time(kind, limit, phase, &so_far)
            }
        }
    }

    /// What a failure before the response head was, from the bytes that crossed the wire rather than from
    /// hyper's words for it.
    fn classify(&self, error: &hyper::Error, handed_back: bool, written: u64, answered: bool) -> ErrorKind {
        if handed_back {
            return ErrorKind::NotSent;
        }
        if error.is_user() {
            return ErrorKind::RequestBody;
        }
        // hyper had taken the request, and the kernel had not: a reset came between the look and the write.
        if written == 0 && !answered {
            return ErrorKind::NotSent;
        }
        match (answered, self.wire.end()) {
            // The stream goes on: what is wrong is what it said.
            (true, _) if !self.wire.is_broken() => ErrorKind::Protocol,
            (true, _) => ErrorKind::Partial,
            (false, End::Reset) => ErrorKind::Reset,
            (false, _) => ErrorKind::NoResponse,
        }
    }

    /// What a failure in the middle of a response body was, told in the same way.
    pub(crate) fn classify_body(&self) -> ErrorKind {
        match self.wire.end() {
            _ if !self.wire.is_broken() => ErrorKind::Protocol,
            End::Reset => ErrorKind::Reset,
            End::Open | End::Fin => ErrorKind::Partial,
        }
    }

    /// Ready when this deadline has come.
    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        self.alarm.poll(cx, at)
    }

    /// The stream of a conversation that is over.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        self.wire.begin_turn();
        self.conversation.stream()
    }

    /// What had been read of it by then.
    pub(crate) fn take_ahead(&mut self) -> Bytes {
        std::mem::take(&mut self.ahead)
    }

    /// Gives the stream up, to be closed.
    pub(crate) fn take_stream(&mut self) -> Option<Stream> {
        self.conversation.take_stream()
    }
}

/// The server has looked at the client's certificate only now.
fn late_refusal(error: &hyper::Error) -> Option<String> {
    #[cfg(feature = "tls")]
    return crate::tls::refusal(error);
    #[cfg(not(feature = "tls"))]
    {
        let _ = error;
        None
    }
}

fn too_much(heads: HeadLimits, which: TooMuch) -> Error {
    Error::new(ErrorKind::Protocol).at(Phase::Wait).with_detail(heads.told(which))
}

fn unsent(error: Error, request: Option<Request<RequestBody>>) -> Box<Failure> {
    Box::new(Failure { error: error.at(Phase::Send).after_sending(0), request })
}

impl From<Error> for Box<Failure> {
    fn from(error: Error) -> Box<Failure> {
        Box::new(Failure { error, request: None })
    }
}

impl Stamps {
    /// Nothing has been exchanged yet.
    pub(crate) fn none(born: Instant) -> Stamps {
        Stamps { began: born, sent: born, head: born, written_before: 0, read_before: 0 }
    }
}

impl Waiting {
    fn new(limits: Limits, body: &mut RequestBody) -> Waiting {
        let latest = limits.total.and_then(|total| limits.asked.checked_add(total));
        let limited = latest.is_some() || limits.response.is_some();
        let feed = if limited { body.feed() } else { None };
        Waiting { limits, latest, feed, fed: limits.began }
    }

    /// The server's time begins anew after each pause of our own body.
    fn look_at_the_feed(&mut self) {
        if self.is_hungry() {
            self.fed = clock::now();
        }
    }

    fn is_hungry(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.is_hungry())
    }

    /// Ready when the exchange has used up its time, with the limit that was reached.
    fn poll_limit(&self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        let total = self.latest.map(|at| (at, ErrorKind::Timeout));
        let answer = self.limits.response.filter(|_| !self.is_hungry()).and_then(|limit| {
            let asked = connection.wire.last_write().max(self.fed);
            Some((asked.checked_add(limit)?, ErrorKind::ResponseTimeout))
        });
        match total.into_iter().chain(answer).min_by_key(|(at, _)| *at) {
            None => Poll::Pending,
            Some((at, kind)) => connection.alarm.poll(cx, at).map(|()| kind),
        }
    }

    /// What the exchange is at: its body may not be over, or what hyper holds of it may wait for the kernel.
    fn phase(&self, connection: &Connection, written_before: u64) -> Phase {
        let is_fed = self.feed.as_ref().is_some_and(|feed| Arc::strong_count(feed) > 1);
        let unsent = connection.wire.written() == written_before;
        if is_fed || unsent || connection.wire.is_blocked() { Phase::Send } else { Phase::Wait }
    }
}

/// A response whose body has two lengths, which two readers may take for two responses. RFC 9112, section 6.3: it
/// "might indicate an attempt to perform request smuggling or response splitting and ought to be handled as an error".
fn is_ambiguous(response: &Response<Incoming>) -> bool {
    // hyper lets Transfer-Encoding come first: a body whose size it knows has none, or is no body.
    let headers = response.headers();
    response.body().size_hint().exact().is_none()
        && headers.contains_key(TRANSFER_ENCODING)
        && headers.contains_key(CONTENT_LENGTH)
}
