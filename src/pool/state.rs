//! [`State`]: what the pool's lock guards. Arithmetic only: no I/O, no clock, no await, and nobody else's code. What
//! follows of a change (connections to close, requests to wake) is handed out as an [`After`] and done when the lock
//! has been dropped. Two things are done to an idle connection where it lies, to a few at a time: it falls asleep, and it is
//! looked at when its socket stirs. Taken out for that, it would be missed by a request that comes meanwhile, which would
//! open another.
//!
//! *Fairness.* Whoever gives something up serves the oldest request that can use it: a connection can be used by
//! requests to its origin; a place by any request whose origin is below its own limits. So with a limit over all
//! origins, an older request to another origin gets the place of a connection that comes back, which is closed for
//! it, and no origin can be starved by a busier one. Nobody overtakes: as long as somebody waits who could use
//! what is free, there is nothing free.
//!
//! A request that needs a connection which nobody has used waits for a place alone. Where its origin has no place left,
//! an idle connection of that origin is closed for it, and so is one that comes back while it is the oldest.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::stats::Counts;
use crate::config::{OnMiss, PoolConfig};
use crate::error::Error;
use crate::idle::{CloseReason, IdleSet, end_of_rest};
use crate::origin::{ByOrigin, Origin};

mod places;

use places::{Limits, Places, Stage, Waiting};

/// A connection, as far as the arithmetic knows one.
pub(super) trait Kept {
    /// When its lifetime ends.
    fn dies(&self) -> Option<Instant>;
    /// How long it may rest, and the reason then: as is `usual`, unless its server has said otherwise.
    fn may_rest(&self, usual: Option<Duration>) -> Option<(Duration, CloseReason)> {
        usual.map(|timeout| (timeout, CloseReason::IdleTimeout))
    }
    /// It rests from now on, in that slot.
    fn rests_in(&self, slot: usize);
    /// It has rested for [`DOZES_AFTER`] at least: what it can do without is given up.
    fn fall_asleep(&mut self);
}

/// A connection that has rested for so long falls asleep within as long again. That is long beside what it costs to wake
/// it up, and short beside the idle times for which connections are kept.
const DOZES_AFTER: Duration = Duration::from_secs(1);

/// So many slots are looked through for such connections before the lock is dropped for others.
const LOOKED_THROUGH: usize = 16;

/// What a request that asks for a connection is told.
#[derive(Debug)]
pub(super) enum Turn<C> {
    /// Use this one.
    Reuse(C),
    /// Open one; a place is reserved.
    Open,
    /// Wait, under this number, for a [`Grant`].
    Wait(u64),
    /// As many wait as may wait.
    Full,
    /// The pool is closed.
    Closed,
}

/// What a waiter is given.
#[derive(Debug)]
pub(super) enum Grant<C> {
    /// A connection that another request has just returned, or that was opened for another and is not needed there.
    Connection {
        connection: C,
        /// The waiter has begun to open one, too.
        late: bool,
    },
    /// The connection that was opened for this waiter.
    Own(C),
    /// A place: open one. The waiter leaves the queue.
    Place,
    /// A place: open one, and go on waiting meanwhile.
    PlaceBeside,
    /// The connection that this waiter waited for could not be opened.
    Failed(Error),
    /// The pool is closed.
    Closed,
}

/// What follows of a change, once the lock is dropped.
#[derive(Debug)]
pub(super) struct After<C> {
    pub(super) closing: Vec<(C, CloseReason)>,
    /// Those to wake. They are the requests' own code, which may panic, or lock what it likes.
    wakers: Vec<Waker>,
    /// The minder must look earlier than it meant to.
    pub(super) earlier: bool,
}

impl<C> Default for After<C> {
    fn default() -> After<C> {
        After { closing: Vec::new(), wakers: Vec::new(), earlier: false }
    }
}

