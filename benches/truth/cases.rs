//! The cases: what the server does, what is asked of a tool, and what is true of it by the closed form.

/// The truth, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Truth {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) mean: f64,
}

/// How long the `nth` request (from 0), due `at` ms after the server's clock began, takes, in ms.
pub(crate) type Form = fn(nth: u64, at: f64) -> f64;

/// Where a case's truth comes from.
pub(crate) enum Source {
    /// The closed form, at each instant of the schedule.
    Form(Form),
    /// What the server's log says it held: the arrivals are drawn, and the log has them.
    Log,
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
    truth: Source::Log,
};

/// The profile `once` or `stall`: what would be ready within a stall is ready at its end.
fn held(ready: f64, at: f64, from: f64, until: f64) -> f64 {
    if (from..until).contains(&ready) { until - at } else { ready - at }
}

/// P1 to P5 and Tene's example (a system that is frozen for half of the time), M/D/1 under both arrivals, and two costs
/// of a connection, which only a clock that runs before the connection is made can see.
pub(crate) const CASES: [Case; 9] = [
    Case {
        name: "P1-stall",
        profiles: &["const:1ms", "stall:1s,100ms"],
        connections: 150,
        seconds: 20,
        truth: Source::Form(|_, at| {
            let start = ((at + 1.0) / 1e3).floor() * 1e3;
            held(at + 1.0, at, start, start + 100.0)
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
        profiles: &["const:0", "tls-cost:20ms"],
        rate: 100,
        seconds: 5,
        keep_alive: false,
        tls: true,
        truth: Source::Form(|_, _| 20.0),
        ..ON
    },
];

impl Truth {
    /// Of these latencies, in ms.
    pub(crate) fn of(mut all: Vec<f64>) -> Truth {
        all.sort_by(f64::total_cmp);
        let quantile = |q: f64| all[((q * all.len() as f64).ceil() as usize).clamp(1, all.len()) - 1];
        Truth {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            mean: all.iter().sum::<f64>() / all.len() as f64,
        }
    }
}

/// Within 5 %, or half a millisecond.
pub(crate) fn holds(told: Option<f64>, truth: f64) -> bool {
    told.is_some_and(|told| (told - truth).abs() <= (0.05 * truth).max(0.5))
}

/// Within 0.1 %.
pub(crate) fn counts(told: Option<u64>, truth: u64) -> bool {
    told.is_some_and(|told| told.abs_diff(truth) * 1_000 <= truth)
}
