//! [`Conversation`]: hyper's side of a connection, which a connection that rests for long does without, and so does one that
//! has had no request yet.
//!
//! *Design.* hyper keeps a read buffer and a write buffer of 8 KiB each for a connection, and a block of its request
//! channel: some 26 kB, however long nothing is said. Between two exchanges its state is worth nothing beyond what the
//! stream itself holds, and to make it anew takes a microsecond and no system call. So a connection that has rested for a
//! second is taken apart, and only its stream is watched; its next request puts it together again. And a new one begins so:
//! what lives as long as the connection is then allocated before buffers that come and go, and not among them.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::body::RequestBody;
use crate::connect::Stream;
use crate::idle::CloseReason;

type HyperConnection = http1::Connection<TokioIo<Stream>, RequestBody>;

/// The head of a response; or why there is none, with the request if hyper has not begun to write it.
pub(super) type Answered = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Where a conversation stands.
#[derive(Debug)]
pub(super) enum Conversation {
    /// hyper has the stream. It lies in a box of its own: it is most of what a connection would be, and moves with it.
    Awake(SendRequest<RequestBody>, Box<HyperConnection>),
    /// It rests, and hyper's share of it has been given up; or has never been made.
    Dormant(Stream),
    /// hyper is done with the stream, which is still open on our side.
    Over(Stream),
    /// Only while it goes from one to the next.
    Nothing,
}

/// How it ended: what an error told, and what had been read ahead.
pub(super) struct Ended {
    pub(super) told: Option<CloseReason>,
    pub(super) ahead: Bytes,
}

impl Conversation {
    /// Begins to speak HTTP/1.1 over a stream. Nothing is read or written yet.
    fn over(stream: Stream, builder: &Builder) -> Result<Conversation, hyper::Error> {
        let mut handshake = pin!(builder.handshake(TokioIo::new(stream)));
        match handshake.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(made) => made.map(|(sender, hyper)| Conversation::Awake(sender, Box::new(hyper))),
            Poll::Pending => unreachable!("HTTP/1.1 has no handshake: hyper waits for nothing"),
        }
    }

    /// Whether another request may be written now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Conversation::Awake(sender, _) => sender.is_ready(),
            Conversation::Dormant(_) => true,
            Conversation::Over(_) | Conversation::Nothing => false,
        }
    }

    /// Whether it goes on and takes no request, because the last one is not yet written.
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(self, Conversation::Awake(sender, _) if !sender.is_ready())
    }

    /// Reads and writes what can be. Answers with its end when that has come; afterwards with nothing.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        match self {
            Conversation::Awake(_, hyper) => {
                let Poll::Ready(result) = hyper.poll_without_shutdown(cx) else { return None };
                let told = result.err().as_ref().and_then(told_by);
                let ahead = self.take_apart();
                Some(Ended { told, ahead })
            }
            Conversation::Dormant(stream) => {
                let told = ready_to_end(stream, cx)?;
                *self = match std::mem::replace(self, Conversation::Nothing) {
                    Conversation::Dormant(stream) => Conversation::Over(stream),
                    other => other,
                };
                Some(Ended { told, ahead: Bytes::new() })
            }
            Conversation::Over(_) | Conversation::Nothing => None,
        }
    }

    /// hyper gives the stream back, with what it has read ahead, and a request that was queued and not yet written to
    /// whoever sent it.
    fn take_apart(&mut self) -> Bytes {
        match std::mem::replace(self, Conversation::Nothing) {
            Conversation::Awake(_, hyper) => {
                let parts = hyper.into_parts();
                *self = Conversation::Over(parts.io.into_inner());
                parts.read_buf
            }
            other => {
                *self = other;
                Bytes::new()
            }
        }
    }

    pub(super) fn is_dormant(&self) -> bool {
        matches!(self, Conversation::Dormant(_))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Conversation::Over(_) | Conversation::Nothing)
    }

    /// Gives up what hyper holds of a conversation that rests. One in which something was read that nobody asked for is
    /// over, and is to be ended.
    pub(super) fn fall_asleep(&mut self) -> Option<Ended> {
        if !matches!(self, Conversation::Awake(sender, _) if sender.is_ready()) {
            return None;
        }
        let ahead = self.take_apart();
        if !ahead.is_empty() {
            return Some(Ended { told: Some(CloseReason::Unsolicited), ahead });
        }
        *self = match std::mem::replace(self, Conversation::Nothing) {
            Conversation::Over(stream) => Conversation::Dormant(stream),
            other => other,
        };
        None
    }

    /// Has hyper again where it was given up.
    pub(super) fn wake_up(&mut self, builder: impl FnOnce() -> Builder) -> Result<(), hyper::Error> {
        match std::mem::replace(self, Conversation::Nothing) {
            Conversation::Dormant(stream) => *self = Conversation::over(stream, &builder())?,
            other => *self = other,
        }
        Ok(())
    }

    /// Hands the request to hyper, out of its place; it stays there when the conversation is over.
    pub(super) fn send(
        &mut self,
        place: &mut Option<Request<RequestBody>>,
    ) -> Option<impl Future<Output = Answered> + use<>> {
        match self {
            Conversation::Awake(sender, _) => place.take().map(|request| sender.try_send_request(request)),
            _ => None,
        }
    }

    /// The stream of a conversation that is over.
    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match self {
            Conversation::Over(stream) => Some(stream),
            _ => None,
        }
    }

    /// Gives the stream up, to be closed.
    pub(super) fn take_stream(&mut self) -> Option<Stream> {
        match std::mem::replace(self, Conversation::Nothing) {
            Conversation::Awake(_, hyper) => Some(hyper.into_parts().io.into_inner()),
            Conversation::Dormant(stream) | Conversation::Over(stream) => Some(stream),
            Conversation::Nothing => None,
        }
    }
}

/// Reads a stream on which nobody says anything: `None` while that is so; else why it has ended, if an error tells.
fn ready_to_end(stream: &mut Stream, cx: &mut Context<'_>) -> Option<Option<CloseReason>> {
    let mut byte = [0_u8; 1];
    let mut buf = ReadBuf::new(&mut byte);
    match Pin::new(stream).poll_read(cx, &mut buf) {
        Poll::Pending => None,
        Poll::Ready(Ok(())) if buf.filled().is_empty() => Some(None),
        Poll::Ready(Ok(())) => Some(Some(CloseReason::Unsolicited)),
        Poll::Ready(Err(error)) => Some(told_by_io(error.kind())),
    }
}

/// What an error says of a connection that was idle. The end of the stream says nothing more than itself.
pub(super) fn told_by(error: &hyper::Error) -> Option<CloseReason> {
    use std::error::Error as _;
    // A request that is handed back comes with the connection's own error.
    let cause = if error.is_canceled() { error.source()?.downcast_ref()? } else { error };
    if cause.is_incomplete_message() {
        // What hyper calls the end of a connection that had no request yet.
        return None;
    }
    match cause.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        // hyper's refusal of a message.
        None => Some(CloseReason::Unsolicited),
        Some(error) => told_by_io(error.kind()),
    }
}

fn told_by_io(kind: io::ErrorKind) -> Option<CloseReason> {
    match kind {
        // rustls' refusal of a record.
        io::ErrorKind::InvalidData => Some(CloseReason::Unsolicited),
        // tokio's word for a socket whose runtime has ended.
        io::ErrorKind::Other => Some(CloseReason::Shutdown),
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(CloseReason::PeerLost)
        }
        _ => None,
    }
}
