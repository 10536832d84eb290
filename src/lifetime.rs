//! [`Lifetimes`]: when each connection of a pool is to be replaced. Pure.

use std::time::{Duration, Instant};

/// A lifetime less a random part of its own for each connection, so that those opened together, by a restart or a
/// burst, are not replaced together. The part is always taken off, never added: a lifetime is a promise, for example
/// to a load balancer whose addresses change. HikariCP takes off up to 2.5 %, gRPC varies by 10 % (proposal A9).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) longest: Duration,
    /// The largest part that is taken off, 0 to 1.
    pub(crate) jitter: f64,
    /// Each pool has its own: many processes may start at once.
    pub(crate) seed: u64,
}

impl Lifetimes {
    /// When the connection of that number ends; `None`: later than the clock can tell.
    pub(crate) fn end(&self, born: Instant, number: u64) -> Option<Instant> {
        let off = self.longest.as_secs_f64() * self.jitter * fraction(self.seed, number);
        let off = Duration::try_from_secs_f64(off).unwrap_or_default();
        born.checked_add(self.longest.saturating_sub(off))
    }
}

/// A number from 0 to 1 for each seed and number, evenly spread: the output function of SplitMix64 (Steele, Lea, Flood
/// 2014), which needs no state that connections would have to share.
fn fraction(seed: u64, number: u64) -> f64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // The 53 bits that an f64 tells apart.
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_lifetime_lies_within_its_jitter(
            seconds in 1_u64..1_000_000, jitter in 0.0..1.0, seed: u64, number: u64,
        ) {
            let (born, longest) = (now(), Duration::from_secs(seconds));
            let lives = Lifetimes { longest, jitter, seed }.end(born, number).unwrap() - born;
            let least = longest.mul_f64(1.0 - jitter).saturating_sub(Duration::from_micros(1));
            prop_assert!(least <= lives && lives <= longest, "{lives:?}");
        }

        /// A thousand connections fill ten equal parts of the jitter: 100 each, give or take five deviations.
        #[test]
        fn lifetimes_are_spread_evenly(seed: u64) {
            let (born, longest) = (now(), Duration::from_secs(1_000));
            let mut parts = [0_u32; 10];
            for number in 0..1_000 {
                let end = Lifetimes { longest, jitter: 0.1, seed }.end(born, number).unwrap();
                let off = longest - (end - born);
                parts[(off.as_secs() / 10) as usize] += 1;
            }
            prop_assert!(parts.iter().all(|n| (50..=150).contains(n)), "{parts:?}");
        }
    }

    #[test]
    fn without_jitter_a_lifetime_is_exact_and_one_without_end_is_none() {
        let born = now();
        let lives = |longest| Lifetimes { longest, jitter: 0.0, seed: 7 }.end(born, 1);
        assert_eq!(lives(Duration::from_secs(300)), Some(born + Duration::from_secs(300)));
        assert_eq!(lives(Duration::MAX), None);
    }
}
