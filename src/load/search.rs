//! The search for capacity: how many requests per second each arm can do with all its connections busy. Pure
//! but for the slots that it asks for.

use std::time::Duration;

use crate::measurement::{self, Slot};

/// One look at an arm in a closed loop.
pub(super) const WINDOW: Duration = Duration::from_millis(400);

/// What flows before it.
pub(super) const WASHOUT: Duration = Duration::from_millis(100);

/// The most looks at one arm.
const MOST_LOOKS: usize = 5;

/// Two looks that differ by less than this are steady.
const STEADY: f64 = 0.10;

/// What an arm can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) requests_per_s: f64,
    /// Whether two looks in a row agreed.
    pub(super) steady: bool,
}

/// Looks until two looks in a row agree, or until it is `enough`. `look` answers `None` when the run was asked to stop.
pub(super) fn capacity(look: impl FnMut() -> Option<f64>, enough: impl FnMut() -> bool) -> Option<Found> {
    let agree = |last: &f64, next: &f64| (next - last).abs() <= STEADY * next.max(*last);
    settled(look, agree, enough).map(|(requests_per_s, steady)| Found { requests_per_s, steady })
}

/// What a look at a given rate shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AtRate {
    pub(super) requests_per_s: f64,
    /// The median response; `None` where too few were answered to tell one.
    pub(super) median: Option<Duration>,
}

/// Medians that differ by less than this are steady, however short they are.
const STEADY_TIME: Duration = Duration::from_micros(500);

/// A median of fewer responses says nothing.
const FEW: u64 = 20;

impl AtRate {
    pub(super) fn of(slot: &Slot) -> AtRate {
        let median = slot.response.quantile(0.5).filter(|_| slot.response.len() >= FEW);
        AtRate { requests_per_s: requests_per_s(slot), median }
    }

    /// Where there is no telling nothing is said to be unsteady.
    fn agrees(&self, next: &AtRate) -> bool {
        let Some((last, next)) = self.median.zip(next.median) else { return true };
        last.abs_diff(next) <= STEADY_TIME.max(last.max(next).mul_f64(STEADY))
    }
}

/// Looks at a given rate until two medians in a row agree, or until it is `enough`; once where there is no median.
pub(super) fn at_rate(
    mut look: impl FnMut() -> Option<AtRate>,
    enough: impl FnMut() -> bool,
) -> Option<Found> {
    let first = look()?;
    if first.median.is_none() {
        return Some(Found { requests_per_s: first.requests_per_s, steady: true });
    }
    let mut first = Some(first);
    let (last, steady) = settled(|| first.take().or_else(&mut look), AtRate::agrees, enough)?;
    Some(Found { requests_per_s: last.requests_per_s, steady })
}

/// The last look, and whether it agreed with the one before.
fn settled<T>(
    mut look: impl FnMut() -> Option<T>,
    agree: impl Fn(&T, &T) -> bool,
    mut enough: impl FnMut() -> bool,
) -> Option<(T, bool)> {
    let mut last = look()?;
    for _ in 1..MOST_LOOKS {
        if enough() {
            break;
        }
        let next = look()?;
        let steady = agree(&last, &next);
        last = next;
        if steady {
            return Some((last, true));
        }
    }
    Some((last, false))
}

pub(super) fn requests_per_s(slot: &Slot) -> f64 {
    measurement::requests_per_s(&[slot]).unwrap_or(0.0)
}

/// A rate that keeplive chooses leaves the sending threads so much to do at most. Beyond it requests wait for their turn in
/// the generator: at 0.7 for 1.2 times what one takes on average, at 0.9 for 4.5 times (M/D/1, ρ/2(1−ρ)).
const BUSY_AT_MOST: f64 = 0.7;

/// Lowered, it is meant to leave them so much to do.
const BUSY_AIM: f64 = 0.6;

/// Less busy in a closed loop, they have time to spare at half of its rate in any case.
pub(super) const BUSY_CLOSED: f64 = 0.4;

/// So often a rate is lowered.
const LOWERED_AT_MOST: usize = 3;

