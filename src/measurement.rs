//! [`Measurement`]: what was measured, with its plan and its machine: the hinge between experiments, which
//! write it, and judgement and paper, which only read it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::powers::Powers;
use crate::saved;
use crate::timeline::{Interval, Timeline};

mod searched;

pub use searched::{Ceiling, Looked, Searched};

/// The flag of a slot in which a part of this program panicked: what the rest measured stands in it.
pub(crate) const PANICKED: &str = "panicked";

/// The flag of a slot at whose end connections that the client had closed first held more than half of its ports.
pub(crate) const PORTS_HELD: &str = "ports_held";

/// The version of the saved form.
pub const SCHEMA: &str = "keeplive.result/1";

/// So many targets have accounts of their own: each holds a histogram, in every worker.
pub const TARGETS_APART: usize = 100;

/// A run: its plan, its surroundings, and every slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measurement {
    /// [`SCHEMA`].
    pub schema: String,
    /// A fingerprint of the plan: runs of one plan have the same.
    pub plan_id: String,
    /// What measured.
    pub tool: Tool,
    /// The command line.
    pub command: Vec<String>,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// What was to be done.
    pub plan: Plan,
    /// How the offered load came about.
    pub offered: Offered,
    /// Where it was measured.
    pub machine: Machine,
    /// What is known of the target.
    pub target: TargetFacts,
    /// One visit to one arm each, in the order in which they were run.
    pub slots: Vec<Slot>,
    /// What was sent outside the slots: the first look, the warm-up and the search.
    pub outside: Ledger,
    /// What the reader should know, in sentences.
    pub notes: Vec<String>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// How the offered rate was found; `None`: it was given, or is half of the capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Searched>,
}

/// The program that measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tool {
    /// `keeplive`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How the offered load came about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Offered {
    /// What each arm could do in the closed-loop search before the run, in requests per second; empty when
    /// the rate was given.
    pub capacity: Vec<Capacity>,
    /// Whether the rate was lowered to what this machine's local ports allow.
    pub capped_by_ports: bool,
    /// Whether it was lowered for the sending threads to have time to spare.
    #[serde(default)]
    pub capped_by_generator: bool,
}

/// One arm's capacity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Capacity {
    /// The arm's name.
    pub arm: String,
    /// Requests per second with all connections busy.
    pub requests_per_s: f64,
}

/// What the first requests told of the target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TargetFacts {
    /// The address that was connected to.
    pub address: String,
    /// Whether that address is on this machine: then client and server share its processors.
    pub same_machine: bool,
    /// Whether it is keeplive's own embedded server.
    pub embedded: bool,
    /// The status of the first response.
    pub status: u16,
    /// The `Server` field.
    pub server: Option<String>,
    /// Negotiated TLS version.
    pub tls_version: Option<String>,
    /// Negotiated cipher suite.
    pub tls_cipher_suite: Option<String>,
}

