//! The gate's rules: whether a metric became worse by more than it may, how sure that is, and what could have been
//! seen at all. Pure: differences in, a [`Verdict`] and its sentences out.
//!
//! # The rule
//!
//! Every metric has a *tolerance* (a change below it does not matter) and a change that *must be detected*. Rounds
//! give paired differences of logarithms, positive where the head is worse than the base. Then a metric is
//!
//! - **regressed** when the hypothesis "worse by no more than the tolerance" is rejected;
//! - **passed** when the hypothesis "worse by at least what must be detected" is rejected;
//! - **undecided** otherwise: more rounds, or an inconclusive end.
//!
//! Both tests are exact signed-rank tests ([`crate::estimate`]), or of a share those of its mean ([`share`]). Over several metrics the first is corrected by Holm's
//! method (Holm, *A simple sequentially rejective multiple test procedure*, 1979), so that a change that is none
//! fails the gate in at most [`FALSE_ALARMS`] of all sessions, whichever metrics are gated; the second needs no
//! correction, for all metrics must pass it. A session may look several times: each look spends an equal share of
//! both error rates (Bonferroni), so that stopping early costs no honesty.
//!
#![doc = include_str!("docs/ci.md")]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::estimate::{self, Interval, hodges_lehmann};

pub mod against;
pub mod baseline;
pub mod ledger;
pub mod metric;
pub mod planner;
pub mod result;
pub mod session;
pub mod share;

/// The share of sessions in which a change that is none may fail the gate, over all metrics and looks.
pub const FALSE_ALARMS: f64 = 0.01;

/// The share of sessions in which a metric may pass though it is worse by exactly what must be detected.
pub const MISSES: f64 = 0.05;

/// How often a session looks: after a third, two thirds, and all of its rounds.
pub const LOOKS: u32 = 3;

/// What is asked of a metric. Both are fractions: 0.02 is two per cent, or two percentage points of a share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Demand {
    /// A change for the worse below this does not matter.
    pub tolerance: f64,
    /// A change for the worse of this size must be detected.
    pub detect: f64,
}

impl Demand {
    /// What cannot be asked, with the cure; `None` when it can.
    pub fn fault(&self) -> Option<String> {
        let Demand { tolerance, detect } = *self;
        if !(tolerance.is_finite() && (0.0..1.0).contains(&tolerance)) {
            return Some(format!("a tolerance of {tolerance}: use 0 % or more, and less than 100 %"));
        }
        if !(detect.is_finite() && detect > tolerance) {
            let (tolerance, detect) = (percent(tolerance), percent(detect));
            return Some(format!(
                "what must be detected ({detect}) has to be larger than what is tolerated ({tolerance})"
            ));
        }
        None
    }
}

/// How two values are set against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// By the difference of their logarithms: times, rates and counts, of which there is always some.
    Logarithm,
    /// By their difference: shares, which may be none at all. See [`share`].
    Share,
}

/// What can be said of one metric, or of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The generator or the set-up was the limit: nothing can be said.
    Invalid,
    /// Worse by more than is tolerated.
    Regressed,
    /// Neither could be shown.
    Inconclusive,
    /// What must be detected is excluded.
    Pass,
}

impl Verdict {
    /// The verdict as reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Invalid => "INVALID",
            Verdict::Regressed => "REGRESSED",
            Verdict::Inconclusive => "INCONCLUSIVE",
            Verdict::Pass => "PASS",
        }
    }

    /// The verdict over several: the gravest.
    pub fn of_all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        verdicts.into_iter().min().unwrap_or(Verdict::Inconclusive)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One metric's rounds.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The metric's name, as it was asked for.
    pub metric: String,
    /// What is asked of it.
    pub demand: Demand,
    /// How the values were set against each other.
    pub scale: Scale,
    /// `ln(head) - ln(base)` of each round, or the other way round where less is worse; of shares their plain
    /// difference. Positive is worse.
    pub differences: Vec<f64>,
    /// Of shares, what base and head counted in all these rounds.
    pub counts: Option<[share::Count; 2]>,
}

/// Where the difference lies, each bound at a level of its own.
struct Bounded {
    point: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
}

impl Evidence {
    /// How likely this is if the head is worse by no more than `margin`.
    fn p_no_worse_than(&self, margin: f64) -> f64 {
        self.p_value(&self.differences, margin, 1.0)
    }