impl<C> After<C> {
    /// Wakes whoever was given something. A waker that panics harms its own request: the one that gave the
    /// connection back is not to suffer for it, nor the others that wait. The panic hook has told of it.
    pub(super) fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

#[derive(Debug)]
pub(super) struct State<C> {
    limits: Limits,
    origins: HashMap<Origin, Places, ByOrigin>,
    idle: IdleSet<Origin, C>,
    /// Being opened, in use and idle together.
    taken: usize,
    /// Of those, being opened.
    opening: usize,
    waiting: usize,
    next_ticket: u64,
    /// What was given to waiters and not yet received.
    granted: HashMap<u64, Grant<C>>,
    /// The first waiter of each origin that is below its own limits: all that these wait for is a place among those
    /// of all origins.
    eager: BTreeMap<u64, Origin>,
    pub(super) closed: bool,
    pub(super) counts: Counts,
    /// When the minder will look next, so that it is woken only for something earlier.
    minder_looks_at: Option<Instant>,
    naps: Naps,
}

/// When connections that rest fall asleep. All slots are looked through at once, and no more often than need be: a
/// connection that is used again and again costs nothing.
#[derive(Debug, Default)]
struct Naps {
    /// When they are looked through next; `None`: whatever rests is asleep.
    next: Option<Instant>,
    /// How far that has come.
    slot: usize,
    /// Some were too young.
    more: bool,
}

impl<C: Kept> State<C> {
    pub(super) fn new(config: &PoolConfig) -> State<C> {
        State {
            limits: Limits::new(config),
            origins: HashMap::default(),
            idle: IdleSet::new(),
            taken: 0,
            opening: 0,
            waiting: 0,
            next_ticket: 0,
            granted: HashMap::new(),
            eager: BTreeMap::new(),
            closed: false,
            counts: Counts::default(),
            minder_looks_at: None,
            naps: Naps::default(),
        }
    }

    /// A request wants a connection to `origin`.
    pub(super) fn ask(&mut self, origin: &Origin, now: Instant, after: &mut After<C>) -> Turn<C> {
        if self.closed {
            return Turn::Closed;
        }
        if let Some(connection) = self.take_idle(origin, now, after) {
            self.counts.reused += 1;
            return Turn::Reuse(connection);
        }
        self.miss(origin, after)
    }

    /// As [`State::ask`], for a connection that was never used. Where its origin has no place left the longest idle of
    /// that origin makes room for it.
    pub(super) fn ask_fresh(&mut self, origin: &Origin, after: &mut After<C>) -> Turn<C> {
        if self.closed {
            return Turn::Closed;
        }
        let places = self.origins.entry(origin.clone()).or_default();
        let is_full = places.queued >= self.limits.waiting_per_origin;
        // If there is room nobody is overtaken: who waits and could use it would have it.
        if places.may_open_fresh(&self.limits) && self.make_room_at(origin, after) {
            self.origins.entry(origin.clone()).or_default();
            self.reserve(origin);
            return Turn::Open;
        }
        if is_full {
            self.tidy(origin);
            return Turn::Full;
        }
        Turn::Wait(self.enqueue(origin, Stage::Fresh))
    }

    /// Closes the origin's connections that have been idle since then or longer.
    pub(super) fn close_older(&mut self, origin: &Origin, since: Instant, after: &mut After<C>) {
        while let Some(places) = self.origins.get_mut(origin) {
            let Some(older) = self.idle.take_older(&mut places.idle, since) else { return };
            after.closing.push((older, CloseReason::StaleSibling));
            self.release(origin, after);
        }
    }

    fn miss(&mut self, origin: &Origin, after: &mut After<C>) -> Turn<C> {
        let places = self.origins.entry(origin.clone()).or_default();
        let is_full = places.queued >= self.limits.waiting_per_origin;
        let is_patient = matches!(self.limits.on_miss, OnMiss::WaitThenOpen(_));
        if is_patient && places.taken > 0 && !is_full {
            return Turn::Wait(self.enqueue(origin, Stage::Patient));
        }
        // If there is room nobody is overtaken: who waits and could use it would have it.
        if places.may_open(&self.limits) && self.make_room(after) {
            self.reserve(origin);
            return match self.limits.on_miss {
                OnMiss::LateBind => Turn::Wait(self.enqueue(origin, Stage::Reserved)),
                OnMiss::Open | OnMiss::WaitThenOpen(_) => Turn::Open,
            };
        }
        if is_full {
            self.tidy(origin);
            return Turn::Full;
        }
        let stage = if is_patient { Stage::Patient } else { Stage::Wanting };
        Turn::Wait(self.enqueue(origin, stage))
    }

