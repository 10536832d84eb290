//! [`State`]: what the pool's lock guards. Arithmetic only: no I/O, no clock, no await.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use tokio::sync::oneshot;

use super::stats::Counts;
use super::watch::Pooled;
use crate::config::PoolConfig;
use crate::idle::{CloseReason, IdleSet};
use crate::origin::Origin;

/// What a request that asks for a connection is told.
#[derive(Debug)]
pub(super) enum Turn {
    /// Use this one.
    Reuse(Pooled),
    /// Open one; a place is reserved.
    Open,
    /// All places are taken: wait until one of [`Grant`] comes.
    Wait(u64, oneshot::Receiver<Grant>),
    /// The pool is closed.
    Closed,
}

/// What a waiter is given.
#[derive(Debug)]
pub(super) enum Grant {
    /// A connection that another request has just returned.
    Connection(Pooled),
    /// The place of a connection that has ended: open one.
    Place,
}

/// Connections to close, with the reason, once the lock is dropped.
pub(super) type Closing = Vec<(Pooled, CloseReason)>;

#[derive(Debug)]
pub(super) struct State {
    max_idle: usize,
    max_connections: usize,
    origins: HashMap<Origin, Places>,
    next_ticket: u64,
    pub(super) closed: bool,
    pub(super) counts: Counts,
    /// When the minder will look next, so that it is woken only for something earlier.
    pub(super) minder_looks_at: Option<Instant>,
}

/// One origin's connections and the requests that wait for one.
#[derive(Debug)]
struct Places {
    /// Being opened, in use and idle together.
    taken: usize,
    idle: IdleSet<Pooled>,
    /// By ticket, so that the first is the oldest and any can leave in logarithmic time.
    waiters: BTreeMap<u64, oneshot::Sender<Grant>>,
}

impl Places {
    fn new() -> Places {
        Places { taken: 0, idle: IdleSet::new(), waiters: BTreeMap::new() }
    }

    fn is_unused(&self) -> bool {
        self.taken == 0 && self.waiters.is_empty()
    }
}

impl State {
    pub(super) fn new(config: &PoolConfig) -> State {
        State {
            max_idle: config.max_idle_per_origin,
            max_connections: config.max_connections_per_origin.unwrap_or(usize::MAX),
            origins: HashMap::new(),
            next_ticket: 0,
            closed: false,
            counts: Counts::default(),
            minder_looks_at: None,
        }
    }

    /// A request wants a connection to `origin`. Nobody overtakes: while others wait, a newcomer waits too.
    pub(super) fn ask(&mut self, origin: &Origin, now: Instant, closing: &mut Closing) -> Turn {
        if self.closed {
            return Turn::Closed;
        }
        if !self.origins.contains_key(origin) {
            self.origins.insert(origin.clone(), Places::new());
        }
        let places = self.origins.get_mut(origin).expect("inserted above");
        let expired_before = closing.len();
        let idle = places.idle.take(now, closing);
        places.taken -= closing.len() - expired_before;
        if let Some(connection) = idle {
            self.counts.reused += 1;
            return Turn::Reuse(connection);
        }
        if places.taken < self.max_connections && places.waiters.is_empty() {
            places.taken += 1;
            return Turn::Open;
        }
        self.wait(origin)
    }

    /// As [`State::ask`], for a connection that was never used. At the limit the longest idle one makes room for it.
    pub(super) fn ask_fresh(&mut self, origin: &Origin, closing: &mut Closing) -> Turn {
        if self.closed {
            return Turn::Closed;
        }
        let places = self.origins.entry(origin.clone()).or_insert_with(Places::new);
        if places.taken < self.max_connections && places.waiters.is_empty() {
            places.taken += 1;
            return Turn::Open;
        }
        if let Some(longest) = places.idle.take_longest() {
            closing.push((longest, CloseReason::Evicted));
            return Turn::Open;
        }
        self.wait(origin)
    }

