//! [`Pauses`]: loops that think, of which there may be thousands in a thread, woken by one timer.
//!
//! *Why.* tokio's timers round up to milliseconds, twice: a pause of 1 ms took 2.1.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::clock;
use crate::timer::Timer;

/// Until when, and a number that tells those apart which end together.
type Key = (Instant, u64);

#[derive(Debug, Default)]
pub(super) struct Pauses {
    paused: RefCell<BTreeMap<Key, Waker>>,
    last: Cell<u64>,
    /// Who keeps the time, while there is nobody or a later one to wake.
    keeper: RefCell<Option<Waker>>,
}

impl Pauses {
    /// Ready at that time, and a little later as a rule, provided that somebody [keeps](Pauses::keep) it.
    pub(super) fn until(&self, at: Instant) -> impl Future<Output = ()> + '_ {
        self.last.set(self.last.get() + 1);
        Pause { pauses: self, key: (at, self.last.get()) }
    }

    /// Wakes each in its time. Ends with an error of the timer, and never otherwise.
    pub(super) async fn keep(&self, timer: &Timer) -> io::Result<()> {
        loop {
            self.wake_those_due();
            let first = self.paused.borrow().first_key_value().map(|(key, _)| *key);
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
        let mut paused = self.paused.borrow_mut();
        while let Some(first) = paused.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
    }

    /// Ready when another is the first.
    async fn changed(&self, first: Option<Key>) {
        poll_fn(|cx| {
            if self.paused.borrow().first_key_value().map(|(key, _)| *key) != first {
                return Poll::Ready(());
            }
            *self.keeper.borrow_mut() = Some(cx.waker().clone());
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
        self.pauses.paused.borrow_mut().insert(self.key, cx.waker().clone());
        if let Some(keeper) = self.pauses.keeper.borrow_mut().take() {
            keeper.wake();
        }
        Poll::Pending
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.pauses.paused.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert!(pauses.paused.borrow().is_empty());
    }
}
