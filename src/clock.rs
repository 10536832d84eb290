//! Where time enters. Everything else takes `now` as an argument, so that rules can be tested without waiting.

use std::time::Instant;
#[cfg(feature = "load")]
use std::time::SystemTime;

/// The monotonic clock: every duration that keeplive reports is a difference on it.
#[expect(clippy::disallowed_methods, reason = "this is the door through which monotonic time enters")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock: only for dates in names and records, never for a duration.
#[cfg(feature = "load")]
#[expect(clippy::disallowed_methods, reason = "this is the door through which wall time enters")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
