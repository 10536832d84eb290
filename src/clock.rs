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
    /// What both clocks showed when it was made; `None`: this system has but the one.
    start: Option<(Instant, Duration)>,
    ahead: AtomicU64,
    /// When the last look was, in nanoseconds of the monotonic clock since the start.
    looked: AtomicU64,
}

/// Between two looks so close to each other there was no suspend: all processes are frozen before it and thawed after it,
/// while the monotonic clock runs, and that takes longer.
const BRIEF: Duration = Duration::from_millis(1);

/// A suspend takes longer than that to go and to come back; a thread that was interrupted between the reading of two
/// clocks was not suspended.
const SHORTEST_SUSPEND: Duration = Duration::from_millis(500);

impl AgeClock {
    pub(crate) fn new() -> AgeClock {
        AgeClock {
            start: with_suspends().map(|with_suspends| (now(), with_suspends)),
            ahead: AtomicU64::new(0),
            looked: AtomicU64::new(0),
        }
    }

    /// Looks, at a moment that the monotonic clock has just shown, whether there was a suspend since the last look.
    pub(crate) fn look(&self, now: Instant) -> bool {
        let Some((start, start_with_suspends)) = self.start else { return false };
        let awake = now.saturating_duration_since(start);
        let looks = awake.as_nanos() as u64;
        if looks < self.looked.load(Relaxed).saturating_add(BRIEF.as_nanos() as u64) {
            return false;
        }
        self.looked.store(looks, Relaxed);
        let Some(now_with_suspends) = with_suspends() else { return false };
        let passed = now_with_suspends.saturating_sub(start_with_suspends);
        self.put_forward(passed.saturating_sub(awake))
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

/// Time since the machine was booted, suspends included.
#[cfg(target_os = "linux")]
fn with_suspends() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::Boottime)).ok()
}

#[cfg(not(target_os = "linux"))]
fn with_suspends() -> Option<Duration> {
    None
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
        assert_eq!((clock.look(t), clock.at(t)), (false, t));
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
