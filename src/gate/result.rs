//! [`Gate`]: a gate's verdict with all that it rests on, as it is saved and shown again.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metric::Metric;
use super::session::{BASE, HEAD, Session, middle, rounds_left_out};
use super::{Demand, Finding, Scale, Verdict, amount};
use crate::compare::{self, Doing, Severity};
use crate::measurement::Measurement;
use crate::saved;

/// The version of the saved form.
pub const SCHEMA: &str = "keeplive.gate/1";

/// A verdict, what it rests on, and the measurement that it was drawn from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gate {
    /// [`SCHEMA`].
    pub schema: String,
    /// What can be said of all metrics together.
    pub verdict: Verdict,
    /// The verdict in a sentence, without its full stop.
    pub headline: String,
    /// How base and head were set against each other.
    pub method: Method,
    /// What can be said of each metric.
    pub findings: Vec<Judged>,
    /// Metrics that were not gated, and why.
    pub left_out: Vec<String>,
    /// What makes the measurement invalid.
    pub invalid: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
    /// Whether a verdict that lacks what it would need to bind is to be taken for inconclusive all the same.
    pub advisory: bool,
    /// What was measured; of a stored baseline the run that is judged.
    pub measurement: Measurement,
}

/// How base and head were set against each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Method {
    /// Side by side, in pairs of slots.
    Paired {
        /// Rounds that were measured.
        rounds: u32,
        /// Of so many.
        planned: u32,
        /// After which rounds it was looked.
        looks: Vec<u32>,
        /// Whether both servers were started anew now and then.
        restarted: bool,
    },
    /// One run against earlier ones.
    Baseline {
        /// So many.
        runs: usize,
    },
}

/// What can be said of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Judged {
    /// The metric, as it is written at the command line.
    pub metric: String,
    /// The verdict.
    pub verdict: Verdict,
    /// It as a sentence, without its full stop.
    pub sentence: String,
    /// Whether changes are per cent of the base or percentage points.
    pub scale: Scale,
    /// What was asked.
    pub demand: Demand,
    /// The base's middle value: nanoseconds, a number or a share.
    pub base: Option<f64>,
    /// The head's.
    pub head: Option<f64>,
    /// The change for the worse, as a fraction.
    pub change: Option<f64>,
    /// Its lower bound.
    pub lower: Option<f64>,
    /// Its upper bound.
    pub upper: Option<f64>,
    /// The smallest change for the worse that could have been found.
    pub detectable: Option<f64>,
    /// Rounds, or baseline runs, that it rests on.
    pub rounds: usize,
}

impl Judged {
    /// A change in per cent or points.
    pub fn amount(&self, fraction: f64) -> String {
        amount(self.scale, fraction)
    }
}

impl Gate {
    /// The verdict of a session that was measured. `left_out` are metrics that could not be gated; `restarted` tells
    /// whether the servers were started anew on the way.
    ///
    /// An invalid measurement has no other verdict, with two exceptions: where the head fails more often than the base,
    /// and it is such failures alone that spoil the comparison, that is the regression; and so it is where the head alone
    /// falls behind the rate that is offered, and a metric tells.
    pub fn paired(
        measurement: Measurement,
        session: &Session,
        findings: &[Finding],
        left_out: Vec<String>,
        restarted: bool,
    ) -> Gate {
        let slots = &measurement.slots;
        let mut judged: Vec<Judged> = session
            .gated
            .iter()
            .zip(findings)
            .map(|(gated, finding)| {
                let middle = |arm| middle(gated.metric, arm, slots);
                judged(gated.metric.as_str(), finding, middle(BASE), middle(HEAD))
            })
            .collect();
        let validity = compare::arms(&measurement).validity;
        let mut regressed = judged.iter().filter(|one| one.verdict == Verdict::Regressed).peekable();
        let is_worse = regressed.peek().is_some();
        let fails_more = regressed.any(|one| one.metric == "errors");
        let counts = |doing: Doing| match doing {
            Doing::SetUp => true,
            Doing::Failures => !fails_more,
            Doing::FellBehind => !is_worse,
        };
        let (invalid, excused): (Vec<_>, Vec<_>) = validity
            .reasons
            .iter()
            .filter(|reason| reason.severity == Severity::Invalid)
            .partition(|reason| counts(reason.doing));
        let texts =
            |reasons: Vec<&compare::Reason>| reasons.iter().map(|reason| reason.text.clone()).collect();
        let fell_behind = excused.iter().any(|reason| reason.doing == Doing::FellBehind);
        let invalid: Vec<String> = texts(invalid);
        let mut notes: Vec<String> = texts(excused);
        notes.extend(session.gated.iter().filter_map(|gated| rounds_left_out(gated.metric, slots)));
        notes.extend(validity.texts(Severity::Note).map(str::to_owned));
        if !session.gated.iter().any(|gated| gated.metric == Metric::Errors) {
            notes.push("failed requests are not gated: a --metric errors does that".into());
        }
        if !restarted {
            notes.push(
                "the verdict is about these two processes: another start of the same build may differ by a per cent \
                 or two (with --base-cmd and --head-cmd they are started anew, after every --restart-every rounds)"
                    .into(),
            );
        }
        if measurement.interrupted {
            // Whoever stops when he likes the numbers decides what they say.
            judged.iter_mut().for_each(|one| {
                one.verdict = Verdict::Inconclusive;
                one.sentence = format!("{}: interrupted before it was decided: INCONCLUSIVE", one.metric);
            });
        }
        let verdict = if invalid.is_empty() {
            Verdict::of_all(judged.iter().map(|one| one.verdict))
        } else {
            Verdict::Invalid
        };
        let mut headline = headline(verdict, &judged, &invalid);
        if fell_behind && verdict == Verdict::Regressed {
            headline += "; the head fell behind the offered rate, which the base held";
        }
        let rounds = slots.iter().map(|slot| slot.round + 1).max().unwrap_or(0);
        Gate {
            schema: SCHEMA.into(),
            headline,
            verdict,
            method: Method::Paired {
                rounds,
                planned: measurement.plan.rounds,
                looks: session.looks.clone(),
                restarted,
            },
            findings: judged,
            left_out,
            invalid,
            notes,
            advisory: false,
            measurement,
        }
    }

