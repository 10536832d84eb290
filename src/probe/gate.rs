//! [`Gate`]: how many connections a probe has at a time, and how fast it opens them. A probe is a guest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;

#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    gap: Duration,
    next: Mutex<Option<Instant>>,
}

impl Gate {
    pub(super) fn new(connections: u32, connects_per_s: u32) -> Gate {
        Gate {
            places: Arc::new(Semaphore::new(connections as usize)),
            gap: Duration::from_secs(1) / connects_per_s.max(1),
            next: Mutex::new(None),
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
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.gap);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_keep_their_distance_and_what_was_not_used_is_not_saved_up() {
        let gate = Gate::new(9, 20);
        let start = clock::now();
        let ms = |ms| start + Duration::from_millis(ms);
        assert_eq!([gate.turn(start), gate.turn(start), gate.turn(start)], [ms(0), ms(50), ms(100)]);
        assert_eq!([gate.turn(ms(1000)), gate.turn(ms(1000))], [ms(1000), ms(1050)]);
    }
}
