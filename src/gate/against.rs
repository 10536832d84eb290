//! One saved run against saved runs from earlier: what each is in a metric, whether they may be set against each other,
//! and what follows.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::baseline::{self, Advisory, Limit};
use super::metric::Metric;
use super::result::{Gate, Judged, Method, SCHEMA, headline};
use super::session::HEAD;
use super::{Demand, FALSE_ALARMS, Scale, Verdict, percent, planner};
use crate::compare::{self, Severity};
use crate::estimate::hodges_lehmann;
use crate::measurement::{Measurement, Slot};
use crate::plan::{Arm, Model, Plan, Target};

/// What is looked at in a saved run: `p50` of the only arm, the control or a gate's head, `off:p50` of an arm by its name, or `on/off:p50`, the one arm's value over
/// the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    arm: Option<String>,
    over: Option<String>,
    /// The metric.
    pub metric: Metric,
}

impl From<Metric> for Subject {
    fn from(metric: Metric) -> Subject {
        Subject { arm: None, over: None, metric }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Subject, String> {
        let Some((arms, metric)) = text.rsplit_once(':') else { return Ok(text.parse::<Metric>()?.into()) };
        let metric = metric.parse()?;
        let (arm, over) = match arms.split_once('/') {
            Some((arm, over)) => (arm, Some(over)),
            None => (arms, None),
        };
        if arm.is_empty() || over.is_some_and(str::is_empty) {
            return Err(format!("`{text}` names no arm: write p50, off:p50 or on/off:p50"));
        }
        Ok(Subject { arm: Some(arm.into()), over: over.map(str::to_owned), metric })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.arm, &self.over) {
            (Some(arm), Some(over)) => write!(f, "{arm}/{over}:{}", self.metric),
            (Some(arm), None) => write!(f, "{arm}:{}", self.metric),
            (None, _) => write!(f, "{}", self.metric),
        }
    }
}

impl Subject {
    /// Whether it names arms, which only a saved run has.
    pub fn names_an_arm(&self) -> bool {
        self.arm.is_some()
    }

    /// The arms that it names.
    fn arms(&self) -> impl Iterator<Item = &str> {
        self.arm.iter().chain(&self.over).map(String::as_str)
    }

    /// Its value in a run: the middle of the slots, or of the rounds' ratios.
    fn value(&self, run: &Measurement) -> Option<f64> {
        // Of a saved gate it is the head that was new.
        let head = run.plan.arms.iter().find(|arm| arm.name == HEAD);
        let usual = head.or(run.plan.arms.first())?;
        let arm = self.slots(run, self.arm.as_deref().unwrap_or(&usual.name));
        let Some(over) = &self.over else {
            return planner::median(arm.values().filter_map(|slot| self.metric.of(slot)).collect());
        };
        let over = self.slots(run, over);
        let ratios = arm.iter().filter_map(|(round, slot)| {
            let ratio = self.metric.of(slot)? / self.metric.of(over.get(round)?)?;
            Some(ratio.ln()).filter(|ln| ln.is_finite())
        });
        let ratios: Vec<f64> = ratios.collect();
        hodges_lehmann(&ratios, 0.5).map(|estimate| estimate.point.exp())
    }

    fn slots<'a>(&self, run: &'a Measurement, arm: &str) -> BTreeMap<u32, &'a Slot> {
        let of_arm = run.slots.iter().filter(|slot| slot.arm == arm && slot.pure && slot.flags.is_empty());
        of_arm.map(|slot| (slot.round, slot)).collect()
    }

    /// What forbids to set two runs against each other. A ratio within a run cancels what is common to its arms: the
    /// machine's speed, and with it the rate that the machine's capacity led to.
    fn forbids(&self, one: &Measurement, other: &Measurement) -> Option<Advisory> {
        let is_ratio = self.over.is_some();
        if !is_same_plan(&one.plan, &other.plan, is_ratio) {
            return Some(Advisory::OtherPlan);
        }
        let other_machine = one.machine.fingerprint != other.machine.fingerprint;
        (other_machine && !is_ratio).then_some(Advisory::OtherMachine)
    }
}

