//! Paired differences across rounds: how large a difference is, and how sure the rounds can be of it.
//!
//! Every round gives each arm one slot, in an order drawn for that round. A round therefore gives one difference
//! between two arms, and the differences are all that this room sees: it takes numbers and returns numbers. What
//! a difference is made of belongs to the caller; what it means for a release belongs to the verdict.
//!
//! # Why the answer is exact
//!
//! If two arms do not differ, then the order of a round's slots is what decides which of them is called the
//! control, and that order is a fair coin of our own. So each difference is as likely to be `d` as `−d`, whatever
//! drift, burst or correlation the machine adds (Fisher's randomization argument). Wilcoxon's signed-rank
//! statistic has a known distribution under exactly that symmetry, and no other property of the noise enters:
//! there is no normal approximation here, no bootstrap and no seed. Three limits remain:
//!
//! - The argument is about arms that do not differ. An interval for arms that do differ also assumes that the
//!   differences are symmetric about the true one.
//! - What one arm's slot leaves behind for the next (ports in `TIME_WAIT`, cold caches) must fall on both alike.
//! - Luck that is drawn once per process and not once per round is part of the difference, not of its noise.
//!
//! # The method
//!
//! With `n` differences, the `M = n(n+1)/2` **Walsh averages** are the means of all pairs, each difference also
//! being paired with itself. Their median is the Hodges–Lehmann estimate. The number of them at or below a
//! margin is the signed-rank statistic of the hypothesis that the effect is that margin, so that the interval's
//! bounds are two of the Walsh averages, counted from either end. See Hollander, Wolfe and Chicken,
//! *Nonparametric Statistical Methods*, third edition (2014), sections 3.1 to 3.3.

/// How many of the `n(n+1)/2` Walsh averages may lie at or below a margin while `n` rounds still reject "the effect
/// is no larger than this margin" at the one-sided level `alpha`: the largest `c` with `P(T⁺ ≤ c) ≤ alpha`.
///
/// `None` if so few rounds can never reject at this level: the most extreme outcome alone has probability
/// 2<sup>−n</sup>.
///
/// ```
/// use keeplive::estimate::critical_value;
///
/// assert_eq!(critical_value(10, 0.05), Some(10));
/// assert_eq!(critical_value(4, 0.05), None); // 1/16 is more than 0.05
/// ```
pub fn critical_value(n: usize, alpha: f64) -> Option<usize> {
    let at_most = signed_rank_null(n);
    at_most.partition_point(|&probability| probability <= alpha).checked_sub(1)
}

/// The probability, if the effect were no larger than `margin`, that rounds speak for a larger one at least as
/// clearly as these do. One-sided; an exact signed-rank test of "the effect is at most `margin`".
///
/// It is the mirror of [`hodges_lehmann`]: it is at most `alpha` exactly when the lower bound of the interval with
/// confidence `1 − 2·alpha` lies above `margin`.
///
/// # Zeros and ties
///
/// Rounding gives some rounds a difference of exactly `margin`, and gives two rounds differences equally far from
/// it on opposite sides. Both count against a larger effect, as does a difference that is not a number. This only
/// ever raises the result: nudge the differences apart at random, without moving any across the margin, and the
/// test is exact again, with a statistic no larger than the one counted here.
///
/// With no differences at all the result is 1.
pub fn p_value(differences: &[f64], margin: f64) -> f64 {
    let against =
        walsh_averages(differences).filter(|average| average.is_nan() || *average <= margin).count();
    signed_rank_null(differences.len())[against]
}

/// A range that holds the true value with at least the stated confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower bound, in the unit of the differences.
    pub lower: f64,
    /// The upper bound, in the unit of the differences.
    pub upper: f64,
    /// The confidence that was asked for, as a fraction: 0.95. The true one is a little higher, because the
    /// signed-rank statistic moves in whole steps.
    pub confidence: f64,
}

/// A value drawn from the rounds, and how sure they are of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The best single value, in the unit of the differences.
    pub point: f64,
    /// Where the true value lies; `None` where [too few rounds](rounds_needed) were run to say so.
    pub interval: Option<Interval>,
}