    /// How likely this is if the head is worse by `margin` or more.
    fn p_worse_than(&self, margin: f64) -> f64 {
        let mirrored: Vec<f64> = self.differences.iter().map(|difference| -difference).collect();
        self.p_value(&mirrored, margin, -1.0)
    }

    fn p_value(&self, differences: &[f64], margin: f64, sign: f64) -> f64 {
        match self.scale {
            Scale::Logarithm => estimate::p_value(differences, sign * margin.ln_1p()),
            Scale::Share => share::p_value(differences, sign * margin),
        }
    }

    /// The change as a fraction, with a lower bound at `alpha` and an upper one at `beta`.
    fn bounded(&self, alpha: f64, beta: f64) -> Bounded {
        let differences = &self.differences;
        match self.scale {
            Scale::Logarithm => {
                let at = |level: f64| hodges_lehmann(differences, 1.0 - 2.0 * level);
                let bounds = |level: f64| at(level).and_then(|estimate| estimate.interval);
                Bounded {
                    point: at(beta).map(|estimate| estimate.point.exp_m1()),
                    lower: bounds(alpha).map(|interval| interval.lower.exp_m1()),
                    upper: bounds(beta).map(|interval| interval.upper.exp_m1()),
                }
            }
            Scale::Share => {
                let point = share::mean(differences);
                let away = |level: f64, sign: f64| Some(point? + sign * share::reach(differences, level)?);
                self.opened(Bounded { point, lower: away(alpha, -1.0), upper: away(beta, 1.0) }, alpha, beta)
            }
        }
    }

    /// Rounds in which nothing failed do not scatter. So the bounds of a share hold what so few requests leave open by
    /// their number, too; but for the lower one of a regression, which its test has shown.
    fn opened(&self, Bounded { point, lower, upper }: Bounded, alpha: f64, beta: f64) -> Bounded {
        let Some([base, head]) = self.counts else { return Bounded { point, lower, upper } };
        let is_shown = |lower: f64| lower > self.demand.tolerance;
        let least = |lower: f64| lower.min(-share::floor(head, base, alpha));
        Bounded {
            point,
            lower: lower.map(|lower| if is_shown(lower) { lower } else { least(lower) }),
            upper: upper.map(|upper| upper.max(share::floor(base, head, beta))),
        }
    }

    /// The smallest change that these rounds would have shown.
    fn detectable(&self, metrics: usize, looks: u32) -> Option<f64> {
        let tests = metrics * looks as usize;
        match self.scale {
            Scale::Logarithm => {
                let spread = planner::spread(&self.differences)?;
                planner::detectable(spread, self.demand, tests, self.differences.len())
            }
            Scale::Share => {
                let level = FALSE_ALARMS / tests.max(1) as f64;
                share::detectable(&self.differences, self.counts?, self.demand.tolerance, level)
            }
        }
    }
}

/// What a look says of one metric.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The metric's name.
    pub metric: String,
    /// What was asked.
    pub demand: Demand,
    /// What can be said.
    pub verdict: Verdict,
    /// The change for the worse as a fraction: 0.05 is 5 % worse, -0.05 is 5 % better. `None` without rounds.
    pub change: Option<f64>,
    /// Its bounds, each at the level of the test that it belongs to; `None` where so few rounds carry none.
    pub bounds: Option<Interval>,
    /// The smallest change for the worse that such rounds detect; `None` where they are too few.
    pub detectable: Option<f64>,
    /// How values were set against each other: a share's changes are percentage points.
    pub scale: Scale,
    /// Rounds that have a difference.
    pub rounds: usize,
    /// Of a share: too few requests to exclude what must be detected.
    pub short: Option<Short>,
}

/// Too few requests for what is demanded of a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Short {
    /// What the head counted.
    pub of: share::Count,
    /// About how many requests of the head would do; `None`: no number would, for what was counted is such a change.
    pub needed: Option<u64>,
}

/// Looks at all metrics, for the `look`-th time of `of`: each spends its share of the error rates.
pub fn look(evidence: &[Evidence], of: u32) -> Vec<Finding> {
    let share = 1.0 / f64::from(of.max(1));
    let levels = holm(evidence, FALSE_ALARMS * share);
    let levels_count = levels.len();
    let found = evidence.iter().zip(levels).map(|(evidence, level)| {
        let detectable = evidence.detectable(levels_count, of);
        Finding { detectable, ..find(evidence, level, MISSES * share) }
    });
    found.collect()
}

