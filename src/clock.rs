//! Where time enters. Everything else takes `now` as an argument, so that rules can be tested without waiting.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
#[cfg(feature = "load")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

/// The monotonic clock: every duration that keeplive reports is a difference on it.
#[expect(clippy::disallowed_methods, reason = "this is the door through which monotonic time enters")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A clock for ages: it also runs while the machine is suspended, which the monotonic clock does not. Peers and what
/// lies on the way to them go on counting meanwhile.
///
/// *Design.* It is the monotonic clock put forward by all suspends since it was made, so that ages stay differences of
/// [`Instant`]s, and only who decides about ages has to ask whether there was a suspend.
#[derive(Debug)]
pub(crate) struct AgeClock {
    suspended_before: Duration,
    ahead: AtomicU64,
}

/// A suspend takes longer than that to go and to come back; a thread that was interrupted between the reading of two
/// clocks was not suspended.
const SHORTEST_SUSPEND: Duration = Duration::from_millis(500);

impl AgeClock {
    pub(crate) fn new() -> AgeClock {
        AgeClock { suspended_before: suspended(), ahead: AtomicU64::new(0) }
    }

    /// Looks whether there was a suspend since the last look; answers whether there was.
    pub(crate) fn look(&self) -> bool {
        self.put_forward(suspended().saturating_sub(self.suspended_before))
    }

    /// All suspends together have lasted so long.
    pub(crate) fn put_forward(&self, suspended: Duration) -> bool {
        let was = self.ahead.load(Relaxed);
        let news = suspended.as_nanos() as u64;
        if news < was.saturating_add(SHORTEST_SUSPEND.as_nanos() as u64) {
            return false;
        }
        self.ahead.fetch_max(news, Relaxed);
        true
    }

    /// What this clock shows when the monotonic one shows that.
    pub(crate) fn at(&self, monotonic: Instant) -> Instant {
        monotonic + self.ahead()
    }

    /// How far it is ahead.
    pub(crate) fn ahead(&self) -> Duration {
        Duration::from_nanos(self.ahead.load(Relaxed))
    }
}

/// How long the machine has been suspended since it was booted.
#[cfg(target_os = "linux")]
fn suspended() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // In this order an interruption in between makes a suspend look shorter, not longer.
    let (with_suspends, without) = (read(ClockId::Boottime), read(ClockId::Monotonic));
    with_suspends.saturating_sub(without)
}

/// Elsewhere the monotonic clock is all there is.
#[cfg(not(target_os = "linux"))]
fn suspended() -> Duration {
    Duration::ZERO
}

/// The wall clock: only for dates in names and records, never for a duration.
#[cfg(feature = "load")]
#[expect(clippy::disallowed_methods, reason = "this is the door through which wall time enters")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_suspend_ages_are_those_of_the_monotonic_clock() {
        let clock = AgeClock::new();
        let t = now();
        assert_eq!((clock.look(), clock.at(t)), (false, t));
    }

    #[test]
    fn a_suspend_puts_the_clock_forward_once_and_an_interruption_does_not() {
        let clock = AgeClock::new();
        let t = now();
        let hour = Duration::from_secs(3600);
        assert!(!clock.put_forward(Duration::from_millis(499)));
        assert!(clock.put_forward(hour) && !clock.put_forward(hour));
        assert!(!clock.put_forward(hour + Duration::from_millis(10)));
        assert_eq!(clock.at(t), t + hour);
        assert!(clock.put_forward(2 * hour));
        assert_eq!(clock.at(t), t + 2 * hour);
    }
}