/// The Hodges–Lehmann estimate of the rounds' common difference, with its exact signed-rank interval: half of
/// `1 − confidence` is left out on each side.
///
/// `None` if there are no differences, or one that is not finite: there is then no difference to estimate.
///
/// Its time grows with the cube of the number of rounds: some 20 ms for 400.
///
/// ```
/// use keeplive::estimate::hodges_lehmann;
///
/// let estimate = hodges_lehmann(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.95).expect("six finite differences");
/// assert_eq!(estimate.point, 3.5);
/// let interval = estimate.interval.expect("six rounds carry 95 %");
/// assert_eq!((interval.lower, interval.upper), (1.0, 6.0));
/// ```
///
/// # Panics
///
/// If `confidence` is not between 0 and 1.
pub fn hodges_lehmann(differences: &[f64], confidence: f64) -> Option<Estimate> {
    let tail = tail_of(confidence);
    if differences.is_empty() || !differences.iter().all(|difference| difference.is_finite()) {
        return None;
    }
    let mut averages: Vec<f64> = walsh_averages(differences).collect();
    averages.sort_unstable_by(f64::total_cmp);
    let last = averages.len() - 1;
    let interval = critical_value(differences.len(), tail).map(|critical| Interval {
        lower: averages[critical],
        upper: averages[last - critical],
        confidence,
    });
    // an even number of averages has two in the middle
    let point = averages[last / 2].midpoint(averages[last.div_ceil(2)]);
    Some(Estimate { point, interval })
}

/// The fewest rounds that carry an interval of this confidence: six for 0.95, eight for 0.99.
///
/// With fewer, even rounds that all agree could have come from fair coins too often.
///
/// # Panics
///
/// If `confidence` is not between 0 and 1.
pub fn rounds_needed(confidence: f64) -> usize {
    let tail = tail_of(confidence);
    let mut rounds = 1;
    let mut all_agree = 0.5;
    while all_agree > tail {
        rounds += 1;
        all_agree /= 2.0;
    }
    rounds
}

/// What rounds say of the ratio between two arms.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRatios {
    /// `ln(control) − ln(arm)` of every round that has one, in the order of the rounds.
    pub differences: Vec<f64>,
    /// How many rounds have none, because a value was not a positive finite number. A reader must be told: an arm
    /// that fails in its worst rounds looks better for it.
    pub skipped: usize,
}

/// The ratio of `control` to `arm` in each round, as a difference of logarithms, so that `exp` of an estimate or
/// bound is `control / arm`: 2 where the arm took half of the control's time.
///
/// Ratios, because drift multiplies both slots of a round alike. Their logarithms, because halving and doubling
/// are then equally far from no change, and because swapping the arms only changes signs: `ln a − ln b` does so
/// to the last bit, where `ln(a / b)` does not.
///
/// # Panics
///
/// If the two have different lengths: every round runs every arm.
pub fn paired_log_ratios(control: &[f64], arm: &[f64]) -> LogRatios {
    assert_eq!(control.len(), arm.len(), "every round runs every arm");
    let has_logarithm = |value: f64| value.is_finite() && value > 0.0;
    let differences: Vec<f64> = control
        .iter()
        .zip(arm)
        .filter(|&(&control, &arm)| has_logarithm(control) && has_logarithm(arm))
        .map(|(control, arm)| control.ln() - arm.ln())
        .collect();
    let skipped = control.len() - differences.len();
    LogRatios { differences, skipped }
}

/// What a two-sided interval leaves out on each side.
fn tail_of(confidence: f64) -> f64 {
    assert!(confidence > 0.0 && confidence < 1.0, "a confidence lies between 0 and 1, {confidence} does not");
    (1.0 - confidence) / 2.0
}

/// The means of all pairs, each difference also paired with itself: `n(n+1)/2` of them, in no particular order.
fn walsh_averages(differences: &[f64]) -> impl Iterator<Item = f64> {
    differences
        .iter()
        .enumerate()
        .flat_map(|(i, &first)| differences[i..].iter().map(move |&second| first.midpoint(second)))
}

