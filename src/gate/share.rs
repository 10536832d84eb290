//! Shares (failed requests, new connections) are compared by their differences and not by their logarithms: most
//! rounds of a healthy server have none at all, and a logarithm of nothing says nothing.
//!
//! # Why not the signed-rank test
//!
//! Failures come in bursts. A head that fails completely in every tenth round differs in no median, so a rank test
//! would pass it; what hurts is the *mean*. The mean has a test that rests on the same coin as the ranks do. If the
//! arms do not differ, the order of a round's slots gives each difference its sign by chance, whatever its size. For
//! such signs Hoeffding's inequality (*Probability inequalities for sums of bounded random variables*, 1963, theorem
//! 2; for self-normalised sums Efron, *Student's t-test under symmetry conditions*, 1969) says of `n` differences `d`
//! and a margin `m`, with `S` their sum of `d - m`:
//!
//! ```text
//! P(S >= s)  <=  exp(-s^2 / (2 * sum of (d - m)^2))
//! ```
//!
//! The bound is never below the true probability, so it never raises more alarms than promised, needs no model of the
//! noise, and works when every difference is zero. Solved for `m` it is an interval round the mean: the standard
//! deviation times `sqrt(L / (n - L))` on each side, with `L = 2 * ln(1 / level)`. One bad round in fifty decides
//! nothing, as it should: it might as well have fallen on the base.
//!
//! # What it cannot see
//!
//! What happens less often than once in a session: fifty rounds without a failure do not exclude a failure in a hundred.
//! Under it lies a [`floor`] therefore: what the head's requests exclude by their number alone, even if each had failed or
//! not by itself (Clopper and Pearson, 1934).

use super::ledger::share_at_most;

/// Requests of which something is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Of how many it is true.
    pub hits: u64,
    /// Of how many in all.
    pub of: u64,
}

impl Count {
    /// The share of them; `None` of none.
    pub fn share(self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }

    /// Both together.
    pub fn and(self, other: Count) -> Count {
        Count { hits: self.hits + other.hits, of: self.of + other.of }
    }
}

/// The smallest change for the worse that so many requests of the head exclude at this level, were they independent.
/// Rounds are not, which only makes it larger.
pub fn floor(base: Count, head: Count, level: f64) -> f64 {
    share_at_most(head.hits, head.of, level) - base.share().unwrap_or(0.0)
}

/// About how many requests of the head would exclude such a change, if they went on as they did. `None`: what the head
/// did is such a change, or so near to it that no session would tell.
pub fn requests_needed(base: Count, head: Count, change: f64, level: f64) -> Option<u64> {
    const MOST: u64 = 1 << 40;
    let share = head.share().unwrap_or(0.0);
    let excludes = |of: u64| {
        let hits = (share * of as f64).ceil() as u64;
        floor(base, Count { hits, of }, level) <= change
    };
    let mut enough = head.of.max(1);
    while !excludes(enough) {
        enough = enough.checked_mul(2).filter(|&of| of < MOST)?;
    }
    let mut too_few = 0;
    while enough - too_few > enough / 100 + 1 {
        let middle = too_few.midpoint(enough);
        if excludes(middle) { enough = middle } else { too_few = middle }
    }
    Some(enough)
}

/// The rounds that carry a bound at this level: see [`reach`].
pub fn rounds_needed(level: f64) -> u32 {
    (2.0 * (1.0 / level).ln()).floor() as u32 + 1
}

/// An upper bound for the probability, if the mean difference were no larger than `margin`, of one at least as large
/// as this. 1 without differences.
pub fn p_value(differences: &[f64], margin: f64) -> f64 {
    let sum: f64 = differences.iter().map(|difference| difference - margin).sum();
    let squares: f64 = differences.iter().map(|difference| (difference - margin).powi(2)).sum();
    let is_evidence = sum > 0.0 && squares > 0.0;
    if is_evidence { (-sum * sum / (2.0 * squares)).exp() } else { 1.0 }
}

/// The mean difference; `None` without any.
pub fn mean(differences: &[f64]) -> Option<f64> {
    (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / differences.len() as f64)
}

/// How far from the mean the true one may lie on each side at this one-sided level; `None` where so few rounds carry
/// no bound.
pub fn reach(differences: &[f64], level: f64) -> Option<f64> {
    let (n, needed) = (differences.len() as f64, 2.0 * (1.0 / level).ln());
    (n > needed).then(|| deviation(differences) * (needed / (n - needed)).sqrt())
}

/// The standard deviation, with `n` and not `n - 1`, as the bound has it.
fn deviation(differences: &[f64]) -> f64 {
    let Some(mean) = mean(differences) else { return 0.0 };
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    (squares / differences.len() as f64).sqrt()
}

