//! [`Step`]: the parts of an opening that an observer hears of one by one.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Instant;

use super::{Event, Watched};
use crate::clock;
use crate::origin::Origin;

/// A part of opening a connection that takes time by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A name is looked up. Overrides and address literals are not.
    Lookup {
        /// Whose addresses.
        host: &'a str,
    },
    /// One address is connected to: of several, each that is tried (RFC 8305). Unix sockets are no addresses.
    Attempt {
        /// Which.
        address: SocketAddr,
    },
    /// A TLS handshake, with the origin or with a proxy.
    Handshake {
        /// The name that the peer's certificate must be for.
        host: &'a str,
    },
}

/// How a [`Step`] ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum StepEnd<'a> {
    /// Well.
    Done,
    /// A lookup ended well, with these.
    Found(&'a [SocketAddr]),
    /// It failed.
    Failed(&'a (dyn StdError + 'static)),
    /// Nobody waits for it any more: its time was over, another address answered first, or the request was dropped.
    GivenUp,
}

impl Step<'_> {
    /// The step as a key: lower case, one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Step::Lookup { .. } => "lookup",
            Step::Attempt { .. } => "attempt",
            Step::Handshake { .. } => "handshake",
        }
    }
}

impl StepEnd<'_> {
    /// The end as a key: lower case, one word or two joined by an underscore.
    pub fn as_str(&self) -> &'static str {
        match self {
            StepEnd::Done | StepEnd::Found(_) => "done",
            StepEnd::Failed(_) => "failed",
            StepEnd::GivenUp => "given_up",
        }
    }
}

/// Who is told of an opening's steps, and of which opening they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    pub(crate) watched: &'a Watched,
    pub(crate) origin: &'a Origin,
}

impl<'a> Steps<'a> {
    pub(crate) fn begin(self, step: Step<'a>) -> Stepping<'a> {
        let Steps { watched, origin } = self;
        // Nobody who does not listen pays for the clock.
        let began = watched.is_anybody().then(clock::now);
        watched.tell(|| Event::StepBegun { origin, step });
        Stepping { steps: self, step, began }
    }
}

/// A step under way. Dropped, it was given up.
#[derive(Debug)]
pub(crate) struct Stepping<'a> {
    steps: Steps<'a>,
    step: Step<'a>,
    /// `None`: nobody listens, or all is told.
    began: Option<Instant>,
}

impl Stepping<'_> {
    pub(crate) fn end(mut self, end: StepEnd<'_>) {
        self.tell(end);
    }

    /// Ends it as this ended.
    pub(crate) fn end_with<T, E: StdError + 'static>(self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.end(StepEnd::Done),
            Err(error) => self.end(StepEnd::Failed(error)),
        }
    }

    fn tell(&mut self, end: StepEnd<'_>) {
        let Some(began) = self.began.take() else { return };
        let (Steps { watched, origin }, step) = (self.steps, self.step);
        let took = clock::now().saturating_duration_since(began);
        watched.tell(|| Event::StepEnded { origin, step, took, end });
    }
}

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        self.tell(StepEnd::GivenUp);
    }
}
