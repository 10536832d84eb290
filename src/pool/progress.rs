//! [`Progress`]: what is known so far of the exchange that a connection is at.

use std::time::{Duration, Instant};

use crate::connection::{Connection, Stamps};
use crate::error::Retry;
use crate::exchange::{Exchange, Obtained};
use crate::hint::Hint;
use crate::phase::{ConnectTimings, Timings};

/// It lies beside its connection, and not in the lease, the future or the body that hold the connection: these are
/// moved several times for each request.
#[derive(Debug)]
pub(super) struct Progress {
    asked: Instant,
    pub(super) granted: Instant,
    pub(super) obtained: Obtained,
    nth: u32,
    age: Duration,
    pub(super) idle_before: Option<Duration>,
    pub(super) timings: Timings,
    pub(super) retries: Vec<Retry>,
    pub(super) hint: Option<Hint>,
    stamps: Stamps,
    /// When the exchange must be over.
    pub(super) latest: Option<Instant>,
}

impl Progress {
    /// Nobody has asked for the connection yet.
    pub(super) fn none(born: Instant) -> Progress {
        Progress {
            asked: born,
            granted: born,
            obtained: Obtained::Spare,
            nth: 0,
            age: Duration::ZERO,
            idle_before: None,
            timings: Timings::default(),
            retries: Vec::new(),
            hint: None,
            stamps: Stamps::none(born),
            latest: None,
        }
    }

    /// The connection is given to a request that asked then; `opening` if it was opened for it.
    pub(super) fn grant(
        &mut self,
        asked: Instant,
        granted: Instant,
        obtained: Obtained,
        opening: Option<ConnectTimings>,
    ) {
        (self.asked, self.granted, self.obtained) = (asked, granted, obtained);
        self.timings.connect = opening;
        self.retries = Vec::new();
    }

    pub(super) fn asked(&self) -> Instant {
        self.asked
    }

    /// The request is about to be written.
    pub(super) fn begin(&mut self, idle_before: Option<Duration>, latest: Option<Instant>) {
        (self.idle_before, self.latest, self.hint) = (idle_before, latest, None);
    }

    /// The response's head has come, or the attempt has failed.
    pub(super) fn head(&mut self, connection: &Connection, stamps: Stamps) {
        let opening = self.timings.connect.map_or(Duration::ZERO, |opening| opening.total());
        let waited = stamps.began.saturating_duration_since(self.asked);
        self.timings.blocked = waited.saturating_sub(opening);
        self.timings.send = stamps.sent - stamps.began;
        self.timings.wait = stamps.head - stamps.sent;
        self.age = stamps.began.saturating_duration_since(connection.born());
        self.nth = connection.exchanges();
        self.stamps = stamps;
    }

    /// The whole of it, when it is over.
    pub(super) fn exchange(&mut self, connection: &Connection, done: Instant) -> Exchange {
        self.timings.receive = done.saturating_duration_since(self.stamps.head);
        Exchange {
            obtained: self.obtained,
            nth: self.nth,
            age: self.age,
            idle_before: self.idle_before,
            timings: self.timings,
            retries: std::mem::take(&mut self.retries),
            hint: self.hint,
            bytes_out: connection.wire().written() - self.stamps.written_before,
            bytes_in: connection.wire().read() - self.stamps.read_before,
            connection: connection.facts().clone(),
            done,
        }
    }
}
