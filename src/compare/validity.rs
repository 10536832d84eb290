//! [`Validity`]: whether a measurement can be trusted, and what its reader should know. Every rule stands here once,
//! with its limit.

use std::time::Duration;

use super::CONFIDENCE;
use super::delayed_ack::{self, DelayedAck};
use super::visits::Visits;
use crate::error::ErrorKind;
use crate::estimate::rounds_needed;
use crate::measurement::{ClientUse, Ledger, Measurement, PANICKED, PORTS_HELD, Reuse, Slot, ThreadShare};
use crate::plan::{Arm, Model};
use crate::timeline::Interval;

/// What a timer and a wake-up may take on an ordinary machine: less says nothing about the generator.
pub(crate) const ORDINARY_LAG: Duration = Duration::from_micros(200);
/// Lateness of the generator's own making, on average beyond the ordinary, may be this share of the mean response time.
const LAG_INVALID: f64 = 0.25;
/// The same is asked of each interval of a time line; what was due in those that do not hold it may be this share of all.
const LATE_INTERVALS_INVALID: f64 = 0.05;
/// This share of the scheduled requests must have been issued.
const ISSUED_INVALID: f64 = 0.999;
/// Where requests wait for a connection and less than this share of them is answered while they are offered, the target
/// is behind.
const ANSWERED_NOTE: f64 = 0.95;
/// Sending threads busier than this are the limit, not the target.
const BUSY_INVALID: f64 = 0.95;
/// Busier than this they may already be late.
const BUSY_NOTE: f64 = 0.85;
/// Throttled for a larger part of the time than this, one response in a hundred is the quota's.
const THROTTLED_INVALID: f64 = 0.01;
/// Time in which the sending threads were ready and had no processor.
const RUN_QUEUE_NOTE: f64 = 0.05;
/// Beyond this it is part of every latency.
const RUN_QUEUE_INVALID: f64 = 0.25;
/// Final exchanges after which we closed first, and kept the TIME_WAIT.
const CLOSED_FIRST_NOTE: f64 = 0.10;
/// Failed requests.
const ERRORS_NOTE: f64 = 0.01;
/// So many, and a comparison of the rest says little about the target.
const ERRORS_INVALID: f64 = 0.25;
/// Responses that a slot of a closed loop must have room for: requests at its edges count as a whole or not at all.
const CLOSED_LOOP_RESPONSES: u32 = 20;
/// Waiting for a free connection, as a share of the response time.
const BLOCKED_NOTE: f64 = 0.25;
/// A queue in which requests wait on average for this share of a slot grew while it lasted: it is what a target that
/// carries nine tenths of the rate builds up, and its times are those of the slot's length.
const QUEUE_INVALID: f64 = 0.05;
/// A wait between two slots that is no longer than this beyond the usual is no stand-still.
const ORDINARY_WAIT: Duration = Duration::from_millis(20);
/// So long may a target stand still between slots, as a share of the slots.
const STOOD_STILL_NOTE: f64 = 0.02;
/// Slots that were not what their arm's name says.
const IMPURE_INVALID: f64 = 0.5;

/// Whether a measurement can be trusted.
#[derive(Clone, Debug)]
pub struct Validity {
    /// Whether nothing makes it invalid.
    pub ok: bool,
    /// What makes it invalid, then what else to know.
    pub reasons: Vec<Reason>,
    /// What the rules looked at, arm by arm.
    pub facts: Vec<ArmFacts>,
}

/// Something to know about a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// How much it matters.
    pub severity: Severity,
    /// A sentence without its full stop.
    pub text: String,
    /// Whose doing it is.
    pub doing: Doing,
}

/// Whose doing it is that there is something to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// The generator's, this machine's or the set-up's, or nobody can tell.
    SetUp,
    /// The target's: requests without a good answer.
    Failures,
    /// The target's of an arm that fell behind, and what else came of that, where the first arm held the rate and the
    /// generator was well.
    FellBehind,
}

/// How much a reason matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The numbers are not what they say.
    Invalid,
    /// They are, and there is something to keep in mind.
    Note,
}

/// What the rules looked at, for one arm. A share that nothing was counted for is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmFacts {
    /// The arm's name.
    pub arm: String,
    /// The generator's mean lateness as a share of the mean response time.
    pub lag_share: Option<f64>,
    /// The 99th percentile of its lateness.
    pub lag_p99: Option<Duration>,
    /// The share of the scheduled requests that were issued.
    pub issued: Option<f64>,
    /// As many answers came while requests were offered, as a share of these.
    pub answered: Option<f64>,
    /// How busy the sending threads were, the busiest of each visit.
    pub busy: Option<f64>,
    /// How long that one was ready to run and had no processor, as a share of the time.
    pub busy_waited: Option<f64>,
    /// How long they all were ready to run and had no processor, as a share of the time.
    pub run_queue: Option<f64>,
    /// Final exchanges after which the client had to close first.
    pub closed_first: Option<f64>,
    /// Waiting for a free connection, as a share of the response time.
    pub blocked: Option<f64>,
    /// The mean of that wait, as a share of a slot.
    pub queue: Option<f64>,
    /// Most sockets in TIME_WAIT on this machine, either side's, at the end of a slot.
    pub time_wait: u64,
    /// Failed requests.
    pub errors: Option<f64>,
}