/// One visit to one arm. The `connections` ledger and `exchanges` cover the whole visit, with its washout;
/// everything else covers the requests that were due within the measured window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Slot {
    /// The round, from 0.
    pub round: u32,
    /// The arm's name.
    pub arm: String,
    /// Its place within the round, from 0.
    pub order: u32,
    /// When the visit began, nanoseconds since the Unix epoch.
    pub start_unix_ns: u64,
    /// How long the measured window was.
    #[serde(rename = "duration_ns", with = "crate::plan::ns")]
    pub duration: Duration,
    /// How long it took to open the connections with which a kept pool begins, or for how long that was waited for. 0 in
    /// results of before this was kept, as the next.
    #[serde(rename = "opening_ns", default, with = "crate::plan::ns")]
    pub opening: Duration,
    /// For how long answers were waited for after the window.
    #[serde(rename = "drain_ns", default, with = "crate::plan::ns")]
    pub drain: Duration,
    /// Requests due in the window.
    pub scheduled: u64,
    /// Of those, issued to the pool.
    pub issued: u64,
    /// Of those, answered completely, whatever the status.
    pub completed: u64,
    /// Answers that came while the window was open, whenever their requests were due: a target that falls behind goes on
    /// answering after it. `None` in results of before this was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_within: Option<u64>,
    /// Of those, still unanswered at the end of the drain; they stand in the histograms at their age then.
    pub censored: u64,
    /// Requests without a good answer, by kind: the pool's error kinds, `status_4xx`, `status_5xx`.
    pub errors: BTreeMap<String, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// How the measured requests came by their connections.
    pub reuse: Reuse,
    /// The pool's ledger of the whole visit.
    pub connections: Ledger,
    /// What the measuring cost the client.
    pub client: ClientUse,
    /// Processor time that the target's processes used in the whole visit, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_cpu_ns: Option<u64>,
    /// Where the time of the measured requests went, summed; [`PhaseSums::mean`] divides.
    pub phases: PhaseSums,
    /// From when a request was due until its last byte: what a user feels. Answers of any status, and requests that
    /// ran out of time or were never answered, at their age; those that failed otherwise are only counted.
    pub response: Histogram,
    /// From when a request was taken in hand until its last byte: what the target did.
    pub service: Histogram,
    /// From when a request was due until it was issued: the generator's own lateness.
    pub lag: Histogram,
    /// The slot second by second; `None` for a short one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// The same by the plan's stages; empty where it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Interval>,
    /// The same by the plan's several targets; those beyond the first [`TARGETS_APART`] share the last place. Empty where
    /// there is one target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Interval>,
    /// How long, in nanoseconds, connections had been idle on which an attempt failed, whether it was repeated or not.
    /// Attempts on new connections are not among them.
    #[serde(default, skip_serializing_if = "Powers::is_empty")]
    pub idle_at_failure_ns: Powers,
    /// Whether the arm was what it says it is.
    pub pure: bool,
    /// Why it was not, and other remarks.
    pub flags: Vec<String>,
}

/// How measured requests came by their connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reuse {
    /// On a connection that an earlier request had opened.
    pub reused: u64,
    /// On a connection opened for it.
    pub opened: u64,
    /// Of those, with a full TLS handshake.
    pub handshakes_full: u64,
    /// Of those, with a resumed TLS handshake.
    pub handshakes_resumed: u64,
    /// Attempts repeated because the connection had ended before a byte was written.
    pub retries: u64,
}

/// The pool's account of a visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ledger {
    /// Requests that were sent and answered in the whole visit.
    pub exchanges: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections that could not be opened.
    pub failed_to_open: u64,
    /// Times that a connection was used again.
    pub reused: u64,
    /// Full TLS handshakes.
    pub handshakes_full: u64,
    /// Resumed TLS handshakes.
    pub handshakes_resumed: u64,
    /// Connections closed, by reason.
    pub closed: BTreeMap<String, u64>,
    /// How many exchanges each of them had carried.
    #[serde(default, skip_serializing_if = "Powers::is_empty")]
    pub exchanges_per_connection: Powers,
    /// Final exchanges after which the server closed first, as it should.
    pub peer_closed_first: u64,
    /// Final exchanges after which the server did not close in time, so that we did.
    pub closed_first: u64,
}

/// What measuring cost the client in one visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientUse {
    /// Processor time of the sending threads, user and kernel, by the kernel's accounting.
    #[serde(rename = "cpu_ns")]
    pub cpu_ns: u64,
    /// Wall time over which that was spent, summed over the threads.
    pub wall_ns: u64,
    /// Time in which the threads were ready to run and had no processor.
    pub run_queue_ns: u64,
    /// The part of the busiest thread, where there are several: others may have had time to spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busiest: Option<ThreadShare>,
    /// Time for which the control group was throttled.
    pub throttled_ns: u64,
    /// Sockets in TIME_WAIT on this machine when the visit began.
    pub time_wait_before: u64,
    /// The same when it ended.
    pub time_wait_after: u64,
}

/// What one thread used of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ThreadShare {
    /// Processor time, user and kernel.
    pub cpu_ns: u64,
    /// Wall time.
    pub wall_ns: u64,
    /// Ready to run, and without a processor.
    pub run_queue_ns: u64,
}

impl ThreadShare {
    /// Of threads together, or of one.
    pub fn of(client: &ClientUse) -> ThreadShare {
        let ClientUse { cpu_ns, wall_ns, run_queue_ns, .. } = *client;
        ThreadShare { cpu_ns, wall_ns, run_queue_ns }
    }

    /// The busiest of several, or the only one.
    pub(crate) fn of_busiest(client: &ClientUse) -> ThreadShare {
        client.busiest.unwrap_or(ThreadShare::of(client))
    }

