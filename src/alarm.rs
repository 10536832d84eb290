//! [`Alarm`]: a connection's one timer, for whichever of its deadlines is next, armed as rarely as may be.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::{Handle, Id};
use tokio::time::{Sleep, sleep_until};

use crate::clock;

/// Wakes whoever waits on a connection when a deadline has come.
///
/// *Cost.* A deadline moves with every request, and to arm a timer takes tokio's lock. So the timer stays armed for
/// the earliest deadline it was given; when that has passed unneeded it is set to the one that then counts. A
/// connection whose requests are answered within a limit of 5 s arms its timer once in 5 s, not once a request; as long
/// as that is pending no later deadline has come, and nobody looks at the clock. Without any limit there is no timer at
/// all. An early alarm wakes a task for nothing, at most once for each time it was armed.
///
/// tokio rounds up to whole milliseconds: a deadline is never found early.
///
/// *Runtimes.* A timer rings as long as the runtime is driven in which it was made, and must not be polled once that has
/// ended; a connection may be used in another meanwhile. So the timer belongs to a runtime, and in another it is made anew.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<(Id, Pin<Box<Sleep>>)>);

impl Alarm {
    /// Ready when `at` has come. Until then the task is woken at that time, or before.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let here = Handle::current().id();
        self.0.take_if(|(runtime, _)| *runtime != here);
        let (_, sleep) = self.0.get_or_insert_with(|| (here, Box::pin(sleep_until(at.into()))));
        if sleep.deadline() > at.into() {
            sleep.as_mut().reset(at.into());
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if clock::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at.into());
        }
        Poll::Pending
    }
}
