//! What becomes of a response body that its caller dropped: a short rest is read to save the connection, a long one
//! is not.
//!
//! *Design.* What has already arrived is read where the body is dropped: it costs a few reads and no waiting. What is
//! still on its way is waited for by a task of its own, within [`PoolConfig::max_unread`] and
//! [`PoolConfig::unread_timeout`], so that the caller never waits. The connection keeps its place meanwhile: there are
//! never more of these tasks than there may be connections.
//!
//! [`PoolConfig::max_unread`]: crate::PoolConfig::max_unread
//! [`PoolConfig::unread_timeout`]: crate::PoolConfig::unread_timeout

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use tokio::runtime::Handle;

use super::response::Reading;
use crate::idle::CloseReason;

/// The body is dropped here, wherever that is.
pub(super) fn leave(reading: Reading) {
    let limit = reading.held.config().unread_timeout;
    let can_be_saved = reading.held.may_go_on();
    let mut unread = Unread::new(reading);
    if unread.poll(&mut Context::from_waker(Waker::noop())).is_ready() || !can_be_saved {
        return;
    }
    if let (Ok(runtime), true) = (Handle::try_current(), limit > Duration::ZERO) {
        runtime.spawn(read_on(unread, limit));
    }
}

/// Reads on until the end of the body, or of the time, or of the pool.
async fn read_on(mut unread: Unread, limit: Duration) {
    let Some(shared) = unread.reading.as_ref().map(|reading| Arc::clone(reading.held.shared())) else {
        return;
    };
    let reading = pin!(tokio::time::timeout(limit, poll_fn(|cx| unread.poll(cx))));
    let _ = shared.drain.unless_cut(reading).await;
}

/// The rest of a body that nobody wants. Dropped, it ends its connection.
struct Unread {
    /// `None` once the connection has been given back, or ended.
    reading: Option<Reading>,
    /// How many more bytes of it may be read.
    budget: usize,
}

impl Unread {
    fn new(reading: Reading) -> Unread {
        let budget = reading.held.config().max_unread;
        // Where the length is known nothing is begun that cannot be finished.
        let fits = reading.incoming.size_hint().lower() <= budget as u64;
        let mut unread = Unread { reading: Some(reading), budget };
        if !fits {
            unread.end();
        }
        unread
    }

    /// Reads what is there. Ready when nothing more is to be read.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(reading) = &mut self.reading {
            match ready!(reading.poll_frame(cx)) {
                None => self.complete(),
                Some(Err(_)) => self.end(),
                Some(Ok(frame)) => {
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    if reading.is_at_end() {
                        self.complete();
                    } else if let Some(budget) = self.budget.checked_sub(read) {
                        self.budget = budget;
                    } else {
                        self.end();
                    }
                }
            }
        }
        Poll::Ready(())
    }

    fn complete(&mut self) {
        self.reading.take().map(Reading::complete);
    }

    fn end(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.held.end(CloseReason::BodyDropped);
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.end();
    }
}
