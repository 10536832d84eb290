//! [`State`] beside a model that is too slow to be wrong: plain lists, searched from the start each time. Both are
//! taken through long random runs, and after every step they must say the same of every connection and request.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{After, Grant, Kept, Stage, State, Turn};
use crate::clock;
use crate::config::{OnMiss, PoolConfig, ReuseOrder};
use crate::error::{Error, ErrorKind};
use crate::idle::{CloseReason, end_of_rest};
use crate::origin::Origin;

/// Stands for a connection.
#[derive(Clone, Debug)]
struct Stand {
    id: u32,
    dies: Option<Instant>,
    slot: Rc<Cell<usize>>,
    /// How often it fell asleep.
    slept: Rc<Cell<usize>>,
}

impl Stand {
    fn new(id: u32, dies: Option<Instant>) -> Stand {
        Stand { id, dies, slot: Rc::default(), slept: Rc::default() }
    }
}

impl Kept for Stand {
    fn dies(&self) -> Option<Instant> {
        self.dies
    }

    fn rests_in(&self, slot: usize) {
        self.slot.set(slot);
    }

    fn fall_asleep(&mut self) {
        self.slept.set(self.slept.get() + 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Gift {
    Connection { id: u32, late: bool },
    Own { id: u32 },
    Place,
    Failed,
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    ticket: u64,
    origin: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
struct Dial {
    origin: usize,
    requester: Option<u64>,
}

/// An open connection: its origin, and since when it last rested.
#[derive(Clone, Debug)]
struct Open {
    stand: Stand,
    origin: usize,
    rested: Option<Instant>,
}

/// The slow model.
struct Plain {
    config: PoolConfig,
    connections: BTreeMap<u32, Open>,
    /// From the longest to the shortest idle.
    idle: Vec<u32>,
    in_use: Vec<u32>,
    dials: Vec<Dial>,
    /// From the oldest to the youngest.
    queue: Vec<Asking>,
    /// Given and not yet received.
    given: BTreeMap<u64, (usize, Gift)>,
    closed: Vec<(u32, CloseReason)>,
}

impl Plain {
    fn taken(&self, origin: Option<usize>) -> usize {
        let of = |other: usize| origin.is_none_or(|origin| origin == other);
        self.connections.values().filter(|open| of(open.origin)).count() + self.opening(origin)
    }

    fn opening(&self, origin: Option<usize>) -> usize {
        let of = |other: usize| origin.is_none_or(|origin| origin == other);
        let reserved = self.queue.iter().filter(|asking| asking.stage == Stage::Reserved);
        let given = self.given.values().filter(|(_, gift)| *gift == Gift::Place);
        self.dials.iter().filter(|dial| of(dial.origin)).count()
            + reserved.filter(|asking| of(asking.origin)).count()
            + given.filter(|(origin, _)| of(*origin)).count()
    }

    fn queued(&self, origin: Option<usize>) -> usize {
        let of = |other: usize| origin.is_none_or(|origin| origin == other);
        let waits = |asking: &&Asking| matches!(asking.stage, Stage::Patient | Stage::Wanting | Stage::Fresh);
        self.queue.iter().filter(waits).filter(|asking| of(asking.origin)).count()
    }

    fn may_open(&self, origin: usize) -> bool {
        self.taken(Some(origin)) < self.config.max_connections_per_origin.unwrap_or(usize::MAX)
            && self.opening(Some(origin)) < self.config.max_opening_per_origin
    }

    /// Those that rest, of one origin, from the longest to the shortest.
    fn idle_of(&self, origin: usize) -> Vec<u32> {
        self.idle.iter().copied().filter(|id| self.connections[id].origin == origin).collect()
    }

    fn is_full_at(&self, origin: usize) -> bool {
        self.taken(Some(origin)) >= self.config.max_connections_per_origin.unwrap_or(usize::MAX)
    }

    fn may_open_fresh(&self, origin: usize) -> bool {
        self.opening(Some(origin)) < self.config.max_opening_per_origin
            && (!self.is_full_at(origin) || !self.idle_of(origin).is_empty())
    }

    fn is_full(&self) -> bool {
        self.taken(None) >= self.config.max_connections.unwrap_or(usize::MAX)
    }

    fn has_room(&self) -> bool {
        !self.is_full() || !self.idle.is_empty()
    }

    fn make_room(&mut self, origin: usize) {
        if self.is_full_at(origin) {
            self.close(self.idle_of(origin)[0], CloseReason::Evicted);
        }
        if self.is_full() {
            self.close(self.idle[0], CloseReason::Evicted);
        }
    }

    fn close(&mut self, id: u32, reason: CloseReason) {
        self.idle.retain(|other| *other != id);
        self.in_use.retain(|other| *other != id);
        self.connections.remove(&id).expect("closed once");
        self.closed.push((id, reason));
    }

    fn would_open(&self, asking: &Asking) -> bool {
        let nothing_can_come_back = self.taken(Some(asking.origin)) == 0;
        if asking.stage == Stage::Fresh {
            return self.may_open_fresh(asking.origin);
        }
        let wants = asking.stage == Stage::Wanting || asking.stage == Stage::Patient && nothing_can_come_back;
        wants && self.may_open(asking.origin)
    }

    fn serve(&mut self) {
        while self.has_room() {
            let Some(nth) = self.queue.iter().position(|asking| self.would_open(asking)) else { return };
            self.make_room(self.queue[nth].origin);
            if self.config.on_miss == OnMiss::LateBind && self.queue[nth].stage != Stage::Fresh {
                self.queue[nth].stage = Stage::Reserved;
            } else {
                let asking = self.queue.remove(nth);
                self.given.insert(asking.ticket, (asking.origin, Gift::Place));
            }
        }
    }

    fn ended(&self, id: u32, now: Instant) -> Option<CloseReason> {
        let open = &self.connections[&id];
        let end = end_of_rest(
            open.rested.expect("it rests"),
            open.stand.may_rest(self.config.idle_timeout),
            open.stand.dies,
        );
        end.and_then(|(at, reason)| (at <= now).then_some(reason))
    }

    fn ask(&mut self, origin: usize, ticket: u64, now: Instant) -> &'static str {
        let mut of_origin = self.idle_of(origin);
        if self.config.reuse_order == ReuseOrder::Lifo {
            of_origin.reverse();
        }
        for id in of_origin {
            match self.ended(id, now) {
                Some(reason) => self.close(id, reason),
                None => {
                    self.idle.retain(|other| *other != id);
                    self.in_use.push(id);
                    return "reuse";
                }
            }
        }
        let patient = matches!(self.config.on_miss, OnMiss::WaitThenOpen(_));
        let full = self.queued(Some(origin)) >= self.config.max_waiting_per_origin.unwrap_or(usize::MAX);
        let somebody_wants =
            self.queue.iter().any(|asking| asking.origin == origin && asking.stage == Stage::Wanting);
        let stage = if patient && self.taken(Some(origin)) > 0 && !full {
            Stage::Patient
        } else if !somebody_wants && self.may_open(origin) && self.has_room() {
            self.make_room(origin);
            if self.config.on_miss != OnMiss::LateBind {
                self.dials.push(Dial { origin, requester: None });
                return "open";
            }
            Stage::Reserved
        } else if full {
            return "full";
        } else if patient {
            Stage::Patient
        } else {
            Stage::Wanting
        };
        self.queue.push(Asking { ticket, origin, stage });
        "wait"
    }

    fn ask_fresh(&mut self, origin: usize, ticket: u64) -> &'static str {
        let full = self.queued(Some(origin)) >= self.config.max_waiting_per_origin.unwrap_or(usize::MAX);
        let asking = Asking { ticket, origin, stage: Stage::Fresh };
        if self.would_open(&asking) && self.has_room() {
            self.make_room(origin);
            self.dials.push(Dial { origin, requester: None });
            return "open";
        }
        if full {
            return "full";
        }
        self.queue.push(asking);
        "wait"
    }

    /// Closes those of an origin that have rested since then or longer, one after another.
    fn close_older(&mut self, origin: usize, since: Instant) {
        while let Some(&id) = self.idle_of(origin).first()
            && self.connections[&id].rested <= Some(since)
        {
            self.close(id, CloseReason::StaleSibling);
            self.serve();
        }
    }

    /// A connection that nobody holds any more.
    fn put_back(&mut self, id: u32, since: Instant) {
        self.in_use.retain(|other| *other != id);
        let open = self.connections.get_mut(&id).expect("it is open");
        open.rested = Some(since);
        let origin = open.origin;
        // At rest it could be closed for one that waits for a place at its origin.
        let may_open = self.opening(Some(origin)) < self.config.max_opening_per_origin;
        let first = self.queue.iter().find(|asking| match asking.stage {
            Stage::Fresh if asking.origin == origin => may_open,
            _ => asking.origin == origin || self.would_open(asking),
        });
        match first.copied() {
            Some(asking) if asking.origin == origin && asking.stage != Stage::Fresh => {
                let late = asking.stage == Stage::Opening;
                self.give(asking.ticket, Gift::Connection { id, late });
            }
            _ => self.rest(id, since),
        }
        self.serve();
    }

    fn rest(&mut self, id: u32, since: Instant) {
        let place = self.idle.iter().position(|other| self.connections[other].rested > Some(since));
        self.idle.insert(place.unwrap_or(self.idle.len()), id);
        let origin = self.connections[&id].origin;
        let of_origin = |other: &&u32| self.connections[*other].origin == origin;
        if self.idle.iter().filter(of_origin).count() > self.config.max_idle_per_origin {
            let longest = self.idle.iter().find(of_origin).copied().expect("more than none");
            self.close(longest, CloseReason::Evicted);
        } else if self.idle.len() > self.config.max_idle {
            self.close(self.idle[0], CloseReason::Evicted);
        }
    }

    fn give(&mut self, ticket: u64, gift: Gift) {
        let nth = self.queue.iter().position(|asking| asking.ticket == ticket).expect("it waits");
        let asking = self.queue.remove(nth);
        self.given.insert(ticket, (asking.origin, gift));
    }

    fn waits(&self, ticket: u64) -> bool {
        self.queue.iter().any(|asking| asking.ticket == ticket)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask { origin: usize },
    AskFresh { origin: usize },
    CloseOlder { origin: usize, ms: u64 },
    Opened { nth: usize },
    NotOpened { nth: usize },
    PutBack { nth: usize },
    End { nth: usize },
    Look { nth: usize },
    Cancel { nth: usize },
    Want { nth: usize },
    Examine { nth: usize },
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let nth = || 0_usize..1_000;
    let step = prop_oneof![
        6 => (0_usize..3).prop_map(|origin| Step::Ask { origin }),
        2 => (0_usize..3).prop_map(|origin| Step::AskFresh { origin }),
        1 => (0_usize..3, 0_u64..600).prop_map(|(origin, ms)| Step::CloseOlder { origin, ms }),
        3 => nth().prop_map(|nth| Step::Opened { nth }),
        1 => nth().prop_map(|nth| Step::NotOpened { nth }),
        4 => nth().prop_map(|nth| Step::PutBack { nth }),
        1 => nth().prop_map(|nth| Step::End { nth }),
        5 => nth().prop_map(|nth| Step::Look { nth }),
        2 => nth().prop_map(|nth| Step::Cancel { nth }),
        1 => nth().prop_map(|nth| Step::Want { nth }),
        1 => nth().prop_map(|nth| Step::Examine { nth }),
        1 => Just(Step::Expire),
    ];
    proptest::collection::vec((0_u64..300, step), 1..400)
}

fn configs() -> impl Strategy<Value = PoolConfig> {
    let wait = OnMiss::WaitThenOpen(Duration::from_millis(1));
    let limits = (
        proptest::option::of(1_usize..6),
        proptest::option::of(1_usize..4),
        1_usize..4,
        proptest::option::of(0_usize..4),
        0_usize..5,
        0_usize..4,
    );
    let choices = (
        prop_oneof![Just(ReuseOrder::Lifo), Just(ReuseOrder::Fifo)],
        prop_oneof![Just(OnMiss::Open), Just(OnMiss::LateBind), Just(wait)],
        prop_oneof![Just(None), Just(Some(Duration::from_secs(1)))],
    );
    (limits, choices).prop_map(
        |((total, each, opening, waiting, idle, idle_each), (order, on_miss, timeout))| {
            PoolConfig::default()
                .max_connections(total)
                .max_connections_per_origin(each)
                .max_opening_per_origin(opening)
                .max_waiting_per_origin(waiting)
                .max_idle(idle)
                .max_idle_per_origin(idle_each)
                .reuse_order(order)
                .on_miss(on_miss)
                .idle_timeout(timeout)
        },
    )
}

/// Remembers whether it was woken.
#[derive(Default)]
struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Both, side by side.
struct World {
    state: State<Stand>,
    plain: Plain,
    origins: Vec<Origin>,
    now: Instant,
    next_id: u32,
    /// Of each waiter that was told to wait.
    alarms: BTreeMap<u64, Arc<Alarm>>,
}

impl World {
    fn new(config: &PoolConfig) -> World {
        let plain = Plain {
            config: config.clone(),
            connections: BTreeMap::new(),
            idle: Vec::new(),
            in_use: Vec::new(),
            dials: Vec::new(),
            queue: Vec::new(),
            given: BTreeMap::new(),
            closed: Vec::new(),
        };
        let names = ["http://a", "http://b", "http://c"];
        World {
            state: State::new(config),
            plain,
            origins: names.map(|name| name.parse().expect("an origin")).to_vec(),
            now: clock::now(),
            next_id: 0,
            alarms: BTreeMap::new(),
        }
    }

    /// Changes the state, and checks that it closes what the model closes, and wakes whoever it gave something.
    fn change<R>(&mut self, change: impl FnOnce(&mut State<Stand>, &mut After<Stand>) -> R) -> R {
        let mut after = After::default();
        let result = change(&mut self.state, &mut after);
        after.wake();
        let mut closed: Vec<_> =
            after.closing.into_iter().map(|(stand, reason)| (stand.id, reason)).collect();
        closed.sort_unstable();
        self.plain.closed.sort_unstable();
        assert_eq!(closed, std::mem::take(&mut self.plain.closed));
        result
    }

    fn connection(&mut self, origin: usize) -> u32 {
        self.next_id += 1;
        let id = self.next_id;
        // Every fifth has a lifetime.
        let dies = id.is_multiple_of(5).then(|| self.now + Duration::from_millis(700));
        let stand = Stand::new(id, dies);
        self.plain.connections.insert(id, Open { stand, origin, rested: None });
        id
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask { origin } => self.ask(origin, false),
            Step::AskFresh { origin } => self.ask(origin, true),
            Step::CloseOlder { origin, ms } => {
                let since = self.now - Duration::from_millis(ms);
                let name = self.origins[origin].clone();
                self.plain.close_older(origin, since);
                self.change(|state, after| state.close_older(&name, since, after));
            }
            Step::Opened { nth } => self.dial_ends(nth, true),
            Step::NotOpened { nth } => self.dial_ends(nth, false),
            Step::PutBack { nth } => {
                if let Some(id) = pick(&self.plain.in_use, nth) {
                    self.put_back(id, self.now);
                }
            }
            Step::End { nth } => {
                if let Some(id) = pick(&self.plain.in_use, nth) {
                    let origin = self.plain.connections[&id].origin;
                    self.plain.close(id, CloseReason::Failed);
                    self.plain.closed.clear();
                    self.plain.serve();
                    let origin = self.origins[origin].clone();
                    self.change(|state, after| state.release(&origin, after));
                }
            }
            Step::Look { nth } => {
                if let Some(ticket) = pick(&self.tickets(), nth) {
                    self.look(ticket);
                }
            }
            Step::Cancel { nth } => {
                if let Some(ticket) = pick(&self.tickets(), nth) {
                    self.cancel(ticket);
                }
            }
            Step::Want { nth } => {
                let patient: Vec<u64> = self.plain.queue.iter().map(|asking| asking.ticket).collect();
                if let Some(ticket) = pick(&patient, nth) {
                    self.want(ticket);
                }
            }
            Step::Examine { nth } => {
                if let Some(id) = pick(&self.plain.idle, nth) {
                    self.examine(id);
                }
            }
            Step::Expire => {
                for id in self.plain.idle.clone() {
                    if let Some(reason) = self.plain.ended(id, self.now) {
                        self.plain.close(id, reason);
                    }
                }
                let now = self.now;
                while self.state.doze(now) {}
                let next = self.change(|state, after| state.expire(now, after));
                assert!(next.is_none_or(|next| next > now));
            }
        }
        self.agree();
    }

    /// Requests that wait, or were given something that they have not received.
    fn tickets(&self) -> Vec<u64> {
        let waiting = self.plain.queue.iter().map(|asking| asking.ticket);
        waiting.chain(self.plain.given.keys().copied()).collect()
    }

    fn origin_of(&self, ticket: u64) -> Origin {
        let given = self.plain.given.get(&ticket).map(|(origin, _)| *origin);
        let asking = self.plain.queue.iter().find(|asking| asking.ticket == ticket);
        self.origins[given.or(asking.map(|asking| asking.origin)).expect("it has asked")].clone()
    }

    fn ask(&mut self, origin: usize, fresh: bool) {
        let ticket = self.state.next_ticket + 1;
        let expected = match fresh {
            false => self.plain.ask(origin, ticket, self.now),
            true => self.plain.ask_fresh(origin, ticket),
        };
        let (name, now) = (self.origins[origin].clone(), self.now);
        let turn = self.change(|state, after| match fresh {
            false => state.ask(&name, now, after),
            true => state.ask_fresh(&name, after),
        });
        let (turn, id) = match turn {
            Turn::Reuse(stand) => ("reuse", Some(stand.id)),
            Turn::Open => ("open", None),
            Turn::Wait(number) => {
                assert_eq!(number, ticket);
                ("wait", None)
            }
            Turn::Full => ("full", None),
            Turn::Closed => ("closed", None),
        };
        assert_eq!(turn, expected);
        if id.is_some() {
            assert_eq!(id, self.plain.in_use.last().copied());
        }
    }

    fn dial_ends(&mut self, nth: usize, well: bool) {
        if self.plain.dials.is_empty() {
            return;
        }
        let nth = nth % self.plain.dials.len();
        let Dial { origin, requester } = self.plain.dials.remove(nth);
        let name = self.origins[origin].clone();
        match (requester, well) {
            (None, true) => {
                let id = self.connection(origin);
                self.plain.in_use.push(id);
                self.plain.serve();
                self.change(|state, after| state.opened(&name, after));
            }
            (None, false) => {
                self.plain.serve();
                self.change(|state, after| state.unopened(&name, after));
            }
            (Some(ticket), true) => {
                let id = self.connection(origin);
                let awaited = self.plain.waits(ticket);
                if awaited {
                    self.plain.give(ticket, Gift::Own { id });
                } else {
                    self.plain.in_use.push(id);
                }
                self.plain.serve();
                let stand = self.plain.connections[&id].stand.clone();
                let unwanted = self.change(|state, after| state.deliver(&name, ticket, stand, after));
                assert_eq!(unwanted.map(|stand| stand.id), (!awaited).then_some(id));
                if !awaited {
                    self.put_back(id, self.now);
                }
            }
            (Some(ticket), false) => {
                if self.plain.waits(ticket) {
                    self.plain.give(ticket, Gift::Failed);
                }
                self.plain.serve();
                let error = Error::new(ErrorKind::Connect);
                self.change(|state, after| state.failed(&name, ticket, error, after));
            }
        }
    }

    fn put_back(&mut self, id: u32, since: Instant) {
        let open = &self.plain.connections[&id];
        let (stand, origin) = (open.stand.clone(), self.origins[open.origin].clone());
        self.plain.put_back(id, since);
        self.change(|state, after| state.put_back(&origin, stand, since, after));
    }

    fn look(&mut self, ticket: u64) {
        let origin = self.origin_of(ticket);
        let alarm = Arc::new(Alarm::default());
        let mut waker = Some(Waker::from(Arc::clone(&alarm)));
        let grant = self.change(|state, _| state.look(&origin, ticket, &mut waker));
        if let Some((origin, gift)) = self.plain.given.remove(&ticket) {
            assert_eq!(grant.as_ref().map(gift_of), Some(gift));
            match gift {
                Gift::Connection { id, .. } | Gift::Own { id } => self.plain.in_use.push(id),
                Gift::Place => self.plain.dials.push(Dial { origin, requester: None }),
                Gift::Failed | Gift::Closed => {}
            }
            self.alarms.remove(&ticket);
            return;
        }
        let asking = self.plain.queue.iter_mut().find(|asking| asking.ticket == ticket);
        let asking = asking.expect("it waits");
        if asking.stage == Stage::Reserved {
            assert!(matches!(grant, Some(Grant::PlaceBeside)));
            asking.stage = Stage::Opening;
            self.plain.dials.push(Dial { origin: asking.origin, requester: Some(ticket) });
            self.alarms.remove(&ticket);
        } else {
            assert!(grant.is_none());
            self.alarms.insert(ticket, alarm);
        }
    }

    fn cancel(&mut self, ticket: u64) {
        let origin = self.origin_of(ticket);
        let given = self.plain.given.remove(&ticket).map(|(_, gift)| gift);
        self.plain.queue.retain(|asking| asking.ticket != ticket);
        match given {
            None | Some(Gift::Failed | Gift::Closed) => self.plain.serve(),
            // It is in somebody's hand until it is passed on.
            Some(Gift::Place) => self.plain.dials.push(Dial { origin: 0, requester: None }),
            Some(Gift::Connection { id, .. } | Gift::Own { id }) => self.plain.in_use.push(id),
        }
        let (grant, _waker) = self.change(|state, after| state.forget(&origin, ticket, after));
        self.alarms.remove(&ticket);
        assert_eq!(grant.as_ref().map(gift_of), given);
        match given {
            Some(Gift::Place) => {
                self.plain.dials.pop();
                self.plain.serve();
                self.change(|state, after| state.unopened(&origin, after));
            }
            Some(Gift::Connection { id, .. } | Gift::Own { id }) => {
                let since = self.plain.connections[&id].rested.unwrap_or(self.now);
                self.put_back(id, since);
            }
            _ => {}
        }
    }

    fn want(&mut self, ticket: u64) {
        let origin = self.origin_of(ticket);
        let asking = self.plain.queue.iter_mut().find(|asking| asking.ticket == ticket);
        let asking = asking.expect("it waits");
        if asking.stage == Stage::Patient {
            asking.stage = Stage::Wanting;
            // It asks from its own task, which looks again after that.
            self.alarms.remove(&ticket);
        }
        self.plain.serve();
        self.change(|state, after| state.want(&origin, ticket, after));
    }

    /// As the minder does when a socket stirs.
    fn examine(&mut self, id: u32) {
        let open = self.plain.connections[&id].clone();
        let origin = self.origins[open.origin].clone();
        let slot = open.stand.slot.get();
        let is_meant = |stand: &Stand| stand.id == id;
        assert!(self.state.examine(&origin, slot, |stand| stand.id == u32::MAX, |_| false).is_none());
        assert!(self.state.examine(&origin, slot, is_meant, |_| true).is_none());
        self.agree();
        let taken = self.state.examine(&origin, slot, is_meant, |_| false).expect("it lies there");
        assert_eq!(taken.id, id);
        self.plain.idle.retain(|other| *other != id);
        self.plain.in_use.push(id);
        self.agree();
        self.put_back(id, open.rested.expect("it rests"));
    }

    /// What must hold after every step.
    fn agree(&self) {
        let (stats, plain) = (self.state.stats(), &self.plain);
        assert_eq!(stats.idle, plain.idle.len());
        assert_eq!(stats.opening, plain.opening(None));
        assert_eq!(stats.busy, plain.taken(None) - plain.idle.len());
        assert_eq!(stats.waiting, plain.queued(None));
        let granted: BTreeMap<u64, Gift> =
            self.state.granted.iter().map(|(&ticket, grant)| (ticket, gift_of(grant))).collect();
        let given: BTreeMap<u64, Gift> = plain.given.iter().map(|(&t, &(_, gift))| (t, gift)).collect();
        assert_eq!(granted, given);
        self.within_limits();
        // Whoever was told to wait and has something now was woken.
        for (ticket, alarm) in &self.alarms {
            let reserved = |a: &Asking| a.ticket == *ticket && a.stage == Stage::Reserved;
            if given.contains_key(ticket) || plain.queue.iter().any(reserved) {
                assert!(alarm.0.load(Relaxed), "{ticket} was not woken");
            }
        }
    }

    fn within_limits(&self) {
        let (plain, config) = (&self.plain, &self.plain.config);
        assert!(plain.taken(None) <= config.max_connections.unwrap_or(usize::MAX));
        assert!(plain.idle.len() <= config.max_idle);
        let mut known = 0;
        for (number, origin) in self.origins.iter().enumerate() {
            let number = Some(number);
            assert!(plain.taken(number) <= config.max_connections_per_origin.unwrap_or(usize::MAX));
            assert!(plain.opening(number) <= config.max_opening_per_origin);
            assert!(plain.queued(number) <= config.max_waiting_per_origin.unwrap_or(usize::MAX));
            let is_asked = plain.queue.iter().any(|asking| Some(asking.origin) == number);
            let is_used = plain.taken(number) > 0 || is_asked;
            assert_eq!(self.state.origins.contains_key(origin), is_used);
            known += usize::from(is_used);
        }
        assert_eq!(self.state.stats().origins, known);
        // Nobody waits for what is free.
        if plain.has_room() {
            assert!(!plain.queue.iter().any(|asking| plain.would_open(asking)));
        }
        for id in &plain.idle {
            let origin = plain.connections[id].origin;
            let takes_it = |asking: &Asking| asking.origin == origin && asking.stage != Stage::Fresh;
            assert!(!plain.queue.iter().any(takes_it));
        }
    }

    /// The pool closes; whatever is still in somebody's hands comes back after that.
    fn close(&mut self) {
        for id in std::mem::take(&mut self.plain.idle) {
            self.plain.close(id, CloseReason::Shutdown);
        }
        for asking in std::mem::take(&mut self.plain.queue) {
            self.plain.given.insert(asking.ticket, (asking.origin, Gift::Closed));
        }
        self.change(State::close);
        self.agree();
        for ticket in self.tickets() {
            self.look(ticket);
        }
        for Dial { origin, requester } in std::mem::take(&mut self.plain.dials) {
            let name = self.origins[origin].clone();
            let error = Error::new(ErrorKind::Connect);
            self.change(|state, after| match requester {
                Some(ticket) => state.failed(&name, ticket, error, after),
                None => state.unopened(&name, after),
            });
        }
        for id in std::mem::take(&mut self.plain.in_use) {
            let open = self.plain.connections[&id].clone();
            let (origin, now) = (self.origins[open.origin].clone(), self.now);
            self.plain.close(id, CloseReason::Shutdown);
            self.change(|state, after| state.put_back(&origin, open.stand, now, after));
        }
        let stats = self.state.stats();
        assert_eq!((stats.busy, stats.opening, stats.idle, stats.waiting, stats.origins), (0, 0, 0, 0, 0));
        assert!(self.state.granted.is_empty() && self.state.eager.is_empty());
    }
}

fn gift_of(grant: &Grant<Stand>) -> Gift {
    match grant {
        Grant::Connection { connection, late } => Gift::Connection { id: connection.id, late: *late },
        Grant::Own(connection) => Gift::Own { id: connection.id },
        Grant::Place => Gift::Place,
        Grant::PlaceBeside => unreachable!("it is not kept: it is a stage"),
        Grant::Failed(_) => Gift::Failed,
        Grant::Closed => Gift::Closed,
    }
}

fn pick<T: Copy>(from: &[T], nth: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[nth % from.len()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_state_does_what_the_slow_model_does(config in configs(), steps in steps()) {
        let mut world = World::new(&config);
        for (ms, step) in steps {
            world.now += Duration::from_millis(ms);
            world.step(step);
        }
        world.close();
    }
}

/// Counts how often anybody was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A state with one place, which is taken, and as many waiters, each with a waker.
fn with_waiters(number: u64, woken: &Arc<Count>) -> (State<Stand>, Origin) {
    let origin: Origin = "http://a".parse().expect("an origin");
    let mut state = State::new(&PoolConfig::default().max_connections_per_origin(Some(1)));
    let mut after = After::default();
    assert!(matches!(state.ask(&origin, clock::now(), &mut after), Turn::Open));
    for ticket in 1..=number {
        assert!(matches!(state.ask(&origin, clock::now(), &mut after), Turn::Wait(_)));
        assert!(state.look(&origin, ticket, &mut Some(Waker::from(Arc::clone(woken)))).is_none());
    }
    (state, origin)
}

#[test]
fn ten_thousand_waiters_that_leave_wake_nobody() {
    let woken = Arc::new(Count::default());
    let (mut state, origin) = with_waiters(10_000, &woken);
    let mut after = After::default();
    for ticket in 1..=10_000 {
        assert!(state.forget(&origin, ticket, &mut after).0.is_none());
    }
    state.unopened(&origin, &mut after);
    after.wake();
    let stats = state.stats();
    assert_eq!((stats.waiting, stats.busy, stats.origins, woken.0.load(Relaxed)), (0, 0, 0, 0));
}

#[test]
fn a_place_that_ten_thousand_waiters_decline_wakes_each_of_them_once() {
    let woken = Arc::new(Count::default());
    let (mut state, origin) = with_waiters(10_000, &woken);
    for ticket in 1..=10_000 {
        let mut after = After::default();
        state.unopened(&origin, &mut after);
        after.wake();
        assert_eq!(woken.0.load(Relaxed), ticket as usize);
        assert!(matches!(state.forget(&origin, ticket, &mut after).0, Some(Grant::Place)));
    }
    state.unopened(&origin, &mut After::default());
    assert_eq!((state.stats().busy, state.stats().origins), (0, 0));
}

#[test]
fn ten_thousand_origins_stay_within_the_caps_and_leave_nothing_behind() {
    let config = PoolConfig::default().max_idle(100).idle_timeout(Some(Duration::from_secs(1)));
    let (mut state, mut now, mut closed) = (State::new(&config), clock::now(), Vec::new());
    for id in 0..10_000 {
        let origin: Origin = format!("http://host-{id}").parse().expect("an origin");
        let mut after = After::default();
        now += Duration::from_micros(1);
        assert!(matches!(state.ask(&origin, now, &mut after), Turn::Open));
        state.opened(&origin, &mut after);
        state.put_back(&origin, Stand::new(id, None), now, &mut after);
        closed.extend(after.closing.into_iter().map(|(stand, reason)| (stand.id, reason)));
        let stats = state.stats();
        assert!(stats.idle <= 100 && stats.origins <= 100, "{stats:?}");
    }
    // The longest idle of whatever origin went first.
    let expected: Vec<_> = (0..9_900).map(|id| (id, CloseReason::Evicted)).collect();
    assert_eq!(closed, expected);
    let mut after = After::default();
    while state.doze(now + Duration::from_secs(1)) {}
    assert_eq!(state.expire(now + Duration::from_secs(1), &mut after), None);
    assert_eq!((after.closing.len(), state.stats().origins), (100, 0));
}

#[test]
fn who_may_not_open_yet_for_others_that_open_closes_nothing_for_a_fresh_one() {
    let origin: Origin = "http://a".parse().expect("an origin");
    let config = PoolConfig::default().max_connections_per_origin(Some(3)).max_opening_per_origin(1);
    let (mut state, mut after, now) = (State::new(&config), After::default(), clock::now());
    assert!(matches!(state.ask(&origin, now, &mut after), Turn::Open));
    state.opened(&origin, &mut after);
    assert!(matches!(state.ask(&origin, now, &mut after), Turn::Open));
    state.put_back(&origin, Stand::new(1, None), now, &mut after);
    let Turn::Wait(ticket) = state.ask_fresh(&origin, &mut after) else { panic!("one is being opened") };
    assert!(after.closing.is_empty());
    state.opened(&origin, &mut after);
    assert!(matches!(state.forget(&origin, ticket, &mut after).0, Some(Grant::Place)));
    assert_eq!(state.stats().idle, 1);
}

#[test]
fn whoever_rests_falls_asleep_within_two_seconds_and_whoever_is_used_does_not() {
    let origin: Origin = "http://a".parse().expect("an origin");
    let config = PoolConfig::default().idle_timeout(None).max_idle_per_origin(100).max_idle(100);
    let (mut state, mut after, start) = (State::new(&config), After::default(), clock::now());
    let stands: Vec<Stand> = (0..100).map(|id| Stand::new(id, None)).collect();
    for _ in &stands {
        assert!(matches!(state.ask(&origin, start, &mut after), Turn::Open));
        state.opened(&origin, &mut after);
    }
    for stand in &stands {
        state.put_back(&origin, stand.clone(), start, &mut after);
    }
    // The newest is used every tenth of a second.
    let mut looks = 0;
    for tenth in 1..=50 {
        let now = start + Duration::from_millis(100 * tenth);
        while state.doze(now) {
            looks += 1;
        }
        let Turn::Reuse(newest) = state.ask(&origin, now, &mut after) else { panic!("a hundred are idle") };
        state.put_back(&origin, newest, now, &mut after);
        let slept: usize = stands.iter().map(|stand| stand.slept.get().min(1)).sum();
        assert_eq!(slept, if tenth < 10 { 0 } else { 99 }, "after {tenth} tenths");
    }
    assert!(looks < 50, "they are looked through once in a second: {looks}");
    // Once the last one sleeps, nothing is to be done any more.
    let late = start + Duration::from_secs(10);
    while state.doze(late) {}
    assert_eq!((stands[99].slept.get(), state.expire(late, &mut after)), (1, None));
}
