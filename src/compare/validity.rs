//! [`Validity`]: whether a measurement may be believed, and what its reader should know. Each rule is a
//! function that answers in sentences.

use std::time::Duration;

use super::{ArmSummary, CONFIDENCE, Difference, Metric};
use crate::error::ErrorKind;
use crate::estimate::rounds_needed;
use crate::measurement::Measurement;
use crate::plan::Model;

/// Whether a measurement may be believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Validity {
    /// Nothing invalidates it.
    pub ok: bool,
    /// What invalidates it, and what a reader should know; the former first.
    pub reasons: Vec<Reason>,
}

/// Something to know about a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// How much it matters.
    pub severity: Severity,
    /// A sentence, with what to do where something can be done.
    pub text: String,
}

/// How much a reason matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The numbers are not the target's: the generator or the set-up was the limit.
    Invalid,
    /// The numbers stand; the reader should know this about them.
    Note,
}

fn invalid(text: String) -> Reason {
    Reason { severity: Severity::Invalid, text }
}

fn note(text: String) -> Reason {
    Reason { severity: Severity::Note, text }
}

pub(super) fn of(measurement: &Measurement, arms: &[ArmSummary], differences: &[Difference]) -> Validity {
    let mut reasons = Vec::new();
    for arm in arms {
        reasons.extend(purity(measurement, arm));
        reasons.extend(lateness(arm));
        reasons.extend(busyness(measurement.plan.model, arm));
        reasons.extend(starvation(arm));
        reasons.extend(failures(measurement.plan.model, arm));
        reasons.extend(closing(arm));
    }
    reasons.extend(delayed_ack(arms, differences));
    reasons.extend(circumstances(measurement));
    reasons.extend(measurement.notes.iter().cloned().map(note));
    reasons.sort_by_key(|reason| reason.severity);
    Validity { ok: reasons.iter().all(|reason| reason.severity != Severity::Invalid), reasons }
}

/// An arm that was not what it says in most of its slots shows something else.
fn purity(measurement: &Measurement, arm: &ArmSummary) -> Option<Reason> {
    if arm.impure_slots == 0 {
        return None;
    }
    let slots = arm.pure_slots + arm.impure_slots;
    let first = measurement.slots.iter().find(|slot| slot.arm == arm.name && !slot.pure)?;
    let what = first.flags.join("; ");
    if arm.impure_slots * 2 > slots {
        let cause = if arm.keep_alive { ": the server does not keep connections open" } else { "" };
        let text =
            format!("arm {} was not pure in {} of {slots} slots{cause} ({what})", arm.name, arm.impure_slots);
        return Some(invalid(text));
    }
    let text = format!(
        "arm {}: {} of {slots} slots were not pure and are left out ({what})",
        arm.name, arm.impure_slots
    );
    Some(note(text))
}

/// What a timer and a wake-up take on an ordinary machine; lateness below it says nothing about the generator.
const ORDINARY_LAG: Duration = Duration::from_micros(200);

/// The generator's own lateness stands in the response times: a quarter of them on average is too much to call them
/// the target's, and a tail of it is worth knowing.
fn lateness(arm: &ArmSummary) -> Option<Reason> {
    let (mean, response) = (arm.lag.mean()?, arm.response.mean()?);
    if mean > ORDINARY_LAG.max(response / 4) {
        let percent = mean.as_secs_f64() / response.as_secs_f64() * 100.0;
        let text = format!(
            "arm {}: {percent:.0} % of the mean response time is the generator's own lateness: lower --rate, raise \
             --threads or free a processor",
            arm.name
        );
        return Some(invalid(text));
    }
    let (tail, median) = (arm.lag.quantile(0.99)?, arm.response.quantile(0.5)?);
    (tail > ORDINARY_LAG.max(median / 10)).then(|| {
        let us = tail.as_micros();
        note(format!(
            "arm {}: one request in a hundred was sent more than {us} µs late, by the generator",
            arm.name
        ))
    })
}

/// A sending thread without idle time sets the pace itself.
fn busyness(model: Model, arm: &ArmSummary) -> Option<Reason> {
    let percent = arm.client_busy() * 100.0;
    let busy = format!("arm {}: the sending threads were busy {percent:.0} % of the time", arm.name);
    match (model, percent) {
        (Model::Open { .. }, 95.0..) => {
            Some(invalid(format!("{busy}: the generator was the limit; lower --rate or raise --threads")))
        }
        (Model::Open { .. }, 85.0..) => Some(note(busy)),
        (Model::Closed, 95.0..) => {
            Some(note(format!("{busy}: its requests/s are the limit of client and server together")))
        }
        _ => None,
    }
}

fn starvation(arm: &ArmSummary) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let waited = arm.run_queue_ns as f64 / arm.wall_ns.max(1) as f64;
    let text = format!(
        "arm {}: the sending threads were ready and had no processor for {:.0} % of the time",
        arm.name,
        waited * 100.0
    );
    if waited > 0.25 {
        reasons.push(invalid(text));
    } else if waited > 0.05 {
        reasons.push(note(text));
    }
    if arm.throttled_ns > 0 {
        let ms = arm.throttled_ns / 1_000_000;
        reasons.push(note(format!("arm {}: a processor quota held this process back for {ms} ms", arm.name)));
    }
    reasons
}

