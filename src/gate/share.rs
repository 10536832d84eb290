//! Shares (failed requests, new connections) are compared by their differences and not by their logarithms: most
//! rounds of a healthy server have none at all, and a logarithm of nothing says nothing.
//!
//! # Why not the signed-rank test
//!
//! Failures come in bursts. A head that fails completely in every tenth round differs in no median, so a rank test
//! would pass it; what hurts is the *mean*. The mean has a test that rests on the same coin as the ranks do. If the
//! arms do not differ, the order of a round's slots gives each difference its sign by chance, whatever its size (Efron,
//! *Student's t-test under symmetry conditions*, 1969). For such signs Bentkus and Dzindzalieta (*A tight Gaussian bound
//! for weighted sums of Rademacher random variables*, 2015) say of `n` differences `d` and a margin `m`, with `S` their
//! sum of `d - m` and `Q(x)` what a normal variable exceeds `x` with:
//!
//! ```text
//! P(S >= s)  <=  c Q(s / sqrt(sum of (d - m)^2)),    c = 1 / (4 Q(sqrt 2)) = 3.178
//! ```
//!
//! For arms that do not differ the bound is never below the true probability, so it never raises more alarms than promised,
//! needs no model of the noise, and works when every difference is zero. Two equal differences attain it. (Hoeffding's `exp(-x^2 / 2)` is simpler,
//! and larger: as one of six tests thirteen rounds showed with it only what lies beyond eight of their standard
//! deviations, and now beyond 2.2.) Solved for `m` it is an interval round the mean: the standard deviation times
//! `sqrt(L / (n - L))` on each side, where `L` is the square of the `x` at which `c Q(x)` is the level. One bad round in
//! fifty decides nothing, as it should: it might as well have fallen on the base.
//!
//! # What it cannot see
//!
//! What happens no more than a few times in a session: fifty rounds without a failure do not exclude a failure in a hundred,
//! for where such failures are rare the differences do not lie symmetrically about the change that must be excluded. Under
//! it lies a [`floor`] therefore: what the head's requests exclude by their number alone, even if each had failed or
//! not by itself (Clopper and Pearson, 1934). No upper bound is told that lies below it. For the same reason what could have
//! been found ([`detectable`]) is not told from the scatter that was seen: a change would have brought its own.

use statrs::distribution::{ContinuousCDF, Normal};

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
    distance(level).powi(2).floor() as u32 + 1
}

/// The least `c` for which `c Q(x)` bounds all sums of random signs.
fn factor() -> f64 {
    0.25 / Normal::standard().sf(2.0_f64.sqrt())
}

/// How many root sums of squares away from nothing a sum of random signs is less often than at this level.
fn distance(level: f64) -> f64 {
    -Normal::standard().inverse_cdf((level / factor()).min(0.5))
}

/// An upper bound for the probability, if the mean difference were no larger than `margin`, of one at least as large
/// as this. 1 without differences.
pub fn p_value(differences: &[f64], margin: f64) -> f64 {
    let sum: f64 = differences.iter().map(|difference| difference - margin).sum();
    let squares: f64 = differences.iter().map(|difference| (difference - margin).powi(2)).sum();
    let is_evidence = sum > 0.0 && squares > 0.0;
    if is_evidence { (factor() * Normal::standard().sf(sum / squares.sqrt())).min(1.0) } else { 1.0 }
}

/// The mean difference; `None` without any.
pub fn mean(differences: &[f64]) -> Option<f64> {
    (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / differences.len() as f64)
}

/// How far from the mean the true one may lie on each side at this one-sided level; `None` where so few rounds carry
/// no bound.
pub fn reach(differences: &[f64], level: f64) -> Option<f64> {
    deviations(differences.len(), level).map(|deviations| deviations * deviation(differences))
}

