//! How a request waits its turn, and the two things it may hold before it has a connection: a [`Waiter`]'s number in
//! the queue and a [`Place`] for a connection that is not open yet. Each is given up by being dropped, so that no way
//! of leaving loses what others wait for.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Shared;
use super::state::{After, Grant, Kept, State};
use super::stats::Counts;
use super::watch::Pooled;
use crate::origin::Origin;

/// A pool, as far as the hand-off knows one: a state under a lock, and a way to give back what was not used.
pub(super) trait Desk: Clone {
    type Connection: Kept;

    /// Changes the state, and does what follows of the change once the lock is dropped.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut State<Self::Connection>, &mut After<Self::Connection>) -> R,
    ) -> R;

    /// Gives a connection back that no request has used since it was taken.
    fn rest_on(&self, connection: Self::Connection);
}

impl Desk for Arc<Shared> {
    type Connection = Pooled;

    fn change<R>(&self, change: impl FnOnce(&mut State<Pooled>, &mut After<Pooled>) -> R) -> R {
        Shared::change(self, change)
    }

    fn rest_on(&self, connection: Pooled) {
        Shared::rest_on(self, connection);
    }
}

/// A reserved place for a connection that is not open yet; given up when dropped.
pub(super) struct Place<D: Desk> {
    desk: D,
    origin: Origin,
    filled: bool,
}

impl<D: Desk> Place<D> {
    /// It must have been reserved.
    pub(super) fn new(desk: &D, origin: &Origin) -> Place<D> {
        Place { desk: desk.clone(), origin: origin.clone(), filled: false }
    }

    pub(super) fn desk(&self) -> &D {
        &self.desk
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The connection is open: the place is its own from now on.
    pub(super) fn fill(mut self, count: impl FnOnce(&mut Counts)) {
        self.filled = true;
        self.desk.change(|state, after| {
            count(&mut state.counts);
            state.opened(&self.origin, after);
        });
    }
}

impl<D: Desk> Drop for Place<D> {
    fn drop(&mut self) {
        if !self.filled {
            self.desk.change(|state, after| state.unopened(&self.origin, after));
        }
    }
}

/// What a waiter was given.
pub(super) enum Given<D: Desk> {
    Connection(D::Connection),
    Place(Place<D>),
    Closed,
}

/// A request in the queue. Dropped, it leaves the queue, and what it was given meanwhile goes on to the next.
pub(super) struct Waiter<D: Desk> {
    desk: D,
    origin: Origin,
    ticket: u64,
    received: bool,
}

impl<D: Desk> Waiter<D> {
    pub(super) fn new(desk: &D, origin: &Origin, ticket: u64) -> Waiter<D> {
        Waiter { desk: desk.clone(), origin: origin.clone(), ticket, received: false }
    }

    pub(super) fn desk(&self) -> &D {
        &self.desk
    }

    /// *Cancel safety.* Nothing is lost.
    pub(super) async fn given(mut self) -> Given<D> {
        let grant = poll_fn(|cx| self.poll(cx)).await;
        self.received = true;
        match grant {
            Grant::Connection(connection) => Given::Connection(connection),
            Grant::Place => Given::Place(Place::new(&self.desk, &self.origin)),
            Grant::Closed => Given::Closed,
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Grant<D::Connection>> {
        // Cloned before the lock is taken, and the old one dropped after: a waker is anybody's code.
        let mut waker = Some(cx.waker().clone());
        let granted = self.desk.change(|state, _| state.look(&self.origin, self.ticket, &mut waker));
        granted.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<D: Desk> Drop for Waiter<D> {
    fn drop(&mut self) {
        if self.received {
            return;
        }
        let (granted, _waker) = self.desk.change(|state, _| state.forget(&self.origin, self.ticket));
        match granted {
            Some(Grant::Connection(connection)) => self.desk.rest_on(connection),
            Some(Grant::Place) => drop(Place::new(&self.desk, &self.origin)),
            Some(Grant::Closed) | None => {}
        }
    }
}
