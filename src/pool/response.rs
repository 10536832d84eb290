//! [`Response`] and [`Body`]: the response's body holds its connection and gives it back when it ends.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::held::Held;
use super::upgraded::Upgraded;
use super::watch::unheard;
use super::{drain, unread};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::exchange::Exchange;
use crate::idle::CloseReason;
use crate::observer::Event;
use crate::phase::Phase;

/// A response whose body is still to be read.
pub type Response = http::Response<Body>;

/// The body of a response. Read to its end it gives the connection back to the pool; dropped before, it
/// closes the connection, unless the rest is short and comes soon ([`PoolConfig::max_unread`],
/// [`PoolConfig::unread_timeout`]): dropping it never waits.
///
/// [`PoolConfig::max_unread`]: crate::PoolConfig::max_unread
/// [`PoolConfig::unread_timeout`]: crate::PoolConfig::unread_timeout
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Bytes of the body given to the caller so far.
    received: u64,
    /// Since when the caller waits for the next piece.
    waiting: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Reading(Reading),
    /// The connection speaks another protocol now.
    Switched(Held, Box<Exchange>),
    Done(Box<Exchange>),
    Failed,
}

/// A body that is being read: hyper's, and the connection that brings it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) incoming: Incoming,
    pub(super) held: Held,
}

impl Reading {
    /// One frame from hyper: what it has, or what it gets by reading now.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Asking first tells hyper that the body is wanted; else it would not read.
        if let Poll::Ready(frame) = self.take_frame() {
            return Poll::Ready(frame);
        }
        self.held.drive();
        let frame = self.take_frame();
        if frame.is_pending() {
            self.held.wait(cx.waker());
        }
        frame
    }

    fn take_frame(&mut self) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        unheard(|| Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop())))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// The body was read to its end: the connection goes back.
    pub(super) fn complete(self) -> Box<Exchange> {
        let Reading { incoming, mut held } = self;
        let done = clock::now();
        // In a box, for a response is moved more often than its record is made.
        let exchange = Box::new(held.record(done));
        held.tell(|origin, _| Event::Exchanged { origin, exchange: &exchange });
        held.finish(done);
        // hyper would take a body that goes before its connection has been polled for one that nobody wants.
        drop(incoming);
        exchange
    }
}

impl Body {
    pub(super) fn response(head: http::Response<Incoming>, held: Held, switches: bool) -> Response {
        let (parts, incoming): (Parts, Incoming) = head.into_parts();
        let is_at_end = incoming.is_end_stream();
        let state = State::Reading(Reading { incoming, held });
        let mut body = Body { state, received: 0, waiting: None };
        if switches {
            body.switch();
        } else if is_at_end {
            body.complete();
        }
        http::Response::from_parts(parts, body)
    }

