//! [`Pooled`]: a connection of the pool, with the waker that notices when its socket stirs while it is idle.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::coop::{has_budget_remaining, unconstrained};

use super::Shared;
use super::progress::Progress;
use super::state::{Kept, State};
use crate::connection::Connection;
use crate::hint::{Hint, HintPolicy, Rest};
use crate::idle::CloseReason;
use crate::origin::Origin;

/// A connection of the pool: in use, idle, or on its way from one request to the next. It lives in a box, so that its
/// way is that of a pointer.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) connection: Connection,
    pub(super) watch: Arc<Watch>,
    /// The watch, as what the connection is polled with.
    pub(super) waker: Waker,
    /// The exchange that it is at, or was at last.
    pub(super) progress: Progress,
    /// What the server last announced.
    hint: Option<Hint>,
    /// What is made of it.
    pub(super) rest: Rest,
    /// When its lifetime ends.
    pub(super) dies: Option<Instant>,
    /// Where it was opened, and with which it ends.
    pub(super) runtime: Handle,
}

impl Pooled {
    pub(super) fn new(connection: Connection, origin: &Origin, shared: &Arc<Shared>) -> Box<Pooled> {
        let (number, born) = (connection.facts().id.0, shared.ages.at(connection.born()));
        let dies = shared.lifetimes.and_then(|lifetimes| lifetimes.end(born, number));
        let watch = Arc::new(Watch {
            slot: AtomicUsize::new(0),
            origin: origin.clone(),
            resting: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
            holder: Mutex::new(None),
            shared: Arc::downgrade(shared),
        });
        shared.drain.remember(&watch);
        let waker = Waker::from(Arc::clone(&watch));
        let progress = Progress::none(connection.born());
        let (rest, runtime) = (Rest::Usual, Handle::current());
        Box::new(Pooled { connection, watch, waker, progress, hint: None, rest, dies, runtime })
    }

    pub(super) fn origin(&self) -> &Origin {
        self.watch.origin()
    }

    /// A hint holds until another comes: a server may give it only to those requests that ask.
    pub(super) fn heed(&mut self, hint: Option<Hint>, policy: HintPolicy) {
        self.hint = hint.or(self.hint);
        self.rest = policy.rest(self.hint);
    }

    /// Arranges that the pool hears of the next thing that happens on the socket, and lets the connection read where
    /// something may have happened. Answers whether it can still be used.
    ///
    /// The budget of the task that gives it back does not count here (tokio's `coop`): where it is spent, the last poll has
    /// left nothing with the reactor, and its socket would feign to have stirred later, just when the connection is wanted
    /// again.
    pub(super) fn watch(&mut self) -> bool {
        self.watch.forget_holder();
        let is_calm = self.watch.begins_rest() && has_budget_remaining();
        if is_calm && self.connection.is_listening() && self.connection.is_ready() {
            return true;
        }
        self.watch.stirred.store(false, Relaxed);
        self.listen()
    }

    fn listen(&mut self) -> bool {
        let driving = unconstrained(poll_fn(|cx| Poll::Ready(self.connection.drive(cx))));
        let goes_on = pin!(driving).poll(&mut Context::from_waker(&self.waker));
        goes_on == Poll::Ready(true) && self.connection.is_ready()
    }
}

impl Kept for Box<Pooled> {
    fn dies(&self) -> Option<Instant> {
        self.dies
    }

    fn may_rest(&self, usual: Option<Duration>) -> Option<(Duration, CloseReason)> {
        match self.rest {
            Rest::Usual => usual.map(|timeout| (timeout, CloseReason::IdleTimeout)),
            Rest::Hinted(rest) => Some((rest, CloseReason::Hint)),
            Rest::Never => Some((Duration::ZERO, CloseReason::Hint)),
        }
    }

    fn rests_in(&self, slot: usize) {
        self.watch.slot.store(slot, Relaxed);
    }

    /// What is found to have ended thereby is left where it lies: the minder hears of it, and a request that comes before
    /// the minder finds it unusable as it would have found any other that ended just then.
    fn fall_asleep(&mut self) {
        if self.connection.is_awake() {
            self.connection.fall_asleep();
            if !self.listen() {
                self.watch.wake_by_ref();
            }
        }
    }
}

/// Hears of events on a connection's socket: for the minder while it rests, for whoever waits for the peer in an
/// exchange. To send a request wakes it too, for hyper waits for one with the same waker.
///
/// *Race windows.* An event may come between the poll that arranged for it and the moment at which the
/// connection lies in the idle set, where the minder would look for it. So the flag is set before the watch
/// is handed to the minder, and whoever puts the connection into the set looks at the flag afterwards. What orders the
/// two is the pool's lock, which both take in between; and the socket's own, under which the waker is left and found.
///
/// An event may come between the poll and the moment at which the task has left its waker: so the flag is looked at after
/// that, and what orders the two is the holder's lock. And it may come just as the rest begins: whoever hears of it sets
/// the flag before it looks whether the connection rests, who lets it rest looks at the flag after it has said so, and one
/// order of all four has at least one of them see the other (hence `SeqCst`).
#[derive(Debug)]
pub(super) struct Watch {
    /// Where in the idle set its connection lay last. It is written and read under the pool's lock.
    slot: AtomicUsize,
    origin: Origin,
    resting: AtomicBool,
    /// Something was heard since the connection was polled.
    stirred: AtomicBool,
    /// Whoever waits for the peer in an exchange.
    holder: Mutex<Option<Waker>>,
    shared: Weak<Shared>,
}