    fn take_idle(&mut self, origin: &Origin, now: Instant, after: &mut After<C>) -> Option<C> {
        let places = self.origins.get_mut(origin)?;
        let before = after.closing.len();
        let found = self.idle.take(&mut places.idle, self.limits.order, now, &mut after.closing);
        let ended = after.closing.len() - before;
        places.taken -= ended;
        self.taken -= ended;
        found
    }

    fn enqueue(&mut self, origin: &Origin, stage: Stage) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.places(origin).in_stage(stage).insert(ticket, Waiting { waker: None, stage });
        self.count_in(origin, ticket, stage);
        self.settle(origin);
        ticket
    }

    fn count_in(&mut self, origin: &Origin, ticket: u64, stage: Stage) {
        let places = self.places(origin);
        places.queued += usize::from(stage.is_queued());
        if stage == Stage::Wanting {
            places.wanting.insert(ticket);
        }
        self.waiting += usize::from(stage.is_queued());
    }

    fn count_out(&mut self, origin: &Origin, ticket: u64, stage: Stage) {
        let places = self.places(origin);
        places.queued -= usize::from(stage.is_queued());
        if stage == Stage::Wanting {
            places.wanting.remove(&ticket);
        }
        self.waiting -= usize::from(stage.is_queued());
    }

    /// Moves a waiter on to another stage. Answers with the waker that it left.
    fn advance(&mut self, origin: &Origin, ticket: u64, stage: Stage) -> Option<Waker> {
        let waiting = self.places(origin).waiters.get_mut(&ticket)?;
        let (before, waker) = (std::mem::replace(&mut waiting.stage, stage), waiting.waker.take());
        self.count_out(origin, ticket, before);
        self.count_in(origin, ticket, stage);
        self.settle(origin);
        waker
    }

    /// A waiter asks what it was given, and leaves its waker if there is nothing yet. What comes back in `waker` is
    /// to be dropped without the lock: that may run anybody's code.
    pub(super) fn look(
        &mut self,
        origin: &Origin,
        ticket: u64,
        waker: &mut Option<Waker>,
    ) -> Option<Grant<C>> {
        if let Some(granted) = self.granted.remove(&ticket) {
            return Some(granted);
        }
        let waiting = self.places(origin).waiting(ticket);
        let waiting = waiting.expect("a waiter without a grant is in the queue");
        if waiting.stage == Stage::Reserved {
            waiting.stage = Stage::Opening;
            return Some(Grant::PlaceBeside);
        }
        std::mem::swap(&mut waiting.waker, waker);
        None
    }

    /// A waiter has been patient for long enough.
    pub(super) fn want(&mut self, origin: &Origin, ticket: u64, after: &mut After<C>) {
        let places = self.origins.get(origin);
        let waiting = places.and_then(|places| places.waiters.get(&ticket));
        if waiting.is_some_and(|waiting| waiting.stage == Stage::Patient) {
            after.wakers.extend(self.advance(origin, ticket, Stage::Wanting));
            self.serve(after);
        }
    }

    /// A waiter has gone. Answers with what it was given and did not receive, which is to be passed on, and with the
    /// waker that it left, which is to be dropped without the lock.
    pub(super) fn forget(
        &mut self,
        origin: &Origin,
        ticket: u64,
        after: &mut After<C>,
    ) -> (Option<Grant<C>>, Option<Waker>) {
        if let Some(granted) = self.granted.remove(&ticket) {
            return (Some(granted), None);
        }
        let Some(waiting) = self.dequeue(origin, ticket) else { return (None, None) };
        match waiting.stage {
            Stage::Reserved => self.unopened(origin, after),
            _ => self.tidy(origin),
        }
        (None, waiting.waker)
    }