/// The same in standard deviations of the rounds.
fn deviations(rounds: usize, level: f64) -> Option<f64> {
    let (n, needed) = (rounds as f64, distance(level).powi(2));
    (n > needed).then(|| (needed / (n - needed)).sqrt())
}

/// The standard deviation, with `n` and not `n - 1`, as the bound has it.
fn deviation(differences: &[f64]) -> f64 {
    let Some(mean) = mean(differences) else { return 0.0 };
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    (squares / differences.len() as f64).sqrt()
}

/// The smallest change beyond `tolerance` that so many rounds of so many requests show, but for
/// [`MISSES`](super::MISSES) of the sessions, if what it adds fails singly; `None` where they show none at all.
///
/// Of such a change `c` a round's difference has the variance `(b (1 - b) + h (1 - h)) / r`, with `b` the base's share,
/// `h = b + c` and `r` requests; what the rounds scatter beyond their present one of that kind stays as it is. It is found
/// where `c - tolerance` exceeds the reach, `f` standard deviations `s` of the rounds, by what mean and reach scatter
/// together: `s^2 / n` of the one, `f^2 (2 + k) / 4` times as much of the other, with `k` the excess kurtosis of a
/// difference of counts, of which `s^2 k` is `1 / r^2`. That a low mean comes with a small deviation, and so with a short
/// reach, is left out: it only helps.
pub fn detectable(differences: &[f64], [base, head]: [Count; 2], tolerance: f64, level: f64) -> Option<f64> {
    let f = deviations(differences.len(), level)?;
    let (n, before) = (differences.len() as f64, base.share()?);
    let requests = base.of.min(head.of) as f64 / n;
    let singly = |head: f64| (before * (1.0 - before) + head * (1.0 - head)) / requests;
    let beyond = (deviation(differences).powi(2) - singly(head.share()?)).max(0.0);
    let is_found = |change: f64| {
        let variance = singly(before + change) + beyond;
        let of_reach = f * f * (2.0 * variance + requests.powi(-2)) / 4.0;
        let scatter = ((variance + of_reach) / n).sqrt();
        change - tolerance >= f * variance.sqrt() + super::planner::nearly_always() * scatter
    };
    least(tolerance, 1.0 - before, is_found)
}