impl Validity {
    pub(super) fn of(
        measurement: &Measurement,
        all: &[Visits<'_>],
        complete_rounds: usize,
        delayed_ack: Option<&DelayedAck>,
    ) -> Validity {
        let facts: Vec<ArmFacts> = all.iter().map(ArmFacts::of).collect();
        let mut reasons = Reasons(Vec::new());
        if let Some(delayed_ack) = delayed_ack {
            reasons.delayed_acknowledgements(delayed_ack);
        }
        let control = facts.first();
        for (visits, facts) in all.iter().zip(&facts) {
            reasons.measured(visits);
            reasons.purity(visits);
            reasons.lag(visits, facts);
            reasons.late_intervals(visits);
            let alone = all.len() == 1;
            let holds =
                control.filter(|control| fell_behind_alone(measurement.plan.model, visits, facts, control));
            reasons.load(measurement.plan.model, facts, alone, holds);
            reasons.threads(measurement.plan.threads, facts);
            if measurement.plan.model == Model::Closed {
                reasons.short_slots(visits, alone);
            }
            reasons.processor(measurement.plan.model, visits, facts);
            let doing = if holds.is_some() { Doing::FellBehind } else { Doing::Failures };
            reasons.failures(visits, facts, alone, doing);
            reasons.sockets(visits, facts);
            if alone {
                reasons.suspected_acknowledgements(visits, &measurement.machine.os);
            } else {
                reasons.between_slots(visits);
            }
        }
        reasons.surroundings(measurement, complete_rounds);
        let Reasons(mut reasons) = reasons;
        reasons.sort_by_key(|reason| reason.severity);
        let ok = reasons.iter().all(|reason| reason.severity != Severity::Invalid);
        Validity { ok, reasons, facts }
    }

    /// The texts of one severity.
    pub fn texts(&self, severity: Severity) -> impl Iterator<Item = &str> {
        self.reasons
            .iter()
            .filter(move |reason| reason.severity == severity)
            .map(|reason| reason.text.as_str())
    }
}

impl ArmFacts {
    fn of(visits: &Visits<'_>) -> ArmFacts {
        let Slot { phases, lag, client, scheduled, issued, .. } = &visits.total;
        let busiest = ThreadShare::of_busiest(client);
        let response_ns: u64 = phases.parts().iter().map(|(_, sum)| sum).sum();
        let ClientUse { wall_ns, run_queue_ns, .. } = *client;
        let closings = ledger(visits);
        ArmFacts {
            arm: visits.arm.name.clone(),
            lag_share: share(phases.lag_ns, response_ns),
            lag_p99: lag.quantile(0.99),
            issued: share(*issued, *scheduled),
            answered: share(visits.total.answered(), *scheduled),
            busy: share(busiest.cpu_ns, busiest.wall_ns),
            busy_waited: share(busiest.run_queue_ns, busiest.wall_ns),
            run_queue: share(run_queue_ns, wall_ns),
            closed_first: share(closings.closed_first, closings.closed_first + closings.peer_closed_first),
            blocked: share(phases.blocked_ns, response_ns),
            queue: queue(visits),
            time_wait: visits.slots.iter().map(|slot| slot.client.time_wait_after).max().unwrap_or(0),
            errors: share(visits.count(Slot::failed), visits.count(|slot| slot.scheduled)),
        }
    }

    /// The share of the response time that was a wait for a free connection, where it is much.
    fn waits(&self) -> Option<f64> {
        self.blocked.filter(|&blocked| blocked > BLOCKED_NOTE)
    }