    /// Who had the least time to spare; `None` of fewer than two.
    pub(crate) fn busiest(threads: Vec<ThreadShare>) -> Option<ThreadShare> {
        let are_several = threads.len() > 1;
        threads.into_iter().max_by(|a, b| a.wanted().total_cmp(&b.wanted())).filter(|_| are_several)
    }

    /// What it wanted of the processor, whether it got it or not, as a share of the time.
    pub(crate) fn wanted(&self) -> f64 {
        (self.cpu_ns + self.run_queue_ns) as f64 / self.wall_ns.max(1) as f64
    }

    /// One visit after another.
    pub(crate) fn and(self, next: ThreadShare) -> ThreadShare {
        ThreadShare {
            cpu_ns: self.cpu_ns + next.cpu_ns,
            wall_ns: self.wall_ns + next.wall_ns,
            run_queue_ns: self.run_queue_ns + next.run_queue_ns,
        }
    }
}

/// Time summed over requests, by phase; `lag` is the generator's own lateness before the first phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PhaseSums {
    /// Requests summed over.
    pub requests: u64,
    /// See [`Slot::lag`].
    pub lag_ns: u64,
    /// See [`Phase::Blocked`].
    pub blocked_ns: u64,
    /// See [`Phase::Dns`].
    pub dns_ns: u64,
    /// See [`Phase::Connect`].
    pub connect_ns: u64,
    /// See [`Phase::Proxy`].
    #[serde(default)]
    pub proxy_ns: u64,
    /// See [`Phase::Tls`].
    pub tls_ns: u64,
    /// See [`Phase::Send`].
    pub send_ns: u64,
    /// See [`Phase::Wait`].
    pub wait_ns: u64,
    /// See [`Phase::Receive`].
    pub receive_ns: u64,
}

impl PhaseSums {
    /// The sum of one phase.
    pub fn sum_mut(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Blocked => &mut self.blocked_ns,
            Phase::Dns => &mut self.dns_ns,
            Phase::Connect => &mut self.connect_ns,
            Phase::Proxy => &mut self.proxy_ns,
            Phase::Tls => &mut self.tls_ns,
            Phase::Send => &mut self.send_ns,
            Phase::Wait => &mut self.wait_ns,
            Phase::Receive => &mut self.receive_ns,
        }
    }

    /// Every part with its name, `lag` first, in the order in which they happen.
    pub fn parts(&self) -> [(&'static str, u64); 9] {
        [
            ("lag", self.lag_ns),
            ("blocked", self.blocked_ns),
            ("dns", self.dns_ns),
            ("connect", self.connect_ns),
            ("proxy", self.proxy_ns),
            ("tls", self.tls_ns),
            ("send", self.send_ns),
            ("wait", self.wait_ns),
            ("receive", self.receive_ns),
        ]
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &PhaseSums) {
        self.requests += other.requests;
        self.lag_ns += other.lag_ns;
        self.blocked_ns += other.blocked_ns;
        self.dns_ns += other.dns_ns;
        self.connect_ns += other.connect_ns;
        self.proxy_ns += other.proxy_ns;
        self.tls_ns += other.tls_ns;
        self.send_ns += other.send_ns;
        self.wait_ns += other.wait_ns;
        self.receive_ns += other.receive_ns;
    }

    /// Every part's mean over the requests, in nanoseconds.
    pub fn mean(&self) -> [(&'static str, f64); 9] {
        self.parts().map(|(name, sum)| (name, sum as f64 / self.requests.max(1) as f64))
    }
}

impl Slot {
    /// Nothing more is to come: what is kept until the run is over takes as little room as it may.
    pub(crate) fn settle(&mut self) {
        [&mut self.response, &mut self.service, &mut self.lag].into_iter().for_each(Histogram::settle);
        let accounts = self.timeline.iter_mut().flat_map(|line| &mut line.intervals);
        accounts
            .chain(&mut self.stages)
            .chain(&mut self.targets)
            .for_each(|account| account.response.settle());
    }

    /// Adds what another worker saw of the same visit.
    pub fn merge(&mut self, other: &Slot) {
        // Each worker's ends with its own last response where so many requests were to be sent.
        self.duration = self.duration.max(other.duration);
        self.opening = self.opening.max(other.opening);
        self.drain = self.drain.max(other.drain);
        self.scheduled += other.scheduled;
        self.issued += other.issued;
        self.completed += other.completed;
        self.answered_within = sum(self.answered_within, other.answered_within);
        self.censored += other.censored;
        add(&mut self.errors, &other.errors);
        add(&mut self.statuses, &other.statuses);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.reuse.merge(&other.reuse);
        self.connections.merge(&other.connections);
        self.client.cpu_ns += other.client.cpu_ns;
        self.client.wall_ns += other.client.wall_ns;
        self.client.run_queue_ns += other.client.run_queue_ns;
        self.target_cpu_ns = sum(self.target_cpu_ns, other.target_cpu_ns);
        self.phases.merge(&other.phases);
        match (&mut self.timeline, &other.timeline) {
            (Some(line), Some(others)) => line.merge(others),
            (line @ None, Some(others)) => *line = Some(others.clone()),
            (_, None) => {}
        }
        for (stage, others) in self.stages.iter_mut().zip(&other.stages) {
            stage.merge(others);
        }
        for (target, others) in self.targets.iter_mut().zip(&other.targets) {
            target.merge(others);
        }
        self.idle_at_failure_ns.merge(&other.idle_at_failure_ns);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.lag.merge(&other.lag);
    }

    /// Requests without a good answer: those that failed, and those that had none by the end.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.censored
    }

    /// Answers to be divided by the time for which the window was open.
    pub fn answered(&self) -> u64 {
        self.answered_within.unwrap_or(self.completed)
    }
}

