//! [`Recorder`]: one worker's account of one slot. Nothing in it is shared, and nothing in it grows.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::live::Desk;
use super::tickets::Ticket;
use crate::duration::nanoseconds;
use crate::error::{Error, ErrorKind, Retry};
use crate::exchange::Exchange;
use crate::measurement::{Slot, TARGETS_APART};
use crate::phase::Phase;
use crate::plan::{Stage, Statuses, stage_at};
use crate::timeline::{Interval, Timeline};

/// One attempt to have a request answered.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) ticket: Ticket,
    /// When a loop took it in hand.
    pub(super) started: Instant,
    /// When it was over.
    pub(super) done: Instant,
    pub(super) outcome: Result<Answer, Error>,
}

/// How long an attempt took, worked out once for all that it is counted in.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// Due to issued.
    lag: Duration,
    /// Due to done.
    response: Duration,
    /// Taken in hand to done.
    service: Duration,
}

impl Took {
    fn of(sample: &Sample) -> Took {
        let Sample { ticket: Ticket { due, issued, .. }, started, done, .. } = *sample;
        Took { lag: issued - due, response: done - due, service: done - started }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) exchange: Box<Exchange>,
}

/// Counts by kind in fixed places, so that recording never allocates.
#[derive(Debug)]
pub(super) struct Recorder {
    slot: Slot,
    errors: Vec<(ErrorKind, u64)>,
    statuses: [u64; 1000],
    exchanges: u64,
    /// From when until when the measured window is open; with it the time line begins.
    window: Option<Range<Instant>>,
    /// The statuses that are good; `None`: those below 400.
    good: Option<Statuses>,
    /// The plan's stages, whose accounts are [`Slot::stages`].
    stages: Vec<Stage>,
    /// Where the same is counted for whoever reads it meanwhile.
    desks: Desks,
}

/// Where a worker counts while it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Desks {
    /// What is recorded.
    pub(super) counted: Arc<Desk>,
    /// What is sent before.
    pub(super) before: Arc<Desk>,
}

impl Recorder {
    pub(super) fn new(good: Option<Statuses>, desks: Desks) -> Recorder {
        Recorder {
            slot: Slot::default(),
            errors: Vec::with_capacity(32),
            statuses: [0; 1000],
            exchanges: 0,
            window: None,
            good,
            stages: Vec::new(),
            desks,
        }
    }

    /// The window is open from when until when. It has a time line, if it may be long enough for one.
    pub(super) fn open(&mut self, window: Range<Instant>, stages: &[Stage]) {
        self.slot.timeline = Timeline::over(window.end - window.start);
        self.slot.stages = vec![Interval::default(); stages.len()];
        self.stages = stages.to_vec();
        self.window = Some(window);
        self.slot.answered_within = Some(0);
    }

    /// The window closes sooner: the run was stopped.
    pub(super) fn close(&mut self, now: Instant) {
        if let Some(window) = &mut self.window {
            window.end = window.end.min(now);
        }
    }

    /// An answer has come.
    fn answer_came(&mut self, at: Instant) {
        self.exchanges += 1;
        let Some(window) = self.window.as_ref().filter(|window| window.contains(&at)) else { return };
        *self.slot.answered_within.get_or_insert(0) += 1;
        if let Some(line) = &mut self.slot.timeline {
            line.at(at - window.start).answered += 1;
        }
    }

    /// Keeps an account of each of so many targets, where they are several.
    pub(super) fn keep_targets(&mut self, targets: usize) {
        if targets > 1 {
            self.slot.targets = vec![Interval::default(); targets.min(TARGETS_APART + 1)];
        }
    }

    /// Notes something in the interval and in the stage in which the request was due, and at its target, where there
    /// are such.
    fn note(&mut self, ticket: Ticket, act: impl Fn(&mut Interval)) {
        let Some(window) = &self.window else { return };
        let since = ticket.due.saturating_duration_since(window.start);
        if let Some(line) = &mut self.slot.timeline {
            act(line.at(since));
        }
        if !self.stages.is_empty() {
            act(&mut self.slot.stages[stage_at(&self.stages, since)]);
        }
        if let Some(last) = self.slot.targets.len().checked_sub(1) {
            act(&mut self.slot.targets[last.min(ticket.target as usize)]);
        }
    }

    /// A request's time has come within the measured window.
    pub(super) fn scheduled(&mut self, ticket: Ticket) {
        self.slot.scheduled += 1;
        self.desks.counted.scheduled();
        self.note(ticket, |interval| interval.scheduled += 1);
    }