    /// Writes the gate into a folder, which is made if need be: whole or not at all, and never over another one.
    ///
    /// # Errors
    ///
    /// Whatever the file system says, with the path.
    pub fn save(&self, folder: &Path) -> io::Result<PathBuf> {
        saved::write(folder, &self.measurement.started, "gate", self)
    }

    /// Reads a saved gate.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when it is not one of a version that is understood; otherwise what the file
    /// system says.
    pub fn load(path: &Path) -> io::Result<Gate> {
        saved::open(path, SCHEMA)?.read(SCHEMA)
    }
}

fn judged(metric: &str, finding: &Finding, base: Option<f64>, head: Option<f64>) -> Judged {
    Judged {
        metric: metric.into(),
        verdict: finding.verdict,
        sentence: finding.sentence(),
        scale: finding.scale,
        demand: finding.demand,
        base,
        head,
        change: finding.change,
        lower: finding.bounds.map(|bounds| bounds.lower),
        upper: finding.bounds.map(|bounds| bounds.upper),
        detectable: finding.detectable,
        rounds: finding.rounds,
    }
}

/// The answer: what regressed, what is open, or that nothing did.
pub(super) fn headline(verdict: Verdict, findings: &[Judged], invalid: &[String]) -> String {
    let of = |sought: Verdict| findings.iter().filter(move |one| one.verdict == sought);
    let names = |sought: Verdict| of(sought).map(|one| one.metric.as_str()).collect::<Vec<_>>().join(", ");
    match verdict {
        Verdict::Invalid => {
            format!("INVALID: {}", invalid.first().map_or("nothing was measured", String::as_str))
        }
        Verdict::Regressed => {
            let sentences: Vec<&str> = of(verdict)
                .map(|one| one.sentence.strip_suffix(": REGRESSED").unwrap_or(&one.sentence))
                .collect();
            format!("REGRESSED: {}", sentences.join("; "))
        }
        Verdict::Inconclusive => format!("INCONCLUSIVE: {} could not be decided", names(verdict)),
        Verdict::Pass => {
            format!("PASS: {} did not become worse by as much as had to be detected", names(verdict))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples;
    use crate::gate::metric::Metric;
    use crate::gate::session::Gated;
    use crate::measurement::Slot;

    fn measured(base_ms: f64, head_ms: f64) -> Measurement {
        samples::run(30, 500).arm(BASE, base_ms).arm(HEAD, head_ms).measurement()
    }

    fn gate(measurement: Measurement) -> Gate {
        let gated = [Metric::P50, Metric::Errors].map(|metric| Gated { metric, demand: metric.demand() });
        let session = Session::new(gated.to_vec(), 30).unwrap();
        let findings = session.look(&measurement.slots);
        Gate::paired(measurement, &session, &findings, Vec::new(), false)
    }

    #[test]
    fn the_headline_tells_what_regressed_and_by_how_much() {
        let regressed = gate(measured(1.0, 1.5));
        assert_eq!(regressed.verdict, Verdict::Regressed);
        assert!(
            regressed.headline.starts_with("REGRESSED: p50 is worse by at least 50"),
            "{}",
            regressed.headline
        );
        assert!(regressed.headline.ends_with("(99 % confidence; tolerance 1 %)"), "{}", regressed.headline);
        let same = gate(measured(1.0, 1.0));
        assert_eq!(same.verdict, Verdict::Pass);
        assert!(same.findings.iter().all(|one| one.base.is_some() && one.head.is_some()));
        assert!(same.findings.iter().all(|one| one.detectable.is_some()));
    }

    #[test]
    fn when_the_generator_was_the_limit_there_is_no_other_verdict() {
        let mut measurement = measured(1.0, 1.5);
        measurement.slots.iter_mut().for_each(|slot| slot.client.run_queue_ns = slot.client.wall_ns);
        let gate = gate(measurement);
        assert_eq!(gate.verdict, Verdict::Invalid);
        assert!(gate.headline.contains("waited 100 % of the time for a processor"), "{}", gate.headline);
    }

    #[test]
    fn a_head_that_mostly_fails_is_a_regression_and_one_that_fails_like_its_base_is_invalid() {
        let failing = |arms: &[&str]| {
            let mut measurement = measured(1.0, 1.0);
            for slot in measurement.slots.iter_mut().filter(|slot| arms.contains(&slot.arm.as_str())) {
                slot.errors.insert("status_5xx".into(), 400);
            }
            gate(measurement)
        };
        let head = failing(&[HEAD]);
        assert_eq!(head.verdict, Verdict::Regressed, "{}", head.headline);
        assert!(head.notes.iter().any(|note| note.contains("mostly failures")), "{:?}", head.notes);
        assert_eq!(failing(&[BASE, HEAD]).verdict, Verdict::Invalid);
    }

    /// A sample in which these arms fell behind: each request waited for a tenth of a slot.
    fn behind(head_ms: f64, arms: &[&str], change: impl Fn(&mut Slot)) -> Gate {
        let mut measurement = measured(1.0, head_ms);
        for slot in measurement.slots.iter_mut().filter(|slot| arms.contains(&slot.arm.as_str())) {
            slot.phases.blocked_ns = slot.scheduled * (slot.duration.as_nanos() as u64 / 10);
            change(slot);
        }
        gate(measurement)
    }

    #[test]
    fn a_head_that_alone_falls_behind_the_rate_is_a_regression_where_a_metric_tells_and_else_invalid() {
        let head = behind(50.0, &[HEAD], |_| {});
        assert_eq!(head.verdict, Verdict::Regressed, "{}", head.headline);
        assert!(head.headline.ends_with("; the head fell behind the offered rate, which the base held"));
        let note = "arm `head` fell behind the offered rate, which arm `base` held";
        assert!(head.invalid.is_empty() && head.notes.iter().any(|text| text.starts_with(note)), "{head:?}");
        let failing = behind(50.0, &[HEAD], |slot| slot.errors = [("timeout".into(), 200)].into());
        assert_eq!(
            failing.verdict,
            Verdict::Regressed,
            "what runs out of time comes of it: {}",
            failing.headline
        );
        assert_eq!(behind(1.0, &[HEAD], |_| {}).verdict, Verdict::Invalid, "no metric tells");
        assert_eq!(behind(50.0, &[BASE, HEAD], |_| {}).verdict, Verdict::Invalid);
        assert_eq!(behind(50.0, &[BASE], |_| {}).verdict, Verdict::Invalid);
    }

    #[test]
    fn a_head_that_fell_behind_while_the_generator_was_not_well_is_invalid() {
        let starved = |slot: &mut Slot| slot.client.run_queue_ns = slot.client.wall_ns / 10;
        let busy = |slot: &mut Slot| slot.client.cpu_ns = slot.client.wall_ns / 10 * 9;
        let throttled = |slot: &mut Slot| slot.client.throttled_ns = 1_000_000;
        for (name, why) in
            [("starved", &starved as &dyn Fn(&mut Slot)), ("busy", &busy), ("throttled", &throttled)]
        {
            assert_eq!(behind(50.0, &[HEAD], why).verdict, Verdict::Invalid, "{name}");
        }
    }

    #[test]
    fn a_gate_that_does_not_look_at_failures_says_so() {
        let says = |metrics: &[Metric]| {
            let gated = metrics.iter().map(|&metric| Gated { metric, demand: metric.demand() }).collect();
            let session = Session::new(gated, 60).unwrap();
            let measurement = measured(1.0, 1.0);
            let findings = session.look(&measurement.slots);
            let gate = Gate::paired(measurement, &session, &findings, Vec::new(), true);
            gate.notes.iter().any(|note| note.contains("failed requests are not gated"))
        };
        assert!(says(&[Metric::P50]) && !says(&[Metric::P50, Metric::Errors]));
    }

    #[test]
    fn what_was_interrupted_passes_nothing() {
        let mut measurement = measured(1.0, 1.0);
        measurement.interrupted = true;
        assert_eq!(gate(measurement).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_gate_is_read_back_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate(measured(1.0, 1.5));
        let path = gate.save(folder.path()).unwrap();
        assert!(path.to_str().unwrap().ends_with("-gate.json"));
        let read = Gate::load(&path).unwrap();
        assert_eq!((read.verdict, read.headline, read.method), (gate.verdict, gate.headline, gate.method));
        assert_eq!(read.findings[1], gate.findings[1]);
        assert!(Measurement::load(&path).unwrap_err().to_string().contains("keeplive.gate/1"));
    }
}
