//! [`Live`]: what a run has done so far, to be read while it runs.
//!
//! *Design.* Every worker counts at a `Desk` of its own, which nobody else writes: a relaxed load and a relaxed store,
//! which is what a plain `+= 1` compiles to, on cache lines that no other worker touches. Nothing is ever taken back,
//! so a reader needs no agreement with the writer: what happened lately is the difference of two [`Reading`]s. The
//! lock is taken when a visit begins and when somebody reads, never for a request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::recorder::STATUS_FAULTS;
use crate::duration::nanoseconds;
use crate::error::{Error, ErrorKind};

mod sketch;

pub use sketch::Sketch;
use sketch::{PLACES, place};

/// What a run has done so far. Clones are the same run's.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<Mutex<Accounts>>);

#[derive(Debug, Default)]
struct Accounts {
    parts: Vec<Part>,
    window: Option<Window>,
}

/// The desks of one [`Account`].
#[derive(Debug)]
struct Part {
    arm: String,
    measured: bool,
    desks: Vec<Arc<Desk>>,
}

/// The measured window that is open, or about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here on requests count.
    pub opens: Instant,
    /// For so long at most.
    pub lasts: Duration,
}

/// What a run had done at a moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The moment.
    pub at: Instant,
    /// The measured window, from when it is known when it will open.
    pub window: Option<Window>,
    /// What was done, by arm; what is measured and what comes before are apart.
    pub accounts: Vec<Account>,
}

/// What was done with one arm, measured or not.
#[derive(Clone, Debug)]
pub struct Account {
    /// The arm's name.
    pub arm: String,
    /// Whether it counts: warm-ups and searches do not, and are not in the result's slots.
    pub measured: bool,
    /// What was done.
    pub counts: Counts,
}

/// Counts since a run began. When it has ended they are those of the result's slots, added up.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests whose time had come.
    pub scheduled: u64,
    /// Open loop: requests handed to the queue; this and the next three count requests before the window, too.
    pub queued: u64,
    /// Of those, no longer in the queue.
    pub taken: u64,
    /// Requests taken in hand.
    pub started: u64,
    /// Of those, over.
    pub ended: u64,
    /// Requests answered completely.
    pub completed: u64,
    /// Requests that nobody had answered when the run was over.
    pub censored: u64,
    /// Connections opened, in the whole visit.
    pub opened: u64,
    /// Response times, as [`Slot::response`](crate::measurement::Slot::response), more coarsely.
    pub response: Sketch,
    failed: [u64; KINDS],
}

/// So many ways there are to fail: each kind of error, and each of status.
const KINDS: usize = ErrorKind::ALL.len() + STATUS_FAULTS.len();

impl Live {
    /// The desk of one worker.
    pub(super) fn desk(&self, arm: &str, measured: bool, worker: usize) -> Arc<Desk> {
        let mut accounts = self.lock();
        let parts = &mut accounts.parts;
        let nth = parts.iter().position(|part| part.arm == arm && part.measured == measured);
        let nth = nth.unwrap_or_else(|| {
            parts.push(Part { arm: arm.to_owned(), measured, desks: Vec::new() });
            parts.len() - 1
        });
        let desks = &mut parts[nth].desks;
        while desks.len() <= worker {
            desks.push(Arc::default());
        }
        Arc::clone(&desks[worker])
    }

    /// Every worker says when its window opens: they differ by less than anybody sees.
    pub(super) fn opens(&self, window: Window) {
        self.lock().window = Some(window);
    }

    /// The measured window, from when it is known when it will open.
    pub fn window(&self) -> Option<Window> {
        self.lock().window
    }

    /// What was done until now.
    pub fn read(&self) -> Reading {
        let accounts = self.lock();
        let read = |part: &Part| Account {
            arm: part.arm.clone(),
            measured: part.measured,
            counts: part.desks.iter().fold(Counts::default(), |mut counts, desk| {
                desk.add_to(&mut counts);
                counts
            }),
        };
        Reading {
            at: crate::clock::now(),
            window: accounts.window,
            accounts: accounts.parts.iter().map(read).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// What was measured, over all arms.
    pub fn measured(&self) -> Counts {
        self.of(|account| account.measured)
    }

    /// What was done, measured or not, over all arms.
    pub fn all(&self) -> Counts {
        self.of(|_| true)
    }

    fn of(&self, which: impl Fn(&Account) -> bool) -> Counts {
        self.accounts.iter().filter(|account| which(account)).fold(Counts::default(), |mut sum, account| {
            sum.add(&account.counts);
            sum
        })
    }
}

impl Counts {
    /// Requests that are due and wait for a loop to take them in hand: an open loop offers more than is answered.
    pub fn waiting(&self) -> u64 {
        self.queued.saturating_sub(self.taken)
    }

    /// Requests that were taken in hand and are not over.
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.ended)
    }

    /// Requests of the measured window that are over, one way or another; a bad status is an answer.
    pub fn over(&self) -> u64 {
        let errors: u64 = self.failed[..ErrorKind::ALL.len()].iter().sum();
        self.completed + errors + self.censored
    }

    /// Requests without a good answer.
    pub fn failed(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// By every kind there is, as [`Slot::errors`](crate::measurement::Slot::errors) names it, how many failed so.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let errors = ErrorKind::ALL.iter().map(|kind| kind.as_str());
        errors.chain(STATUS_FAULTS).zip(self.failed)
    }

