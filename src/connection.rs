//! [`Connection`]: one HTTP/1.1 conversation over `hyper::client::conn::http1`.
//!
//! *Design.* hyper's connection is polled by whoever holds it: the task of the exchange while one is under
//! way, the pool's minder while it is idle. No task is spawned per connection, so a request crosses no task
//! boundary, and when the last byte of a response has been read it is known at once, in the same poll,
//! whether the connection can be used again. All progress of hyper's response future and body is made by
//! polling the connection, so those two are polled with a waker that does nothing.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::body::RequestBody;
use crate::clock;
use crate::connect::{Opened, Stream};
use crate::error::{Error, ErrorKind};
use crate::exchange::{ConnectionFacts, ConnectionId};
use crate::idle::CloseReason;
use crate::phase::{ConnectTimings, Phase};
use crate::wire::{End, WireFacts};

type HyperConnection = http1::Connection<TokioIo<Stream>, RequestBody>;

/// An open connection and what is known of it.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    /// `None` once the conversation is over.
    hyper: Option<HyperConnection>,
    /// What is left when hyper is done with it: the stream, still open on our side.
    rest: Option<Stream>,
    /// Why it ended between two exchanges, when an error told.
    told: Option<CloseReason>,
    wire: Arc<WireFacts>,
    facts: Arc<ConnectionFacts>,
    opening: Option<ConnectTimings>,
    exchanges: u32,
    idle_since: Option<Instant>,
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
    /// Begins a conversation over an opened stream.
    pub(crate) async fn start(opened: Opened, id: ConnectionId) -> Result<Connection, Error> {
        let Opened { stream, wire, timings, remote, local, tls } = opened;
        let (sender, hyper) = http1::Builder::new()
            // A request head and a small body go out in one plain write.
            .writev(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| Error::new(ErrorKind::Protocol).with_source(source))?;
        Ok(Connection {
            sender,
            hyper: Some(hyper),
            rest: None,
            told: None,
            wire,
            facts: Arc::new(ConnectionFacts { id, remote, local, tls }),
            opening: Some(timings),
            exchanges: 0,
            idle_since: None,
        })
    }

    pub(crate) fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.facts
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.facts.id
    }

    pub(crate) fn born(&self) -> Instant {
        self.wire.born()
    }

    pub(crate) fn wire(&self) -> &WireFacts {
        &self.wire
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

    /// The timings of its opening, for the first who asks.
    pub(crate) fn take_opening(&mut self) -> Option<ConnectTimings> {
        self.opening.take()
    }

    /// Whether another request may be written now.
    pub(crate) fn is_ready(&self) -> bool {
        self.hyper.is_some() && self.sender.is_ready()
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

    /// Whether the conversation goes on and takes no request, because the last one is not yet written.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.hyper.is_some() && !self.sender.is_ready()
    }

    pub(crate) fn was_reset(&self) -> bool {
        self.wire.end() == End::Reset
    }

    /// Lets hyper read and write what it can. Answers whether the conversation goes on.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(hyper) = &mut self.hyper else { return false };
        let Poll::Ready(result) = hyper.poll_without_shutdown(cx) else { return true };
        self.told = result.err().as_ref().and_then(told_by);
        // Taking hyper apart also hands a request back that was queued and not yet written.
        self.rest = self.hyper.take().map(|hyper| hyper.into_parts().io.into_inner());
        false
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// *Cancel safety.* When the future is dropped the exchange is unfinished and the connection must be
    /// closed; hyper does not let it be used again.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Stamps), Failure> {
        let began = clock::now();
        let (written_before, read_before) = (self.wire.written(), self.wire.read());
        let heard_before = self.wire.heard();
        if self.idle_since.is_some() {
            self.wire.look_before_write();
        }
        self.exchanges += 1;
        let mut answer = pin!(self.sender.try_send_request(request));
        let result = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await;
        match result {
            Ok(response) => {
                let head = clock::now();
                // An answer may come before the whole request was written: then sending ended with it.
                let sent = self.wire.last_write().clamp(began, head);
                Ok((response, Stamps { began, sent, head, written_before, read_before }))
            }
            Err(mut error) => {
                // hyper hands back what it has not begun to write, even if TLS wrote: it may have sent an alert.
                let request = error.take_message();
                self.told = self.told.or_else(|| told_by(error.error()));
                let answered = self.wire.heard() > heard_before;
                let written = self.wire.written() - written_before;
                let kind = self.classify(error.error(), request.is_some(), written, answered);
                let unsent = request.is_some() || written == 0;
                let phase = if unsent { Phase::Send } else { Phase::Wait };
                let bytes_out = if request.is_some() { 0 } else { written };
                let error =
                    Error::new(kind).at(phase).after_sending(bytes_out).with_source(error.into_error());
                Err(Failure { error, request })
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
            (true, _) if error.is_parse() => ErrorKind::Protocol,
            (true, _) => ErrorKind::Partial,
            (false, End::Reset) => ErrorKind::Reset,
            (false, _) => ErrorKind::NoResponse,
        }
    }

    /// Gives the stream up, to be closed.
    pub(crate) fn into_stream(mut self) -> Option<Stream> {
        let hyper = self.hyper.take().map(|hyper| hyper.into_parts().io.into_inner());
        hyper.or(self.rest)
    }
}

/// What an error says of a connection that was idle. The end of the stream says nothing more than itself.
fn told_by(error: &hyper::Error) -> Option<CloseReason> {
    use std::error::Error as _;
    // A request that is handed back comes with the connection's own error.
    let cause = if error.is_canceled() { error.source()?.downcast_ref()? } else { error };
    if cause.is_incomplete_message() {
        // What hyper calls the end of a connection that had no request yet.
        return None;
    }
    let io = cause.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        // hyper's refusal of a message; rustls' of a record.
        None | Some(io::ErrorKind::InvalidData) => Some(CloseReason::Unsolicited),
        // tokio's word for a socket whose runtime has ended.
        Some(io::ErrorKind::Other) => Some(CloseReason::Shutdown),
        Some(_) => None,
    }
}
