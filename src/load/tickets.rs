//! [`Tickets`]: the queue between the schedule and the loops that send, first in, first out. Nothing is ever
//! dropped or moved in time: a ticket carries the instant at which its request was due.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Instant;

/// The order to send one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// When it was to be sent.
    pub(super) due: Instant,
    /// When the generator got round to it.
    pub(super) issued: Instant,
}

/// Tickets of one worker; it and its loops live on one thread.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    queue: RefCell<VecDeque<Ticket>>,
    waiting: RefCell<Vec<Waker>>,
    over: Cell<bool>,
}

impl Tickets {
    pub(super) fn push(&self, ticket: Ticket) {
        self.queue.borrow_mut().push_back(ticket);
        if let Some(waker) = self.waiting.borrow_mut().pop() {
            waker.wake();
        }
    }

    /// No more tickets will come.
    pub(super) fn end(&self) {
        self.over.set(true);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The oldest ticket; `None` when all are taken and no more will come.
    pub(super) async fn next(&self) -> Option<Ticket> {
        poll_fn(|cx| match self.queue.borrow_mut().pop_front() {
            Some(ticket) => Poll::Ready(Some(ticket)),
            None if self.over.get() => Poll::Ready(None),
            None => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// What nobody took.
    pub(super) fn leftovers(&self) -> Vec<Ticket> {
        self.queue.borrow_mut().drain(..).collect()
    }
}
