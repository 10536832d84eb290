//! [`Upgraded`]: a connection that no longer speaks HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::drain;
use super::held::Held;
use crate::connect::Stream;
use crate::exchange::ConnectionFacts;
use crate::idle::CloseReason;

/// A connection after a 101 (RFC 9110, section 7.8) or a successful CONNECT (section 9.3.6), to be read and written by
/// the caller. What came behind the response's head is read first.
///
/// It keeps its place in the pool's limits until it is dropped; then it is closed
/// ([`CloseReason::Upgraded`]) and never used again. No timeout of the pool applies to it; but the deadline of
/// [`Pool::shutdown`](super::Pool::shutdown) does: whoever waits for something to read is told, and it is closed.
///
/// *Cancel safety.* That of a TCP stream: a read or write that was dropped did nothing, or its bytes count.
#[derive(Debug)]
pub struct Upgraded {
    ahead: Bytes,
    facts: Arc<ConnectionFacts>,
    /// `None` when the pool's end has cut it, and while it is dropped.
    held: Option<Held>,
}

impl Upgraded {
    pub(super) fn new(mut held: Held) -> Upgraded {
        let (ahead, facts) = (held.connection().take_ahead(), Arc::clone(held.facts()));
        if let Some(stream) = held.connection().stream() {
            stream.wire_mut().end_http();
        }
        Upgraded { ahead, facts, held: Some(held) }
    }

    /// The connection's number, addresses and TLS.
    pub fn connection(&self) -> &Arc<ConnectionFacts> {
        &self.facts
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        let held = self.held.as_mut().ok_or_else(cut)?;
        held.connection().stream().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Closes it if the pool's end has come; else whoever asks is woken when it comes.
    fn is_cut(&mut self, cx: &Context<'_>) -> bool {
        let cut = self.held.as_ref().is_some_and(|held| held.waits_for_the_end(cx.waker()));
        if cut && let Some(held) = self.held.take() {
            held.end(CloseReason::Shutdown);
        }
        cut
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, drain::cut_error())
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            let read = this.stream()?.poll_read(cx, buf);
            return if read.is_pending() && this.is_cut(cx) { Poll::Ready(Err(cut())) } else { read };
        }
        let n = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.end(CloseReason::Upgraded);
        }
    }
}