/// For each metric the level at which "worse by no more than the tolerance" is tested, and whether it is rejected.
///
/// Holm: the smallest p-value is held against `alpha / K`, the next against `alpha / (K - 1)`, and so on, until one
/// is not rejected; from there on none is.
fn holm(evidence: &[Evidence], alpha: f64) -> Vec<(f64, bool)> {
    let p_values: Vec<f64> =
        evidence.iter().map(|evidence| evidence.p_no_worse_than(evidence.demand.tolerance)).collect();
    let mut order: Vec<usize> = (0..evidence.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut levels = vec![(0.0, false); evidence.len()];
    let mut rejecting = true;
    let mut level = alpha;
    for (place, &metric) in order.iter().enumerate() {
        if rejecting {
            level = alpha / (order.len() - place) as f64;
            rejecting = p_values[metric] <= level;
        }
        levels[metric] = (level, rejecting);
    }
    levels
}

fn find(evidence: &Evidence, (alpha, regressed): (f64, bool), beta: f64) -> Finding {
    let Evidence { metric, demand, scale, differences, counts } = evidence;
    let more_needed = counts.and_then(|[base, head]| {
        let is_short = share::floor(base, head, beta) > demand.detect;
        is_short.then(|| Short { of: head, needed: share::requests_needed(base, head, demand.detect, beta) })
    });
    let Bounded { point, lower, upper } = evidence.bounded(alpha, beta);
    let bounds = lower.zip(upper);
    let excluded = more_needed.is_none() && bounds.is_some() && evidence.p_worse_than(demand.detect) <= beta;
    let verdict = match (regressed, excluded) {
        (true, _) => Verdict::Regressed,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::Inconclusive,
    };
    let confidence = 1.0 - alpha.max(beta);
    Finding {
        metric: metric.clone(),
        demand: *demand,
        verdict,
        change: point,
        bounds: bounds.map(|(lower, upper)| Interval { lower, upper, confidence }),
        detectable: None,
        scale: *scale,
        rounds: differences.len(),
        short: more_needed,
    }
}

impl Finding {
    /// The verdict as a sentence that a person can act on, without its full stop.
    pub fn sentence(&self) -> String {
        let Finding { metric, demand, verdict, .. } = self;
        let amount = |fraction: f64| self.amount(fraction);
        let (tolerance, detect) = (amount(demand.tolerance), amount(demand.detect));
        let Some(bounds) = self.bounds else {
            return format!("{metric}: {} rounds are too few to say anything: {verdict}", self.rounds);
        };
        match verdict {
            Verdict::Regressed => format!(
                "{metric} is worse by at least {} ({} confidence; tolerance {tolerance}): {verdict}",
                amount(bounds.lower),
                percent(1.0 - FALSE_ALARMS),
            ),
            Verdict::Pass if bounds.upper <= 0.0 => {
                format!("{metric} is not worse ({} confidence): {verdict}", percent(1.0 - MISSES))
            }
            Verdict::Pass => format!(
                "{metric} is worse by at most {} ({} confidence; {detect} had to be detected): {verdict}",
                amount(bounds.upper),
                percent(1.0 - MISSES),
            ),
            Verdict::Inconclusive if self.short.is_some() => {
                let Short { of, needed } = self.short.expect("it is some");
                let seen = format!("{metric}: {} of {} requests of the head", of.hits, of.of);
                match needed {
                    Some(needed) => format!(
                        "{seen} do not exclude {detect}; about {needed} would, by a longer --budget or a higher rate: \
                         {verdict}"
                    ),
                    None => format!(
                        "{seen} are {detect} more than the base's, too unevenly over the rounds to be sure that it is the \
                         head's doing; look at what failed, or give a longer --budget: {verdict}"
                    ),
                }
            }
            Verdict::Inconclusive | Verdict::Invalid => format!(
                "{metric} changed by {} to {}: neither no more than {tolerance} nor {detect} is excluded; a longer \
                 --budget, a higher rate or a quieter machine would decide it: {verdict}",
                self.signed(bounds.lower),
                self.signed(bounds.upper),
            ),
        }
    }

    /// A change, in per cent or in percentage points.
    pub fn amount(&self, fraction: f64) -> String {
        amount(self.scale, fraction)
    }

    /// The same with a plus.
    pub fn signed(&self, fraction: f64) -> String {
        if fraction >= 0.0 { format!("+{}", self.amount(fraction)) } else { self.amount(fraction) }
    }
}

/// A change, in per cent or in percentage points.
pub fn amount(scale: Scale, fraction: f64) -> String {
    match scale {
        Scale::Logarithm => percent(fraction),
        Scale::Share => {
            // What is not nothing does not read like it.
            let decimals = (2..9).find(|&n| fraction.abs() * 100.0 >= 0.5 * 0.1_f64.powi(n)).unwrap_or(2);
            let text = format!("{:.*}", decimals as usize, fraction * 100.0);
            let text = text.strip_suffix("0").unwrap_or(&text);
            format!("{} points", text.strip_suffix(".0").unwrap_or(text).replace('-', "−"))
        }
    }
}

/// `4.1 %`.
fn percent(fraction: f64) -> String {
    let text = format!("{:.1}", fraction * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text).replace('-', "−"))
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEMAND: Demand = Demand { tolerance: 0.01, detect: 0.05 };

    fn evidence(metric: &str, differences: Vec<f64>) -> Evidence {
        Evidence { metric: metric.into(), demand: DEMAND, scale: Scale::Logarithm, differences, counts: None }
    }

    /// Differences around `centre`, spread evenly by `spread` on both sides.
    fn around(centre: f64, spread: f64, n: usize) -> Vec<f64> {
        (0..n).map(|i| centre + spread * (2.0 * (i as f64 + 0.5) / n as f64 - 1.0)).collect()
    }

    fn verdict(differences: Vec<f64>) -> Verdict {
        look(&[evidence("p50", differences)], 1).remove(0).verdict
    }

    #[test]
    fn what_is_clearly_worse_regressed_what_is_clearly_not_passes_and_what_is_neither_is_undecided() {
        assert_eq!(verdict(around(0.08, 0.02, 30)), Verdict::Regressed);
        assert_eq!(verdict(around(0.0, 0.02, 30)), Verdict::Pass);
        assert_eq!(verdict(around(0.03, 0.3, 30)), Verdict::Inconclusive);
        assert_eq!(verdict(around(0.08, 0.001, 3)), Verdict::Inconclusive, "three rounds can show nothing");
        assert_eq!(verdict(Vec::new()), Verdict::Inconclusive);
    }

    #[test]
    fn a_change_between_tolerance_and_must_detect_is_a_regression_when_it_is_sure() {
        assert_eq!(verdict(around(0.03, 0.001, 30)), Verdict::Regressed);
    }

    #[test]
    fn an_improvement_passes() {
        assert_eq!(verdict(around(-0.2, 0.02, 30)), Verdict::Pass);
    }

    #[test]
    fn the_sentence_names_the_least_change_and_the_tolerance() {
        let finding = look(&[evidence("p99", around(0.08, 0.02, 30))], 1).remove(0);
        let sentence = finding.sentence();
        assert!(sentence.starts_with("p99 is worse by at least 7."), "{sentence}");
        assert!(sentence.ends_with("(99 % confidence; tolerance 1 %): REGRESSED"), "{sentence}");
        let finding = look(&[evidence("p99", around(0.0, 0.02, 30))], 1).remove(0);
        assert!(finding.sentence().contains("5 % had to be detected"), "{}", finding.sentence());
    }

    /// Rounds of a hundred requests each, of which the head failed in these and the base never.
    fn failing(hits: &[u64]) -> Evidence {
        let of = 100 * hits.len() as u64;
        let head = share::Count { hits: hits.iter().sum(), of };
        Evidence {
            demand: metric::Metric::Errors.demand(),
            scale: Scale::Share,
            counts: Some([share::Count { hits: 0, of }, head]),
            ..evidence("the error rate", hits.iter().map(|&hits| hits as f64 / 100.0).collect())
        }
    }

    #[test]
    fn requests_that_never_failed_leave_open_what_their_number_does() {
        let finding = look(&[failing(&[0; 16])], 3).remove(0);
        let bounds = finding.bounds.unwrap();
        // 1 - level^(1/1600), at a third of either error rate.
        assert!(
            (bounds.upper - 0.002_556).abs() < 1e-6 && (bounds.lower + 0.003_559).abs() < 1e-6,
            "{bounds:?}"
        );
        assert_eq!(
            finding.sentence(),
            "the error rate is worse by at most 0.26 points (95 % confidence; 1 points had to be detected): PASS"
        );
    }

    #[test]
    fn a_share_is_not_worse_only_where_its_bound_says_so_and_a_regression_keeps_what_it_has_shown() {
        let mut better = failing(&[0; 30]);
        better.differences = (0..30).map(|nth| -0.05 - 0.001 * f64::from(nth % 3)).collect();
        better.counts = better.counts.map(|[base, head]| [share::Count { hits: 153, ..base }, head]);
        let sentence = look(&[better], 3).remove(0).sentence();
        assert_eq!(sentence, "the error rate is not worse (95 % confidence): PASS");
        let worse = look(&[failing(&[1; 30])], 3).remove(0);
        let lower = worse.bounds.unwrap().lower;
        assert!(
            worse.verdict == Verdict::Regressed && (lower - 0.01).abs() < 1e-9,
            "{lower}: each round alike"
        );
    }

    #[test]
    fn a_share_too_small_for_two_decimals_is_not_written_as_nothing() {
        let written = [0.0, 0.01, 0.002_56, 0.000_1, 0.000_06, 0.000_012, -0.000_000_3];
        let points = ["0", "1", "0.26", "0.01", "0.01", "0.001", "−0.00003"];
        for (share, points) in written.into_iter().zip(points) {
            assert_eq!(amount(Scale::Share, share), format!("{points} points"));
        }
    }

    #[test]
    fn the_gravest_verdict_is_that_of_all() {
        use Verdict::{Inconclusive, Invalid, Pass, Regressed};
        assert_eq!(Verdict::of_all([Pass, Inconclusive, Regressed]), Regressed);
        assert_eq!(Verdict::of_all([Pass, Inconclusive]), Inconclusive);
        assert_eq!(Verdict::of_all([Regressed, Invalid]), Invalid);
        assert_eq!(Verdict::of_all([]), Inconclusive);
    }

    #[test]
    fn a_demand_that_makes_no_sense_is_refused_with_the_cure() {
        let fault = |tolerance, detect| Demand { tolerance, detect }.fault();
        assert_eq!(fault(0.01, 0.05), None);
        assert!(fault(0.05, 0.05).is_some_and(|text| text.contains("larger than what is tolerated (5 %)")));
        assert!(fault(-0.01, 0.05).is_some_and(|text| text.contains("0 % or more")));
        assert!(fault(0.0, f64::NAN).is_some());
    }

    /// Holm's definition, word by word: a hypothesis is rejected when every subset of hypotheses that holds it is
    /// rejected by Bonferroni over that subset (the closed test).
    fn holm_by_closure(p_values: &[f64], alpha: f64) -> Vec<bool> {
        let n = p_values.len();
        (0..n)
            .map(|metric| {
                (1_u32..1 << n).filter(|subset| subset >> metric & 1 == 1).all(|subset| {
                    let size = f64::from(subset.count_ones());
                    (0..n).any(|other| subset >> other & 1 == 1 && p_values[other] <= alpha / size)
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn holm_rejects_what_the_closed_bonferroni_test_rejects(
            metrics in proptest::collection::vec((8_usize..14, -0.02_f64..0.08), 1..6),
            spread in 0.001_f64..0.1,
        ) {
            let evidence: Vec<Evidence> =
                metrics.iter().map(|&(n, centre)| evidence("m", around(centre, spread, n))).collect();
            let p_values: Vec<f64> =
                evidence.iter().map(|e| e.p_no_worse_than(DEMAND.tolerance)).collect();
            let rejected: Vec<bool> = holm(&evidence, FALSE_ALARMS).into_iter().map(|(_, rejected)| rejected).collect();
            prop_assert_eq!(rejected, holm_by_closure(&p_values, FALSE_ALARMS));
        }

        /// The bound that the sentence names lies above the tolerance exactly when the verdict is a regression.
        #[test]
        fn the_bounds_and_the_verdict_agree(centre in -0.1_f64..0.2, spread in 0.001_f64..0.3, n in 10_usize..40) {
            let finding = look(&[evidence("p50", around(centre, spread, n))], 1).remove(0);
            let bounds = finding.bounds.expect("ten rounds carry bounds");
            prop_assert_eq!(finding.verdict == Verdict::Regressed, bounds.lower > DEMAND.tolerance);
            if finding.verdict == Verdict::Pass {
                prop_assert!(bounds.upper < DEMAND.detect);
            }
        }
    }
}