    /// It was handed to the queue.
    pub(super) fn issued(&mut self, ticket: Ticket) {
        self.slot.issued += 1;
        let lag = ticket.issued - ticket.due;
        self.slot.lag.record(lag);
        // In a closed loop nothing is ever late.
        if !lag.is_zero() {
            self.note(ticket, |interval| interval.issued(lag));
        }
    }

    /// A request that was due before the measured window is over; `answered`: when, if it was.
    pub(super) fn passed(&mut self, answered: Option<Instant>) {
        if let Some(at) = answered {
            self.answer_came(at);
            self.desks.before.completed();
        }
    }

    pub(super) fn record(&mut self, sample: &Sample) {
        let took = Took::of(sample);
        // A request that failed before its time was up has an age that says nothing about how long an answer takes:
        // counted among the answers, a server that refuses fast would look fast.
        if sample.outcome.as_ref().err().is_none_or(|error| error.kind().is_timeout()) {
            self.slot.response.record(took.response);
            self.desks.counted.responded(took.response);
            self.slot.service.record(took.service);
        }
        match &sample.outcome {
            Ok(answer) => {
                self.answer_came(sample.done);
                self.answered(took, answer);
            }
            Err(error) => self.failed(took, error),
        }
        self.note_interval(sample, took.response);
    }

    fn note_interval(&mut self, sample: &Sample, response: Duration) {
        let fault = sample.outcome.as_ref().ok().and_then(|answer| fault(self.good.as_ref(), answer.status));
        if let Some(fault) = fault {
            self.desks.counted.refused(fault);
        }
        self.note(sample.ticket, |interval| match &sample.outcome {
            Ok(answer) => {
                interval.completed += 1;
                interval.failed += u64::from(fault.is_some());
                interval.opened += u64::from(!answer.exchange.is_reused());
                interval.response.record(response);
            }
            Err(error) => {
                interval.failed += 1;
                if error.kind().is_timeout() {
                    interval.response.record(response);
                }
            }
        });
    }

    /// Attempts that failed on a connection that had been idle.
    fn failed_after_idling(&mut self, attempts: &[Retry]) {
        for attempt in attempts {
            self.slot.idle_at_failure_ns.record(nanoseconds(attempt.idle_before));
        }
    }

    fn answered(&mut self, took: Took, answer: &Answer) {
        let exchange = &answer.exchange;
        self.failed_after_idling(&exchange.retries);
        self.slot.completed += 1;
        self.desks.counted.completed();
        self.statuses[usize::from(answer.status.min(999))] += 1;
        self.slot.bytes_in += exchange.bytes_in;
        self.slot.bytes_out += exchange.bytes_out;
        self.slot.reuse.retries += exchange.retries.len() as u64;
        if exchange.is_reused() {
            self.slot.reuse.reused += 1;
        } else {
            self.slot.reuse.opened += 1;
            match &exchange.connection.tls {
                Some(tls) if tls.resumed => self.slot.reuse.handshakes_resumed += 1,
                Some(_) => self.slot.reuse.handshakes_full += 1,
                None => {}
            }
        }
        let timings = &exchange.timings;
        let spent = |phase| if phase == Phase::Blocked { 0 } else { nanoseconds(timings.of(phase)) };
        self.add_phases(took, spent);
    }

    /// A request that ran out of time stands in the histograms at its age, and its time in the phase in which it
    /// failed, where that is known; others are only counted.
    fn failed(&mut self, took: Took, error: &Error) {
        self.desks.counted.failed(error);
        match self.errors.iter_mut().find(|(kind, _)| *kind == error.kind()) {
            Some((_, n)) => *n += 1,
            None => self.errors.push((error.kind(), 1)),
        }
        self.failed_after_idling(error.retries());
        if let Some(idle) = error.idle_before() {
            self.slot.idle_at_failure_ns.record(nanoseconds(idle));
        }
        if !error.kind().is_timeout() {
            return;
        }
        let failed_in = error.phase().unwrap_or(Phase::Wait);
        let spent = nanoseconds(took.service);
        self.add_phases(took, |phase| if phase == failed_in { spent } else { 0 });
    }

    /// Adds a request's time by phase. What no other phase claims was spent blocked, so that the parts always
    /// add up to the response time.
    fn add_phases(&mut self, took: Took, of: impl Fn(Phase) -> u64) {
        let sums = &mut self.slot.phases;
        let lag = nanoseconds(took.lag);
        let mut left = nanoseconds(took.response).saturating_sub(lag);
        sums.requests += 1;
        sums.lag_ns += lag;
        for phase in Phase::ALL.into_iter().filter(|&phase| phase != Phase::Blocked) {
            let spent = of(phase).min(left);
            *sums.sum_mut(phase) += spent;
            left -= spent;
        }
        sums.blocked_ns += left;
    }

