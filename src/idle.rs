//! [`IdleSet`]: which idle connection may be reused, which must go, and why. Pure: time is an argument, and
//! what must be closed is returned to the caller, who closes it after the lock is dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    /// More idle connections than allowed: the longest idle went.
    Evicted,
    /// It had been idle for as long as another of its origin that got no response to a request: of an age at which
    /// the server, or something on the way, forgets connections.
    StaleSibling,
    /// The pool was closed, or its last handle dropped, or the runtime that the connection lived on ended.
    Shutdown,
}

impl CloseReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [CloseReason; 16] = [
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
        CloseReason::Evicted,
        CloseReason::StaleSibling,
        CloseReason::Shutdown,
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
            CloseReason::Evicted => "evicted",
            CloseReason::StaleSibling => "stale_sibling",
            CloseReason::Shutdown => "shutdown",
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

/// The idle connections of one origin, the longest idle first. Reuse is LIFO: the newest is warmest and
/// least likely to have been closed by the peer, and the surplus can expire.
#[derive(Debug)]
pub(crate) struct IdleSet<T> {
    entries: VecDeque<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    number: u64,
    since: Instant,
    /// When it may no longer be reused, and why then; `None`: never.
    end: Option<(Instant, CloseReason)>,
}

impl<T> Entry<T> {
    fn ended(&self, now: Instant) -> Option<CloseReason> {
        self.end.and_then(|(at, reason)| (now >= at).then_some(reason))
    }
}

impl<T> IdleSet<T> {
    pub(crate) fn new() -> IdleSet<T> {
        IdleSet { entries: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes the connection that was idle for the shortest time and may still be used at `now`. Those found
    /// past their end are appended to `closed`.
    pub(crate) fn take(&mut self, now: Instant, closed: &mut Vec<(T, CloseReason)>) -> Option<T> {
        while let Some(entry) = self.entries.pop_back() {
            match entry.ended(now) {
                None => return Some(entry.item),
                Some(reason) => closed.push((entry.item, reason)),
            }
        }
        None
    }

    /// Takes the connection of that number, wherever it stands.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.entries.iter().rposition(|entry| entry.number == number)?;
        self.entries.remove(place).map(|entry| entry.item)
    }

    /// Keeps a connection that has been idle since then until its end, see [`end_of_rest`]. Answers with the
    /// connection that must be closed for it, if one must.
    pub(crate) fn offer(
        &mut self,
        item: T,
        number: u64,
        since: Instant,
        end: Option<(Instant, CloseReason)>,
        max_idle: usize,
    ) -> Option<(T, CloseReason)> {
        if max_idle == 0 {
            return Some((item, CloseReason::Evicted));
        }
        self.entries.push_back(Entry { item, number, since, end });
        if self.entries.len() > max_idle {
            return self.entries.pop_front().map(|entry| (entry.item, CloseReason::Evicted));
        }
        None
    }

    /// Takes out all that are past their end at `now`.
    pub(crate) fn expire(&mut self, now: Instant, closed: &mut Vec<(T, CloseReason)>) {
        for _ in 0..self.entries.len() {
            let Some(entry) = self.entries.pop_front() else { break };
            match entry.ended(now) {
                Some(reason) => closed.push((entry.item, reason)),
                None => self.entries.push_back(entry),
            }
        }
    }

    /// Takes out all that have been idle since then or longer.
    pub(crate) fn take_older(&mut self, since: Instant) -> Vec<T> {
        let (older, rest) = self.entries.drain(..).partition(|entry| entry.since <= since);
        self.entries = rest;
        VecDeque::into_iter(older).map(|entry: Entry<T>| entry.item).collect()
    }

    /// Takes the one that has been idle for the longest time.
    pub(crate) fn take_longest(&mut self) -> Option<T> {
        self.entries.pop_front().map(|entry| entry.item)
    }

    /// The next instant at which [`IdleSet::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.end.map(|(at, _)| at)).min()
    }

    /// Takes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.entries.drain(..).map(|entry| entry.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use proptest::prelude::*;

    const MAX_IDLE: usize = 3;

    fn end(since: Instant) -> Option<(Instant, CloseReason)> {
        end_of_rest(since, Some((secs(4), CloseReason::IdleTimeout)), None)
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn filled(at: &[Instant]) -> IdleSet<usize> {
        let mut set = IdleSet::new();
        for (number, &since) in at.iter().enumerate() {
            assert!(set.offer(number, number as u64, since, end(since), MAX_IDLE).is_none());
        }
        set
    }

    #[test]
    fn the_newest_is_taken_first() {
        let t = now();
        let mut set = filled(&[t, t + secs(1), t + secs(2)]);
        assert_eq!(set.take(t + secs(3), &mut Vec::new()), Some(2));
        assert_eq!(set.take(t + secs(3), &mut Vec::new()), Some(1));
    }

    #[test]
    fn an_idle_connection_is_reused_just_before_its_timeout_and_not_at_it() {
        let t = now();
        let just_before = t + secs(4) - Duration::from_nanos(1);
        assert_eq!(filled(&[t]).take(just_before, &mut Vec::new()), Some(0));
        let mut closed = Vec::new();
        assert_eq!(filled(&[t]).take(t + secs(4), &mut closed), None);
        assert_eq!(closed, [(0, CloseReason::IdleTimeout)]);
    }

    #[test]
    fn a_lifetime_that_ends_first_decides_and_is_the_reason() {
        let t = now();
        let idle = Some((secs(4), CloseReason::Hint));
        assert_eq!(end_of_rest(t, idle, Some(t + secs(1))), Some((t + secs(1), CloseReason::MaxLifetime)));
        assert_eq!(end_of_rest(t, idle, Some(t + secs(9))), Some((t + secs(4), CloseReason::Hint)));
        assert_eq!(end_of_rest(t, Some((Duration::MAX, CloseReason::Hint)), None), None);
    }

    #[test]
    fn one_too_many_evicts_the_longest_idle() {
        let t = now();
        let mut set = filled(&[t, t, t]);
        assert_eq!(set.offer(9, 9, t, None, MAX_IDLE), Some((0, CloseReason::Evicted)));
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn expire_takes_what_is_past_its_end_and_names_the_next_deadline() {
        let t = now();
        let mut set = filled(&[t, t + secs(1)]);
        let mut closed = Vec::new();
        set.expire(t + secs(4), &mut closed);
        assert_eq!(closed, [(0, CloseReason::IdleTimeout)]);
        assert_eq!(set.next_deadline(), Some(t + secs(5)));
    }

    #[test]
    fn those_idle_since_an_instant_or_longer_are_taken_out() {
        let t = now();
        let mut set = filled(&[t, t + secs(1), t + secs(2)]);
        assert_eq!(set.take_older(t + secs(1)), [0, 1]);
        assert_eq!((set.len(), set.take_longest(), set.take_longest()), (1, Some(2), None));
    }

    proptest! {
        /// Against a plain list: what is taken is the newest live one, and nothing is ever lost or doubled.
        #[test]
        fn nothing_is_lost_and_nothing_expired_is_taken(steps in proptest::collection::vec((0_u8..4, 0_u64..3000), 1..80)) {
            let start = now();
            let mut at = start;
            let mut set = IdleSet::new();
            let mut model: Vec<(u64, Instant)> = Vec::new();
            let (mut offered, mut gone) = (0_u64, 0_usize);
            for (kind, ms) in steps {
                at += Duration::from_millis(ms);
                let mut closed = Vec::new();
                match kind {
                    0 | 1 => {
                        let evicted = set.offer(offered, offered, at, end(at), MAX_IDLE);
                        model.push((offered, at));
                        offered += 1;
                        if model.len() > MAX_IDLE {
                            prop_assert_eq!(evicted, Some((model.remove(0).0, CloseReason::Evicted)));
                            gone += 1;
                        } else {
                            prop_assert!(evicted.is_none());
                        }
                    }
                    2 => {
                        let live = model.last().copied().filter(|&(_, since)| at < since + secs(4));
                        let taken = set.take(at, &mut closed);
                        prop_assert_eq!(taken, live.map(|(number, _)| number));
                        if live.is_some() { model.pop(); gone += 1 } else { model.clear() }
                    }
                    _ => {
                        set.expire(at, &mut closed);
                        model.retain(|&(_, since)| at < since + secs(4));
                    }
                }
                gone += closed.len();
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.len() + gone, offered as usize);
            }
        }
    }
}