/// `P(T⁺ ≤ t)` for every `t` from 0 to `n(n+1)/2`, where `T⁺` is the sum of those of the ranks 1 to `n` whose fair
/// coin came up heads.
///
/// The ranks enter one by one, and each lifts half of all outcomes by itself. In `f64` every probability is exact up
/// to 52 ranks, and good to about 10<sup>−13</sup> of itself beyond; the smallest, 2<sup>−n</sup>, vanishes only
/// above a thousand ranks.
fn signed_rank_null(n: usize) -> Vec<f64> {
    let largest = n * (n + 1) / 2;
    let mut probabilities = vec![0.0; largest + 1];
    probabilities[0] = 1.0;
    for rank in 1..=n {
        let reached = rank * (rank + 1) / 2;
        for t in (rank..=reached).rev() {
            probabilities[t] = 0.5 * (probabilities[t] + probabilities[t - rank]);
        }
        for unlifted in &mut probabilities[..rank] {
            *unlifted *= 0.5;
        }
    }
    let mut sum = 0.0;
    for probability in &mut probabilities {
        sum += *probability;
        *probability = sum;
    }
    probabilities
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{LN_2, TAU};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn critical_values_agree_with_the_printed_tables() {
        // Hollander, Wolfe and Chicken, table A.4; also Wilcoxon and Wilcox (1964)
        for (n, alpha, critical) in [
            (5, 0.05, Some(0)),
            (6, 0.025, Some(0)),
            (8, 0.05, Some(5)),
            (10, 0.05, Some(10)),
            (10, 0.025, Some(8)),
            (10, 0.01, Some(5)),
            (10, 0.005, Some(3)),
            (15, 0.025, Some(25)),
            (20, 0.05, Some(60)),
            (20, 0.005, Some(37)),
            (25, 0.05, Some(100)),
            (50, 0.05, Some(466)),
            (50, 0.005, Some(373)),
            (4, 0.05, None),
            (5, 0.025, None),
            (0, 0.05, None),
        ] {
            assert_eq!(critical_value(n, alpha), critical, "n = {n}, alpha = {alpha}");
        }
    }

    #[test]
    fn the_null_distribution_is_that_of_all_sign_patterns() {
        for n in 0..=12_usize {
            let patterns = 1_u32 << n;
            let mut outcomes = vec![0_u32; n * (n + 1) / 2 + 1];
            for pattern in 0..patterns {
                let positive_ranks = (0..n).filter(|rank| pattern >> rank & 1 == 1).map(|rank| rank + 1);
                outcomes[positive_ranks.sum::<usize>()] += 1;
            }
            let mut at_most = 0;
            for (t, (outcomes, probability)) in outcomes.iter().zip(signed_rank_null(n)).enumerate() {
                at_most += outcomes;
                assert_eq!(probability, f64::from(at_most) / f64::from(patterns), "n = {n}, t = {t}");
            }
        }
    }

    #[test]
    fn the_null_distribution_of_many_rounds_sums_to_one_and_is_symmetric() {
        let n = 400;
        let at_most = signed_rank_null(n);
        let largest = n * (n + 1) / 2;
        assert!((at_most[largest] - 1.0).abs() < 1e-12, "the whole is {}", at_most[largest]);
        for t in 0..largest {
            let mirrored = 1.0 - at_most[largest - t - 1];
            assert!((at_most[t] - mirrored).abs() < 1e-12, "t = {t}: {} and {mirrored}", at_most[t]);
        }
        assert_eq!(at_most[0], 0.5_f64.powi(400), "the smallest has not vanished");
    }

    #[test]
    fn many_rounds_agree_with_the_normal_limit() {
        // mean n(n+1)/4, variance n(n+1)(2n+1)/24, half a step of continuity; z = 2.575829 for 0.005
        let n = 400.0_f64;
        let sd = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        let limit = n * (n + 1.0) / 4.0 - 2.575_829 * sd - 0.5;
        let exact = critical_value(400, 0.005).expect("400 rounds carry any level") as f64;
        assert!((exact - limit).abs() < 0.001 * exact, "{exact} against {limit}");
    }

    /// The test carried out with ranks, as the textbooks do, for differences without zeros and ties.
    fn p_value_by_sign_patterns(differences: &[f64]) -> f64 {
        let mut ranked = differences.to_vec();
        ranked.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let negative_ranks: usize =
            ranked.iter().enumerate().filter(|(_, d)| **d < 0.0).map(|(rank, _)| rank + 1).sum();
        let patterns = 1_u32 << differences.len();
        let as_extreme = (0..patterns)
            .filter(|pattern| {
                let ranks = (0..differences.len()).filter(|rank| pattern >> rank & 1 == 1);
                ranks.map(|rank| rank + 1).sum::<usize>() <= negative_ranks
            })
            .count();
        as_extreme as f64 / f64::from(patterns)
    }

    #[test]
    fn the_p_value_is_the_share_of_sign_patterns_at_least_as_extreme() {
        let differences = [0.31, -0.12, 0.44, 0.05, -0.27, 0.19, 0.6, 0.08, 0.52, -0.02];
        for n in 1..=differences.len() {
            assert_eq!(
                p_value(&differences[..n], 0.0),
                p_value_by_sign_patterns(&differences[..n]),
                "n = {n}"
            );
        }
    }

    #[test]
    fn rounds_that_all_agree_give_the_smallest_p_value() {
        assert_eq!(p_value(&[0.3; 8], 0.0), 0.5_f64.powi(8));
        assert_eq!(p_value(&[0.3; 8], 0.5), 1.0);
    }

    #[test]
    fn zeros_ties_and_what_is_no_number_speak_against_an_effect() {
        assert_eq!(p_value(&[], 0.0), 1.0);
        assert_eq!(p_value(&[0.0; 20], 0.0), 1.0);
        assert_eq!(p_value(&[f64::NAN; 20], 0.0), 1.0);
        let untied = p_value(&[-1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.0);
        let tied = p_value(&[-2.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.0);
        let zero = p_value(&[0.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.0);
        assert!(tied > untied, "{tied} against {untied}");
        assert_eq!(zero, untied, "a zero counts as the smallest negative difference");
    }

    #[test]
    fn a_shift_that_every_round_shares_is_the_estimate() {
        let estimate = hodges_lehmann(&[0.25; 40], 0.99).unwrap();
        let interval = Interval { lower: 0.25, upper: 0.25, confidence: 0.99 };
        assert_eq!(estimate, Estimate { point: 0.25, interval: Some(interval) });
    }

    #[test]
    fn darwins_maize_gives_its_published_p_value_and_the_interval_of_the_tables() {
        // crossed less self-fertilised, in eighths of an inch (Fisher, The Design of Experiments, chapter III):
        // T⁻ = 24, two-sided p = 0.04126; the tables have 25 of the 120 averages below each bound
        let differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48].map(f64::from);
        assert!((2.0 * p_value(&differences, 0.0) - 0.04126).abs() < 0.000_005);
        let estimate = hodges_lehmann(&differences, 0.95).unwrap();
        let mut averages = Vec::new();
        for i in 0..15 {
            for j in i..15 {
                averages.push((differences[i] + differences[j]) / 2.0);
            }
        }
        averages.sort_by(f64::total_cmp);
        assert_eq!(estimate.point, (averages[59] + averages[60]) / 2.0);
        let interval = estimate.interval.unwrap();
        assert_eq!((interval.lower, interval.upper), (averages[25], averages[94]));
        assert!(interval.lower > 0.0, "the test at 0.05 rejects no difference: {interval:?}");
    }

    #[test]
    fn an_interval_exists_from_the_rounds_needed_on() {
        for (confidence, needed) in [(0.5, 2), (0.75, 3), (0.9, 5), (0.95, 6), (0.99, 8), (0.999, 11)] {
            assert_eq!(rounds_needed(confidence), needed, "{confidence}");
            let differences: Vec<f64> = (0..needed).map(|i| i as f64).collect();
            assert!(hodges_lehmann(&differences, confidence).unwrap().interval.is_some());
            assert!(hodges_lehmann(&differences[1..], confidence).unwrap().interval.is_none());
        }
    }

    #[test]
    fn nothing_to_estimate_is_no_estimate() {
        assert_eq!(hodges_lehmann(&[], 0.95), None);
        assert_eq!(hodges_lehmann(&[0.1, f64::NAN], 0.95), None);
        assert_eq!(hodges_lehmann(&[0.1, f64::INFINITY], 0.95), None);
        assert_eq!(hodges_lehmann(&[0.1], 0.95), Some(Estimate { point: 0.1, interval: None }));
    }

    #[test]
    #[should_panic(expected = "a confidence lies between 0 and 1")]
    fn a_confidence_in_percent_is_refused() {
        rounds_needed(95.0);
    }

    #[test]
    fn a_round_without_a_ratio_is_skipped_and_counted() {
        let ratios =
            paired_log_ratios(&[2.0, 0.0, 3.0, 1.0, 1.0], &[1.0, 1.0, f64::NAN, f64::INFINITY, -1.0]);
        assert_eq!(ratios.skipped, 4);
        assert_eq!(ratios.differences, [LN_2], "the control took twice the arm's time");
    }

    proptest! {
        #[test]
        fn the_estimate_moves_with_a_shift(differences in vec(-10.0..10.0_f64, 1..40), shift in -10.0..10.0_f64) {
            let here = hodges_lehmann(&differences, 0.9).unwrap();
            let shifted: Vec<f64> = differences.iter().map(|d| d + shift).collect();
            let there = hodges_lehmann(&shifted, 0.9).unwrap();
            let close = |a: f64, b: f64| (a + shift - b).abs() < 1e-12;
            prop_assert!(close(here.point, there.point));
            prop_assert_eq!(here.interval.is_some(), there.interval.is_some());
            if let (Some(here), Some(there)) = (here.interval, there.interval) {
                prop_assert!(close(here.lower, there.lower) && close(here.upper, there.upper));
            }
        }

        #[test]
        fn swapping_the_arms_changes_only_signs(
            (control, arm) in (1..40_usize).prop_flat_map(|n| (vec(1e-6..10.0_f64, n), vec(1e-6..10.0_f64, n)))
        ) {
            let forth = hodges_lehmann(&paired_log_ratios(&control, &arm).differences, 0.9).unwrap();
            let back = hodges_lehmann(&paired_log_ratios(&arm, &control).differences, 0.9).unwrap();
            prop_assert_eq!(forth.point, -back.point);
            prop_assert_eq!(
                forth.interval.map(|i| (i.lower, i.upper)),
                back.interval.map(|i| (-i.upper, -i.lower))
            );
        }

        #[test]
        fn the_order_of_the_rounds_does_not_matter(
            (differences, shuffled) in vec(-10.0..10.0_f64, 1..40)
                .prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle()))
        ) {
            prop_assert_eq!(hodges_lehmann(&differences, 0.9), hodges_lehmann(&shuffled, 0.9));
            prop_assert_eq!(p_value(&differences, 0.1), p_value(&shuffled, 0.1));
        }

        #[test]
        fn more_confidence_never_gives_a_narrower_interval(
            differences in vec(-10.0..10.0_f64, 1..40), a in 0.01..0.999_f64, b in 0.01..0.999_f64
        ) {
            let interval_at = |confidence| hodges_lehmann(&differences, confidence).unwrap().interval;
            if let Some(wide) = interval_at(a.max(b)) {
                let narrow = interval_at(a.min(b)).expect("less confidence needs no more rounds");
                prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
            }
        }

        #[test]
        fn the_interval_holds_the_point(differences in vec(-10.0..10.0_f64, 1..40), confidence in 0.01..0.999_f64) {
            let estimate = hodges_lehmann(&differences, confidence).unwrap();
            if let Some(interval) = estimate.interval {
                prop_assert!(interval.lower <= estimate.point && estimate.point <= interval.upper);
            }
        }

        // whole numbers, so that zeros and ties are common
        #[test]
        fn test_and_interval_decide_alike(
            differences in vec((-6..=6_i8).prop_map(f64::from), 1..20),
            margin in (-12..=12_i8).prop_map(|half| f64::from(half) / 2.0),
            alpha in 0.001..0.4_f64
        ) {
            let confidence = 1.0 - 2.0 * alpha;
            let rejects = p_value(&differences, margin) <= tail_of(confidence);
            let interval = hodges_lehmann(&differences, confidence).unwrap().interval;
            prop_assert_eq!(rejects, interval.is_some_and(|interval| interval.lower > margin));
        }

        #[test]
        fn the_p_value_never_falls_as_the_margin_rises(
            differences in vec(-10.0..10.0_f64, 0..30), a in -10.0..10.0_f64, b in -10.0..10.0_f64
        ) {
            prop_assert!(p_value(&differences, a.min(b)) <= p_value(&differences, a.max(b)));
        }
    }

    /// A shared machine, slot by slot: log-latency with drift that takes tens of seconds to turn, bursts of
    /// interference that last two slots, and sampling noise.
    struct Machine {
        random: Xoshiro256PlusPlus,
        drift: f64,
        burst_slots_left: u32,
    }

    impl Machine {
        fn seeded(seed: u64) -> Self {
            Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), drift: 0.0, burst_slots_left: 0 }
        }

        fn uniform(&mut self) -> f64 {
            ((self.random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
        }

        /// The logarithm of the latency that an arm of no effect shows in the next slot.
        fn slot(&mut self) -> f64 {
            let kept = (-1.25_f64 / 30.0).exp(); // 1.25 s a slot, 30 s to turn
            self.drift = kept * self.drift + 0.04 * (1.0 - kept * kept).sqrt() * self.normal();
            let another = self.uniform() < 1.25 / 15.0; // every 15 s
            self.burst_slots_left = if another { 2 } else { self.burst_slots_left.saturating_sub(1) };
            let burst = if self.burst_slots_left > 0 { 0.3 * self.uniform() } else { 0.0 };
            self.drift + burst + 0.02 * self.normal()
        }

        /// `rounds` differences between a control and an arm that takes `effect` less in the logarithm.
        fn session(&mut self, rounds: usize, effect: f64) -> Vec<f64> {
            let mut latencies = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                let control_first = self.uniform() < 0.5;
                for is_control in [control_first, !control_first] {
                    let logarithm = self.slot() - if is_control { 0.0 } else { effect };
                    latencies[usize::from(!is_control)].push(logarithm.exp());
                }
            }
            paired_log_ratios(&latencies[0], &latencies[1]).differences
        }
    }

    const SESSIONS: usize = 2000;
    const ROUNDS: usize = 60;

    #[test]
    fn arms_that_do_not_differ_are_told_apart_as_often_as_alpha_says() {
        let mut machine = Machine::seeded(1);
        let alarms = (0..SESSIONS).filter(|_| p_value(&machine.session(ROUNDS, 0.0), 0.0) <= 0.01).count();
        let rate = alarms as f64 / SESSIONS as f64;
        assert!((0.004..=0.018).contains(&rate), "{alarms} of {SESSIONS}");
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let effect = 1.05_f64.ln();
        let mut machine = Machine::seeded(2);
        let covering = (0..SESSIONS)
            .filter(|_| {
                let estimate = hodges_lehmann(&machine.session(ROUNDS, effect), 0.95).unwrap();
                let interval = estimate.interval.unwrap();
                interval.lower <= effect && effect <= interval.upper
            })
            .count();
        let rate = covering as f64 / SESSIONS as f64;
        assert!((0.94..=0.965).contains(&rate), "{covering} of {SESSIONS}");
    }
}