    /// After a 101, or a successful answer to CONNECT: the connection itself. `None` after any other response, when it
    /// was taken before, and when the server switched before it had the whole request. Not taken, the connection is
    /// closed with the body.
    pub fn upgrade(&mut self) -> Option<Upgraded> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Switched(held, exchange) => {
                self.state = State::Done(exchange);
                Some(Upgraded::new(held))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Reads to the end, gives the connection back, and tells what happened.
    ///
    /// *Cancel safety.* Dropping the future drops the body.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Partial`] or [`ErrorKind::Reset`] when the connection ended before the body did,
    /// [`ErrorKind::Protocol`] when the body cannot be read (its chunks are no chunks), and
    /// [`ErrorKind::BodyIdleTimeout`] or [`ErrorKind::Timeout`] when it takes longer than the pool allows.
    pub async fn finish(self) -> Result<Exchange, Error> {
        self.finish_in_place().await.map(|exchange| *exchange)
    }

    /// As [`Body::finish`], with the record where it lies.
    pub(crate) async fn finish_in_place(mut self) -> Result<Box<Exchange>, Error> {
        while let Some(frame) = self.frame().await {
            frame?;
        }
        self.take_exchange().ok_or_else(|| Error::new(ErrorKind::Partial).at(Phase::Receive))
    }

    /// Reads to the end and returns the body as well.
    ///
    /// # Errors
    ///
    /// As [`Body::finish`].
    pub async fn collect_all(mut self) -> Result<(Bytes, Exchange), Error> {
        let mut chunks: Vec<Bytes> = Vec::new();
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                chunks.push(data);
            }
        }
        let exchange =
            self.into_exchange().ok_or_else(|| Error::new(ErrorKind::Partial).at(Phase::Receive))?;
        let whole = match chunks.len() {
            1 => chunks.swap_remove(0),
            _ => chunks.concat().into(),
        };
        Ok((whole, exchange))
    }

    /// What happened, once the body has been read to its end.
    pub fn into_exchange(mut self) -> Option<Exchange> {
        self.take_exchange().map(|exchange| *exchange)
    }

    fn take_exchange(&mut self) -> Option<Box<Exchange>> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Done(exchange) => Some(exchange),
            State::Switched(held, exchange) => {
                held.end(CloseReason::Upgraded);
                Some(exchange)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    fn complete(&mut self) {
        if let State::Reading(reading) = std::mem::replace(&mut self.state, State::Failed) {
            self.state = State::Done(reading.complete());
        }
    }

    /// The exchange is over, and hyper is done with the connection: the caller may have it.
    fn switch(&mut self) {
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Failed) else {
            return;
        };
        let Reading { mut held, .. } = reading;
        let exchange = Box::new(held.record(clock::now()));
        held.tell(|origin, _| Event::Exchanged { origin, exchange: &exchange });
        self.state = if held.connection().stream().is_some() {
            State::Switched(held, exchange)
        } else {
            held.end(CloseReason::RequestUnfinished);
            State::Done(exchange)
        };
    }

    fn fail(&mut self, source: hyper::Error) -> Error {
        let mut kind = ErrorKind::Partial;
        if let State::Reading(reading) = &mut self.state {
            kind = reading.held.connection().classify_body();
        }
        let detail = format!("{} {}", kind.sentence(), self.so_far());
        let error = Error::new(kind).at(Phase::Receive).with_detail(detail).with_source(source);
        self.end(error, CloseReason::Failed)
    }

    /// The exchange ends here, with what is known of it.
    fn end(&mut self, error: Error, reason: CloseReason) -> Error {
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Failed) else {
            return error;
        };
        let Reading { mut held, incoming: _incoming } = reading;
        let so_far = held.record(clock::now());
        let retries = so_far.retries.clone();
        let error = error.after_retries(retries).after_exchange(so_far);
        held.tell(|origin, connection| Event::Failed { origin, connection, error: &error });
        held.end(reason);
        error
    }

    /// Why the caller need not wait any longer for the next piece.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let State::Reading(Reading { held, .. }) = &mut self.state else { return Poll::Pending };
        let total = held.progress().latest.map(|at| (at, ErrorKind::Timeout));
        let idle = held.config().body_idle_timeout.and_then(|limit| {
            let since = *self.waiting.get_or_insert_with(clock::now);
            Some((since.checked_add(limit)?, ErrorKind::BodyIdleTimeout))
        });
        match total.into_iter().chain(idle).min_by_key(|(at, _)| *at) {
            None => Poll::Pending,
            Some((at, kind)) => held.connection().poll_deadline(cx, at).map(|()| self.time_out(kind)),
        }
    }

    /// A body that never pauses never waits for a timer; so each piece looks at the clock, where there is a limit.
    fn is_late(&self) -> bool {
        let State::Reading(reading) = &self.state else { return false };
        reading.held.progress().latest.is_some_and(|latest| clock::now() >= latest)
    }

    fn time_out(&mut self, kind: ErrorKind) -> Error {
        let so_far = format!(" {}", self.so_far());
        let mut limit = None;
        if let State::Reading(reading) = &self.state {
            let config = reading.held.config();
            limit = if kind == ErrorKind::Timeout { config.total_timeout } else { config.body_idle_timeout };
        }
        let error = Error::out_of_time(kind, limit, Phase::Receive, &so_far);
        self.end(error, CloseReason::TimedOut)
    }

    /// How much of the body had come, for the text of an error.
    fn so_far(&self) -> String {
        match HttpBody::size_hint(self).exact() {
            Some(missing) => {
                format!("({} of {} bytes of its body had come)", self.received, self.received + missing)
            }
            None => format!("({} bytes of its body had come)", self.received),
        }
    }

    /// Whether the pool's end came before the body's.
    fn is_cut(&self) -> bool {
        matches!(&self.state, State::Reading(reading) if reading.held.is_cut())
    }

    fn cut(&mut self) -> Error {
        self.end(drain::cut_error().at(Phase::Receive), CloseReason::Shutdown)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let State::Reading(reading) = &mut this.state else { return Poll::Ready(None) };
        let Poll::Ready(polled) = reading.poll_frame(cx) else {
            if this.is_cut() {
                return Poll::Ready(Some(Err(this.cut())));
            }
            return this.poll_limit(cx).map(|error| Some(Err(error)));
        };
        this.waiting = None;
        Poll::Ready(match polled {
            None => {
                this.complete();
                None
            }
            Some(Err(source)) => Some(Err(this.fail(source))),
            Some(Ok(frame)) => {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                if matches!(&this.state, State::Reading(reading) if reading.is_at_end()) {
                    this.complete();
                } else if this.is_late() {
                    return Poll::Ready(Some(Err(this.time_out(ErrorKind::Timeout))));
                }
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        !matches!(self.state, State::Reading(..))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Reading(reading) => reading.incoming.size_hint(),
            _ => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Reading(reading) => unread::leave(reading),
            State::Switched(held, _) => held.end(CloseReason::Upgraded),
            State::Done(_) | State::Failed => {}
        }
    }
}
