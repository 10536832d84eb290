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
use crate::error::{Error, ErrorKind};
use crate::origin::Origin;
use crate::phase::Phase;

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
    type Connection = Box<Pooled>;

    fn change<R>(&self, change: impl FnOnce(&mut State<Box<Pooled>>, &mut After<Box<Pooled>>) -> R) -> R {
        Shared::change(self, change)
    }

    fn rest_on(&self, connection: Box<Pooled>) {
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

    /// The connection is open, and whoever holds this uses it: the place is its own from now on.
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

/// The place of a waiter that goes on waiting while its connection is opened elsewhere. Dropped, it tells that waiter
/// that nothing will come of it.
pub(super) struct PlaceBeside<D: Desk> {
    place: Place<D>,
    requester: u64,
}

impl<D: Desk> PlaceBeside<D> {
    pub(super) fn place(&self) -> &Place<D> {
        &self.place
    }

    /// The connection is open: it goes to the waiter, or to the next if that one needs it no more, or rests.
    pub(super) fn deliver(mut self, connection: D::Connection, count: impl FnOnce(&mut Counts)) {
        let Place { desk, origin, filled } = &mut self.place;
        *filled = true;
        let unwanted = desk.change(|state, after| {
            count(&mut state.counts);
            state.deliver(origin, self.requester, connection, after)
        });
        if let Some(connection) = unwanted {
            desk.rest_on(connection);
        }
    }

    pub(super) fn fail(mut self, error: Error) {
        self.place.desk.change(|state, _| state.counts.failed_to_open += 1);
        self.give_up(error);
    }

    fn give_up(&mut self, error: Error) {
        let Place { desk, origin, filled } = &mut self.place;
        *filled = true;
        desk.change(|state, after| state.failed(origin, self.requester, error, after));
    }
}

impl<D: Desk> Drop for PlaceBeside<D> {
    fn drop(&mut self) {
        if !self.place.filled {
            let text = "the task that opened the connection ended before it was open";
            self.give_up(Error::new(ErrorKind::Connect).at(Phase::Connect).with_detail(text.into()));
        }
    }
}

/// What a waiter was given.
pub(super) enum Given<D: Desk> {
    /// See [`Grant::Connection`].
    Connection {
        connection: D::Connection,
        late: bool,
    },
    Own(D::Connection),
    Place(Place<D>),
    /// The only one after which there is more to come.
    PlaceBeside(PlaceBeside<D>),
    Failed(Error),
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

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What it is given next; nothing may be asked for after the last.
    ///
    /// *Cancel safety.* Nothing is lost.
    pub(super) async fn given(&mut self) -> Given<D> {
        let grant = poll_fn(|cx| self.poll(cx)).await;
        self.received = !matches!(grant, Grant::PlaceBeside);
        let place = || Place::new(&self.desk, &self.origin);
        match grant {
            Grant::Connection { connection, late } => Given::Connection { connection, late },
            Grant::Own(connection) => Given::Own(connection),
            Grant::Place => Given::Place(place()),
            Grant::PlaceBeside => Given::PlaceBeside(PlaceBeside { place: place(), requester: self.ticket }),
            Grant::Failed(error) => Given::Failed(error),
            Grant::Closed => Given::Closed,
        }
    }

    /// It has waited for a connection that comes back for as long as it would, and wants to open one now.
    pub(super) fn want(&self) {
        self.desk.change(|state, after| state.want(&self.origin, self.ticket, after));
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
        let (granted, _waker) =
            self.desk.change(|state, after| state.forget(&self.origin, self.ticket, after));
        match granted {
            Some(Grant::Connection { connection, .. } | Grant::Own(connection)) => {
                self.desk.rest_on(connection);
            }
            Some(Grant::Place) => drop(Place::new(&self.desk, &self.origin)),
            Some(Grant::PlaceBeside | Grant::Failed(_) | Grant::Closed) | None => {}
        }
    }
}

#[cfg(test)]
mod model;
