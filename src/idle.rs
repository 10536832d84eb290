//! [`IdleSet`]: which idle connection may be reused, which must go, and why. Pure: time is an argument, and
//! what must be closed is returned to the caller, who closes it after the lock is dropped.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::config::ReuseOrder;

/// Why a connection ended. Every close has one, and every one is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was idle for the idle timeout.
    IdleTimeout,
    /// By the server's `Keep-Alive` field it was about to be closed, or to carry no further request.
    Hint,
    /// It reached its maximum lifetime.
    MaxLifetime,
    /// It had served its maximum number of exchanges.
    MaxExchanges,
    /// The peer closed it while it was idle.
    PeerFin,
    /// The peer reset it while it was idle.
    PeerReset,
    /// Bytes arrived on it that answer no request (RFC 9112, section 9.2), or that are not even TLS.
    Unsolicited,
    /// The server said `Connection: close`, speaks HTTP/1.0, or ended the body by closing.
    ServerClose,
    /// Keep-alive is off.
    KeepAliveOff,
    /// The request's future was dropped before the response head came.
    Cancelled,
    /// The response's body was dropped before its end.
    BodyDropped,
    /// The response was complete before the request: what is left of the request is not sent.
    RequestUnfinished,
    /// An exchange on it failed.
    Failed,
    /// An exchange on it took longer than its limits allow.
    TimedOut,
    /// It was handed over to speak another protocol: a 101, or a tunnel made by CONNECT.
    Upgraded,
    /// More idle connections than allowed, or its place was wanted for another origin: the longest idle went. Or its peer
    /// speaks HTTP/1.0, and a request came whose body that cannot carry.
    Evicted,
    /// It had been idle for as long as another of its origin that got no response to a request: of an age at which
    /// the server, or something on the way, forgets connections.
    StaleSibling,
    /// The pool was closed, or its last handle dropped, or the runtime that the connection lived on ended.
    Shutdown,
    /// Its peer vanished while it was idle: TCP keepalive got no answer, or the network said that there is no way.
    PeerLost,
}

impl CloseReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [CloseReason; 19] = [
        CloseReason::IdleTimeout,
        CloseReason::Hint,
        CloseReason::MaxLifetime,
        CloseReason::MaxExchanges,
        CloseReason::PeerFin,
        CloseReason::PeerReset,
        CloseReason::Unsolicited,
        CloseReason::ServerClose,
        CloseReason::KeepAliveOff,
        CloseReason::Cancelled,
        CloseReason::BodyDropped,
        CloseReason::RequestUnfinished,
        CloseReason::Failed,
        CloseReason::TimedOut,
        CloseReason::Upgraded,
        CloseReason::Evicted,
        CloseReason::StaleSibling,
        CloseReason::Shutdown,
        CloseReason::PeerLost,
    ];

    /// The reason as a key: lower case words joined by underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::Hint => "hint",
            CloseReason::MaxLifetime => "max_lifetime",
            CloseReason::MaxExchanges => "max_exchanges",
            CloseReason::PeerFin => "peer_fin",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::Unsolicited => "unsolicited",
            CloseReason::ServerClose => "server_close",
            CloseReason::KeepAliveOff => "keep_alive_off",
            CloseReason::Cancelled => "cancelled",
            CloseReason::BodyDropped => "body_dropped",
            CloseReason::RequestUnfinished => "request_unfinished",
            CloseReason::Failed => "failed",
            CloseReason::TimedOut => "timed_out",
            CloseReason::Upgraded => "upgraded",
            CloseReason::Evicted => "evicted",
            CloseReason::StaleSibling => "stale_sibling",
            CloseReason::Shutdown => "shutdown",
            CloseReason::PeerLost => "peer_lost",
        }
    }
}