    fn dequeue(&mut self, origin: &Origin, ticket: u64) -> Option<Waiting> {
        let places = self.origins.get_mut(origin)?;
        let waiting = places.waiters.remove(&ticket).or_else(|| places.fresh.remove(&ticket))?;
        self.count_out(origin, ticket, waiting.stage);
        self.settle(origin);
        Some(waiting)
    }

    /// The connection for a reserved place is open, and in use.
    pub(super) fn opened(&mut self, origin: &Origin, after: &mut After<C>) {
        self.end_opening(origin);
        self.settle(origin);
        self.serve(after);
    }

    /// The connection that was opened for a waiter is there. It comes back when that waiter has gone or been served:
    /// then it is one that somebody returns unused.
    pub(super) fn deliver(
        &mut self,
        origin: &Origin,
        ticket: u64,
        connection: C,
        after: &mut After<C>,
    ) -> Option<C> {
        let awaited = self.places(origin).waiters.contains_key(&ticket);
        let unwanted = if awaited {
            self.grant(origin, ticket, Grant::Own(connection), after);
            None
        } else {
            Some(connection)
        };
        self.opened(origin, after);
        unwanted
    }

    /// The connection that was opened for a waiter could not be opened: that waiter is told, if it still waits.
    pub(super) fn failed(&mut self, origin: &Origin, ticket: u64, error: Error, after: &mut After<C>) {
        if self.places(origin).waiters.contains_key(&ticket) {
            self.grant(origin, ticket, Grant::Failed(error), after);
        }
        self.unopened(origin, after);
    }

    /// A reserved place is given up: no connection was opened.
    pub(super) fn unopened(&mut self, origin: &Origin, after: &mut After<C>) {
        self.end_opening(origin);
        self.release(origin, after);
    }

    fn end_opening(&mut self, origin: &Origin) {
        self.places(origin).opening -= 1;
        self.opening -= 1;
    }

    /// A connection has ended: its place is free.
    pub(super) fn release(&mut self, origin: &Origin, after: &mut After<C>) {
        self.places(origin).taken -= 1;
        self.taken -= 1;
        self.settle(origin);
        self.serve(after);
        self.tidy(origin);
    }

    /// A connection that can be used again comes back: it goes to the oldest waiter, or rests from `since` on.
    pub(super) fn put_back(&mut self, origin: &Origin, connection: C, since: Instant, after: &mut After<C>) {
        if self.closed {
            after.closing.push((connection, CloseReason::Shutdown));
            return self.release(origin, after);
        }
        let limits = &self.limits;
        let places = self.origins.get(origin).expect("an origin with a connection has its places");
        if places.is_calm() && self.eager.is_empty() {
            return self.rest(origin, connection, since, after);
        }
        let first = places.waiters.first_key_value().map(|(&ticket, _)| ticket);
        let eager = self.eager.first_key_value().map(|(&ticket, _)| ticket);
        let opens = eager.into_iter().chain(places.next_fresh(limits)).min();
        match first {
            Some(first) if opens.is_none_or(|opens| first <= opens) => {
                self.hand_over(origin, first, connection, after);
            }
            // If there is a first, whoever opens instead takes the place of this connection.
            _ => {
                self.rest(origin, connection, since, after);
                self.settle(origin);
                self.serve(after);
            }
        }
    }

    /// Gives a connection to a waiter, which may have a place of its own or even be opening one: a place that it has
    /// not heard of goes to the next; an opening goes on, for whoever needs it.
    fn hand_over(&mut self, origin: &Origin, ticket: u64, connection: C, after: &mut After<C>) {
        let stage = self.places(origin).waiters.get(&ticket).map(|waiting| waiting.stage);
        let late = stage == Some(Stage::Opening);
        self.counts.reused += 1;
        self.counts.late_bound += u64::from(late);
        self.grant(origin, ticket, Grant::Connection { connection, late }, after);
        if stage == Some(Stage::Reserved) {
            self.unopened(origin, after);
        }
    }

