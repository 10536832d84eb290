//! [`Pauses`]: thousands that wait, each until its own instant, woken by one timer.
//!
//! *Why.* tokio's timers round up to milliseconds, twice: a pause of 1 ms took 2.1. A [`Timer`] for each is exact, and
//! costs six system calls and a descriptor for each pause; fifty that end together are then late by their number.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock;
use crate::timer::Timer;

/// Until when, and a number that tells those apart which end together: they are woken in the order in which they began.
type Key = (Instant, u64);

/// The lock is of one thread, as a rule, and held for no longer than it takes to wake those that are due.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    paused: BTreeMap<Key, Waker>,
    last: u64,
    /// Who keeps the time, while there is nobody or a later one to wake.
    keeper: Option<Waker>,
}

impl State {
    fn first(&self) -> Option<Key> {
        self.paused.first_key_value().map(|(key, _)| *key)
    }
}

impl Pauses {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready at that time, and a little later as a rule, provided that somebody [keeps](Pauses::keep) it.
    pub(crate) fn until(&self, at: Instant) -> impl Future<Output = ()> + '_ {
        let mut state = self.state();
        state.last += 1;
        Pause { pauses: self, key: (at, state.last) }
    }

    /// A pause of that length from now on; beyond what a clock can say it never ends.
    pub(crate) async fn last(&self, length: Duration) {
        match clock::now().checked_add(length) {
            Some(at) => self.until(at).await,
            None => pending().await,
        }
    }

    /// Wakes each in its time, for ever. Should the timer ever fail, it is asked again a millisecond later.
    pub(crate) async fn keep(&self, timer: &Timer) {
        while self.keep_while_it_runs(timer).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn keep_while_it_runs(&self, timer: &Timer) -> io::Result<()> {
        loop {
            self.wake_those_due();
            let first = self.state().first();
            match first {
                None => self.changed(first).await,
                Some((at, _)) => {
                    let (mut due, mut changed) = (pin!(timer.wait_until(at)), pin!(self.changed(first)));
                    poll_fn(|cx| match due.as_mut().poll(cx) {
                        Poll::Ready(waited) => Poll::Ready(waited.map(|_| ())),
                        Poll::Pending => changed.as_mut().poll(cx).map(Ok),
                    })
                    .await?;
                }
            }
        }
    }

    fn wake_those_due(&self) {
        let now = clock::now();
        let mut state = self.state();
        while let Some(first) = state.paused.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
    }

    /// Ready when another is the first.
    async fn changed(&self, first: Option<Key>) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.first() != first {
                return Poll::Ready(());
            }
            state.keeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

struct Pause<'a> {
    pauses: &'a Pauses,
    key: Key,
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.key.0 {
            return Poll::Ready(());
        }
        let mut state = self.pauses.state();
        state.paused.insert(self.key, cx.waker().clone());
        // Only an earlier one than those before is news to whoever keeps the time.
        if state.first() == Some(self.key)
            && let Some(keeper) = state.keeper.take()
        {
            keeper.wake();
        }
        Poll::Pending
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.pauses.state().paused.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;

    use super::*;

    fn kept() -> (Arc<Pauses>, JoinHandle<()>) {
        let (pauses, timer) = (Arc::new(Pauses::default()), Timer::new().expect("a timer"));
        let keeper = Arc::clone(&pauses);
        (pauses, tokio::spawn(async move { keeper.keep(&timer).await }))
    }

    /// In a task of its own, which nothing wakes but the pause's end.
    fn paused(
        pauses: &Arc<Pauses>,
        name: &'static str,
        at: Instant,
        ended: &mpsc::UnboundedSender<&'static str>,
    ) -> JoinHandle<()> {
        let (pauses, ended) = (Arc::clone(pauses), ended.clone());
        tokio::spawn(async move {
            pauses.until(at).await;
            assert!(clock::now() >= at, "{name} was woken before its time");
            ended.send(name).expect("the test listens");
        })
    }

    async fn all_paused(pauses: &Pauses, n: usize) {
        while pauses.state().paused.len() < n {
            tokio::task::yield_now().await;
        }
    }

    /// Far enough away that all have begun before the first one ends, on a machine that stands still for a while.
    const AHEAD: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn each_is_woken_in_its_time_and_those_of_one_time_as_they_began() {
        let (pauses, keeper) = kept();
        let (ended, mut order) = mpsc::unbounded_channel();
        let due = clock::now() + AHEAD;
        let _last = paused(&pauses, "an hour", due + Duration::from_secs(3_600), &ended);
        all_paused(&pauses, 1).await;
        for (n, (name, ms)) in
            [("third", 2), ("first", 1), ("fourth", 3), ("second", 1)].into_iter().enumerate()
        {
            let _woken = paused(&pauses, name, due + Duration::from_millis(ms), &ended);
            all_paused(&pauses, n + 2).await;
        }
        for name in ["first", "second", "third", "fourth"] {
            assert_eq!(order.recv().await, Some(name));
        }
        assert!(!keeper.is_finished());
    }

    #[tokio::test]
    async fn those_that_go_are_forgotten_and_the_others_woken() {
        let (pauses, keeper) = kept();
        let (ended, mut order) = mpsc::unbounded_channel();
        let due = clock::now() + AHEAD;
        let gone = paused(&pauses, "gone", due, &ended);
        all_paused(&pauses, 1).await;
        gone.abort();
        assert!(gone.await.is_err_and(|error| error.is_cancelled()));
        assert!(pauses.state().paused.is_empty());
        let _later = paused(&pauses, "later", due + Duration::from_millis(2), &ended);
        let _earlier = paused(&pauses, "earlier", due - Duration::from_millis(2), &ended);
        assert_eq!((order.recv().await, order.recv().await), (Some("earlier"), Some("later")));
        assert!(!keeper.is_finished());
    }

    #[tokio::test]
    async fn who_keeps_the_time_may_be_replaced() {
        let (pauses, keeper) = kept();
        let (ended, mut order) = mpsc::unbounded_channel();
        let _woken = paused(&pauses, "woken", clock::now() + AHEAD, &ended);
        all_paused(&pauses, 1).await;
        keeper.abort();
        let timer = Timer::new().expect("a timer");
        tokio::select! {
            () = pauses.keep(&timer) => unreachable!("it keeps for ever"),
            name = order.recv() => assert_eq!(name, Some("woken")),
        }
    }

    #[tokio::test]
    async fn what_no_clock_can_say_never_ends() {
        let pauses = Pauses::default();
        let mut pause = pin!(pauses.last(Duration::MAX));
        poll_fn(|cx| {
            assert!(pause.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
}
