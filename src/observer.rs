//! [`Observer`]: whom a pool tells what happens, while it happens.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;

use crate::error::{Error, Retry};
use crate::exchange::{ConnectionFacts, Exchange};
use crate::idle::CloseReason;
use crate::origin::Origin;
use crate::phase::ConnectTimings;

mod step;
#[cfg(feature = "tracing")]
mod tracing;

pub use self::step::{Step, StepEnd};
pub(crate) use self::step::{Stepping, Steps};
#[cfg(feature = "tracing")]
pub use self::tracing::TracingObserver;

/// Hears of everything that happens in a pool: for metrics, logs, traces, and for tests. It is given to
/// [`Pool::observed_by`](crate::Pool::observed_by), and is one for all requests of the pool.
///
/// It is called by the task that does what it hears of: the request's, or the pool's own for connections that end
/// while idle. No lock is held, and it may use the pool; but the request waits for it, so it should count and go. When
/// it panics nothing of the pool is lost: the event is, and the panic's message is where the panic hook puts it.
///
/// A closure is an observer, so is an `Arc` of one, and so is a pair of two.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use keeplive::{Event, Pool, PoolConfig};
///
/// let late = Arc::new(AtomicU64::new(0));
/// let count = Arc::clone(&late);
/// let pool = Pool::new(PoolConfig::default())?.observed_by(move |event: &Event<'_>| {
///     if let Event::Closed { idle: Some(_), .. } = event {
///         count.fetch_add(1, Relaxed);
///     }
/// })?;
/// # Ok::<(), keeplive::Error>(())
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &Event<'_>);
}

/// What an [`Observer`] hears. There will be more events and more facts in each, so match with `_` and `..`.
///
/// The story of a request: `Asked`, then perhaps `Waiting`, perhaps `Opening` and `Opened` or `NotOpened`; then
/// `Granted` or `Refused`; then `Head` and `Exchanged`, or `Failed`; and after a `Retried` all of it again. A request
/// whose future is dropped just stops.
///
/// The story of an opening: `Opening`, a `StepBegun` and a `StepEnded` for each lookup, each address that is tried and
/// each TLS handshake, and in every case one of `Opened`, `NotOpened` and `Abandoned`.
///
/// The story of a connection: `Opened`, then for each exchange `Granted` and `Returned`, at last `Closed`. What is the
/// same for all exchanges of a connection comes as [`ConnectionFacts`]; its [`id`](ConnectionFacts::id) ties events
/// together.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request asks for a connection.
    #[non_exhaustive]
    Asked {
        /// To where.
        origin: &'a Origin,
    },
    /// As many connections as allowed are busy: it waits for its turn.
    #[non_exhaustive]
    Waiting {
        /// To where.
        origin: &'a Origin,
    },
    /// A connection is being opened.
    #[non_exhaustive]
    Opening {
        /// To where.
        origin: &'a Origin,
    },
    /// A part of an opening begins.
    #[non_exhaustive]
    StepBegun {
        /// To where.
        origin: &'a Origin,
        /// Which part.
        step: Step<'a>,
    },
    /// A part of an opening has ended.
    #[non_exhaustive]
    StepEnded {
        /// To where.
        origin: &'a Origin,
        /// Which part.
        step: Step<'a>,
        /// How long it took.
        took: Duration,
        /// How it ended.
        end: StepEnd<'a>,
    },
    /// A connection was opened.
    #[non_exhaustive]
    Opened {
        /// To where.
        origin: &'a Origin,
        /// Number, addresses, TLS and whether it was resumed.
        connection: &'a ConnectionFacts,
        /// How long name lookup, TCP and TLS took.
        timings: Option<ConnectTimings>,
    },
    /// A connection could not be opened.
    #[non_exhaustive]
    NotOpened {
        /// To where.
        origin: &'a Origin,
        /// Why, and in which phase.
        error: &'a Error,
    },
    /// The opening of a connection was given up: the request was dropped, or the runtime ended.
    #[non_exhaustive]
    Abandoned {
        /// To where.
        origin: &'a Origin,
        /// How long it had been under way.
        after: Duration,
    },
    /// A request has its connection.
    #[non_exhaustive]
    Granted {
        /// To where.
        origin: &'a Origin,
        /// The connection.
        connection: &'a ConnectionFacts,
        /// Exchanges that it has had.
        exchanges: u32,
        /// How long it had been idle; `None` for one just opened.
        idle: Option<Duration>,
        /// How long the request waited, opening included.
        waited: Duration,
    },
    /// A request gets no connection.
    #[non_exhaustive]
    Refused {
        /// To where.
        origin: &'a Origin,
        /// Why.
        error: &'a Error,
    },
    /// A request was written and the head of its response has come.
    #[non_exhaustive]
    Head {
        /// To where.
        origin: &'a Origin,
        /// The connection.
        connection: &'a ConnectionFacts,
        /// The response's status.
        status: StatusCode,
        /// How long it took to write the request ([`Phase::Send`](crate::Phase::Send)).
        send: Duration,
        /// How long the head took from then on ([`Phase::Wait`](crate::Phase::Wait)).
        wait: Duration,
    },
    /// An exchange is complete.
    #[non_exhaustive]
    Exchanged {
        /// To where.
        origin: &'a Origin,
        /// All about it.
        exchange: &'a Exchange,
    },
    /// An exchange that had begun failed. If it is to be made again, `Retried` follows.
    #[non_exhaustive]
    Failed {
        /// To where.
        origin: &'a Origin,
        /// The connection.
        connection: &'a ConnectionFacts,
        /// Why.
        error: &'a Error,
    },
    /// A request of which nothing can have been processed is made again.
    #[non_exhaustive]
    Retried {
        /// To where.
        origin: &'a Origin,
        /// The attempt that was given up.
        retry: Retry,
    },
    /// A connection goes back to the pool: to the oldest request that waits, or to rest.
    #[non_exhaustive]
    Returned {
        /// To where.
        origin: &'a Origin,
        /// The connection.
        connection: &'a ConnectionFacts,
    },
    /// A connection is closed.
    #[non_exhaustive]
    Closed {
        /// To where.
        origin: &'a Origin,
        /// The connection.
        connection: &'a ConnectionFacts,
        /// Why.
        reason: CloseReason,
        /// Exchanges begun on it.
        exchanges: u32,
        /// How old it was.
        age: Duration,
        /// How long it had been idle; `None`: it was in use.
        idle: Option<Duration>,
    },
}