    fn wait(&mut self, origin: &Origin) -> Turn {
        let places = self.origins.get_mut(origin).expect("an origin that is asked for has its places");
        let (grant, waiting) = oneshot::channel();
        self.next_ticket += 1;
        places.waiters.insert(self.next_ticket, grant);
        Turn::Wait(self.next_ticket, waiting)
    }

    /// Takes out the origin's connections that have been idle since then or longer.
    pub(super) fn take_older(&mut self, origin: &Origin, since: Instant) -> Closing {
        let Some(places) = self.origins.get_mut(origin) else { return Vec::new() };
        let older = places.idle.take_older(since);
        places.taken -= older.len();
        self.tidy(origin);
        older.into_iter().map(|connection| (connection, CloseReason::StaleSibling)).collect()
    }

    /// A waiter has gone.
    pub(super) fn forget(&mut self, origin: &Origin, ticket: u64) {
        if let Some(places) = self.origins.get_mut(origin) {
            places.waiters.remove(&ticket);
        }
        self.tidy(origin);
    }

    /// A connection has ended, or was never opened: its place goes to the oldest waiter, or is free.
    pub(super) fn release(&mut self, origin: &Origin) {
        let Some(places) = self.origins.get_mut(origin) else { return };
        while let Some((_, waiter)) = places.waiters.pop_first() {
            if waiter.send(Grant::Place).is_ok() {
                return;
            }
        }
        places.taken -= 1;
        self.tidy(origin);
    }

    /// A connection that can be used again comes back: it goes to the oldest waiter, or rests until its `end`.
    pub(super) fn put_back(
        &mut self,
        origin: &Origin,
        mut connection: Pooled,
        since: Instant,
        end: Option<(Instant, CloseReason)>,
        closing: &mut Closing,
    ) {
        if self.closed {
            closing.push((connection, CloseReason::Shutdown));
            return self.release(origin);
        }
        let max_idle = self.max_idle;
        let places = self.origins.get_mut(origin).expect("an origin with a connection has its places");
        while let Some((_, waiter)) = places.waiters.pop_first() {
            match waiter.send(Grant::Connection(connection)) {
                Ok(()) => return,
                Err(Grant::Connection(back)) => connection = back,
                Err(Grant::Place) => unreachable!("what was sent comes back"),
            }
        }
        let number = connection.number();
        if let Some(evicted) = places.idle.offer(connection, number, since, end, max_idle) {
            places.taken -= 1;
            closing.push(evicted);
            self.tidy(origin);
        }
    }

    /// Takes one pooled connection out to look at it; its place stays taken.
    pub(super) fn take_one(&mut self, origin: &Origin, number: u64) -> Option<Pooled> {
        self.origins.get_mut(origin)?.idle.remove(number)
    }

    /// Takes out every connection past its end.
    pub(super) fn expire(&mut self, now: Instant, closing: &mut Closing) {
        for places in self.origins.values_mut() {
            let before = closing.len();
            places.idle.expire(now, closing);
            places.taken -= closing.len() - before;
        }
        self.origins.retain(|_, places| !places.is_unused());
    }

    /// When [`State::expire`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.origins.values().filter_map(|places| places.idle.next_deadline()).min()
    }

    /// Closes: idle connections go, waiters are told, nothing new begins.
    pub(super) fn close(&mut self, closing: &mut Closing) {
        self.closed = true;
        for places in self.origins.values_mut() {
            places.waiters.clear();
            places.taken -= places.idle.len();
            closing.extend(places.idle.drain().map(|connection| (connection, CloseReason::Shutdown)));
        }
        self.origins.retain(|_, places| !places.is_unused());
    }

    pub(super) fn stats(&self) -> super::PoolStats {
        let idle = self.origins.values().map(|places| places.idle.len()).sum();
        let taken: usize = self.origins.values().map(|places| places.taken).sum();
        let waiting = self.origins.values().map(|places| places.waiters.len()).sum();
        self.counts.stats(taken - idle, idle, waiting)
    }

    fn tidy(&mut self, origin: &Origin) {
        if self.origins.get(origin).is_some_and(Places::is_unused) {
            self.origins.remove(origin);
        }
    }
}