impl Watch {
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// An exchange begins: whoever makes it hears of the socket from now on.
    pub(super) fn ends_rest(&self) {
        self.resting.store(false, Release);
    }

    /// The exchange is over. Answers whether nothing was heard since its connection was polled.
    fn begins_rest(&self) -> bool {
        self.resting.store(true, SeqCst);
        !self.stirred.load(SeqCst)
    }

    /// The connection is about to be polled: what was heard will be found.
    pub(super) fn forget(&self) {
        self.stirred.swap(false, AcqRel);
    }

    /// Whoever makes the exchange has polled the connection, and waits for the peer.
    pub(super) fn hold(&self, waker: &Waker) {
        {
            let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
            if !holder.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *holder = Some(waker.clone());
            }
        }
        if self.has_stirred() {
            waker.wake_by_ref();
        }
    }

    /// A waker kept for longer than it is needed would keep its whole task from being freed.
    fn forget_holder(&self) {
        drop(self.take_holder());
    }

    pub(super) fn wake_holder(&self) {
        if let Some(holder) = self.take_holder() {
            holder.wake();
        }
    }

    fn take_holder(&self) -> Option<Waker> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn has_stirred(&self) -> bool {
        self.stirred.load(Acquire)
    }

    pub(super) fn report(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.minder.stirred(Arc::clone(self));
        }
    }

    /// Looks at its connection, if that rests, and takes it out if it has ended: what stirred may have been TLS that had
    /// something to say to itself.
    pub(super) fn look(self: &Arc<Self>, state: &mut State<Box<Pooled>>) -> Option<Box<Pooled>> {
        let slot = self.slot.load(Relaxed);
        state.examine(&self.origin, slot, |pooled| Arc::ptr_eq(&pooled.watch, self), |pooled| pooled.watch())
    }
}

thread_local! {
    static IS_DEAF: Cell<bool> = const { Cell::new(false) };
}

/// Does something by which hyper wakes its own connection for it to go on, when whoever does it polls the connection before
/// anything is waited for: no watch hears of it. It would be taken for the socket's doing, and the connection polled for
/// it when it rests. What happens on another thread meanwhile is heard.
pub(super) fn unheard<T>(act: impl FnOnce() -> T) -> T {
    struct Hears;
    impl Drop for Hears {
        fn drop(&mut self) {
            IS_DEAF.set(false);
        }
    }
    IS_DEAF.set(true);
    let _until_then = Hears;
    act()
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if IS_DEAF.get() {
            return;
        }
        self.stirred.swap(true, SeqCst);
        if self.resting.load(SeqCst) {
            self.report();
        } else {
            self.wake_holder();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PoolConfig;
    use crate::pool::Pool;

    fn watch(shared: &Arc<Shared>) -> Arc<Watch> {
        Arc::new(Watch {
            slot: AtomicUsize::new(0),
            origin: "http://127.0.0.1:1".parse().unwrap(),
            resting: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
            holder: Mutex::new(None),
            shared: Arc::downgrade(shared),
        })
    }

    /// Does both at the same time, many times over, and looks at what came of it. Two threads that wait for each other
    /// awake are a tenth of a microsecond apart, so one of them begins by that much later each time.
    fn race(watch: &Arc<Watch>, here: impl Fn() -> bool, holds: impl Fn(bool) -> bool) {
        const TIMES: usize = 50_000;
        let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let until = |count: &AtomicUsize, time| {
            while count.load(SeqCst) < time {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for time in 1..=TIMES {
                    until(&begun, time);
                    watch.wake_by_ref();
                    done.store(time, SeqCst);
                }
            });
            for time in 1..=TIMES {
                watch.ends_rest();
                watch.forget();
                begun.store(time, SeqCst);
                (0..time % 64).for_each(|_| std::hint::spin_loop());
                let seen = here();
                until(&done, time);
                // The other thread must come to its end whatever is found.
                if !holds(seen) {
                    begun.store(TIMES, SeqCst);
                    panic!("in round {time}");
                }
            }
        });
    }

    #[test]
    fn what_is_heard_just_as_a_rest_begins_is_seen_or_reported() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let watch = watch(pool.shared());
        let reported = || !pool.shared().minder.take_stirred().is_empty();
        race(&watch, || watch.begins_rest(), |is_calm| reported() || !is_calm);
    }

    #[test]
    fn what_is_heard_just_as_a_task_begins_to_wait_wakes_it() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let watch = watch(pool.shared());
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let task = Waker::from(Arc::clone(&woken));
        let hold = || {
            watch.hold(&task);
            true
        };
        race(&watch, hold, |_| woken.0.swap(false, SeqCst));
    }
}