    /// A request that nobody had answered when the drain ended: it stands at its age then.
    pub(super) fn censor(&mut self, ticket: Ticket, started: Option<Instant>, now: Instant) {
        self.slot.censored += 1;
        self.slot.response.record(now - ticket.due);
        self.desks.counted.censored();
        self.desks.counted.responded(now - ticket.due);
        self.note(ticket, |interval| interval.response.record(now - ticket.due));
        if let Some(started) = started {
            self.slot.service.record(now - started);
        }
        let sums = &mut self.slot.phases;
        sums.requests += 1;
        sums.lag_ns += (ticket.issued - ticket.due).as_nanos() as u64;
        let taken = started.unwrap_or(now);
        sums.blocked_ns += (taken - ticket.issued).as_nanos() as u64;
        sums.wait_ns += (now - taken).as_nanos() as u64;
    }

    pub(super) fn finish(self) -> Slot {
        let mut slot = self.slot;
        for (kind, n) in self.errors {
            slot.errors.insert(kind.as_str().to_owned(), n);
        }
        for (status, &n) in (0_u16..).zip(&self.statuses).filter(|&(_, &n)| n > 0) {
            slot.statuses.insert(status, n);
            if let Some(class) = fault(self.good.as_ref(), status) {
                *slot.errors.entry(class.to_owned()).or_default() += n;
            }
        }
        slot.connections.exchanges = self.exchanges;
        slot.settle();
        slot
    }
}

/// What [`fault`] may answer.
pub(super) const STATUS_FAULTS: [&str; 3] = ["unexpected_status", "status_4xx", "status_5xx"];

/// The kind of error that a status is; `None`: it is good.
fn fault(good: Option<&Statuses>, status: u16) -> Option<&'static str> {
    match (good, status) {
        (Some(good), status) => (!good.contains(status)).then_some(STATUS_FAULTS[0]),
        (None, ..400) => None,
        (None, 400..500) => Some(STATUS_FAULTS[1]),
        (None, 500..) => Some(STATUS_FAULTS[2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::measurement::PhaseSums;

    fn failed(kind: ErrorKind) -> Slot {
        let now = clock::now();
        let ticket = Ticket { due: now, issued: now, target: 0 };
        let done = now + Duration::from_millis(7);
        let mut recorder = Recorder::new(None, Desks::default());
        recorder.scheduled(ticket);
        recorder.issued(ticket);
        recorder.record(&Sample { ticket, started: now, done, outcome: Err(Error::new(kind)) });
        recorder.finish()
    }

    #[test]
    fn a_request_that_ran_out_of_time_stands_at_its_age_and_one_that_failed_fast_is_only_counted() {
        let late = failed(ErrorKind::Timeout);
        assert_eq!((late.response.len(), late.phases.wait_ns, late.errors["timeout"]), (1, 7_000_000, 1));
        let fast = failed(ErrorKind::Reset);
        assert_eq!((fast.response.len(), fast.phases.requests, fast.errors["reset"]), (0, 0, 1));
    }

    #[test]
    fn answers_are_counted_within_the_window_by_when_they_come_and_until_it_closes() {
        let (begins, second) = (clock::now(), Duration::from_secs(1));
        let mut recorder = Recorder::new(None, Desks::default());
        recorder.open(begins..begins + 2 * second, &[]);
        recorder.passed(Some(begins - second / 2));
        recorder.passed(Some(begins + second / 2));
        recorder.passed(None);
        recorder.close(begins + second);
        recorder.passed(Some(begins + second + second / 2));
        let slot = recorder.finish();
        assert_eq!((slot.answered_within, slot.connections.exchanges), (Some(1), 3));
    }

    #[test]
    fn what_nobody_answered_stands_at_its_age_in_the_queue_and_in_hand() {
        let now = clock::now();
        let ticket = Ticket { due: now, issued: now + Duration::from_millis(1), target: 0 };
        let mut recorder = Recorder::new(None, Desks::default());
        recorder.censor(ticket, Some(now + Duration::from_millis(3)), now + Duration::from_millis(10));
        let slot = recorder.finish();
        assert_eq!((slot.censored, slot.response.max()), (1, Some(Duration::from_millis(10))));
        let PhaseSums { lag_ns, blocked_ns, wait_ns, .. } = slot.phases;
        assert_eq!((lag_ns, blocked_ns, wait_ns), (1_000_000, 2_000_000, 7_000_000));
    }
}