    /// The mean of that wait as a share of a slot, where it grew while a slot lasted.
    fn falls_behind(&self) -> Option<f64> {
        self.waits().and(self.queue).filter(|&queue| queue > QUEUE_INVALID)
    }
}

/// Whether an arm fell behind a rate which the first arm holds with ease, and nothing says that the generator did. They
/// are visited in turn by the same generator: what keeps it from sending to one arm only shows in its own accounts.
fn fell_behind_alone(model: Model, visits: &Visits<'_>, facts: &ArmFacts, control: &ArmFacts) -> bool {
    let may_wait = control.run_queue.unwrap_or(0.0) + RUN_QUEUE_NOTE;
    let is_generator_well = facts.busy.is_none_or(|busy| busy <= BUSY_NOTE)
        && facts.run_queue.is_none_or(|waited| waited <= may_wait)
        && facts.issued.is_none_or(|issued| issued >= ISSUED_INVALID)
        && visits.total.client.throttled_ns == 0;
    let is_behind = model != Model::Closed && facts.falls_behind().is_some();
    is_behind && control.waits().is_none() && is_generator_well
}

fn ledger(visits: &Visits<'_>) -> Ledger {
    Ledger {
        closed_first: visits.count(|slot| slot.connections.closed_first),
        peer_closed_first: visits.count(|slot| slot.connections.peer_closed_first),
        ..Ledger::default()
    }
}

/// How long a request waited for a free connection, on average, as a share of the slots in which it waited.
fn queue(visits: &Visits<'_>) -> Option<f64> {
    let waited_ns = share(visits.total.phases.blocked_ns, visits.total.scheduled)?;
    let slot = visits.total.duration.as_secs_f64() / visits.counted.len().max(1) as f64;
    (slot > 0.0).then(|| waited_ns / 1e9 / slot)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

struct Reasons(Vec<Reason>);

impl Reasons {
    fn invalid(&mut self, text: String) {
        self.0.push(Reason { severity: Severity::Invalid, text, doing: Doing::SetUp });
    }

    /// What the target did; of one arm alone it is what was measured.
    fn failing(&mut self, alone: bool, doing: Doing, text: String) {
        let severity = if alone { Severity::Note } else { Severity::Invalid };
        self.0.push(Reason { severity, text, doing });
    }

    fn note(&mut self, text: String) {
        self.0.push(Reason { severity: Severity::Note, text, doing: Doing::SetUp });
    }

    fn measured(&mut self, visits: &Visits<'_>) {
        let name = &visits.arm.name;
        if visits.slots.is_empty() {
            self.invalid(format!("arm `{name}` was never measured"));
        } else if visits.total.response.is_empty() {
            self.invalid(format!(
                "no request was due in the slots of arm `{name}`: raise --rate, or make the slots longer"
            ));
        } else if visits.made_do && visits.impure == 0 {
            self.invalid(format!("no slot of arm `{name}` was measured to its end"));
        }
    }

    fn purity(&mut self, visits: &Visits<'_>) {
        let (impure, slots, name) = (visits.impure, visits.slots.len(), &visits.arm.name);
        if impure == 0 {
            return;
        }
        let what = impurity(visits.arm, visits);
        if impure as f64 > IMPURE_INVALID * slots as f64 {
            let used = if visits.made_do { "; its numbers are of impure slots" } else { "" };
            self.invalid(format!("{what} ({impure} of {slots} slots were not pure{used})"));
        } else {
            self.note(format!(
                "{impure} of {slots} slots of arm `{name}` were not pure and are left out: {what}"
            ));
        }
    }

    fn lag(&mut self, visits: &Visits<'_>, facts: &ArmFacts) {
        let name = &facts.arm;
        let ordinary = visits.total.lag.mean().is_none_or(|mean| mean <= ORDINARY_LAG);
        if let Some(lag) = facts.lag_share.filter(|&lag| lag > LAG_INVALID && !ordinary) {
            self.invalid(format!(
                "the generator was late by {} of the mean response time of arm `{name}`: lower --rate or raise \
                 --threads",
                percent(lag)
            ));
            return;
        }
        let p50 = visits.total.response.quantile(0.5).unwrap_or_default();
        let allowed = ORDINARY_LAG.max(p50 / 10);
        if let Some(late) = facts.lag_p99.filter(|&late| late > allowed) {
            self.note(format!(
                "one in a hundred requests of arm `{name}` was issued {} late or later: the generator is part of \
                 its p99",
                lateness(late)
            ));
        }
    }

    /// A bad second of a long run is lost in its averages, and not in its slowest times.
    fn late_intervals(&mut self, visits: &Visits<'_>) {
        let lines = visits.counted.iter().filter_map(|slot| slot.timeline.as_ref());
        let all: Vec<&Interval> = lines.flat_map(|line| &line.intervals).collect();
        let late: Vec<&Interval> = all.iter().copied().filter(|one| is_late(one)).collect();
        let Some(longest) = late.iter().map(|one| one.lag_max).max() else { return };
        let due = |of: &[&Interval]| of.iter().map(|one| one.scheduled).sum();
        let text = format!(
            "in {} of {} intervals of arm `{}` the generator was late, by up to {}: what the time line shows there is its own",
            late.len(),
            all.len(),
            visits.arm.name,
            lateness(longest)
        );
        // Of a short run one interval is much, and its averages tell what it made of them.
        let is_much = share(due(&late), due(&all)).is_some_and(|share| share > LATE_INTERVALS_INVALID);
        if late.len() > 1 && is_much {
            self.invalid(format!(
                "{text}; lower --rate, raise --threads, or end what else uses this machine"
            ));
        } else {
            self.note(text);
        }
    }

    /// `holds` is the arm that held the rate, if this one alone did not.
    fn load(&mut self, model: Model, facts: &ArmFacts, alone: bool, holds: Option<&ArmFacts>) {
        let name = &facts.arm;
        if let Some(issued) = facts.issued.filter(|&issued| issued < ISSUED_INVALID) {
            self.invalid(format!("only {} of the requests due in arm `{name}` were issued: more waited than are kept (a million for each thread); lower --rate or raise --connections", percent(issued)));
        }
        if model == Model::Closed {
            return;
        }
        let waits = facts.waits();
        if let Some(answered) = facts.answered.filter(|&answered| answered < ANSWERED_NOTE && waits.is_some())
        {
            self.note(format!(
                "arm `{name}` could not keep up with the offered rate: {} of it was answered meanwhile, by the target or \
                 for want of connections",
                percent(answered)
            ));
        }
        if let Some(queue) = facts.falls_behind().filter(|_| !alone) {
            let held = holds.map_or(String::new(), |one| format!(", which arm `{}` held", one.arm));
            let text = format!(
                "arm `{name}` fell behind the offered rate{held}: its requests waited for a free connection, on average {} \
                 of a slot, and the longer a slot, the longer they wait; lower --rate or raise --connections",
                percent(queue)
            );
            let doing = if holds.is_some() { Doing::FellBehind } else { Doing::SetUp };
            self.0.push(Reason { severity: Severity::Invalid, text, doing });
        } else if let Some(blocked) = waits {
            self.note(format!(
                "in arm `{name}` {} of the response time was a wait for a free connection: its times are those of a \
                 queue; lower --rate or raise --connections",
                percent(blocked)
            ));
        }
    }

    /// Each thread has a queue of its own, and it is longer than its share of one queue for all.
    fn threads(&mut self, threads: usize, facts: &ArmFacts) {
        if threads > 1 && facts.waits().is_some() {
            self.note(format!(
                "each of the {threads} threads has its own part of the connections, for which requests of arm `{}` waited \
                 while others may have been free: with --threads 1 they wait less",
                facts.arm
            ));
        }
    }

    /// In a closed loop whole requests are counted, so a slot of few responses counts in coarse steps. Who measures one arm
    /// asked for no more.
    fn short_slots(&mut self, visits: &Visits<'_>, alone: bool) {
        let shortest = visits.slots.iter().map(|slot| slot.duration).min().unwrap_or_default();
        let mean = visits.total.service.mean().unwrap_or_default();
        if mean * CLOSED_LOOP_RESPONSES <= shortest {
            return;
        }
        if alone {
            self.note(format!(
                "a connection of arm `{}` had fewer than {CLOSED_LOOP_RESPONSES} responses: its requests per second are \
                 counted in coarse steps; ask for more (-n), or for longer (-z)",
                visits.arm.name
            ));
        } else {
            self.invalid(format!(
                "slots of arm `{}` hold fewer than {CLOSED_LOOP_RESPONSES} responses of a connection, too few to count \
                 requests per second: make --slot at least {} ms",
                visits.arm.name,
                (mean * CLOSED_LOOP_RESPONSES).as_millis() + 1
            ));
        }
    }

    fn processor(&mut self, model: Model, visits: &Visits<'_>, facts: &ArmFacts) {
        let name = &facts.arm;
        let waited = facts.run_queue.unwrap_or(0.0);
        let busy_waited = facts.busy_waited.unwrap_or(0.0);
        match facts.busy {
            // What it wanted of the processor and did not get was no time to spare.
            Some(busy) if busy + busy_waited > BUSY_INVALID && model != Model::Closed => self.invalid(format!(
                "the sending threads were {} busy in arm `{name}` and waited {} of the time for a processor: the \
                 generator was the limit; lower --rate or raise --threads",
                percent(busy),
                percent(busy_waited)
            )),
            Some(busy) if busy > BUSY_INVALID => self.note(format!(
                "the sending threads were {} busy in arm `{name}`: its requests per second are the limit of client \
                 and server together",
                percent(busy)
            )),
            Some(busy) if busy > BUSY_NOTE => {
                self.note(format!("the sending threads were {} busy in arm `{name}`", percent(busy)));
            }
            _ => {}
        }
        if waited > RUN_QUEUE_NOTE {
            let text = format!(
                "in arm `{name}` the sending threads waited {} of the time for a processor",
                percent(waited)
            );
            if waited > RUN_QUEUE_INVALID {
                let cure = match model {
                    Model::Closed => "measure from another machine, or end it",
                    Model::Open { .. } => "lower --rate, measure from another machine, or end it",
                };
                self.invalid(format!(
                    "{text}: the target, if it runs here, or something else uses it; {cure}"
                ));
            } else {
                self.note(text);
            }
        }
        let throttled = Duration::from_nanos(visits.total.client.throttled_ns);
        if !throttled.is_zero() {
            let text = format!(
                "the control group's CPU quota stopped this process for {} ms in arm `{name}`",
                throttled.as_nanos().div_ceil(1_000_000)
            );
            if throttled > visits.total.duration.mul_f64(THROTTLED_INVALID) {
                self.invalid(format!("{text}: raise the quota, or lower --rate"));
            } else {
                self.note(text);
            }
        }
    }

    /// Failures spoil a comparison; of one arm alone they are what was measured.
    fn failures(&mut self, visits: &Visits<'_>, facts: &ArmFacts, alone: bool, doing: Doing) {
        let name = &facts.arm;
        for limit in [ErrorKind::NoPorts, ErrorKind::NoFiles] {
            let n = visits.count(|slot| slot.errors.get(limit.as_str()).copied().unwrap_or(0));
            if n > 0 {
                let cure = match limit {
                    ErrorKind::NoPorts => {
                        "no local port was left; lower --rate or widen net.ipv4.ip_local_port_range"
                    }
                    _ => "no file descriptor was left; raise `ulimit -n` or lower --connections",
                };
                self.invalid(format!("this machine was the limit for {n} requests of arm `{name}`: {cure}"));
            }
        }
        let (scheduled, completed) =
            (visits.count(|slot| slot.scheduled), visits.count(|slot| slot.completed));
        if completed * 2 < scheduled {
            self.failing(alone, doing, format!(
                "only {completed} of {scheduled} requests of arm `{name}` were answered: its times are of these, and \
                 of those that ran out of time"
            ));
        }
        if let Some(errors) = facts.errors.filter(|&errors| errors > ERRORS_INVALID && !alone) {
            self.failing(alone, doing, format!(
                "{} of the requests of arm `{name}` had no good answer: what is compared is mostly failures",
                percent(errors)
            ));
        } else if let Some(errors) = facts.errors.filter(|&errors| errors > ERRORS_NOTE) {
            self.note(format!("{} of the requests of arm `{name}` had no good answer", percent(errors)));
        }
        let censored = visits.count(|slot| slot.censored);
        if censored > 0 {
            self.note(format!(
                "{censored} requests of arm `{name}` were still unanswered when their slot was over: they count at \
                 their age then"
            ));
        }
    }

    /// What is not due while a slot's last answers, or the next one's connections, are waited for is not measured. That takes
    /// about as long each time, unless the target stands still.
    fn between_slots(&mut self, visits: &Visits<'_>) {
        let mut waits: Vec<Duration> = visits.counted.iter().map(|slot| slot.opening + slot.drain).collect();
        waits.sort_unstable();
        let Some(&usual) = waits.get(waits.len() / 2) else { return };
        let longer = waits.iter().map(|wait| wait.saturating_sub(usual * 3));
        let longer: Vec<Duration> = longer.filter(|&longer| longer > ORDINARY_WAIT).collect();
        let stood: Duration = longer.iter().sum();
        if stood > visits.total.duration.mul_f64(STOOD_STILL_NOTE) {
            self.note(format!(
                "between {} of {} slots of arm `{}` its target stood still, for {:.1} s in all: what would have been due then \
                 is not measured, so that its slowest times are seldom seen; a longer --slot, or `load`, sees them",
                longer.len(),
                visits.counted.len(),
                visits.arm.name,
                stood.as_secs_f64()
            ));
        }
    }

    fn sockets(&mut self, visits: &Visits<'_>, facts: &ArmFacts) {
        let held =
            visits.slots.iter().filter(|slot| slot.flags.iter().any(|flag| flag == PORTS_HELD)).count();
        if held > 0 {
            self.invalid(format!(
                "in {held} of {} slots of arm `{}` connections that the client had closed first held more than half of its \
                 ports in TIME_WAIT, which slows each new one down: lower --rate, let the server close first, or connect \
                 from several addresses (--local-addr)",
                visits.slots.len(),
                facts.arm
            ));
        }
        if let Some(first) = facts.closed_first.filter(|&first| first > CLOSED_FIRST_NOTE) {
            self.note(format!(
                "the server does not close after `Connection: close`: in arm `{}` the client closed first {} of the \
                 time, so that TIME_WAIT stays here",
                facts.arm,
                percent(first)
            ));
        }
    }

    fn delayed_acknowledgements(&mut self, it: &DelayedAck) {
        self.note(format!(
            "{} of the responses of arm `{}` lie around {}, one delayed acknowledgement ({:.0} ms) later than those of arm \
             `{}`: the server writes a response in parts, Nagle's algorithm holds the last one back, and only on a connection \
             that is no longer new does this client delay what it waits for; set TCP_NODELAY in the server, or have \
             it write each response at once",
            percent(it.share),
            it.arm,
            lateness(it.median),
            it.delay.as_secs_f64() * 1e3,
            it.against
        ));
    }

    fn suspected_acknowledgements(&mut self, alone: &Visits<'_>, os: &str) {
        let Some(it) = delayed_ack::suspect(alone, os) else { return };
        self.note(format!(
            "{} of the responses lie around {}, as late as a delayed acknowledgement ({:.0} ms), though all connections \
             opened and had their first response within {}: the server seems to write a response in parts, of which \
             Nagle's algorithm holds the last one back; set TCP_NODELAY in the server, or have it write each response at \
             once; `keeplive compare` shows whether a new connection is free of it",
            percent(it.share),
            lateness(it.median),
            it.delay.as_secs_f64() * 1e3,
            lateness(it.opening)
        ));
    }

    fn surroundings(&mut self, measurement: &Measurement, complete_rounds: usize) {
        let needed = rounds_needed(CONFIDENCE);
        if complete_rounds < needed && measurement.plan.arms.len() > 1 {
            self.note(format!("only {complete_rounds} complete rounds: an interval needs at least {needed}"));
        }
        if measurement.interrupted {
            self.note("the run was interrupted before its end".into());
        }
        if measurement.slots.iter().any(|slot| slot.flags.iter().any(|flag| flag == PANICKED)) {
            self.invalid("a part of keeplive panicked, and what it had in hand is missing: report it".into());
        }
        let flagged = measurement.slots.iter().filter(|slot| slot.pure && !slot.flags.is_empty());
        let mut flags: Vec<&str> = flagged.clone().flat_map(|slot| &slot.flags).map(String::as_str).collect();
        flags.sort_unstable();
        flags.dedup();
        if !flags.is_empty() {
            self.note(format!("flagged slots: {} ({})", flagged.count(), flags.join(", ")));
        }
        if measurement.target.embedded {
            self.note("the target is keeplive's own server: a real one answers differently".into());
        }
        if measurement.target.same_machine {
            self.note(
                "client and server share this machine's processors: absolute times are of the pair".into(),
            );
        }
        for note in &measurement.notes {
            self.note(note.clone());
        }
    }
}

/// Whether the generator's own lateness is more of an interval's times than it may be.
fn is_late(interval: &Interval) -> bool {
    let (lag, response) = (interval.lag_mean(), interval.response.mean().unwrap_or_default());
    lag > ORDINARY_LAG && lag > response.mul_f64(LAG_INVALID)
}

/// What an arm did that its name denies, over all its slots.
fn impurity(arm: &Arm, visits: &Visits<'_>) -> String {
    let sum = |of: fn(&Reuse) -> u64| visits.count(|slot| of(&slot.reuse));
    let (reused, opened) = (sum(|reuse| reuse.reused), sum(|reuse| reuse.opened));
    let (full, resumed) = (sum(|reuse| reuse.handshakes_full), sum(|reuse| reuse.handshakes_resumed));
    let (name, requests) = (&arm.name, reused + opened);
    if arm.keep_alive {
        format!(
            "the server does not keep connections open for long: {opened} of {requests} requests of arm `{name}` needed a \
             new connection"
        )
    } else if reused * 100 > requests {
        format!("{reused} of {requests} requests of arm `{name}` reused a connection")
    } else if arm.resume {
        let resumed = percent(share(resumed, full + resumed).unwrap_or(0.0));
        format!("the server resumed only {resumed} of the TLS handshakes of arm `{name}`")
    } else {
        format!("{resumed} of {} TLS handshakes of arm `{name}` were resumed ones", full + resumed)
    }
}

/// A lateness that is worth a note, 200 µs and more, in the unit and with the digits that reports give times.
fn lateness(late: Duration) -> String {
    match late.as_secs_f64() * 1e3 {
        ms @ ..1.0 => format!("{:.0} µs", ms * 1e3),
        ms @ ..9.995 => format!("{ms:.2} ms"),
        ms @ ..99.95 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

/// A share in percent; as fine as it must be to be seen to differ from nothing and from all.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let near_an_end = percent < 1.0 || (99.0..100.0).contains(&percent);
    if near_an_end { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::super::{arms, samples};
    use super::*;
    use crate::timeline::Timeline;

    fn measured(rounds: u32, change: impl Fn(&mut Slot)) -> Measurement {
        let mut measurement = samples::run(rounds, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        measurement.slots.iter_mut().for_each(change);
        measurement
    }

    /// What is said of a sound run in which every slot was changed.
    fn changed(change: impl Fn(&mut Slot)) -> Validity {
        arms(&measured(8, change)).validity
    }

    #[track_caller]
    fn says(validity: &Validity, severity: Severity, words: &str) {
        assert!(validity.texts(severity).any(|text| text.contains(words)), "{words}: {:?}", validity.reasons);
        assert_eq!(validity.ok, validity.texts(Severity::Invalid).next().is_none());
    }

    #[test]
    fn a_sound_run_is_valid_without_a_word() {
        let validity = changed(|_| {});
        assert_eq!((validity.ok, validity.reasons), (true, vec![]));
        let on = &validity.facts[0];
        assert_eq!((on.busy, on.issued, on.closed_first), (Some(0.2), Some(1.0), None));
    }

    #[test]
    fn seconds_in_which_the_generator_was_late_are_told_and_invalidate_when_they_are_many() {
        let late = |seconds: u64| {
            changed(move |slot| {
                let line = slot.timeline.insert(Timeline::over(Duration::from_secs(40)).unwrap());
                for second in 0..40 {
                    let one = line.at(Duration::from_secs(second));
                    (one.scheduled, one.completed) = (1, 1);
                    one.response.record(Duration::from_millis(2));
                    one.issued(Duration::from_micros(if second < seconds { 900 } else { 400 }));
                }
            })
        };
        assert!(late(0).reasons.is_empty(), "{:?}", late(0).reasons);
        let words =
            |n| format!("in {n} of 320 intervals of arm `on` the generator was late, by up to 900 µs");
        says(&late(2), Severity::Note, &words(16));
        says(&late(3), Severity::Invalid, &words(24));
    }

    #[test]
    fn a_late_generator_invalidates_and_a_late_tail_is_noted() {
        // 10 us are ordinary, whatever their share.
        let ordinary = changed(|slot| slot.phases.lag_ns = slot.phases.wait_ns / 2);
        assert!(ordinary.ok, "{:?}", ordinary.reasons);
        let late = changed(|slot| {
            slot.phases.lag_ns = slot.phases.wait_ns / 2;
            (0..slot.scheduled).for_each(|_| slot.lag.record(Duration::from_millis(1)));
        });
        says(&late, Severity::Invalid, "late by 33 % of the mean response time of arm `on`");
        let tail = changed(|slot| (0..10).for_each(|_| slot.lag.record(Duration::from_millis(2))));
        says(&tail, Severity::Note, "issued 2.00 ms late or later");
    }

    #[test]
    fn what_was_not_issued_invalidates_and_what_was_not_completed_is_noted() {
        says(
            &changed(|slot| slot.issued -= 5),
            Severity::Invalid,
            "only 99.0 % of the requests due in arm `on`",
        );
        let behind = changed(|slot| {
            slot.answered_within = Some(slot.scheduled / 2);
            slot.phases.blocked_ns = slot.response.sum().as_nanos() as u64 / 2;
        });
        says(&behind, Severity::Note, "could not keep up with the offered rate: 50 % of it was answered");
        says(&changed(|slot| slot.completed = 200), Severity::Invalid, "only 1600 of 4000 requests");
    }

    #[test]
    fn busy_threads_are_the_limit_of_an_open_loop_and_a_note_in_a_closed_one() {
        let busy =
            |share: f64| measured(8, |slot| slot.client.cpu_ns = (slot.client.wall_ns as f64 * share) as u64);
        says(
            &arms(&busy(0.97)).validity,
            Severity::Invalid,
            "97 % busy in arm `on` and waited 0.0 % of the time for a processor: the generator was the limit",
        );
        let starved = changed(|slot| {
            slot.client.cpu_ns = slot.client.wall_ns * 90 / 100;
            slot.client.run_queue_ns = slot.client.wall_ns * 8 / 100;
        });
        says(&starved, Severity::Invalid, "90 % busy in arm `on` and waited 8 % of the time for a processor");
        says(&arms(&busy(0.90)).validity, Severity::Note, "90 % busy");
        // One of several threads may be the limit while the others have time to spare.
        let uneven = measured(8, |slot| {
            let wall_ns = slot.client.wall_ns / 4;
            slot.client.busiest =
                Some(ThreadShare { cpu_ns: wall_ns * 92 / 100, wall_ns, run_queue_ns: wall_ns * 5 / 100 });
        });
        says(
            &arms(&uneven).validity,
            Severity::Invalid,
            "92 % busy in arm `on` and waited 5 % of the time for a processor",
        );
        let closed =
            Measurement { plan: crate::plan::Plan { model: Model::Closed, ..busy(0.0).plan }, ..busy(0.97) };
        says(&arms(&closed).validity, Severity::Note, "limit of client and server together");
    }

    #[test]
    fn waiting_for_a_processor_is_noted_and_invalidates_when_it_is_much() {
        let waited = |share: u64| changed(|slot| slot.client.run_queue_ns = slot.client.wall_ns / share);
        says(&waited(10), Severity::Note, "waited 10 % of the time for a processor");
        says(&waited(2), Severity::Invalid, "waited 50 % of the time for a processor");
        says(&changed(|slot| slot.client.throttled_ns = 5_000_000), Severity::Note, "for 40 ms in arm `on`");
        let throttled = changed(|slot| slot.client.throttled_ns = 6_000_000);
        says(&throttled, Severity::Invalid, "for 48 ms in arm `on`: raise the quota");
    }

    #[test]
    fn limits_of_this_machine_invalidate_and_other_errors_are_noted() {
        let failing = |kind: &str, n| {
            let kind = kind.to_owned();
            changed(move |slot| *slot.errors.entry(kind.clone()).or_default() += n)
        };
        says(&failing("no_ports", 1), Severity::Invalid, "no local port was left");
        says(&failing("no_files", 1), Severity::Invalid, "no file descriptor was left");
        let held = changed(|slot| slot.flags.push(PORTS_HELD.into()));
        says(&held, Severity::Invalid, "held more than half of its ports in TIME_WAIT");
        says(
            &failing("status_5xx", 50),
            Severity::Note,
            "10 % of the requests of arm `on` had no good answer",
        );
        assert!(failing("status_5xx", 5).reasons.is_empty());
        says(
            &changed(|slot| slot.censored = 3),
            Severity::Note,
            "24 requests of arm `on` were still unanswered",
        );
    }

    #[test]
    fn a_target_that_stands_still_between_slots_is_told_of_and_one_that_is_slow_is_not() {
        let slow = changed(|slot| slot.drain = Duration::from_secs(1));
        assert!(slow.reasons.is_empty(), "{:?}", slow.reasons);
        let stands = |slot: &mut Slot| {
            let ms = if slot.arm == "on" && slot.round == 3 { 500 } else { 2 };
            (slot.opening, slot.drain) = (Duration::from_millis(ms), Duration::from_millis(1));
        };
        let text = "between 1 of 8 slots of arm `on` its target stood still, for 0.5 s in all";
        says(&changed(stands), Severity::Note, text);
    }

    #[test]
    fn several_threads_with_a_queue_each_are_told_of() {
        let waits = |slot: &mut Slot| slot.phases.blocked_ns = slot.response.sum().as_nanos() as u64 / 2;
        let mut measurement = measured(8, waits);
        measurement.plan.threads = 4;
        says(&arms(&measurement).validity, Severity::Note, "each of the 4 threads has its own part");
        measurement.plan.threads = 1;
        assert!(arms(&measurement).validity.texts(Severity::Note).all(|text| !text.contains("threads")));
    }

    #[test]
    fn how_long_requests_waited_is_of_the_slots_that_count() {
        let waits =
            |slot: &mut Slot| slot.phases.blocked_ns = slot.scheduled * slot.duration.as_nanos() as u64 / 50;
        let impure = |slot: &mut Slot| {
            waits(slot);
            slot.pure = slot.arm == "on" || slot.round > 3;
        };
        let queue = |change: &dyn Fn(&mut Slot)| changed(change).facts[1].queue.unwrap();
        assert!((queue(&waits) - queue(&impure)).abs() < 1e-9);
    }

    #[test]
    fn a_server_that_does_not_close_leaves_time_wait_here() {
        let left = changed(|slot| slot.connections.closed_first = 500);
        says(&left, Severity::Note, "TIME_WAIT stays here");
    }

    #[test]
    fn a_wait_for_free_connections_is_named() {
        let queue = changed(|slot| {
            slot.phases.blocked_ns = slot.phases.wait_ns / 2;
            slot.phases.wait_ns /= 2;
        });
        says(&queue, Severity::Note, "of the response time was a wait for a free connection");
    }

    /// What a generator looks like that was starved, and not busy: nothing but the queue tells of it.
    #[test]
    fn an_arm_that_falls_behind_the_offered_rate_invalidates_a_comparison_and_is_noted_of_a_load() {
        let behind = |slot: &mut Slot| {
            slot.phases.blocked_ns = slot.scheduled * (slot.duration.as_nanos() as u64 / 10);
        };
        let both = changed(behind);
        says(&both, Severity::Invalid, "arm `on` fell behind the offered rate");
        says(&both, Severity::Invalid, "on average 10 % of a slot");
        let mut one = samples::run(8, 500).arm("on", 1.0).measurement();
        one.slots.iter_mut().for_each(behind);
        let alone = arms(&one).validity;
        assert!(alone.ok, "it is what was measured: {:?}", alone.reasons);
        says(&alone, Severity::Note, "a wait for a free connection");
    }

    /// Three arms whose slots of one arm were not what its name says.
    fn impure(name: &'static str, slots: usize, reuse: Reuse) -> Validity {
        let run = samples::run(8, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0);
        let mut measurement = run.measurement();
        for slot in measurement.slots.iter_mut().filter(|slot| slot.arm == name).take(slots) {
            slot.pure = false;
            slot.reuse = reuse;
        }
        arms(&measurement).validity
    }

    #[test]
    fn an_impure_arm_says_what_happened() {
        let opened = Reuse { opened: 500, handshakes_full: 500, ..Reuse::default() };
        let kept = Reuse { reused: 500, ..Reuse::default() };
        let resumed = Reuse { opened: 500, handshakes_resumed: 500, ..Reuse::default() };
        says(
            &impure("on", 8, opened),
            Severity::Invalid,
            "does not keep connections open for long: 4000 of 4000 requests of arm `on` needed a new connection",
        );
        says(
            &impure("on", 3, opened),
            Severity::Note,
            "3 of 8 slots of arm `on` were not pure and are left out",
        );
        says(
            &impure("off-full", 8, kept),
            Severity::Invalid,
            "4000 of 4000 requests of arm `off-full` reused",
        );
        says(&impure("off-resumed", 6, opened), Severity::Invalid, "the server resumed only 25 %");
        says(
            &impure("off-full", 8, resumed),
            Severity::Invalid,
            "4000 of 4000 TLS handshakes of arm `off-full`",
        );
    }

    #[test]
    fn surroundings_are_noted() {
        let mut measurement = measured(3, |_| {});
        measurement.target.same_machine = true;
        measurement.target.embedded = true;
        measurement.interrupted = true;
        measurement.notes.push("the answer is a redirect".into());
        measurement.slots[0].flags.push("a remark".into());
        let validity = arms(&measurement).validity;
        for words in [
            "absolute times",
            "own server",
            "interrupted",
            "a redirect",
            "only 3 complete rounds",
            "a remark",
        ] {
            says(&validity, Severity::Note, words);
        }
        assert!(validity.ok);
    }

    #[test]
    fn an_arm_that_was_never_measured_invalidates() {
        let mut measurement = measured(8, |_| {});
        measurement.slots.retain(|slot| slot.arm == "on");
        says(&arms(&measurement).validity, Severity::Invalid, "arm `off` was never measured");
    }
}