/// The rate, or a lower one, at which the sending threads have time to spare. `look` answers how busy they are at a rate, as
/// a share of the time, or `None` when the run was asked to stop.
///
/// A closed loop sends together what has come together, and needs half of the processor time, or less, that an open one
/// needs for a request: that is woken for each. So where the generator is what limits an arm, as it is with a fast
/// target nearby, half of what it could do in a closed loop is nearly all that it can do in an open one.
pub(super) fn with_time_to_spare(mut rate: f64, mut look: impl FnMut(f64) -> Option<f64>) -> f64 {
    for _ in 0..LOWERED_AT_MOST {
        match look(rate) {
            Some(busy) if busy > BUSY_AT_MOST => rate = rounded(rate * BUSY_AIM / busy),
            _ => break,
        }
    }
    rate
}

/// A rate that reads well and loses less than a hundredth: two significant digits, downwards, three above 1,000.
pub(super) fn rounded(rate: f64) -> f64 {
    let digits = if rate >= 1000.0 { 2.0 } else { 1.0 };
    let unit = 10_f64.powf(rate.log10().floor() - digits);
    let rounded = (rate / unit).floor() * unit;
    if rounded > 0.0 { rounded } else { rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(values: &[f64]) -> Option<Found> {
        let mut values = values.iter().copied();
        capacity(|| values.next(), || false)
    }

    #[test]
    fn two_looks_that_agree_end_the_search() {
        assert_eq!(looks(&[100.0, 105.0, 1.0]), Some(Found { requests_per_s: 105.0, steady: true }));
        assert_eq!(looks(&[50.0, 100.0, 104.0]), Some(Found { requests_per_s: 104.0, steady: true }));
    }

    #[test]
    fn at_a_rate_the_medians_must_agree_where_there_are_any() {
        let found = |medians: &[Option<u64>]| {
            let mut looks = medians
                .iter()
                .map(|ms| AtRate { requests_per_s: 9.0, median: ms.map(Duration::from_millis) });
            at_rate(|| looks.next(), || false).map(|found| (found.steady, looks.len()))
        };
        assert_eq!(found(&[Some(20), Some(9), Some(5), Some(5), None]), Some((true, 1)), "it warms");
        assert_eq!(found(&[Some(80), Some(40), Some(20), Some(10), Some(5)]), Some((false, 0)));
        assert_eq!(found(&[None, Some(9), Some(1)]), Some((true, 2)), "too few to tell");
        let short = |us| AtRate { requests_per_s: 9.0, median: Some(Duration::from_micros(us)) };
        assert!(short(100).agrees(&short(500)) && !short(100).agrees(&short(700)));
    }

    #[test]
    fn a_rate_is_lowered_until_the_threads_have_time_to_spare() {
        let of = |cost: f64| with_time_to_spare(1_000.0, |rate| Some(rate * cost));
        assert_eq!([of(0.000_5), of(0.000_69)], [1_000.0; 2]);
        assert!((590.0..=600.0).contains(&of(0.001)), "{}", of(0.001));
        // However busy somebody else keeps the machine, it ends.
        let looks = std::cell::Cell::new(0);
        let busy = |_| {
            looks.set(looks.get() + 1);
            Some(1.0)
        };
        assert!((200.0..=216.0).contains(&with_time_to_spare(1_000.0, busy)) && looks.get() == 3);
        assert_eq!(with_time_to_spare(1_000.0, |_| None), 1_000.0);
    }

    #[test]
    fn a_capacity_that_never_settles_is_said_to_be_unsteady() {
        let found = looks(&[10.0, 20.0, 40.0, 80.0, 160.0]).unwrap();
        assert!(!found.steady);
    }

    #[test]
    fn stopping_ends_the_search_without_a_result() {
        assert_eq!(looks(&[10.0]), None);
    }

    #[test]
    fn rates_are_rounded_down_to_what_reads_well() {
        for (rate, expected) in [(12_345.0, 12_300.0), (987.6, 980.0), (43.21, 43.0), (7.77, 7.7), (0.5, 0.5)]
        {
            assert!((rounded(rate) - expected).abs() < 1e-9 * expected, "{rate}: {}", rounded(rate));
        }
    }
}
