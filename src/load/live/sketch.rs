//! [`Sketch`]: a distribution of durations that is cheap to write and to subtract, and exact to about 3 %.

use std::time::Duration;

/// Durations up to this many units have a place each.
const SINGLE: u64 = 64;

/// Beyond, each doubling has so many.
const PER_DOUBLING: u64 = 32;

/// A unit is 2^10 ns: about a microsecond.
const UNIT_BITS: u32 = 10;

/// Doublings from 64 units up to more than an hour.
const DOUBLINGS: u64 = 26;

pub(super) const PLACES: usize = (SINGLE + DOUBLINGS * PER_DOUBLING) as usize;

/// Where a duration of so many nanoseconds is counted. What is too long is counted at the last.
pub(super) fn place(ns: u64) -> usize {
    let units = ns >> UNIT_BITS;
    let place = match units {
        ..SINGLE => units,
        _ => {
            let bits = units.ilog2();
            // The five bits after the first.
            let within = (units >> (bits - PER_DOUBLING.ilog2())) & (PER_DOUBLING - 1);
            SINGLE + u64::from(bits - SINGLE.ilog2()) * PER_DOUBLING + within
        }
    };
    (place as usize).min(PLACES - 1)
}

/// The least duration of a place, in nanoseconds: the one before ends there.
fn least(place: usize) -> u64 {
    let place = place as u64;
    let units = match place {
        ..SINGLE => place,
        _ => {
            let (doubling, within) = ((place - SINGLE) / PER_DOUBLING, (place - SINGLE) % PER_DOUBLING);
            (PER_DOUBLING + within) << (doubling + 1)
        }
    };
    units << UNIT_BITS
}

/// A distribution of durations, to a microsecond or 3 %, whichever is more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    places: Vec<u64>,
    sum_ns: u64,
}

impl Sketch {
    /// Of these.
    #[cfg(test)]
    pub(crate) fn of(durations: &[Duration]) -> Sketch {
        let mut places = vec![0; PLACES];
        let ns = |duration: &Duration| duration.as_nanos() as u64;
        durations.iter().for_each(|duration| places[place(ns(duration))] += 1);
        Sketch { places, sum_ns: durations.iter().map(ns).sum() }
    }

    pub(super) fn add_places(&mut self, places: impl Iterator<Item = u64>, sum_ns: u64) {
        self.places.resize(PLACES, 0);
        for (sum, n) in self.places.iter_mut().zip(places) {
            *sum += n;
        }
        self.sum_ns = self.sum_ns.wrapping_add(sum_ns);
    }

    pub(super) fn add(&mut self, other: &Sketch) {
        self.add_places(other.places.iter().copied(), other.sum_ns);
    }

    pub(super) fn since(&self, earlier: &Sketch) -> Sketch {
        let before = earlier.places.iter().copied().chain(std::iter::repeat(0));
        let places = self.places.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        Sketch { places: places.collect(), sum_ns: self.sum_ns.wrapping_sub(earlier.sum_ns) }
    }

    /// How many durations were counted.
    pub fn len(&self) -> u64 {
        self.places.iter().sum()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The exact sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The value at or below which the share `q` (0 to 1) of all lies: the middle of its place; `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let nth = (q * self.len() as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = self.places.iter().position(|n| {
            below += n;
            below >= nth
        })?;
        Some(Duration::from_nanos(least(found).midpoint(least(found + 1))))
    }

    /// Upper bounds, each double the one before, from 65.536 µs to 17 s, and how many lie below: exact, because a
    /// place ends at every one of them.
    pub fn doublings(&self) -> impl Iterator<Item = (Duration, u64)> {
        (0..=18).map(|doubling| {
            let end = (SINGLE + doubling * PER_DOUBLING) as usize;
            (Duration::from_nanos(least(end)), self.places.iter().take(end).sum())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch(durations: &[u64]) -> Sketch {
        Sketch::of(&durations.iter().copied().map(Duration::from_nanos).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn a_duration_lies_within_its_place_and_a_place_is_narrow(ns in 0_u64..3_600_000_000_000) {
            let (from, to) = (least(place(ns)), least(place(ns) + 1));
            prop_assert!(from <= ns && ns < to);
            prop_assert!(to - from <= 1024.max(from / 32));
        }

        #[test]
        fn a_quantile_is_that_of_the_durations_to_the_width_of_a_place(
            mut all in prop::collection::vec(0_u64..10_000_000_000, 1..200),
            q in 0.0_f64..=1.0,
        ) {
            let told = sketch(&all).quantile(q).unwrap().as_nanos() as u64;
            all.sort_unstable();
            let nth = ((q * all.len() as f64).ceil() as usize).max(1) - 1;
            prop_assert!(told.abs_diff(all[nth]) <= 512.max(all[nth] / 60));
        }

        #[test]
        fn bounds_tell_exactly_how_many_lie_below(all in prop::collection::vec(0_u64..30_000_000_000, 0..100)) {
            for (bound, below) in sketch(&all).doublings() {
                let bound = bound.as_nanos() as u64;
                prop_assert_eq!(below, all.iter().filter(|ns| **ns < bound).count() as u64);
            }
        }
    }

    #[test]
    fn what_is_longer_than_any_place_is_counted_at_the_last() {
        assert_eq!((place(u64::MAX), sketch(&[u64::MAX / 2]).len()), (PLACES - 1, 1));
    }

    #[test]
    fn a_difference_forgets_what_was_before() {
        let lately = sketch(&[1_000_000, 9_000_000]).since(&sketch(&[1_000_000]));
        assert_eq!((lately.len(), lately.sum()), (1, Duration::from_millis(9)));
        assert!(lately.quantile(0.01).unwrap() > Duration::from_millis(8));
        assert_eq!(Sketch::default().quantile(0.5), None);
    }
}