/// When a connection that rests from `since` on may no longer be reused, and why then; `None`: never. `idle` is how
/// long it may rest and the reason then, `dies` is when its lifetime ends.
pub(crate) fn end_of_rest(
    since: Instant,
    idle: Option<(Duration, CloseReason)>,
    dies: Option<Instant>,
) -> Option<(Instant, CloseReason)> {
    // A timeout beyond what the clock can count is none.
    let idle_end = idle.and_then(|(timeout, reason)| since.checked_add(timeout).map(|at| (at, reason)));
    let life_end = dies.map(|at| (at, CloseReason::MaxLifetime));
    match (idle_end, life_end) {
        (Some(idle), Some(life)) => Some(if life.0 < idle.0 { life } else { idle }),
        (idle, life) => idle.or(life),
    }
}

/// The idle connections of all origins. `K` names an origin; each has a [`Lane`], which its owner keeps.
///
/// *Design.* A slot holds one connection and its neighbours in two lists, both from the longest to the shortest
/// idle: that of all origins and that of its own. So to take, to return and to evict is a matter of a few links,
/// however many are idle. Deadlines are in a tree, but a slot has at most one alarm there, which stays when the
/// connection is taken: the next one to sit in that slot ends later as a rule, and the alarm is moved when it
/// goes off. So a busy pool writes to the tree once per slot and idle timeout, not once per request.
#[derive(Debug)]
pub(crate) struct IdleSet<K, T> {
    slots: Vec<Slot<K, T>>,
    vacant: Vec<usize>,
    all: Lane,
    alarms: BTreeSet<(Instant, usize)>,
    /// How many slots were looked at so far, to expire or to find a place by age.
    #[cfg(test)]
    looks: usize,
}

/// The idle connections of one origin, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    oldest: Option<usize>,
    newest: Option<usize>,
    len: usize,
}

impl Lane {
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[derive(Debug)]
struct Slot<K, T> {
    entry: Option<Entry<K, T>>,
    /// When this slot is looked at; never later than its connection's end.
    alarm: Option<Instant>,
}

#[derive(Debug)]
struct Entry<K, T> {
    item: T,
    origin: K,
    since: Instant,
    end: Option<(Instant, CloseReason)>,
    /// Its neighbours in each list.
    links: [Link; 2],
}

/// The neighbours' slots.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    older: Option<usize>,
    newer: Option<usize>,
}

const AMONG_ALL: usize = 0;
const IN_ITS_LANE: usize = 1;

impl<K, T> Entry<K, T> {
    fn ended(&self, now: Instant) -> Option<CloseReason> {
        self.end.and_then(|(at, reason)| (now >= at).then_some(reason))
    }
}

