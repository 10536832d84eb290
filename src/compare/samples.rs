//! Measurements made up for tests: the numbers are known, and nothing is random.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::measurement::{ClientUse, Ledger, Measurement, Offered, Reuse, SCHEMA, Slot, TargetFacts, Tool};
use crate::plan::{Arm, Arrivals, Limits, Model, Plan, Target};
use crate::powers::Powers;

/// A run of so many rounds with so many requests in every slot.
pub(crate) fn run(rounds: u32, requests: u64) -> Sample {
    Sample { rounds, requests, arms: Vec::new() }
}

pub(crate) struct Sample {
    rounds: u32,
    requests: u64,
    arms: Vec<(String, f64)>,
}

impl Sample {
    /// An arm whose median response takes so many milliseconds.
    pub(crate) fn arm(mut self, name: &str, median_ms: f64) -> Sample {
        self.arms.push((name.to_owned(), median_ms));
        self
    }

    pub(crate) fn measurement(self) -> Measurement {
        let arms: Vec<Arm> = self.arms.iter().map(|(name, _)| arm(name)).collect();
        let slots = (0..self.rounds)
            .flat_map(|round| {
                self.arms.iter().zip(0..).map(move |((name, ms), order)| (round, order, name, *ms))
            })
            .map(|(round, order, name, ms)| slot(round, order, name, ms, self.requests))
            .collect();
        let target = Target {
            url: "https://example.test/".into(),
            method: "GET".into(),
            headers: Vec::new(),
            body_len: 0,
            body: Vec::new(),
        };
        let plan = Plan {
            target,
            arms,
            model: Model::Open { rate: 1000.0, arrivals: Arrivals::Poisson },
            rounds: self.rounds,
            slot: Duration::from_millis(500),
            washout: Duration::from_millis(100),
            connections: 16,
            threads: 1,
            max_time: Duration::from_secs(5),
            seed: 42,
            requests: None,
            expect_status: None,
            stages: Vec::new(),
            think: None,
            search: None,
            several: None,
        };
        Measurement {
            schema: SCHEMA.into(),
            plan_id: "0123456789abcdef".into(),
            tool: Tool { name: "keeplive".into(), version: "0.0.0".into() },
            command: vec!["keeplive".into(), "compare".into()],
            started: "2026-01-02T03:04:05Z".into(),
            plan,
            offered: Offered::default(),
            machine: Machine::default(),
            target: TargetFacts { address: "192.0.2.1:443".into(), status: 200, ..TargetFacts::default() },
            slots,
            outside: Ledger::default(),
            notes: Vec::new(),
            interrupted: false,
            search: None,
        }
    }
}

fn arm(name: &str) -> Arm {
    let limits = Limits::default();
    match name {
        "on" => Arm::on(limits),
        "off-resumed" => Arm::off_resumed(limits),
        "off-full" => Arm::off_full(limits),
        "base" | "head" => Arm { name: name.into(), ..Arm::on(limits) },
        _ => Arm::off(limits),
    }
}

/// Response times spread evenly in the logarithm around the median, a little different in every round.
fn slot(round: u32, order: u32, name: &str, median_ms: f64, requests: u64) -> Slot {
    let drift = 1.0 + f64::from(round % 5) * 0.002 + f64::from(order) * 0.0003 * f64::from(round % 3);
    let mut response = Histogram::new();
    let mut lag = Histogram::new();
    for nth in 0..requests {
        let spread = (nth as f64 + 0.5) / requests as f64 - 0.5;
        response.record(Duration::from_secs_f64(median_ms / 1000.0 * drift * (spread * 1.5).exp()));
        lag.record(Duration::from_micros(10));
    }
    let kept = ["on", "base", "head"].contains(&name);
    let reuse = if kept {
        Reuse { reused: requests, ..Reuse::default() }
    } else {
        let resumed = if name == "off-resumed" { requests } else { 0 };
        let full = if name == "off-full" { requests } else { 0 };
        Reuse { opened: requests, handshakes_full: full, handshakes_resumed: resumed, ..Reuse::default() }
    };
    let mut phases =
        crate::measurement::PhaseSums { requests, lag_ns: 10_000 * requests, ..Default::default() };
    let total = response.mean().unwrap_or_default().as_nanos() as u64 * requests;
    phases.wait_ns = total - phases.lag_ns;
    Slot {
        round,
        order,
        arm: name.to_owned(),
        duration: Duration::from_millis(500),
        scheduled: requests,
        issued: requests,
        completed: requests,
        reuse,
        connections: Ledger {
            exchanges: requests + 100,
            opened: if kept { 16 } else { requests + 100 },
            reused: if kept { requests + 84 } else { 0 },
            exchanges_per_connection: carried(if kept { 16 } else { requests + 100 }, requests + 100),
            peer_closed_first: if kept { 0 } else { requests + 100 },
            ..Ledger::default()
        },
        client: ClientUse { cpu_ns: 100_000_000, wall_ns: 500_000_000, ..ClientUse::default() },
        phases,
        service: response.clone(),
        response,
        lag,
        pure: true,
        ..Slot::default()
    }
}

/// So many exchanges, spread evenly over connections.
fn carried(connections: u64, exchanges: u64) -> Powers {
    let mut powers = Powers::default();
    (0..connections).for_each(|_| powers.record(exchanges / connections));
    powers
}
