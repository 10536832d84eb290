//! [`Gate`]: how many connections a probe has at a time, and how fast it opens them. A probe is a guest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;

/// In so long a time no more are opened than the rate says.
const SECOND: Duration = Duration::from_secs(1);

/// Turns follow each other this many times faster than the rate, as long as the second is not used up: those that are
/// opened together are idle together, so that what ends them is seen at once.
const BRISK: u32 = 10;

#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    per_s: usize,
    /// The latest turns, as many as a second may have; the last one at the back.
    turns: Mutex<VecDeque<Instant>>,
}

impl Gate {
    pub(super) fn new(connections: u32, connects_per_s: u32) -> Gate {
        Gate {
            places: Arc::new(Semaphore::new(connections as usize)),
            per_s: connects_per_s.max(1) as usize,
            turns: Mutex::new(VecDeque::new()),
        }
    }

    /// Waits for a place and then for a turn, first come, first served. The place is given back by dropping it.
    ///
    /// *Cancel safety.* A turn that was given and not used is lost, which only makes the next wait longer.
    pub(super) async fn enter(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes the semaphore");
        let turn = self.turn(clock::now());
        tokio::time::sleep_until(turn.into()).await;
        place
    }

    fn turn(&self, now: Instant) -> Instant {
        let gap = SECOND / BRISK / u32::try_from(self.per_s).unwrap_or(u32::MAX);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let brisk = turns.back().map_or(now, |last| *last + gap);
        let oldest = if turns.len() < self.per_s { None } else { turns.pop_front() };
        let turn = now.max(brisk).max(oldest.map_or(now, |oldest| oldest + SECOND));
        turns.push_back(turn);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_turns_at_its_beginning_and_no_more_of_them() {
        let gate = Gate::new(9, 4);
        let start = clock::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let turns: Vec<_> = (0..9).map(|_| gate.turn(start)).collect();
        assert_eq!(turns, [0, 25, 50, 75, 1000, 1025, 1050, 1075, 2000].map(ms));
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let gate = Gate::new(9, 2);
        let start = clock::now();
        let ms = |ms| start + Duration::from_millis(ms);
        assert_eq!([gate.turn(start), gate.turn(ms(5000))], [ms(0), ms(5000)]);
        assert_eq!([gate.turn(ms(5000)), gate.turn(ms(5000))], [ms(5050), ms(6000)]);
    }
}