/// Answers a second over these slots, while their windows were open; `None` when they never were.
pub fn requests_per_s(slots: &[&Slot]) -> Option<f64> {
    let open: Duration = slots.iter().map(|slot| slot.duration).sum();
    (!open.is_zero()).then(|| answered(slots) as f64 / open.as_secs_f64())
}

/// What the client's own processor time comes to for each answer of these slots, in nanoseconds; `None` where it is not known.
pub fn client_cpu_ns_per_request(slots: &[&Slot]) -> Option<f64> {
    let cpu_ns: u64 = slots.iter().map(|slot| slot.client.cpu_ns).sum();
    let answered = answered(slots);
    (cpu_ns > 0 && answered > 0).then(|| cpu_ns as f64 / answered as f64)
}

fn answered(slots: &[&Slot]) -> u64 {
    slots.iter().map(|slot| slot.answered()).sum()
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

impl Reuse {
    fn merge(&mut self, other: &Reuse) {
        self.reused += other.reused;
        self.opened += other.opened;
        self.handshakes_full += other.handshakes_full;
        self.handshakes_resumed += other.handshakes_resumed;
        self.retries += other.retries;
    }
}

impl Ledger {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &Ledger) {
        self.exchanges += other.exchanges;
        self.opened += other.opened;
        self.failed_to_open += other.failed_to_open;
        self.reused += other.reused;
        self.handshakes_full += other.handshakes_full;
        self.handshakes_resumed += other.handshakes_resumed;
        add(&mut self.closed, &other.closed);
        self.exchanges_per_connection.merge(&other.exchanges_per_connection);
        self.peer_closed_first += other.peer_closed_first;
        self.closed_first += other.closed_first;
    }
}

fn add<K: Ord + Clone>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, n) in from {
        *to.entry(key.clone()).or_default() += n;
    }
}

impl Measurement {
    /// Writes the measurement into a folder, which is made if need be, under a name of its own: whole or not
    /// at all, and never over another one.
    ///
    /// # Errors
    ///
    /// Whatever the file system says, with the path.
    pub fn save(&self, folder: &Path) -> io::Result<PathBuf> {
        let verb = if self.plan.arms.len() > 1 { "compare" } else { "load" };
        saved::write(folder, &self.started, verb, self)
    }

    /// Reads a saved measurement.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when it is not a keeplive result of a version that is understood, with
    /// the place; otherwise what the file system says.
    pub fn load(path: &Path) -> io::Result<Measurement> {
        saved::open(path, SCHEMA)?.read(SCHEMA)
    }

    /// Reads a saved measurement from its bytes.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when it is not a keeplive result of a version that is understood, with
    /// the place.
    pub fn from_slice(bytes: &[u8]) -> io::Result<Measurement> {
        saved::parse(bytes, SCHEMA).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))
    }
}