/// Whether two runs did the same. Seeds and the number of rounds may differ, and so may host and port: a job's server
/// is not always found at the same.
fn is_same_plan(one: &Plan, other: &Plan, any_rate: bool) -> bool {
    let target = |target: &Target| {
        let path = target.url.split_once("://").map_or("", |(_, rest)| rest);
        let path = path.find(['/', '?']).map_or("/", |at| &path[at..]).to_owned();
        let https = target.url.starts_with("https");
        (https, path, target.method.clone(), target.headers.clone(), target.body_len)
    };
    let arms = |plan: &Plan| -> Vec<Arm> {
        plan.arms.iter().map(|arm| Arm { target: None, ..arm.clone() }).collect()
    };
    let arms_targets =
        |plan: &Plan| plan.arms.iter().map(|arm| arm.target.as_ref().map(target)).collect::<Vec<_>>();
    let model = |plan: &Plan| match plan.model {
        Model::Open { arrivals, rate } => Some((arrivals, if any_rate { 0.0 } else { rate })),
        Model::Closed => None,
    };
    let load =
        |plan: &Plan| (plan.slot, plan.washout, plan.connections, plan.threads, plan.max_time, plan.requests);
    let shape = |plan: &Plan| {
        (
            plan.stages.clone(),
            plan.think,
            plan.search.clone(),
            plan.expect_status.clone(),
            plan.several.clone(),
        )
    };
    target(&one.target) == target(&other.target)
        && arms(one) == arms(other)
        && arms_targets(one) == arms_targets(other)
        && model(one) == model(other)
        && load(one) == load(other)
        && shape(one) == shape(other)
}

/// The earlier runs that say what is usual, each once, and a note for each of the others.
fn usable<'a>(earlier: &'a [Measurement], current: &Measurement) -> (Vec<&'a Measurement>, Vec<String>) {
    let (mut kept, mut notes): (Vec<&Measurement>, Vec<String>) = (Vec::new(), Vec::new());
    // A run is known by when it began and what it measured; a copied file is the same run.
    let sums = |run: &Measurement| run.slots.iter().map(|slot| slot.response.sum()).collect::<Vec<_>>();
    let is_same = |one: &Measurement, other: &Measurement| {
        one.started == other.started && one.plan_id == other.plan_id && sums(one) == sums(other)
    };
    for run in earlier {
        let why = if is_same(run, current) {
            "it is the run that is judged"
        } else if kept.iter().any(|known| is_same(known, run)) {
            "it was given before"
        } else if run.interrupted {
            "it was interrupted"
        } else if !compare::arms(run).validity.ok {
            "it is invalid"
        } else {
            kept.push(run);
            continue;
        };
        notes.push(format!("the baseline run of {} is left out: {why}", run.started));
    }
    (kept, notes)
}

/// What is asked of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What is looked at.
    pub subject: Subject,
    /// What is asked. A change below the tolerance is no regression, however unlikely it is.
    pub demand: Demand,
    /// Whether the change to be detected was demanded expressly: then a baseline that scatters too much to show it
    /// passes nothing.
    pub strictly: bool,
}

/// Judges `current` by earlier runs.
///
/// # Errors
///
/// A sentence when a metric has no logarithm to predict: shares, which are zero in most runs.
pub fn judge(earlier: &[Measurement], current: Measurement, asked: &[Asked]) -> Result<Gate, String> {
    if let Some(one) = asked.iter().find(|one| one.subject.metric.scale() == Scale::Share) {
        return Err(format!(
            "{} cannot be gated against saved runs, for it is zero in most of them: gate base and head in one session \
             (--base, --head)",
            one.subject
        ));
    }
    for name in asked.iter().flat_map(|one| one.subject.arms()) {
        if !current.plan.arms.iter().any(|arm| arm.name == name) {
            let arms: Vec<&str> = current.plan.arms.iter().map(|arm| arm.name.as_str()).collect();
            return Err(format!("the run has no arm `{name}`: its arms are {}", arms.join(", ")));
        }
    }
    let (earlier, left_out) = usable(earlier, &current);
    let mut advised = 0;
    let findings: Vec<Judged> = asked
        .iter()
        .map(|one| {
            let found = one.find(&earlier, &current, asked.len());
            advised += usize::from(found.is_err());
            found.unwrap_or_else(|advice| one.advised(advice, &earlier, &current))
        })
        .collect();
    let validity = compare::arms(&current).validity;
    let mut invalid: Vec<String> = validity.texts(Severity::Invalid).map(str::to_owned).collect();
    if current.interrupted {
        invalid.push("the run that is judged was interrupted before its end: run it again".into());
    }
    let notes = left_out.into_iter().chain(validity.texts(Severity::Note).map(str::to_owned)).collect();
    let verdict = if invalid.is_empty() {
        Verdict::of_all(findings.iter().map(|one| one.verdict))
    } else {
        Verdict::Invalid
    };
    let undecided = findings.iter().filter(|one| one.verdict == Verdict::Inconclusive).count();
    Ok(Gate {
        schema: SCHEMA.into(),
        headline: headline(verdict, &findings, &invalid),
        verdict,
        method: Method::Baseline { runs: earlier.len() },
        findings,
        left_out: Vec::new(),
        invalid,
        notes,
        // What an advisory leaves open binds nobody; what another metric has shown does.
        advisory: verdict == Verdict::Inconclusive && advised == undecided,
        measurement: current,
    })
}