    fn rest(&mut self, origin: &Origin, connection: C, since: Instant, after: &mut After<C>) {
        let end = end_of_rest(since, connection.may_rest(self.limits.idle_timeout), connection.dies());
        let places = self.origins.get_mut(origin).expect("an origin with a connection has its places");
        let slot = self.idle.offer(&mut places.idle, (origin.clone(), connection), since, end);
        self.idle.at(slot).expect("offered above").rests_in(slot);
        // It may lie in a slot that has been looked through already.
        self.naps.more |= self.naps.slot > 0;
        let naps = *self.naps.next.get_or_insert_with(|| since + DOZES_AFTER);
        let at = end.map_or(naps, |(at, _)| at.min(naps));
        if self.minder_looks_at.is_none_or(|looks_at| at < looks_at) {
            self.minder_looks_at = Some(at);
            after.earlier = true;
        }
        if places.idle.len() > self.limits.idle_per_origin {
            self.evict(&origin.clone(), after);
        } else if self.idle.len() > self.limits.idle {
            self.evict_longest(after);
        }
    }

    /// Looks at an idle connection where it lies, if it is the one that is meant, and takes it out if it does not go on; its
    /// place stays taken.
    pub(super) fn examine(
        &mut self,
        origin: &Origin,
        slot: usize,
        is_meant: impl FnOnce(&C) -> bool,
        goes_on: impl FnOnce(&mut C) -> bool,
    ) -> Option<C> {
        let connection = self.idle.at_mut(slot).filter(|connection| is_meant(connection))?;
        if goes_on(connection) {
            return None;
        }
        let places = self.origins.get_mut(origin)?;
        Some(self.idle.remove(&mut places.idle, slot))
    }

    /// The first thing that is found at an idle connection.
    pub(super) fn find_idle<T>(&self, find: impl FnMut(&C) -> Option<T>) -> Option<T> {
        self.idle.iter().find_map(find)
    }

    /// Takes out every connection past its end. Answers when to look again.
    pub(super) fn expire(&mut self, now: Instant, after: &mut After<C>) -> Option<Instant> {
        while let Some((slot, origin, reason)) = self.idle.next_ended(now) {
            let origin = origin.clone();
            let places = self.origins.get_mut(&origin).expect("an origin with a connection has its places");
            after.closing.push((self.idle.remove(&mut places.idle, slot), reason));
            self.release(&origin, after);
        }
        self.minder_looks_at = self.idle.next_alarm().into_iter().chain(self.naps.next).min();
        self.minder_looks_at
    }

    /// Has some of those fall asleep that have rested for long enough. Answers whether to go on: there may be many.
    pub(super) fn doze(&mut self, now: Instant) -> bool {
        if self.naps.next.is_none_or(|next| now < next) {
            return false;
        }
        let Some(since) = now.checked_sub(DOZES_AFTER) else { return false };
        let slots = self.naps.slot..self.naps.slot + LOOKED_THROUGH;
        let (go_on, are_younger) = self.idle.visit_older(slots, since, C::fall_asleep);
        self.naps.more |= are_younger;
        match go_on {
            Some(slot) => self.naps.slot = slot,
            None => self.naps = Naps { next: self.naps.more.then(|| now + DOZES_AFTER), ..Naps::default() },
        }
        go_on.is_some()
    }

    /// Shows the connections that have been idle since then or longer.
    #[cfg(test)]
    pub(super) fn visit_idle(&mut self, since: Instant, visit: impl FnMut(&mut C)) {
        self.idle.visit_older(0..usize::MAX, since, visit);
    }

    /// Closes: idle connections go, waiters are told, nothing new begins.
    pub(super) fn close(&mut self, after: &mut After<C>) {
        self.closed = true;
        self.taken -= self.idle.len();
        after.closing.extend(self.idle.drain().map(|connection| (connection, CloseReason::Shutdown)));
        self.waiting = 0;
        self.eager.clear();
        for places in self.origins.values_mut() {
            places.taken -= std::mem::take(&mut places.idle).len();
            places.eager = None;
            places.wanting.clear();
            places.queued = 0;
            let waiters = std::mem::take(&mut places.waiters);
            for (ticket, waiting) in waiters.into_iter().chain(std::mem::take(&mut places.fresh)) {
                let reserved = usize::from(waiting.stage == Stage::Reserved);
                places.opening -= reserved;
                places.taken -= reserved;
                self.opening -= reserved;
                self.taken -= reserved;
                self.granted.insert(ticket, Grant::Closed);
                after.wakers.extend(waiting.waker);
            }
        }
        self.origins.retain(|_, places| !places.is_unused());
    }