impl<'a> Event<'a> {
    /// The event as a key: lower case, one word or two joined by an underscore; those of an opening's steps by the
    /// step (`lookup_begun`, `handshake_ended`).
    pub fn as_str(&self) -> &'static str {
        match self {
            Event::Asked { .. } => "asked",
            Event::Waiting { .. } => "waiting",
            Event::Opening { .. } => "opening",
            Event::StepBegun { step, .. } => match step {
                Step::Lookup { .. } => "lookup_begun",
                Step::Attempt { .. } => "attempt_begun",
                Step::Handshake { .. } => "handshake_begun",
            },
            Event::StepEnded { step, .. } => match step {
                Step::Lookup { .. } => "lookup_ended",
                Step::Attempt { .. } => "attempt_ended",
                Step::Handshake { .. } => "handshake_ended",
            },
            Event::Opened { .. } => "opened",
            Event::NotOpened { .. } => "not_opened",
            Event::Abandoned { .. } => "abandoned",
            Event::Granted { .. } => "granted",
            Event::Refused { .. } => "refused",
            Event::Head { .. } => "head",
            Event::Exchanged { .. } => "exchanged",
            Event::Failed { .. } => "failed",
            Event::Retried { .. } => "retried",
            Event::Returned { .. } => "returned",
            Event::Closed { .. } => "closed",
        }
    }

    /// The origin that it is about.
    pub fn origin(&self) -> &'a Origin {
        match *self {
            Event::Asked { origin }
            | Event::Waiting { origin }
            | Event::Opening { origin }
            | Event::StepBegun { origin, .. }
            | Event::StepEnded { origin, .. }
            | Event::Opened { origin, .. }
            | Event::NotOpened { origin, .. }
            | Event::Abandoned { origin, .. }
            | Event::Granted { origin, .. }
            | Event::Refused { origin, .. }
            | Event::Head { origin, .. }
            | Event::Exchanged { origin, .. }
            | Event::Failed { origin, .. }
            | Event::Retried { origin, .. }
            | Event::Returned { origin, .. }
            | Event::Closed { origin, .. } => origin,
        }
    }

    /// The connection that it is about, where there is one.
    pub fn connection(&self) -> Option<&'a ConnectionFacts> {
        match *self {
            Event::Exchanged { exchange, .. } => Some(&exchange.connection),
            Event::Opened { connection, .. }
            | Event::Granted { connection, .. }
            | Event::Head { connection, .. }
            | Event::Failed { connection, .. }
            | Event::Returned { connection, .. }
            | Event::Closed { connection, .. } => Some(connection),
            _ => None,
        }
    }
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
        self.1.event(event);
    }
}

/// A pool's observer, if it has one. Without one, an event costs a load and a branch: it is not even made.
#[derive(Default)]
pub(crate) struct Watched(OnceLock<Box<dyn Observer>>);

impl Watched {
    /// Answers whether there was none before.
    pub(crate) fn set(&self, observer: impl Observer) -> bool {
        self.0.set(Box::new(observer)).is_ok()
    }

    /// Whether anybody listens.
    pub(crate) fn is_anybody(&self) -> bool {
        self.0.get().is_some()
    }

    /// Must not be called with a lock of the pool held.
    #[inline]
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(observer) = self.0.get() {
            tell(&**observer, &event());
        }
    }
}

/// The observer is not ours: what it leaves half done when it panics is its own, and our books stay whole.
#[cold]
fn tell(observer: &dyn Observer, event: &Event<'_>) {
    // A panic's payload may itself panic when dropped.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| observer.event(event))) {
        std::mem::forget(payload);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_anybody() { "an observer" } else { "nobody" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_observer_an_event_is_not_even_made() {
        Watched::default().tell(|| panic!("nobody listens"));
    }
}