/// The least value up to `most` of which it is true, if it is of all above it, too.
fn least(mut too_low: f64, most: f64, is_true: impl Fn(f64) -> bool) -> Option<f64> {
    let mut enough = Some(most).filter(|&most| is_true(most))?;
    // Halved so often nothing of a share is left that could be read.
    for _ in 0..40 {
        let middle = too_low.midpoint(enough);
        if is_true(middle) { enough = middle } else { too_low = middle }
    }
    Some(enough)
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
        assert!((excluded - 3.178 * 3.167e-5).abs() < 1e-7, "c Q(sqrt n): {excluded}");
        assert_eq!(reach(&none, 0.05 / 3.0), Some(0.0));
        assert_eq!(reach(&none[..6], 0.05 / 3.0), None, "six rounds are too few at that level");
        assert_eq!(rounds_needed(0.05 / 3.0), 7);
    }

    #[test]
    fn the_bound_is_what_two_equal_differences_have_and_never_less_than_what_all_equal_ones_have() {
        assert!((p_value(&[0.3, 0.3], 0.0) - exact(&[0.3, 0.3])).abs() < 1e-9);
        for n in 1..20_usize {
            for minus in 0..n.div_ceil(2) {
                let signed: Vec<f64> = (0..n).map(|nth| if nth < minus { -1.0 } else { 1.0 }).collect();
                assert!(p_value(&signed, 0.0) >= exact(&signed) - 1e-9, "{minus} of {n}");
            }
        }
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

    /// How many of so many requests fail, each by itself: those between two failures are geometrically many.
    fn failures(noise: &mut Noise, of: u64, share: f64) -> f64 {
        let gap = |noise: &mut Noise| 1.0 + ((1.0 - noise.uniform()).ln() / (-share).ln_1p()).floor();
        let mut nth = gap(noise);
        let mut hits = 0.0;
        while nth <= of as f64 {
            hits += 1.0;
            nth += gap(noise);
        }
        hits
    }

    /// The share of 400 sessions that find `change`, where the base fails so often.
    fn found(rounds: usize, requests: u64, base: f64, change: f64, (tolerance, level): (f64, f64)) -> f64 {
        let mut noise = Noise::seeded(9);
        let alarms = (0..400).filter(|_| {
            let mut share = |of: f64| failures(&mut noise, requests, of) / requests as f64;
            let differences: Vec<f64> = (0..rounds).map(|_| share(base + change) - share(base)).collect();
            p_value(&differences, tolerance) <= level
        });
        alarms.count() as f64 / 400.0
    }

    /// Whole sessions of servers that fail singly: what could be found is found, and not with much to spare.
    #[test]
    fn what_such_rounds_can_find_is_found_in_nearly_all_sessions_and_half_of_it_in_fewer() {
        let tests = |tests: f64| 0.01 / tests;
        for (rounds, requests, base, tolerance, level) in [
            (13, 100, 0.0, 0.001, tests(6.0)),
            (13, 1_000, 0.0, 0.001, tests(6.0)),
            (16, 200, 0.0, 0.01, tests(12.0)),
            (30, 100, 0.01, 0.001, tests(6.0)),
            (50, 500, 0.0, 0.001, tests(6.0)),
            (50, 20, 0.05, 0.01, tests(3.0)),
            (100, 100, 0.001, 0.001, tests(12.0)),
        ] {
            let of = requests * rounds as u64;
            let alike = Count { hits: (base * of as f64) as u64, of };
            // Rounds that scatter no more than such failures do: none of the scatter is left over.
            let quiet = vec![0.0; rounds];
            let least = detectable(&quiet, [alike, alike], tolerance, level).unwrap();
            let power = |change: f64| found(rounds, requests, base, change, (tolerance, level));
            let case = format!("{rounds} rounds of {requests}, {base}: {least}");
            assert!(power(least) >= 0.94, "{case}: {}", power(least));
            let half = tolerance + (least - tolerance) / 2.0;
            assert!(power(half) < 0.9, "{case}: {}", power(half));
        }
    }

    #[test]
    fn what_could_be_found_is_never_told_from_rounds_that_only_happened_not_to_fail() {
        let none = Count { hits: 0, of: 1_300 };
        let least = detectable(&[0.0; 13], [none; 2], 0.001, 0.01 / 6.0).unwrap();
        assert!((0.05..0.1).contains(&least), "{least}");
        let many = Count { hits: 0, of: 50_000 };
        let least = detectable(&[0.0; 50], [many; 2], 0.001, 0.01 / 6.0).unwrap();
        assert!((0.002..0.003).contains(&least), "{least}");
        // Bursts are taken as they were seen, and rounds without room for a change show none.
        let bursts: Vec<f64> = (0..50).map(|nth| if nth % 10 == 0 { 0.1 } else { 0.0 }).collect();
        assert!(detectable(&bursts, [many; 2], 0.001, 0.01 / 6.0).unwrap() > 0.02);
        assert_eq!(detectable(&[0.0; 10], [none; 2], 0.001, 0.01 / 6.0), None);
        let few = Count { hits: 0, of: 13 };
        assert_eq!(detectable(&[0.0; 11], [few; 2], 0.001, 0.01 / 6.0), None);
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
            differences in proptest::collection::vec(-0.2_f64..1.0, 8..40),
            margin in -0.2_f64..0.8,
        ) {
            let (mean, reach) = (mean(&differences).unwrap(), reach(&differences, 0.01).unwrap());
            let distance = mean - reach - margin;
            prop_assume!(distance.abs() > 1e-9);
            prop_assert_eq!(p_value(&differences, margin) <= 0.01, distance > 0.0);
        }
    }
}
