//! [`Scripted`]: a response body that comes in pieces, with pauses, and may end before its announced length.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::conversation::Unanswered;
use crate::pauses::Pauses;

/// A body in pieces. Its announced length is that of all of them.
pub(super) struct Scripted {
    pieces: VecDeque<Bytes>,
    announced: u64,
    /// Before every piece, so that what was written before it leaves alone.
    rest: Rest,
    pausing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The connection ends where the second half would begin.
    cut: bool,
}

/// A pause between two pieces.
#[derive(Clone)]
pub(super) struct Rest(Option<(Duration, Arc<Pauses>)>);

impl Rest {
    const NONE: Rest = Rest(None);

    pub(super) fn of(pause: Duration, kept_by: Arc<Pauses>) -> Rest {
        Rest(Some((pause, kept_by)))
    }

    /// Even a pause of no time lets go of the task once: hyper flushes what it has when there is nothing more.
    async fn take(self) {
        tokio::task::yield_now().await;
        if let Some((pause, pauses)) = self.0 {
            pauses.last(pause).await;
        }
    }
}

impl Scripted {
    /// The body at once, after a pause behind the head.
    pub(super) fn after_head(body: Bytes, rest: Rest) -> Scripted {
        Scripted::new([body].into(), rest)
    }

    /// The body in `n` pieces of about the same length, fewer when it has fewer bytes.
    pub(super) fn dribbled(mut body: Bytes, n: u64, rest: Rest) -> Scripted {
        let length = body.len().div_ceil(usize::try_from(n).unwrap_or(usize::MAX)).max(1);
        let mut pieces = VecDeque::new();
        while !body.is_empty() {
            pieces.push_back(body.split_to(length.min(body.len())));
        }
        Scripted::new(pieces, rest)
    }

    /// Announces all of the body, sends half of it, and ends the connection.
    pub(super) fn truncated(body: &Bytes) -> Scripted {
        let half = body.slice(..body.len() / 2);
        let announced = body.len() as u64;
        Scripted { announced, cut: true, ..Scripted::new([half].into(), Rest::NONE) }
    }

    fn new(pieces: VecDeque<Bytes>, rest: Rest) -> Scripted {
        let announced = pieces.iter().map(|piece| piece.len() as u64).sum();
        Scripted { pieces, announced, rest, pausing: None, cut: false }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pausing = self.pausing.get_or_insert_with(|| Box::pin(self.rest.clone().take()));
        ready!(pausing.as_mut().poll(cx));
        self.pausing = None;
        Poll::Ready(())
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Unanswered;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unanswered>>> {
        let this = self.get_mut();
        if this.pieces.is_empty() && !this.cut {
            return Poll::Ready(None);
        }
        ready!(this.poll_pause(cx));
        Poll::Ready(match this.pieces.pop_front() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None => Some(Err(Unanswered)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("pieces", &self.pieces.len()).field("cut", &self.cut).finish()
    }
}