impl<K, T> IdleSet<K, T> {
    pub(crate) fn new() -> IdleSet<K, T> {
        IdleSet {
            slots: Vec::new(),
            vacant: Vec::new(),
            all: Lane::default(),
            alarms: BTreeSet::new(),
            #[cfg(test)]
            looks: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len
    }

    /// Keeps a connection that has been idle since then until its end. Answers with its slot.
    pub(crate) fn offer(
        &mut self,
        lane: &mut Lane,
        (origin, item): (K, T),
        since: Instant,
        end: Option<(Instant, CloseReason)>,
    ) -> usize {
        let entry = Entry { item, origin, since, end, links: [Link::default(); 2] };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { entry: None, alarm: None });
            self.slots.len() - 1
        });
        self.slots[slot].entry = Some(entry);
        let mut all = std::mem::take(&mut self.all);
        self.link(&mut all, AMONG_ALL, slot);
        self.all = all;
        self.link(lane, IN_ITS_LANE, slot);
        if let Some((at, _)) = end {
            self.set_alarm(slot, at);
        }
        slot
    }

    /// Takes the connection of the lane that comes first in this order and may still be used at `now`. Those found
    /// past their end are appended to `closed`.
    pub(crate) fn take(
        &mut self,
        lane: &mut Lane,
        order: ReuseOrder,
        now: Instant,
        closed: &mut Vec<(T, CloseReason)>,
    ) -> Option<T> {
        loop {
            let slot = match order {
                ReuseOrder::Lifo => lane.newest,
                ReuseOrder::Fifo => lane.oldest,
            }?;
            let entry = self.unlink(lane, slot);
            match entry.ended(now) {
                None => return Some(entry.item),
                Some(reason) => closed.push((entry.item, reason)),
            }
        }
    }

    /// What sits in that slot.
    pub(crate) fn at(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot)?.entry.as_ref().map(|entry| &entry.item)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref()).map(|entry| &entry.item)
    }

    /// As [`IdleSet::at`], to change it.
    pub(crate) fn at_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.get_mut(slot)?.entry.as_mut().map(|entry| &mut entry.item)
    }

    /// Takes what sits in that slot of this lane.
    pub(crate) fn remove(&mut self, lane: &mut Lane, slot: usize) -> T {
        self.unlink(lane, slot).item
    }

    /// The origin of the connection that has been idle for the longest time of all.
    pub(crate) fn longest(&self) -> Option<&K> {
        let slot = self.all.oldest?;
        Some(&self.entry(slot).origin)
    }

    /// Takes the one of this lane that has been idle for the longest time.
    pub(crate) fn take_longest(&mut self, lane: &mut Lane) -> Option<T> {
        lane.oldest.map(|slot| self.unlink(lane, slot).item)
    }

    /// Takes one of this lane that has been idle since then or longer.
    pub(crate) fn take_older(&mut self, lane: &mut Lane, since: Instant) -> Option<T> {
        lane.oldest.filter(|&slot| self.entry(slot).since <= since).map(|slot| self.unlink(lane, slot).item)
    }

    /// A slot whose connection is past its end at `now`, its origin, and why it ended; it is still to be removed.
    pub(crate) fn next_ended(&mut self, now: Instant) -> Option<(usize, &K, CloseReason)> {
        let (slot, reason) = loop {
            let &(at, slot) = self.alarms.first().filter(|(at, _)| *at <= now)?;
            self.alarms.remove(&(at, slot));
            self.slots[slot].alarm = None;
            self.count_look();
            match self.slots[slot].entry.as_ref().and_then(|entry| entry.end) {
                Some((at, reason)) if at <= now => break (slot, reason),
                Some((at, _)) => self.set_alarm(slot, at),
                None => {}
            }
        };
        Some((slot, &self.entry(slot).origin, reason))
    }

    /// The next instant at which [`IdleSet::next_ended`] is to be asked: no connection ends before.
    pub(crate) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|&(at, _)| at)
    }

    /// Shows those that sit in so many slots from that one on and have rested since then or longer. Answers with the slot
    /// to go on with, if there are more, and whether some have not rested for as long.
    pub(crate) fn visit_older(
        &mut self,
        slots: Range<usize>,
        since: Instant,
        mut visit: impl FnMut(&mut T),
    ) -> (Option<usize>, bool) {
        let (end, mut are_younger) = (slots.end.min(self.slots.len()), false);
        for entry in self.slots[slots.start.min(end)..end].iter_mut().filter_map(|slot| slot.entry.as_mut()) {
            if entry.since <= since {
                visit(&mut entry.item);
            } else {
                are_younger = true;
            }
        }
        ((end < self.slots.len()).then_some(end), are_younger)
    }

    /// Takes everything. The lanes are void after that.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<K, T> {
        let taken = std::mem::replace(self, IdleSet::new());
        taken.slots.into_iter().filter_map(|slot| slot.entry).map(|entry| entry.item)
    }

    fn count_look(&mut self) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
    }

    fn set_alarm(&mut self, slot: usize, at: Instant) {
        let alarm = &mut self.slots[slot].alarm;
        if alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        if let Some(later) = alarm.replace(at) {
            self.alarms.remove(&(later, slot));
        }
        self.alarms.insert((at, slot));
    }

    fn entry(&self, slot: usize) -> &Entry<K, T> {
        self.slots[slot].entry.as_ref().expect("a linked slot is occupied")
    }

    fn links(&mut self, slot: usize) -> &mut [Link; 2] {
        &mut self.slots[slot].entry.as_mut().expect("a linked slot is occupied").links
    }

    /// Puts a slot into its place by age.
    fn link(&mut self, lane: &mut Lane, list: usize, slot: usize) {
        let Link { older, newer } = self.place_by_age(lane, list, self.entry(slot).since);
        self.links(slot)[list] = Link { older, newer };
        match older {
            Some(older) => self.links(older)[list].newer = Some(slot),
            None => lane.oldest = Some(slot),
        }
        match newer {
            Some(newer) => self.links(newer)[list].older = Some(slot),
            None => lane.newest = Some(slot),
        }
        lane.len += 1;
    }

    /// Who was idle before and after. As a rule that is the newest and nobody: only a connection that was taken and not
    /// used has rested before. So it is looked for from both ends at once.
    fn place_by_age(&mut self, lane: &Lane, list: usize, since: Instant) -> Link {
        let mut from_newest = Link { older: lane.newest, newer: None };
        let mut from_oldest = Link { older: None, newer: lane.oldest };
        loop {
            match from_newest.older.filter(|&other| self.entry(other).since > since) {
                None => return from_newest,
                Some(other) => {
                    from_newest = Link { older: self.entry(other).links[list].older, newer: Some(other) }
                }
            }
            match from_oldest.newer.filter(|&other| self.entry(other).since <= since) {
                None => return from_oldest,
                Some(other) => {
                    from_oldest = Link { older: Some(other), newer: self.entry(other).links[list].newer }
                }
            }
            self.count_look();
        }
    }

    fn unlink(&mut self, lane: &mut Lane, slot: usize) -> Entry<K, T> {
        let entry = self.slots[slot].entry.take().expect("a linked slot is occupied");
        self.close_gap(None, AMONG_ALL, entry.links[AMONG_ALL]);
        self.close_gap(Some(lane), IN_ITS_LANE, entry.links[IN_ITS_LANE]);
        self.vacant.push(slot);
        entry
    }

    /// Joins the neighbours of a slot that has gone. No lane: the list of all.
    fn close_gap(&mut self, lane: Option<&mut Lane>, list: usize, Link { older, newer }: Link) {
        if let Some(older) = older {
            self.links(older)[list].newer = newer;
        }
        if let Some(newer) = newer {
            self.links(newer)[list].older = older;
        }
        let lane = lane.unwrap_or(&mut self.all);
        if older.is_none() {
            lane.oldest = newer;
        }
        if newer.is_none() {
            lane.newest = older;
        }
        lane.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(4);
    const USUAL: Option<(Duration, CloseReason)> = Some((TIMEOUT, CloseReason::IdleTimeout));

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Idle connections of one origin: 0, 1, 2 and so on.
    fn filled(at: &[Instant]) -> (IdleSet<(), usize>, Lane) {
        let (mut set, mut lane) = (IdleSet::new(), Lane::default());
        for (number, &since) in at.iter().enumerate() {
            set.offer(&mut lane, ((), number), since, end_of_rest(since, USUAL, None));
        }
        (set, lane)
    }

    fn order_taken(order: ReuseOrder) -> Vec<usize> {
        let t = now();
        let (mut set, mut lane) = filled(&[t, t + secs(1), t + secs(2)]);
        std::iter::from_fn(|| set.take(&mut lane, order, t + secs(3), &mut Vec::new())).collect()
    }

    #[test]
    fn the_newest_is_taken_first_or_the_oldest_as_asked() {
        assert_eq!(order_taken(ReuseOrder::Lifo), [2, 1, 0]);
        assert_eq!(order_taken(ReuseOrder::Fifo), [0, 1, 2]);
    }

    #[test]
    fn an_idle_connection_is_reused_just_before_its_timeout_and_not_at_it() {
        let t = now();
        let just_before = t + TIMEOUT - Duration::from_nanos(1);
        let (mut set, mut lane) = filled(&[t]);
        assert_eq!(set.take(&mut lane, ReuseOrder::Lifo, just_before, &mut Vec::new()), Some(0));
        let (mut set, mut lane) = filled(&[t]);
        let mut closed = Vec::new();
        assert_eq!(set.take(&mut lane, ReuseOrder::Lifo, t + TIMEOUT, &mut closed), None);
        assert_eq!(closed, [(0, CloseReason::IdleTimeout)]);
    }

    #[test]
    fn a_lifetime_that_ends_first_decides_and_is_the_reason() {
        let t = now();
        let end = |dies| end_of_rest(t, USUAL, Some(t + dies));
        assert_eq!(end(secs(1)), Some((t + secs(1), CloseReason::MaxLifetime)));
        assert_eq!(end(secs(9)), Some((t + TIMEOUT, CloseReason::IdleTimeout)));
        assert_eq!(end_of_rest(t, None, None), None);
        assert_eq!(end_of_rest(t, Some((Duration::MAX, CloseReason::Hint)), None), None);
    }

    #[test]
    fn one_that_was_only_looked_at_keeps_its_age() {
        let t = now();
        let (mut set, mut lane) = filled(&[t, t + secs(1), t + secs(2)]);
        let looked_at = set.take_longest(&mut lane).expect("three");
        set.offer(&mut lane, ((), looked_at), t, None);
        assert_eq!(set.take_longest(&mut lane), Some(0));
        assert_eq!(set.take(&mut lane, ReuseOrder::Lifo, t + secs(3), &mut Vec::new()), Some(2));
    }

    #[test]
    fn the_alarm_of_a_slot_outlives_its_connection_and_moves_to_the_next_ones_end() {
        let t = now();
        let (mut set, mut lane) = filled(&[t]);
        set.take(&mut lane, ReuseOrder::Lifo, t + secs(1), &mut Vec::new());
        set.offer(&mut lane, ((), 7), t + secs(2), end_of_rest(t + secs(2), USUAL, None));
        assert_eq!((set.next_alarm(), set.alarms.len()), (Some(t + secs(4)), 1));
        assert!(set.next_ended(t + secs(4)).is_none());
        assert_eq!(set.next_alarm(), Some(t + secs(6)));
        let (slot, (), reason) = set.next_ended(t + secs(6)).expect("its end");
        assert_eq!((set.remove(&mut lane, slot), reason), (7, CloseReason::IdleTimeout));
        assert_eq!((set.next_alarm(), set.len(), lane.len()), (None, 0, 0));
    }

    #[test]
    fn ten_thousand_idle_connections_that_end_one_by_one_are_each_looked_at_once() {
        let t = now();
        let (mut set, mut lane) = (IdleSet::new(), Lane::default());
        for number in 0..10_000 {
            let since = t + Duration::from_millis(number);
            set.offer(&mut lane, ((), number), since, end_of_rest(since, USUAL, None));
        }
        while let Some(at) = set.next_alarm() {
            while let Some((slot, ..)) = set.next_ended(at) {
                set.remove(&mut lane, slot);
            }
        }
        assert_eq!((set.len(), set.looks), (0, 10_000));
    }

    #[test]
    fn the_oldest_of_ten_thousand_is_taken_and_put_back_without_a_look_at_the_others() {
        let t = now();
        let ages: Vec<Instant> = (0..10_000).map(|ms| t + Duration::from_millis(ms)).collect();
        let (mut set, mut lane) = filled(&ages);
        for _ in 0..100 {
            let oldest = set.take(&mut lane, ReuseOrder::Fifo, t, &mut Vec::new()).expect("one that is idle");
            set.offer(&mut lane, ((), oldest), t, end_of_rest(t, USUAL, None));
            assert_eq!(oldest, 0);
        }
        assert_eq!(set.looks, 0);
    }

    #[test]
    fn a_connection_that_is_always_in_use_is_looked_at_once_per_idle_timeout() {
        let t = now();
        let (mut set, mut lane) = (IdleSet::new(), Lane::default());
        for ms in 0..40_000 {
            let at = t + Duration::from_millis(ms);
            set.offer(&mut lane, ((), ()), at, end_of_rest(at, USUAL, None));
            assert!(set.next_ended(at).is_none());
            set.take(&mut lane, ReuseOrder::Lifo, at, &mut Vec::new()).expect("it has just come");
        }
        assert!(set.looks <= 10, "{} times in ten timeouts", set.looks);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer { lane: usize, back: u64, timeout: u64 },
        Take { lane: usize, fifo: bool },
        TakeLongest,
        Remove { nth: usize },
        Expire,
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let step = prop_oneof![
            4 => (0_usize..3, 0_u64..3_000, 1_u64..9_000)
                .prop_map(|(lane, back, timeout)| Step::Offer { lane, back, timeout }),
            2 => (0_usize..3, any::<bool>()).prop_map(|(lane, fifo)| Step::Take { lane, fifo }),
            1 => Just(Step::TakeLongest),
            1 => (0_usize..9).prop_map(|nth| Step::Remove { nth }),
            1 => Just(Step::Expire),
        ];
        proptest::collection::vec((0_u64..2_000, step), 1..120)
    }

    /// What a plain list would hold.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Plain {
        number: usize,
        lane: usize,
        since: Instant,
        end: Instant,
        slot: usize,
    }

    proptest! {
        /// Against a plain list sorted by age: who is taken, who is evicted, who ends, and nothing is lost or doubled.
        #[test]
        fn it_does_what_a_plain_list_does(steps in steps()) {
            let start = now() + secs(10);
            let mut at = start;
            let mut set = IdleSet::new();
            let mut lanes: [Lane; 3] = Default::default();
            let mut model: Vec<Plain> = Vec::new();
            for (number, (ms, step)) in steps.into_iter().enumerate() {
                at += Duration::from_millis(ms);
                let mut closed = Vec::new();
                match step {
                    Step::Offer { lane, back, timeout } => {
                        let since = at - Duration::from_millis(back);
                        let end = at + Duration::from_millis(timeout);
                        let slot = set.offer(
                            &mut lanes[lane],
                            (lane, number),
                            since,
                            Some((end, CloseReason::IdleTimeout)),
                        );
                        let place = model.partition_point(|other| other.since <= since);
                        model.insert(place, Plain { number, lane, since, end, slot });
                    }
                    Step::Take { lane, fifo } => {
                        let order = if fifo { ReuseOrder::Fifo } else { ReuseOrder::Lifo };
                        let taken = set.take(&mut lanes[lane], order, at, &mut closed);
                        let mut expected = None;
                        let in_lane = |other: &Plain| other.lane == lane;
                        while let Some(place) = match order {
                            ReuseOrder::Fifo => model.iter().position(in_lane),
                            ReuseOrder::Lifo => model.iter().rposition(in_lane),
                        } {
                            let found = model.remove(place);
                            if at < found.end {
                                expected = Some(found.number);
                                break;
                            }
                            prop_assert_eq!(closed.remove(0), (found.number, CloseReason::IdleTimeout));
                        }
                        prop_assert_eq!(taken, expected);
                        prop_assert!(closed.is_empty());
                    }
                    Step::TakeLongest => {
                        let lane = set.longest().copied();
                        prop_assert_eq!(lane, model.first().map(|oldest| oldest.lane));
                        let taken = lane.and_then(|lane| set.take_longest(&mut lanes[lane]));
                        prop_assert_eq!(taken, (!model.is_empty()).then(|| model.remove(0).number));
                    }
                    Step::Remove { nth } if nth < model.len() => {
                        let found = model.remove(nth);
                        prop_assert_eq!(set.at(found.slot), Some(&found.number));
                        prop_assert_eq!(set.remove(&mut lanes[found.lane], found.slot), found.number);
                    }
                    Step::Remove { .. } => {}
                    Step::Expire => {
                        while let Some((slot, &lane, _)) = set.next_ended(at) {
                            let number = set.remove(&mut lanes[lane], slot);
                            let place = model.iter().position(|other| other.number == number);
                            let found = model.remove(place.expect("what ended was idle"));
                            prop_assert!(found.end <= at);
                        }
                        prop_assert!(model.iter().all(|other| other.end > at));
                    }
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(lanes.iter().map(Lane::len).sum::<usize>(), model.len());
                prop_assert!(model.iter().all(|other| set.next_alarm().is_some_and(|alarm| alarm <= other.end)));
                prop_assert!(set.alarms.len() <= set.slots.len());
            }
        }
    }
}
