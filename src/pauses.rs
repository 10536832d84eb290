//! [`Pauses`]: thousands that wait, each until its own instant, woken by one timer.
//!
//! *Why.* tokio's timers round up to milliseconds, twice: a pause of 1 ms took 2.1. A [`Timer`] for each is exact, and
//! costs six system calls and a descriptor for each pause; fifty that end together are then late by their number.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock;
use crate::timer::Timer;

/// Until when, and a number that tells those apart which end together: they are woken in the order in which they began.
type Key = (Instant, u64);

/// The lock is of one thread, as a rule, and held for no longer than a look.
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

    /// A pause of that length from now on.
    pub(crate) async fn last(&self, length: Duration) {
        self.until(clock::now() + length).await;
    }

    /// Wakes each in its time. Ends with an error of the timer, and never otherwise.
    pub(crate) async fn keep(&self, timer: &Timer) -> io::Result<()> {
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
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn each_is_woken_and_none_before_its_time() {
        let (pauses, timer) = (Pauses::default(), Timer::new().expect("a timer"));
        let begin = clock::now();
        let ended = RefCell::new(Vec::new());
        let pause = |ms: u64| {
            let (pauses, ended) = (&pauses, &ended);
            async move {
                pauses.until(begin + Duration::from_millis(ms)).await;
                assert!(clock::now() >= begin + Duration::from_millis(ms));
                ended.borrow_mut().push(ms);
            }
        };
        {
            let mut keep = pin!(pauses.keep(&timer));
            let mut all = [30, 10, 20, 10].map(|ms| Some(Box::pin(pause(ms))));
            poll_fn(|cx| {
                assert!(keep.as_mut().poll(cx).is_pending());
                for one in &mut all {
                    if one.as_mut().is_some_and(|one| one.as_mut().poll(cx).is_ready()) {
                        *one = None;
                    }
                }
                if all.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        ended.borrow_mut().sort_unstable();
        assert_eq!(*ended.borrow(), [10, 10, 20, 30]);
    }

    #[tokio::test]
    async fn who_goes_is_not_woken() {
        let pauses = Pauses::default();
        let mut pause = Box::pin(pauses.until(clock::now() + Duration::from_secs(60)));
        poll_fn(|cx| {
            assert!(pause.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(pause);
        assert!(pauses.state().paused.is_empty());
    }
}