    /// What was done since an earlier reading.
    pub fn since(&self, earlier: &Counts) -> Counts {
        let mut failed = self.failed;
        for (now, before) in failed.iter_mut().zip(earlier.failed) {
            *now = now.saturating_sub(before);
        }
        Counts {
            scheduled: self.scheduled.saturating_sub(earlier.scheduled),
            queued: self.queued.saturating_sub(earlier.queued),
            taken: self.taken.saturating_sub(earlier.taken),
            started: self.started.saturating_sub(earlier.started),
            ended: self.ended.saturating_sub(earlier.ended),
            completed: self.completed.saturating_sub(earlier.completed),
            censored: self.censored.saturating_sub(earlier.censored),
            opened: self.opened.saturating_sub(earlier.opened),
            response: self.response.since(&earlier.response),
            failed,
        }
    }

    #[cfg(test)]
    pub(crate) fn fail(&mut self, kind: &str, times: u64) {
        let place = self.failures().position(|(known, _)| known == kind).expect("a kind there is");
        self.failed[place] += times;
    }

    fn add(&mut self, other: &Counts) {
        self.scheduled += other.scheduled;
        self.queued += other.queued;
        self.taken += other.taken;
        self.started += other.started;
        self.ended += other.ended;
        self.completed += other.completed;
        self.censored += other.censored;
        self.opened += other.opened;
        self.response.add(&other.response);
        for (sum, n) in self.failed.iter_mut().zip(other.failed) {
            *sum += n;
        }
    }
}

/// Where one worker counts, on cache lines of its own (two at a time are fetched on x86-64, hence 128).
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Desk {
    scheduled: Count,
    queued: Count,
    taken: Count,
    started: Count,
    ended: Count,
    completed: Count,
    censored: Count,
    opened: Count,
    response_ns: Count,
    failed: [Count; KINDS],
    response: [Count; PLACES],
}

impl Default for Desk {
    fn default() -> Desk {
        Desk {
            scheduled: Count::default(),
            queued: Count::default(),
            taken: Count::default(),
            started: Count::default(),
            ended: Count::default(),
            completed: Count::default(),
            censored: Count::default(),
            opened: Count::default(),
            response_ns: Count::default(),
            failed: [const { Count(AtomicU64::new(0)) }; KINDS],
            response: [const { Count(AtomicU64::new(0)) }; PLACES],
        }
    }
}

impl Desk {
    pub(super) fn scheduled(&self) {
        self.scheduled.add(1);
    }

    pub(super) fn queued(&self) {
        self.queued.add(1);
    }

    pub(super) fn taken(&self) {
        self.taken.add(1);
    }

    pub(super) fn started(&self) {
        self.started.add(1);
    }

    pub(super) fn ended(&self) {
        self.ended.add(1);
    }

    pub(super) fn completed(&self) {
        self.completed.add(1);
    }

    pub(super) fn censored(&self) {
        self.censored.add(1);
    }

    pub(super) fn opened(&self, connections: u64) {
        self.opened.add(connections);
    }

    pub(super) fn responded(&self, took: Duration) {
        let ns = nanoseconds(took);
        self.response_ns.add(ns);
        self.response[place(ns)].add(1);
    }

    pub(super) fn failed(&self, error: &Error) {
        let kind = error.kind();
        self.failed_as(ErrorKind::ALL.iter().position(|known| *known == kind));
    }

    /// An answer whose status is a fault of that name.
    pub(super) fn refused(&self, fault: &str) {
        let nth = STATUS_FAULTS.iter().position(|known| *known == fault);
        self.failed_as(nth.map(|nth| nth + ErrorKind::ALL.len()));
    }

    fn failed_as(&self, place: Option<usize>) {
        if let Some(count) = place.and_then(|place| self.failed.get(place)) {
            count.add(1);
        }
    }

    fn add_to(&self, counts: &mut Counts) {
        // Beginnings before ends, so that nothing seems to wait or to be in flight that does not.
        counts.queued += self.queued.get();
        counts.taken += self.taken.get();
        counts.started += self.started.get();
        counts.ended += self.ended.get();
        counts.scheduled += self.scheduled.get();
        counts.completed += self.completed.get();
        counts.censored += self.censored.get();
        counts.opened += self.opened.get();
        for (sum, count) in counts.failed.iter_mut().zip(&self.failed) {
            *sum += count.get();
        }
        counts.response.add_places(self.response.iter().map(Count::get), self.response_ns.get());
    }
}

/// A count with one writer.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, n: u64) {
        // No read-modify-write: nobody else writes.
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_lately_is_the_difference_of_two_readings_over_all_workers() {
        let live = Live::default();
        let desks = [live.desk("on", true, 0), live.desk("on", true, 1)];
        desks[0].started();
        desks[0].completed();
        let before = live.read().measured();
        for desk in &desks {
            desk.started();
            desk.ended();
            desk.completed();
            desk.responded(Duration::from_millis(3));
            desk.failed(&Error::new(ErrorKind::Reset));
            desk.refused("status_5xx");
        }
        let lately = live.read().measured().since(&before);
        assert_eq!((lately.completed, lately.failed(), lately.response.len()), (2, 4, 2));
        let failures: Vec<_> = lately.failures().filter(|(_, n)| *n > 0).collect();
        assert_eq!(failures, [("reset", 2), ("status_5xx", 2)]);
        assert_eq!(live.read().measured().in_flight(), 1);
    }

    #[test]
    fn what_is_not_measured_stands_apart() {
        let live = Live::default();
        live.desk("on", false, 0).completed();
        live.desk("off", true, 0).completed();
        assert_eq!((live.read().measured().completed, live.read().all().completed), (1, 2));
        assert_eq!(live.desk("off", true, 0).completed.get(), 1, "a desk is found again");
    }

    #[test]
    fn desks_share_no_cache_line() {
        assert_eq!((align_of::<Desk>(), size_of::<Desk>() % 128), (128, 0));
    }
}