impl Asked {
    fn find(
        &self,
        earlier: &[&Measurement],
        current: &Measurement,
        metrics: usize,
    ) -> Result<Judged, Advisory> {
        let Asked { subject, demand, strictly } = self;
        if let Some(advice) = earlier.iter().find_map(|run| subject.forbids(run, current)) {
            return Err(advice);
        }
        let more_is_worse = subject.metric.more_is_worse();
        let values: Option<Vec<f64>> = earlier.iter().map(|run| subject.value(run)).collect();
        let limit =
            baseline::limit(&values.ok_or(Advisory::NoValue)?, more_is_worse, FALSE_ALARMS / metrics as f64)?;
        let value = subject.value(current).ok_or(Advisory::NoValue)?;
        let worse = limit.worse(value);
        let verdict = if limit.is_exceeded_by(value) && worse > demand.tolerance {
            Verdict::Regressed
        } else if *strictly && limit.detectable > demand.detect {
            Verdict::Inconclusive
        } else {
            Verdict::Pass
        };
        let Limit { expected, detectable, runs, .. } = limit;
        Ok(Judged {
            sentence: limit.sentence(&subject.to_string(), value, verdict),
            change: Some(worse),
            detectable: Some(detectable),
            rounds: runs,
            ..self.judged(verdict, Some(expected), Some(value))
        })
    }

    /// Nothing can be said, and why; what was seen is shown all the same.
    fn advised(&self, advice: Advisory, earlier: &[&Measurement], current: &Measurement) -> Judged {
        let value = self.subject.value(current);
        let expected = planner::median(earlier.iter().filter_map(|run| self.subject.value(run)).collect());
        let change = expected.zip(value).map(|(expected, value)| match self.subject.metric.more_is_worse() {
            true => value / expected - 1.0,
            false => expected / value - 1.0,
        });
        let seen = change.map_or(String::new(), |change| {
            let direction = if change >= 0.0 { "worse" } else { "better" };
            format!(" ({} {direction} than the middle of the baseline)", percent(change.abs()))
        });
        let verdict = Verdict::Inconclusive;
        Judged {
            sentence: format!("{}{seen}: advisory only, for {}: {verdict}", self.subject, advice.sentence()),
            change,
            rounds: earlier.len(),
            ..self.judged(verdict, expected, value)
        }
    }