fn failures(model: Model, arm: &ArmSummary) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let of = |kind: ErrorKind| arm.errors.get(kind.as_str()).copied().unwrap_or(0);
    for kind in [ErrorKind::NoPorts, ErrorKind::NoFiles] {
        if of(kind) > 0 {
            let text = format!("arm {}: this machine ran out ({} x {})", arm.name, of(kind), kind.as_str());
            reasons.push(invalid(text));
        }
    }
    let share = |n: u64| n as f64 / arm.requests.max(1) as f64;
    if share(arm.failed()) > 0.01 {
        let percent = share(arm.failed()) * 100.0;
        reasons.push(note(format!("arm {}: {percent:.1} % of the requests failed", arm.name)));
    }
    if arm.censored > 0 {
        let text = format!(
            "arm {}: {} requests were never answered; they stand at their age",
            arm.name, arm.censored
        );
        reasons.push(note(text));
    }
    if matches!(model, Model::Open { .. }) && share(arm.completed) < 0.99 && arm.requests > 0 {
        let percent = share(arm.completed) * 100.0;
        reasons.push(note(format!(
            "arm {}: only {percent:.1} % of the offered requests were answered",
            arm.name
        )));
    }
    reasons
}

/// Where the server does not close after the last response, TIME_WAIT and ports are ours.
fn closing(arm: &ArmSummary) -> Option<Reason> {
    let (ours, theirs) = (arm.connections.closed_first, arm.connections.peer_closed_first);
    (ours * 10 > ours + theirs).then(|| {
        let text = format!(
            "arm {}: after {ours} of {} final responses the server did not close: TIME_WAIT stayed on this side",
            arm.name,
            ours + theirs
        );
        note(text)
    })
}

/// Nagle's algorithm on the server against our delayed ACK: 40 ms on Linux, on kept connections only.
fn delayed_ack(arms: &[ArmSummary], differences: &[Difference]) -> Option<Reason> {
    let (control, _) = arms.split_first()?;
    let slower = differences.iter().any(|difference| {
        difference.metric == Metric::Mean && difference.ratio.is_some_and(|ratio| ratio > 1.0)
    });
    let at_40_ms = control.response.count_between(Duration::from_millis(38), Duration::from_millis(45));
    (slower && at_40_ms * 10 > control.response.len()).then(|| {
        let text = "kept connections are slower, with response times near 40 ms: the signature of Nagle's algorithm on \
                    the server against delayed ACKs; the server should set TCP_NODELAY or write its response at once";
        note(text.into())
    })
}

fn circumstances(measurement: &Measurement) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let rounds = measurement.slots.iter().map(|slot| slot.round + 1).max().unwrap_or(0) as usize;
    let need = rounds_needed(CONFIDENCE);
    if measurement.interrupted {
        let planned = measurement.plan.rounds;
        reasons.push(note(format!("interrupted in round {rounds} of {planned}")));
    } else if rounds < need {
        reasons.push(note(format!("{rounds} rounds carry no interval: {need} do")));
    }
    if measurement.target.embedded {
        let text = "the target is keeplive's own server on this machine: no network, and its processor time is shared \
                    with the client's; your own server's URL tells more";
        reasons.push(note(text.into()));
    } else if measurement.target.same_machine {
        let text = "client and server share this machine's processors: absolute times are of the pair";
        reasons.push(note(text.into()));
    }
    if measurement.offered.capped_by_ports {
        reasons
            .push(note("the rate is what this machine's local ports allow, not half of the capacity".into()));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::{arms, samples};
    use super::*;
    use crate::measurement::Slot;

    /// The reasons of a sound run in which every slot was changed.
    fn reasons(change: impl Fn(&mut Slot)) -> Validity {
        let mut measurement = samples::run(8, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        measurement.slots.iter_mut().for_each(change);
        arms(&measurement).validity
    }

    fn says(validity: &Validity, severity: Severity, words: &str) -> bool {
        validity.reasons.iter().any(|reason| reason.severity == severity && reason.text.contains(words))
    }

    #[test]
    fn a_sound_run_is_valid_without_a_word() {
        let validity = reasons(|_| {});
        assert_eq!(validity, Validity { ok: true, reasons: vec![] });
    }

    #[test]
    fn a_control_that_opened_connections_is_invalid_and_the_server_is_named() {
        let validity = reasons(|slot| {
            if slot.arm == "on" {
                slot.pure = false;
                slot.flags = vec!["500 of 500 requests needed a new connection".into()];
            }
        });
        assert!(!validity.ok);
        assert!(says(&validity, Severity::Invalid, "does not keep connections open"), "{validity:?}");
    }

    #[test]
    fn every_limit_of_the_generator_invalidates() {
        let busy = reasons(|slot| slot.client.cpu_ns = slot.client.wall_ns);
        assert!(says(&busy, Severity::Invalid, "busy 100 %"), "{busy:?}");
        let starved = reasons(|slot| slot.client.run_queue_ns = slot.client.wall_ns / 2);
        assert!(says(&starved, Severity::Invalid, "no processor for 50 %"), "{starved:?}");
        let late = reasons(|slot| (0..500).for_each(|_| slot.lag.record(Duration::from_millis(3))));
        assert!(says(&late, Severity::Invalid, "lateness"), "{late:?}");
        let ports = reasons(|slot| *slot.errors.entry("no_ports".into()).or_default() += 1);
        assert!(says(&ports, Severity::Invalid, "ran out"), "{ports:?}");
    }

    #[test]
    fn what_the_target_did_is_noted_and_invalidates_nothing() {
        let failing = reasons(|slot| *slot.errors.entry("status_5xx".into()).or_default() += 50);
        assert!(failing.ok && says(&failing, Severity::Note, "10.0 % of the requests failed"), "{failing:?}");
        let hung = reasons(|slot| slot.censored = 3);
        assert!(hung.ok && says(&hung, Severity::Note, "never answered"), "{hung:?}");
        let open = reasons(|slot| slot.connections.closed_first = 500);
        assert!(open.ok && says(&open, Severity::Note, "did not close"), "{open:?}");
    }
}
