//! What can be detected: before a session from a pilot's spread, after it from its own.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{Demand, FALSE_ALARMS, MISSES};

/// How many samples above a quantile each arm needs in all, so that the quantile can be gated: with fewer its rounds
/// scatter so much that no budget of CI decides. The rule of thumb comes from the simulation in [`crate::gate`]'s
/// tests' model: p99 at +10 % needs about 400,000 requests for each arm.
pub const TAIL_SAMPLES: u64 = 4_000;

/// The spread of rounds: 1.4826 times the median absolute deviation, which estimates the standard deviation of a
/// normal distribution and does not mind a burst. `None` without at least two rounds.
pub fn spread(differences: &[f64]) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    let centre = median(differences.to_vec())?;
    median(differences.iter().map(|difference| (difference - centre).abs()).collect()).map(|mad| 1.4826 * mad)
}

/// The middle of some values; `None` of none.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(values[last / 2].midpoint(values[last.div_ceil(2)]))
}

/// Rounds that are needed to detect what must be detected, when rounds spread so much and `metrics` are gated: the
/// usual formula for a shift of normal values, with the error rates of a gate that looks once.
pub fn rounds_to_detect(spread: f64, demand: Demand, metrics: usize) -> f64 {
    (deviates(metrics) * spread / gap(demand)).powi(2).ceil().max(8.0)
}

/// The smallest change for the worse, as a fraction, that so many rounds detect.
pub fn detectable(spread: f64, demand: Demand, metrics: usize, rounds: usize) -> Option<f64> {
    if rounds == 0 {
        return None;
    }
    let shift = deviates(metrics) * spread / (rounds as f64).sqrt();
    Some((demand.tolerance.ln_1p() + shift).exp_m1())
}

/// The most that rounds may scatter so that so many of them detect what must be detected.
pub fn most_spread(demand: Demand, metrics: usize, rounds: usize) -> f64 {
    gap(demand) * (rounds as f64).sqrt() / deviates(metrics)
}

/// How many samples above a quantile this demand needs: [`TAIL_SAMPLES`] to find 10 % where 2 % is tolerated, and
/// otherwise with the inverse square of the distance between the two, as the number of rounds does.
pub fn tail_needed(demand: Demand) -> f64 {
    let usual = Demand { tolerance: 0.02, detect: 0.10 };
    (TAIL_SAMPLES as f64 * (gap(usual) / gap(demand)).powi(2)).max(FEWEST_TAIL_SAMPLES)
}

/// With fewer a quantile is the place of a few requests, whatever must be detected.
const FEWEST_TAIL_SAMPLES: f64 = 200.0;

/// From what is tolerated to what must be detected, in the logarithm.
fn gap(demand: Demand) -> f64 {
    demand.detect.ln_1p() - demand.tolerance.ln_1p()
}

/// By how many standard errors a shift must exceed the tolerance to be found nearly always.
fn deviates(metrics: usize) -> f64 {
    let normal = Normal::standard();
    let alpha = FALSE_ALARMS / metrics.max(1) as f64;
    normal.inverse_cdf(1.0 - alpha) + nearly_always()
}

/// By how many standard errors more than needed a change must show to be found but for [`MISSES`] of the sessions.
pub fn nearly_always() -> f64 {
    Normal::standard().inverse_cdf(1.0 - MISSES)
}

/// The highest of these quantiles, highest first, that can be gated with so many requests for each arm.
pub fn gateable(quantiles: &[f64], requests: u64) -> Option<f64> {
    quantiles.iter().copied().find(|q| (1.0 - q) * requests as f64 >= TAIL_SAMPLES as f64 - 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand { tolerance: 0.01, detect: 0.05 };

    #[test]
    fn the_spread_is_the_deviation_of_a_normal_sample_and_does_not_mind_a_burst() {
        let normal = Normal::new(0.0, 0.03).unwrap();
        let mut sample: Vec<f64> =
            (0..999).map(|i| normal.inverse_cdf((f64::from(i) + 0.5) / 999.0)).collect();
        assert!((spread(&sample).unwrap() - 0.03).abs() < 1e-4);
        sample.extend([5.0; 50]);
        assert!((spread(&sample).unwrap() - 0.03).abs() < 0.003);
        assert_eq!(spread(&[1.0]), None);
    }

    #[test]
    fn planning_and_what_was_detectable_agree() {
        let rounds = rounds_to_detect(0.04, DEMAND, 1);
        assert!((15.0..25.0).contains(&rounds), "{rounds}");
        let found = detectable(0.04, DEMAND, 1, rounds as usize).unwrap();
        assert!(found <= DEMAND.detect && found > 0.04, "{found}");
        assert!(rounds_to_detect(0.04, DEMAND, 4) > rounds, "more metrics need more rounds");
    }

    #[test]
    fn the_tail_decides_which_quantile_can_be_gated() {
        let quantiles = [0.99, 0.95, 0.9, 0.5];
        assert_eq!(gateable(&quantiles, 400_000), Some(0.99));
        assert_eq!(gateable(&quantiles, 100_000), Some(0.95));
        assert_eq!(gateable(&quantiles, 40_000), Some(0.9));
        assert_eq!(gateable(&quantiles, 1_000), None);
    }
}