    fn judged(&self, verdict: Verdict, base: Option<f64>, head: Option<f64>) -> Judged {
        Judged {
            metric: self.subject.to_string(),
            verdict,
            sentence: String::new(),
            scale: Scale::Logarithm,
            demand: self.demand,
            base,
            head,
            change: None,
            lower: None,
            upper: None,
            detectable: None,
            rounds: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples;

    fn run(on: f64, off: f64) -> Measurement {
        samples::run(8, 200).arm("on", on).arm("off", off).measurement()
    }

    /// Runs whose machine was faster or slower by a few per cent.
    fn earlier(n: u32) -> Vec<Measurement> {
        let speed = |nth: u32| 1.0 + 0.004 * f64::from(nth % 5);
        let began = |nth: u32| format!("2026-01-02T03:04:{nth:02}Z");
        let one = |nth: u32| Measurement { started: began(nth), ..run(speed(nth), 3.0 * speed(nth + 2)) };
        (0..n).map(one).collect()
    }

    fn asked(subject: &str) -> Vec<Asked> {
        let subject: Subject = subject.parse().unwrap();
        let demand = subject.metric.demand();
        vec![Asked { subject, demand, strictly: false }]
    }

    fn verdict(earlier: &[Measurement], current: Measurement, subject: &str) -> (Verdict, bool) {
        let gate = judge(earlier, current, &asked(subject)).unwrap();
        (gate.verdict, gate.advisory)
    }

    #[test]
    fn a_subject_is_a_metric_an_arms_metric_or_the_ratio_of_two_arms() {
        for text in ["p50", "off:p99", "on/off-full:p99.9", "rps"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        assert!("on/:p50".parse::<Subject>().unwrap_err().contains("names no arm"));
        assert!("on:p51".parse::<Subject>().is_err());
    }

    #[test]
    fn ten_earlier_runs_carry_a_verdict_and_nine_an_advisory() {
        assert_eq!(verdict(&earlier(12), run(1.01, 3.0), "p50"), (Verdict::Pass, false));
        assert_eq!(verdict(&earlier(12), run(1.2, 3.0), "p50"), (Verdict::Regressed, false));
        assert_eq!(verdict(&earlier(9), run(1.2, 3.0), "p50"), (Verdict::Inconclusive, true));
    }

    #[test]
    fn what_is_invalid_interrupted_or_given_twice_is_no_baseline() {
        let mut runs = earlier(10);
        let again = runs[3].clone();
        runs.push(again);
        let gate = judge(&runs, run(1.01, 3.0), &asked("p50")).unwrap();
        assert_eq!(gate.verdict, Verdict::Pass);
        assert!(gate.notes.iter().any(|note| note.contains("03:04:03Z is left out: it was given before")));
        runs[4].interrupted = true;
        runs[5].slots.iter_mut().for_each(|slot| slot.pure = false);
        let gate = judge(&runs, run(1.2, 3.0), &asked("p50")).unwrap();
        assert_eq!((gate.verdict, gate.advisory), (Verdict::Inconclusive, true), "eight are left");
        for why in ["04Z is left out: it was interrupted", "05Z is left out: it is invalid"] {
            assert!(gate.notes.iter().any(|note| note.contains(why)), "{why}: {:?}", gate.notes);
        }
        let gate = judge(&runs, runs[0].clone(), &asked("p50")).unwrap();
        assert!(gate.notes.iter().any(|note| note.contains("it is the run that is judged")));
    }

    #[test]
    fn an_interrupted_run_is_not_judged() {
        let mut current = run(1.0, 3.0);
        current.interrupted = true;
        assert_eq!(verdict(&earlier(12), current, "p50").0, Verdict::Invalid);
    }

    #[test]
    fn runs_of_another_plan_or_machine_are_an_advisory_and_a_ratio_survives_the_machine() {
        let mut elsewhere = run(2.0, 6.0);
        elsewhere.machine.fingerprint = "another".into();
        elsewhere.plan.model = Model::Open { rate: 500.0, arrivals: crate::plan::Arrivals::Poisson };
        assert_eq!(verdict(&earlier(12), elsewhere.clone(), "p50"), (Verdict::Inconclusive, true));
        assert_eq!(verdict(&earlier(12), elsewhere.clone(), "on/off:p50"), (Verdict::Pass, false));
        let mut thinking = run(1.0, 3.0);
        thinking.plan.expect_status = Some("200".parse().unwrap());
        assert_eq!(verdict(&earlier(12), thinking, "p50"), (Verdict::Inconclusive, true));
        elsewhere.plan.connections += 1;
        assert_eq!(verdict(&earlier(12), elsewhere, "on/off:p50"), (Verdict::Inconclusive, true));
    }

    #[test]
    fn keep_alive_that_saves_less_than_it_did_is_a_regression_of_the_ratio() {
        assert_eq!(verdict(&earlier(12), run(2.0, 3.0), "on/off:p50"), (Verdict::Regressed, false));
    }

    #[test]
    fn what_was_demanded_expressly_is_no_pass_when_the_baseline_hides_it() {
        let mut asked = asked("p50");
        asked[0].demand.detect = 0.011;
        let now = |asked: &[Asked]| judge(&earlier(12), run(1.01, 3.0), asked).unwrap().verdict;
        assert_eq!(now(&asked), Verdict::Pass);
        asked[0].strictly = true;
        assert_eq!(now(&asked), Verdict::Inconclusive);
    }

    #[test]
    fn of_a_saved_gate_the_head_is_looked_at_unless_an_arm_is_named() {
        let gate = samples::run(8, 200).arm("base", 1.0).arm("head", 2.0).measurement();
        let value = |text: &str| text.parse::<Subject>().unwrap().value(&gate).unwrap();
        assert_eq!([value("p50"), value("base:p50")].map(|ns| (ns / 1e6).round()), [2.0, 1.0]);
        assert!((value("head/base:p50") - 2.0).abs() < 0.01);
    }

    #[test]
    fn shares_are_refused_with_the_cure() {
        let refused = judge(&earlier(12), run(1.0, 3.0), &asked("errors")).unwrap_err();
        assert!(refused.contains("in one session"), "{refused}");
    }
}
