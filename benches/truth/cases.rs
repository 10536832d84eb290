//! The cases: what the server does, what is asked of a tool, and what is true of it by the closed form.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::score::Span;

/// How long the `nth` request (from 0), due `at` ms after the server's clock began, takes, in ms.
pub(crate) type Form = fn(nth: u64, at: f64) -> f64;

/// Where a case's truth comes from.
pub(crate) enum Source {
    /// The closed form, at each instant of the schedule.
    Form(Form),
    /// What the server's log says it held: the arrivals are drawn, and the log has them. And that the mean is the one
    /// that Pollaczek and Khinchine give for one server that takes 1 ms for each, else arrivals of another kind would
    /// not be seen.
    Queue,
    /// No truth about the server: how late the tool sends, which only keeplive tells. The 99th percentile may be so many
    /// microseconds.
    Lateness(f64),
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) profiles: &'static [&'static str],
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    pub(crate) connections: u64,
    pub(crate) poisson: bool,
    pub(crate) keep_alive: bool,
    pub(crate) tls: bool,
    pub(crate) truth: Source,
}

const ON: Case = Case {
    name: "",
    profiles: &[],
    rate: 500,
    seconds: 10,
    connections: 20,
    poisson: false,
    keep_alive: true,
    tls: false,
    truth: Source::Queue,
};

/// The profile `once` or `stall`: what would be ready within a stall is ready at its end.
fn held(ready: f64, at: f64, from: f64, until: f64) -> f64 {
    if (from..until).contains(&ready) { until - at } else { ready - at }
}

/// P1 to P5 and Tene's example (a system that is frozen for half of the time), M/D/1 under both arrivals, and two costs
/// of a connection, which only a clock that runs before the connection is made can see.
pub(crate) const CASES: [Case; 10] = [
    Case {
        name: "P1-stall",
        // With a stall of 100 ms the 90th percentile would lie where the truth begins to climb: two in a thousand requests that
        // the machine holds up for three milliseconds would decide it, here only those held up for ten.
        profiles: &["const:1ms", "stall:1s,110ms"],
        // Twice as many would take server and client, on two processors, milliseconds to get through after each stall.
        rate: 500,
        connections: 150,
        seconds: 30,
        truth: Source::Form(|_, at| {
            let start = ((at + 1.0) / 1e3).floor() * 1e3;
            held(at + 1.0, at, start, start + 110.0)
        }),
        ..ON
    },
    Case {
        name: "P2-tene",
        profiles: &["const:1ms", "once:10s,10s"],
        rate: 100,
        connections: 1_100,
        seconds: 20,
        truth: Source::Form(|_, at| held(at + 1.0, at, 10e3, 20e3)),
        ..ON
    },
    Case {
        name: "P3-kth",
        profiles: &["kth:50,1ms,200ms"],
        truth: Source::Form(|nth, _| if nth % 50 == 49 { 200.0 } else { 1.0 }),
        ..ON
    },
    Case {
        name: "P4-end-of-run",
        profiles: &["const:1ms", "once:15s,10s"],
        rate: 100,
        connections: 1_100,
        seconds: 20,
        truth: Source::Form(|_, at| held(at + 1.0, at, 15e3, 25e3)),
        ..ON
    },
    Case { name: "P5-const", profiles: &["const:1ms"], truth: Source::Form(|_, _| 1.0), ..ON },
    Case {
        name: "M/D/1-poisson",
        profiles: &["rate-cap:1000"],
        rate: 700,
        connections: 100,
        seconds: 30,
        poisson: true,
        ..ON
    },
    Case {
        name: "M/D/1-constant",
        profiles: &["rate-cap:1000"],
        rate: 700,
        connections: 100,
        truth: Source::Form(|_, _| 1.0),
        ..ON
    },
    Case {
        name: "LAG-10000",
        profiles: &["const:0"],
        rate: 10_000,
        connections: 50,
        poisson: true,
        truth: Source::Lateness(200.0),
        ..ON
    },
    Case {
        name: "OFF-slow-accept",
        profiles: &["const:0", "slow-accept:20ms"],
        rate: 100,
        seconds: 5,
        keep_alive: false,
        truth: Source::Form(|_, _| 20.0),
        ..ON
    },
    Case {
        name: "OFF-tls-cost",
        // A handshake's own processor time, about a millisecond on both sides, is in no closed form; the log has it.
        profiles: &["const:0", "tls-cost:20ms"],
        rate: 100,
        seconds: 5,
        keep_alive: false,
        tls: true,
        truth: Source::Form(|_, _| 20.0),
        ..ON
    },
];

/// Milliseconds for each request, at `rate-cap:1000`.
const SERVICE: f64 = 1.0;

/// So many runs tell how far the mean of one lies from that of a run without end.
const RUNS: u64 = 2_000;

/// Where the mean response of a Poisson run through the queue lies, but for one run in a thousand: Pollaczek and
/// Khinchine's s + rho s / (2 (1 - rho)), and around it what sampling makes of runs of this length.
pub(crate) fn queue_mean(rate: u64, seconds: u64) -> Span {
    let load = rate as f64 * SERVICE / 1e3;
    let mean = SERVICE + load * SERVICE / (2.0 * (1.0 - load));
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut off: Vec<f64> = (0..RUNS).map(|_| queue_run(&mut random, rate, rate * seconds) - mean).collect();
    off.sort_by(f64::total_cmp);
    let beyond = (RUNS / 2_000) as usize;
    Span { from: mean + off[beyond], to: mean + off[off.len() - 1 - beyond] }
}

/// The mean response of one run, by Lindley's recursion.
fn queue_run(random: &mut Xoshiro256PlusPlus, rate: u64, requests: u64) -> f64 {
    let (mut wait, mut sum) = (0.0_f64, 0.0);
    for _ in 0..requests {
        let even = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let gap = -(1.0 - even).ln() * 1e3 / rate as f64;
        wait = (wait + SERVICE - gap).max(0.0);
        sum += wait + SERVICE;
    }
    sum / requests as f64
}