/// The smallest difference that so many rounds of this scatter would have shown beyond `tolerance`, but for
/// [`MISSES`](super::MISSES) of the sessions: so much more than the bound's reach lies the mean with that probability.
pub fn detectable(differences: &[f64], tolerance: f64, level: f64) -> Option<f64> {
    let scatter = deviation(differences) / (differences.len() as f64).sqrt();
    reach(differences, level).map(|reach| tolerance + reach + super::planner::nearly_always() * scatter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate;
    use crate::gate::simulation::Noise;
    use proptest::prelude::*;

    /// All sign patterns, each as likely: the share of them whose sum is at least as large.
    fn exact(differences: &[f64]) -> f64 {
        let n = differences.len();
        let seen: f64 = differences.iter().sum();
        let as_large = (0_u32..1 << n).filter(|pattern| {
            let signed = differences.iter().enumerate();
            let sum: f64 =
                signed.map(|(nth, d)| if pattern >> nth & 1 == 1 { d.abs() } else { -d.abs() }).sum();
            sum >= seen - 1e-12
        });
        as_large.count() as f64 / f64::from(1_u32 << n)
    }

    #[test]
    fn rounds_without_a_single_failure_exclude_a_share_of_them() {
        let none = [0.0; 16];
        assert_eq!(p_value(&none, 0.001), 1.0);
        let excluded = p_value(&none.map(|d: f64| -d), -0.01);
        assert!((excluded - (-8.0_f64).exp()).abs() < 1e-12, "exp(-n/2): {excluded}");
        assert_eq!(reach(&none, 0.05 / 3.0), Some(0.0));
        assert_eq!(reach(&none[..8], 0.05 / 3.0), None, "eight rounds are too few at that level");
        assert_eq!(rounds_needed(0.05 / 3.0), 9);
    }

    #[test]
    fn requests_without_a_failure_exclude_no_more_than_their_number_allows() {
        let none = |of| Count { hits: 0, of };
        let level = 0.05 / 3.0;
        assert!(floor(none(300), none(300), level) > 0.01 && floor(none(500), none(500), level) < 0.01);
        let needed = requests_needed(none(300), none(300), 0.01, level).unwrap();
        assert!((405..420).contains(&needed), "{needed}");
        assert!(floor(none(410), none(410), level) < 0.01);
        // What both do is no change for the worse.
        let half = Count { hits: 5_000, of: 10_000 };
        assert!(floor(half, half, level) < 0.02);
    }

    /// The advice, followed, does what it says, and not with much to spare.
    #[test]
    fn as_many_requests_as_are_said_to_be_needed_exclude_the_change() {
        let level = 0.05 / 3.0;
        for (hits, of) in [(0, 100), (1, 300), (5, 1_500), (10, 2_000), (60, 10_000)] {
            let (base, head) = (Count { hits: 0, of }, Count { hits, of });
            let needed = requests_needed(base, head, 0.01, level).unwrap();
            let grown = |times: f64| {
                let of = needed as f64 * times;
                let hits = (head.share().unwrap() * of).ceil() as u64;
                Count { hits, of: of as u64 }
            };
            assert!(floor(base, grown(1.0), level) <= 0.01, "{hits} of {of}: {needed}");
            assert!(floor(base, grown(0.8), level) > 0.01, "{hits} of {of}: {needed}");
        }
        let worse = Count { hits: 30, of: 1_000 };
        assert_eq!(requests_needed(Count { hits: 0, of: 1_000 }, worse, 0.01, level), None);
    }

    #[test]
    fn a_burst_in_every_tenth_round_is_no_pass_though_every_median_is_zero() {
        let bursts: Vec<f64> = (0..50).map(|nth| if nth % 10 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(estimate::hodges_lehmann(&bursts, 0.9).unwrap().point, 0.0);
        let mirrored: Vec<f64> = bursts.iter().map(|d| -d).collect();
        assert!(p_value(&mirrored, -0.01) > 0.05);
        assert!(p_value(&bursts, 0.001) > 0.01, "nor is it an alarm: five coins may fall alike");
    }

    #[test]
    fn a_failure_in_a_hundred_requests_of_every_round_is_an_alarm() {
        let mut noise = Noise::seeded(3);
        let steady: Vec<f64> = (0..50).map(|_| 0.01 + 0.003 * noise.normal()).collect();
        assert!(p_value(&steady, 0.001) < 1e-6);
    }

    /// 4,000 sessions of two arms that fail alike, in bursts and singly: alarms stay below the level.
    #[test]
    fn arms_that_fail_alike_raise_no_more_alarms_than_promised() {
        let mut noise = Noise::seeded(5);
        let mut failures = |round: u32| {
            let burst = if round.is_multiple_of(7) { 0.3 } else { 0.0 };
            (burst * noise.normal().abs() + 0.01 * noise.normal().abs()).min(1.0)
        };
        let alarms = (0..4_000)
            .filter(|_| {
                let rounds: Vec<f64> = (0..40).map(|round| failures(round) - failures(round)).collect();
                p_value(&rounds, 0.0) <= 0.01
            })
            .count();
        assert!(alarms <= 40, "{alarms} of 4000");
    }

    proptest! {
        #[test]
        fn the_bound_is_never_below_what_all_sign_patterns_give(
            differences in proptest::collection::vec(-1.0_f64..1.0, 1..11),
        ) {
            prop_assert!(p_value(&differences, 0.0) >= exact(&differences) - 1e-9 || differences.iter().sum::<f64>() <= 0.0);
        }

        #[test]
        fn test_and_bound_decide_alike(
            differences in proptest::collection::vec(-0.2_f64..1.0, 12..40),
            margin in -0.2_f64..0.8,
        ) {
            let (mean, reach) = (mean(&differences).unwrap(), reach(&differences, 0.01).unwrap());
            let distance = mean - reach - margin;
            prop_assume!(distance.abs() > 1e-9);
            prop_assert_eq!(p_value(&differences, margin) <= 0.01, distance > 0.0);
        }
    }
}
