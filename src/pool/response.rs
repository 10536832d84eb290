//! [`Response`] and [`Body`]: the response's body holds its connection and gives it back when it ends.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::response::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::lease::Held;
use crate::clock;
use crate::connection::{Connection, Stamps};
use crate::error::{Error, ErrorKind};
use crate::exchange::{Exchange, Retry};
use crate::idle::CloseReason;
use crate::observer::Event;
use crate::phase::{Phase, Timings};

/// A response whose body is still to be read.
pub type Response = http::Response<Body>;

/// What is known of an exchange when its response head has come.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) nth: u32,
    pub(super) age: Duration,
    pub(super) idle_before: Option<Duration>,
    pub(super) timings: Timings,
    pub(super) retries: Vec<Retry>,
    pub(super) stamps: Stamps,
}

/// The body of a response. Read to its end it gives the connection back to the pool; dropped before, it
/// closes the connection, unless the rest has already arrived.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(Held, Progress),
    Done(Exchange),
    Failed,
}

/// How much of an unread rest is taken from what has already arrived, to save the connection.
const MAX_DRAIN: usize = 64 * 1024;

impl Body {
    pub(super) fn response(head: http::Response<Incoming>, held: Held, progress: Progress) -> Response {
        let (parts, incoming): (Parts, Incoming) = head.into_parts();
        let mut body = Body { incoming, state: State::Reading(held, progress) };
        if body.incoming.is_end_stream() {
            body.complete();
        }
        http::Response::from_parts(parts, body)
    }

    /// Reads to the end, gives the connection back, and tells what happened.
    ///
    /// *Cancel safety.* Dropping the future drops the body.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Partial`] or [`ErrorKind::Reset`] when the connection ended before the body did.
    pub async fn finish(mut self) -> Result<Exchange, Error> {
        while let Some(frame) = self.frame().await {
            frame?;
        }
        self.into_exchange().ok_or_else(|| Error::new(ErrorKind::Partial).at(Phase::Receive))
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
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Done(exchange) => Some(exchange),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn complete(&mut self) {
        let done = clock::now();
        let State::Reading(held, progress) = std::mem::replace(&mut self.state, State::Failed) else {
            return;
        };
        let exchange = progress.exchange(held.as_ref(), done);
        held.tell(|origin, _| Event::Exchanged { origin, exchange: &exchange });
        held.finish(done);
        self.state = State::Done(exchange);
    }

    fn fail(&mut self, source: hyper::Error) -> Error {
        let error = |kind| Error::new(kind).at(Phase::Receive).with_source(source);
        let State::Reading(held, progress) = std::mem::replace(&mut self.state, State::Failed) else {
            return error(ErrorKind::Partial);
        };
        let reset = held.as_ref().was_reset();
        let so_far = progress.exchange(held.as_ref(), clock::now());
        let error = error(if reset { ErrorKind::Reset } else { ErrorKind::Partial }).with_facts(so_far);
        held.tell(|origin, connection| Event::Failed { origin, connection, error: &error });
        held.end(CloseReason::Failed);
        error
    }

    /// One frame from hyper: what it has, or what it gets by reading now.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Asking first tells hyper that the body is wanted; else it would not read.
        let mut quietly = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(&mut quietly) {
            return Poll::Ready(frame);
        }
        if let State::Reading(held, _) = &mut self.state {
            held.connection().drive(cx);
        }
        Pin::new(&mut self.incoming).poll_frame(&mut quietly)
    }
}

impl Progress {
    pub(super) fn exchange(self, connection: &Connection, done: Instant) -> Exchange {
        let Progress { nth, age, idle_before, mut timings, retries, stamps } = self;
        timings.receive = done.saturating_duration_since(stamps.head);
        Exchange {
            nth,
            age,
            idle_before,
            timings,
            retries,
            bytes_out: connection.wire().written() - stamps.written_before,
            bytes_in: connection.wire().read() - stamps.read_before,
            connection: connection.facts().clone(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if !matches!(this.state, State::Reading(..)) {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(this.poll_incoming(cx)) {
            None => {
                this.complete();
                None
            }
            Some(Err(source)) => Some(Err(this.fail(source))),
            Some(Ok(frame)) => {
                if this.incoming.is_end_stream() {
                    this.complete();
                }
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        !matches!(self.state, State::Reading(..))
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Reading(..) => self.incoming.size_hint(),
            _ => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut quietly = Context::from_waker(Waker::noop());
        let mut drained = 0;
        while matches!(self.state, State::Reading(..)) && drained < MAX_DRAIN {
            match self.poll_incoming(&mut quietly) {
                Poll::Ready(None) => self.complete(),
                Poll::Ready(Some(Ok(frame))) => {
                    drained += frame.data_ref().map_or(0, |data| data.remaining());
                    if self.incoming.is_end_stream() {
                        self.complete();
                    }
                }
                Poll::Ready(Some(Err(_))) | Poll::Pending => break,
            }
        }
        if let State::Reading(held, _) = std::mem::replace(&mut self.state, State::Failed) {
            held.end(CloseReason::BodyDropped);
        }
    }
}
