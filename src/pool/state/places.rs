//! [`Places`]: one origin's connections and the requests that wait for one, and which of these may open another.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::Duration;

use crate::config::{OnMiss, PoolConfig, ReuseOrder};
use crate::idle::Lane;

/// The limits, as numbers to compare with.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) connections_per_origin: usize,
    pub(super) opening_per_origin: usize,
    pub(super) waiting_per_origin: usize,
    pub(super) idle: usize,
    pub(super) idle_per_origin: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) order: ReuseOrder,
    pub(super) on_miss: OnMiss,
}

impl Limits {
    pub(super) fn new(config: &PoolConfig) -> Limits {
        Limits {
            connections: config.max_connections.unwrap_or(usize::MAX),
            connections_per_origin: config.max_connections_per_origin.unwrap_or(usize::MAX),
            opening_per_origin: config.max_opening_per_origin,
            waiting_per_origin: config.max_waiting_per_origin.unwrap_or(usize::MAX),
            idle: config.max_idle,
            idle_per_origin: config.max_idle_per_origin,
            idle_timeout: config.idle_timeout,
            order: config.reuse_order,
            on_miss: config.on_miss,
        }
    }
}

/// One origin's connections and the requests that wait for one.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Being opened, in use and idle together.
    pub(super) taken: usize,
    /// Of those, being opened.
    pub(super) opening: usize,
    pub(super) idle: Lane,
    /// Those who take what comes back. By ticket, so that the first is the oldest and any can leave in logarithmic
    /// time.
    pub(super) waiters: BTreeMap<u64, Waiting>,
    /// Those of them that would open a connection.
    pub(super) wanting: BTreeSet<u64>,
    /// Those who take nothing but a place ([`Stage::Fresh`]).
    pub(super) fresh: BTreeMap<u64, Waiting>,
    /// Its entry in [`State::eager`](super::State).
    pub(super) eager: Option<u64>,
    /// How many of the waiters are queued.
    pub(super) queued: usize,
}

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    /// `None` until it is first polled.
    pub(super) waker: Option<Waker>,
    pub(super) stage: Stage,
}

/// What a request in the queue does beside waiting for a connection that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing yet: it would rather wait ([`OnMiss::WaitThenOpen`]).
    Patient,
    /// It would open one, and has no place.
    Wanting,
    /// It would open one, has no place, and could not use one that comes back.
    Fresh,
    /// A place is reserved for it, and it has not heard of it yet ([`OnMiss::LateBind`]).
    Reserved,
    /// One is being opened for it, in a task of its own.
    Opening,
}

impl Stage {
    /// Whether it counts among those that wait: nothing is being done for it.
    pub(super) fn is_queued(self) -> bool {
        matches!(self, Stage::Patient | Stage::Wanting | Stage::Fresh)
    }
}

impl Places {
    pub(super) fn is_unused(&self) -> bool {
        self.taken == 0 && self.is_calm()
    }

    /// Whether nobody waits here.
    pub(super) fn is_calm(&self) -> bool {
        self.waiters.is_empty() && self.fresh.is_empty()
    }

    pub(super) fn has_place(&self, limits: &Limits) -> bool {
        self.taken < limits.connections_per_origin
    }

    pub(super) fn may_open(&self, limits: &Limits) -> bool {
        self.has_place(limits) && self.opening < limits.opening_per_origin
    }

    /// As [`Places::may_open`], for a request for which an idle connection of this origin is closed if need be.
    pub(super) fn may_open_fresh(&self, limits: &Limits) -> bool {
        let may_make_place = self.has_place(limits) || self.idle.len() > 0;
        may_make_place && self.opening < limits.opening_per_origin
    }

    /// The oldest who takes nothing but a place, where closing one more connection would make it one.
    pub(super) fn next_fresh(&self, limits: &Limits) -> Option<u64> {
        let first = self.fresh.first_key_value().map(|(&ticket, _)| ticket);
        first.filter(|_| self.opening < limits.opening_per_origin)
    }

    /// Who would open a connection next, were there a place among those of all origins.
    pub(super) fn next_to_open(&self, limits: &Limits) -> Option<u64> {
        // Where nothing is left that could come back there is nothing to be patient for.
        let first = match self.taken {
            0 => self.waiters.first_key_value().map(|(&ticket, _)| ticket),
            _ => self.wanting.first().copied(),
        };
        let first = first.filter(|_| self.may_open(limits));
        let fresh = self.next_fresh(limits).filter(|_| self.may_open_fresh(limits));
        first.into_iter().chain(fresh).min()
    }

    pub(super) fn in_stage(&mut self, stage: Stage) -> &mut BTreeMap<u64, Waiting> {
        if stage == Stage::Fresh { &mut self.fresh } else { &mut self.waiters }
    }

    pub(super) fn waiting(&mut self, ticket: u64) -> Option<&mut Waiting> {
        self.waiters.get_mut(&ticket).or_else(|| self.fresh.get_mut(&ticket))
    }
}