    pub(super) fn stats(&self) -> super::PoolStats {
        super::PoolStats {
            busy: self.taken - self.idle.len(),
            opening: self.opening,
            idle: self.idle.len(),
            waiting: self.waiting,
            origins: self.origins.len(),
            ..self.counts.stats()
        }
    }

    fn places(&mut self, origin: &Origin) -> &mut Places {
        self.origins.get_mut(origin).expect("an origin with a connection or a waiter has its places")
    }

    fn reserve(&mut self, origin: &Origin) {
        let places = self.places(origin);
        places.taken += 1;
        places.opening += 1;
        self.taken += 1;
        self.opening += 1;
    }

    /// Whether one more connection may be opened, if need be after an idle one of another origin was closed.
    fn make_room(&mut self, after: &mut After<C>) -> bool {
        self.taken < self.limits.connections || self.evict_longest(after)
    }

    /// As [`State::make_room`], if need be after an idle one of this origin was closed.
    fn make_room_at(&mut self, origin: &Origin, after: &mut After<C>) -> bool {
        if self.origins.get(origin).is_some_and(|places| !places.has_place(&self.limits)) {
            self.evict(origin, after);
        }
        self.make_room(after)
    }

    fn evict_longest(&mut self, after: &mut After<C>) -> bool {
        let Some(origin) = self.idle.longest().cloned() else { return false };
        self.evict(&origin, after);
        true
    }

    /// Closes the longest idle connection of this origin.
    fn evict(&mut self, origin: &Origin, after: &mut After<C>) {
        let places = self.origins.get_mut(origin).expect("an origin with a connection has its places");
        let connection = self.idle.take_longest(&mut places.idle).expect("one that is idle");
        after.closing.push((connection, CloseReason::Evicted));
        places.taken -= 1;
        self.taken -= 1;
        self.settle(origin);
        self.tidy(origin);
    }

    /// After a change at this origin: whether its first waiter waits for nothing but a place among all.
    fn settle(&mut self, origin: &Origin) {
        let Some(places) = self.origins.get_mut(origin) else { return };
        let next = places.next_to_open(&self.limits);
        if next != places.eager {
            if let Some(ticket) = std::mem::replace(&mut places.eager, next) {
                self.eager.remove(&ticket);
            }
            if let Some(ticket) = next {
                self.eager.insert(ticket, origin.clone());
            }
        }
    }

    /// Gives places to the oldest who can use them, as long as there are any.
    fn serve(&mut self, after: &mut After<C>) {
        while let Some((&ticket, origin)) = self.eager.first_key_value() {
            let origin = origin.clone();
            if !self.make_room_at(&origin, after) {
                return;
            }
            self.reserve(&origin);
            let is_fresh = self.places(&origin).fresh.contains_key(&ticket);
            match self.limits.on_miss {
                OnMiss::LateBind if !is_fresh => {
                    after.wakers.extend(self.advance(&origin, ticket, Stage::Reserved));
                }
                _ => self.grant(&origin, ticket, Grant::Place, after),
            }
        }
    }

    fn grant(&mut self, origin: &Origin, ticket: u64, grant: Grant<C>, after: &mut After<C>) {
        self.granted.insert(ticket, grant);
        after.wakers.extend(self.dequeue(origin, ticket).and_then(|waiting| waiting.waker));
    }

    fn tidy(&mut self, origin: &Origin) {
        if self.origins.get(origin).is_some_and(Places::is_unused) {
            self.origins.remove(origin);
        }
    }
}

#[cfg(test)]
mod model;
