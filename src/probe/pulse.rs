//! [`Pulse`]: when this process was not running. A probe dates events when it sees them; while it was starved,
//! stopped or suspended it saw nothing, and what it dates right after that happened at some earlier moment.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// How often it beats.
const BEAT: Duration = Duration::from_millis(20);

/// Beats may be this late without a word: timers round to milliseconds, and a processor may be shared.
const SLACK: Duration = Duration::from_millis(15);

/// What was ready at the end of a gap is seen within this time after it.
const AFTERMATH: Duration = Duration::from_millis(20);

/// How late a date may be for an idle time of this length: 50 ms, or 0.2 % where that is more.
pub(super) fn tolerance(idle: Duration) -> Duration {
    Duration::from_millis(50).max(idle / 500)
}

/// The heart of a probe.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Instant,
    gaps: Vec<(Instant, Instant)>,
    asleep: Option<Duration>,
    suspensions: Vec<Instant>,
}

impl Pulse {
    pub(super) fn new() -> Pulse {
        let state = State { last: clock::now(), gaps: Vec::new(), asleep: asleep(), suspensions: Vec::new() };
        Pulse(Mutex::new(state))
    }

    /// Beats for as long as it is polled.
    pub(super) async fn beat(&self) {
        // What this process did before there was a runtime to starve is no gap.
        self.lock().last = clock::now();
        loop {
            tokio::time::sleep(BEAT).await;
            self.lock().beat(clock::now(), asleep());
        }
    }

    /// How much earlier than it was dated an event at this moment may have been.
    pub(super) fn lateness(&self, at: Instant) -> Duration {
        self.lock().lateness(at)
    }

    /// Whether the machine slept between these moments: the monotonic clock then stood still, the server's did not.
    pub(super) fn suspended(&self, from: Instant, to: Instant) -> bool {
        let state = self.lock();
        state.suspensions.iter().any(|moment| (from..=to).contains(moment))
            || asleep().zip(state.asleep).is_some_and(|(now, then)| now > then + BEAT && to >= state.last)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn beat(&mut self, now: Instant, asleep: Option<Duration>) {
        if now.saturating_duration_since(self.last) > BEAT + SLACK {
            self.gaps.push((self.last, now));
        }
        if asleep.zip(self.asleep).is_some_and(|(now, then)| now > then + BEAT) {
            self.suspensions.push(now);
        }
        self.last = now;
        self.asleep = asleep;
    }

    fn lateness(&self, at: Instant) -> Duration {
        let now = clock::now();
        let under_way = (self.last, now);
        let is_gap = now.saturating_duration_since(self.last) > BEAT + SLACK;
        let gaps = self.gaps.iter().rev().take(16).chain(is_gap.then_some(&under_way));
        let around = gaps.filter(|(from, to)| *from <= at && at <= *to + AFTERMATH);
        around.map(|(from, to)| *to - *from).max().unwrap_or_default()
    }
}

/// How long the machine has slept since it was started (Linux: CLOCK_BOOTTIME counts that, CLOCK_MONOTONIC does not).
#[cfg(target_os = "linux")]
fn asleep() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| {
        let time = clock_gettime(clock);
        let nanos = u32::try_from(time.tv_nsec).ok()?;
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
    };
    Some(read(ClockId::Boottime)?.saturating_sub(read(ClockId::Monotonic)?))
}

#[cfg(not(target_os = "linux"))]
fn asleep() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_dated_in_or_right_after_a_gap_may_be_as_late_as_the_gap_is_long() {
        let start = clock::now();
        let mut state = State { last: start, gaps: Vec::new(), asleep: None, suspensions: Vec::new() };
        for at in [20, 40, 1040, 1060] {
            state.beat(start + ms(at), None);
        }
        // Nothing is under way in this test.
        state.last = start + ms(3_600_000);
        for (at, late) in [(30, 0), (41, 1000), (1040, 1000), (1050, 1000), (1070, 0)] {
            assert_eq!(state.lateness(start + ms(at)), ms(late), "{at}");
        }
    }

    #[test]
    fn sleep_is_told_by_the_clock_that_counts_it() {
        let start = clock::now();
        let mut state = State { last: start, gaps: Vec::new(), asleep: Some(ms(0)), suspensions: Vec::new() };
        state.beat(start + ms(20), Some(ms(0)));
        state.beat(start + ms(40), Some(ms(60_000)));
        assert_eq!(state.suspensions, [start + ms(40)]);
    }
}
