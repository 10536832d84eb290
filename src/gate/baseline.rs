//! One new run against runs that were saved earlier. They were not interleaved, so that everything that changed
//! between them counts as noise: only with many of them, on one machine, is there anything to hold a run against.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Verdict, percent, planner};

/// The fewest baseline runs that carry a limit.
pub const RUNS_NEEDED: usize = 10;

/// What baseline runs say of a new one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The middle of the baseline, in the metric's unit.
    pub expected: f64,
    /// Beyond this a run is worse than the baseline's scatter explains, with false alarms at the level that was asked for.
    pub limit: f64,
    /// Which way that is.
    pub more_is_worse: bool,
    /// The smallest change for the worse, as a fraction, that this baseline sees but for [`MISSES`](super::MISSES) of
    /// the runs that have it.
    pub detectable: f64,
    /// Baseline runs.
    pub runs: usize,
}

/// Why there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advisory {
    /// So few runs, of [`RUNS_NEEDED`].
    FewRuns(usize),
    /// The runs come from different machines.
    OtherMachine,
    /// The runs followed different plans.
    OtherPlan,
    /// A value is missing, zero or below.
    NoValue,
}

impl Advisory {
    /// The reason as a sentence, without its full stop.
    pub fn sentence(self) -> String {
        match self {
            Advisory::FewRuns(runs) => format!(
                "{runs} baseline runs are too few for a verdict ({RUNS_NEEDED} are needed): the difference may be \
                 noise between runs. Gate base and head in one session instead, or collect more runs"
            ),
            Advisory::OtherMachine => {
                "the runs were made on different machines, whose speeds differ by more than \
                                       most regressions: gate base and head in one session instead"
                    .into()
            }
            Advisory::OtherPlan => {
                "the runs followed different plans (rate, connections, request): what differs \
                                    between them need not be the server"
                    .into()
            }
            Advisory::NoValue => "a run has no value for this metric".into(),
        }
    }
}

/// The prediction limit for one more run, from the logarithms of earlier ones: `mean + t * s * sqrt(1 + 1/K)` with
/// `t` the one-sided quantile of Student's distribution with `K - 1` degrees of freedom. It holds for one new run
/// from the same population, if runs scatter like a log-normal; `more_is_worse` tells the direction, `level` how often
/// such a run may lie beyond the limit.
///
/// # Errors
///
/// [`Advisory`] when so few runs carry none, or a value has no logarithm.
pub fn limit(baseline: &[f64], more_is_worse: bool, level: f64) -> Result<Limit, Advisory> {
    if baseline.iter().any(|value| !(value.is_finite() && *value > 0.0)) {
        return Err(Advisory::NoValue);
    }
    let runs = baseline.len();
    if runs < RUNS_NEEDED {
        return Err(Advisory::FewRuns(runs));
    }
    let logs: Vec<f64> = baseline.iter().map(|value| value.ln()).collect();
    let n = runs as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let student = StudentsT::new(0.0, 1.0, n - 1.0).expect("at least nine degrees of freedom");
    let reach = student.inverse_cdf(1.0 - level) * (variance * (1.0 + 1.0 / n)).sqrt();
    let limit = if more_is_worse { mean + reach } else { mean - reach };
    // So that a new run of that size lies beyond the limit nearly always, it scatters too.
    let sure = reach + planner::nearly_always() * variance.sqrt();
    Ok(Limit { expected: mean.exp(), limit: limit.exp(), more_is_worse, detectable: sure.exp_m1(), runs })
}

impl Limit {
    /// Whether `value` is beyond the limit.
    pub fn is_exceeded_by(&self, value: f64) -> bool {
        if self.more_is_worse { value > self.limit } else { value < self.limit }
    }

    /// By how much `value` is worse than the middle of the baseline, as a fraction.
    pub fn worse(&self, value: f64) -> f64 {
        (if self.more_is_worse { value / self.expected } else { self.expected / value }) - 1.0
    }

    /// How far `value` is from the middle of the baseline, what the baseline could see, and the verdict.
    pub fn sentence(&self, metric: &str, value: f64, verdict: Verdict) -> String {
        let worse = self.worse(value);
        let direction = if worse >= 0.0 { "worse" } else { "better" };
        format!(
            "{metric} is {} {direction} than the middle of {} baseline runs, whose scatter hides changes below {}: \
             {verdict}",
            percent(worse.abs()),
            self.runs,
            percent(self.detectable),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::FALSE_ALARMS;
    use crate::gate::simulation::Noise;

    #[test]
    fn ten_equal_steps_give_the_limit_of_the_textbook() {
        // ln-values 0.00, 0.01 .. 0.09: mean 0.045, s = 0.0302765, t(9; 0.99) = 2.82144.
        let baseline: Vec<f64> = (0..10).map(|i| (0.01 * f64::from(i)).exp()).collect();
        let found = limit(&baseline, true, FALSE_ALARMS).unwrap();
        let expected = 0.045 + 2.82144 * 0.030_276_5 * 1.1_f64.sqrt();
        assert!((found.limit.ln() - expected).abs() < 1e-5, "{}", found.limit.ln());
        assert!(found.is_exceeded_by(1.2) && !found.is_exceeded_by(1.1));
    }

    #[test]
    fn where_less_is_worse_the_limit_lies_below() {
        let baseline: Vec<f64> = (0..10).map(|i| 1000.0 + f64::from(i)).collect();
        let found = limit(&baseline, false, FALSE_ALARMS).unwrap();
        assert!(found.limit < 1000.0 && found.is_exceeded_by(900.0) && !found.is_exceeded_by(2000.0));
        assert!(
            found.sentence("requests/s", 900.0, Verdict::Regressed).contains("worse than the middle of 10")
        );
    }

    #[test]
    fn a_baseline_without_any_scatter_knows_which_way_is_worse() {
        let found = limit(&[1000.0; 10], false, FALSE_ALARMS).unwrap();
        assert!(found.is_exceeded_by(900.0) && !found.is_exceeded_by(2000.0));
        assert!((found.worse(500.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nine_runs_or_a_value_of_nothing_carry_no_limit() {
        assert_eq!(limit(&[1.0; 9], true, FALSE_ALARMS), Err(Advisory::FewRuns(9)));
        assert_eq!(limit(&[0.0; 12], true, FALSE_ALARMS), Err(Advisory::NoValue));
        assert!(Advisory::FewRuns(9).sentence().contains("9 baseline runs are too few"));
    }

    /// 20,000 baselines of 10 runs and one more run of the same kind: it is beyond the limit in 1 % of them.
    #[test]
    fn one_more_run_of_the_same_kind_exceeds_the_limit_as_often_as_promised() {
        let mut noise = Noise::seeded(11);
        let mut value = || (0.08 * noise.normal()).exp();
        let sessions = 20_000;
        let alarms = (0..sessions)
            .filter(|_| {
                let baseline: Vec<f64> = (0..10).map(|_| value()).collect();
                limit(&baseline, true, FALSE_ALARMS).is_ok_and(|limit| limit.is_exceeded_by(value()))
            })
            .count();
        let share = alarms as f64 / f64::from(sessions);
        assert!((0.007..0.013).contains(&share), "{share}");
    }
}
