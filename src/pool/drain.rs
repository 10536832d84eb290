//! [`Drain`]: how a pool is emptied: what is under way may end by itself, until a deadline.
//!
//! *Design.* A connection is polled by whoever holds it, so nobody else can close it. At the deadline a flag is set and
//! every holder is woken; it finds the flag and lets its connection go. Holders leave their wakers with their
//! connection's [`Watch`] whenever they wait for its peer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use super::watch::Watch;
use crate::error::{Error, ErrorKind};

/// What was left when the deadline of [`Pool::shutdown`](super::Pool::shutdown) came. All zero: everything had ended by
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were in use or being opened. Their requests ended with [`ErrorKind::Closed`].
    pub cut: usize,
    /// Those of them that are open still, because whoever holds their [`Lease`](super::Lease) or
    /// [`Body`](super::Body) does not poll it. They close when it is polled or dropped.
    pub held: usize,
}

/// How long holders have to let go of their connections once they were told.
const GRACE: Duration = Duration::from_millis(100);

/// What the end of a pool needs to be known by its connections' holders.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: AtomicBool,
    cut: AtomicBool,
    cutting: Notify,
    /// Something ended since the pool was shut.
    ended: Notify,
    /// Every open connection's watch, and some of those closed since.
    watches: Mutex<Vec<Weak<Watch>>>,
}

impl Drain {
    pub(super) fn begin(&self) {
        self.begun.store(true, SeqCst);
    }

    /// Whether connections end with the exchange that they are at.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(SeqCst)
    }

    /// Whether the deadline has come.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    /// A connection was opened.
    pub(super) fn remember(&self, watch: &Arc<Watch>) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        // Each look at all of them is paid for by as many openings.
        if watches.len() == watches.capacity() {
            watches.retain(|watch| watch.strong_count() > 0);
        }
        watches.push(Arc::downgrade(watch));
    }

    /// A connection, or a wait for its peer's FIN, has ended.
    pub(super) fn note_end(&self) {
        if self.has_begun() {
            self.ended.notify_waiters();
        }
    }

    fn cut(&self) {
        self.cut.store(true, SeqCst);
        self.cutting.notify_waiters();
        let watches = std::mem::take(&mut *self.watches.lock().unwrap_or_else(PoisonError::into_inner));
        watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.wake_holder());
    }

    async fn until_cut(&self) {
        let mut cutting = pin!(self.cutting.notified());
        cutting.as_mut().enable();
        if !self.is_cut() {
            cutting.await;
        }
    }

    /// Does this unless the deadline comes first: for what takes long and happens seldom. It stays where it lies: it may be
    /// large.
    pub(super) async fn unless_cut<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut cut = pin!(self.until_cut());
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => cut.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

/// Closes what is idle, waits for the rest, and cuts it at the deadline.
pub(super) async fn shut_down(shared: &Arc<Shared>, deadline: Duration) -> Drained {
    shared.shut();
    if tokio::time::timeout(deadline, until_empty(shared)).await.is_ok() {
        return Drained::default();
    }
    let cut = shared.lock().stats().busy;
    shared.drain.cut();
    let _ = tokio::time::timeout(GRACE, until_empty(shared)).await;
    Drained { cut, held: shared.lock().stats().busy }
}

async fn until_empty(shared: &Shared) {
    loop {
        let mut ended = pin!(shared.drain.ended.notified());
        ended.as_mut().enable();
        if shared.is_empty() {
            return;
        }
        ended.await;
    }
}

pub(super) fn cut_error() -> Error {
    let text = "the pool was shut down, and its deadline came before the end of the response";
    Error::new(ErrorKind::Closed).with_detail(text.into())
}
