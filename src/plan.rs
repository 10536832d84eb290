//! [`Plan`]: everything that is decided before a run begins.

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::config::PoolConfig;
use crate::hint::HintPolicy;
use crate::retry::RetryPolicy;

mod goal;
mod nanoseconds;
mod several;
mod stages;
mod status;
mod think;

pub use goal::{Goal, Search};
pub(crate) use nanoseconds::{ns, optional_ns};
pub(crate) use several::Chooser;
pub use several::{Order, Several};
pub(crate) use stages::stage_at;
pub use stages::{Stage, duration as stages_duration, mean_rate};
pub use status::Statuses;
pub use think::Think;

use stages::Curve;

/// What a run will do. It is saved with what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// What is asked for.
    pub target: Target,
    /// The configurations under test; the first is the control.
    pub arms: Vec<Arm>,
    /// When requests start.
    pub model: Model,
    /// How often every arm is visited.
    pub rounds: u32,
    /// How long an arm is measured at each visit.
    #[serde(rename = "slot_ns", with = "ns")]
    pub slot: Duration,
    /// How long requests flow before each slot without being counted, so that connections and caches settle.
    #[serde(rename = "washout_ns", with = "ns")]
    pub washout: Duration,
    /// The most connections at a time, over all threads.
    pub connections: usize,
    /// Threads that send.
    pub threads: usize,
    /// How long one request may take from its start; then it is an error at that age.
    #[serde(rename = "max_time_ns", with = "ns")]
    pub max_time: Duration,
    /// What the order of the arms and the arrivals are drawn from.
    pub seed: u64,
    /// How many requests a slot has, which in an open loop become due within it; `None`: as many as its time allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// The statuses that count as a good answer; `None`: those below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<Statuses>,
    /// In an open loop, the parts that the window is made of; empty: the model's rate holds throughout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// In a closed loop, the pause of a connection between two requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    /// What decides on the rate of the open loop; `None`: it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// What is asked for where that is more than one thing; `None`: the target alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub several: Option<Several>,
}

impl Plan {
    /// What an arm asks for.
    pub fn target_of<'a>(&'a self, arm: &'a Arm) -> &'a Target {
        arm.target.as_ref().unwrap_or(&self.target)
    }

    /// All that an arm asks for: what is its own, or the plan's.
    pub fn targets_of<'a>(&'a self, arm: &'a Arm) -> &'a [Target] {
        match (&arm.target, &self.several) {
            (None, Some(several)) => &several.targets,
            _ => std::slice::from_ref(self.target_of(arm)),
        }
    }
}

/// What is asked for: one request, sent again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Target {
    /// Absolute URL.
    pub url: String,
    /// Method.
    pub method: String,
    /// Fields, in order. Values of those that carry credentials are not saved.
    #[serde(serialize_with = "without_credentials")]
    #[cfg_attr(test, schemars(with = "Vec<(String, String)>"))]
    pub headers: Vec<(String, String)>,
    /// The body's length in bytes; the body itself is not saved.
    pub body_len: usize,
    /// The body.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// Whether a field's value is a secret: a saved result is passed on.
pub fn is_credential(field: &str) -> bool {
    const MARKS: [&str; 9] =
        ["auth", "cookie", "token", "key", "secret", "password", "session", "credential", "signature"];
    let field = field.to_ascii_lowercase();
    MARKS.iter().any(|mark| field.contains(mark))
}

/// What stands for a value that is not saved.
pub const NOT_SAVED: &str = "(not saved)";

fn without_credentials<S: serde::Serializer>(headers: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    let shown = |(name, value): &(String, String)| {
        let value = if is_credential(name) { NOT_SAVED } else { value };
        (name.clone(), value.to_owned())
    };
    headers.iter().map(shown).collect::<Vec<_>>().serialize(to)
}

/// A named pool configuration under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Arm {
    /// Its name in reports: `on`, `off`, `off-resumed`, `off-full`.
    pub name: String,
    /// Whether connections are kept.
    pub keep_alive: bool,
    /// Whether a new connection resumes an earlier TLS session.
    pub resume: bool,
    /// The pool's limits.
    pub limits: Limits,
    /// What this arm asks for, where it is not the plan's target: arms may be two servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// The pool's knobs that a user can turn, as they are saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// See [`PoolConfig::idle_timeout`].
    #[serde(rename = "idle_timeout_ns", with = "optional_ns")]
    pub idle_timeout: Option<Duration>,
    /// See [`PoolConfig::acquire_timeout`].
    #[serde(rename = "acquire_timeout_ns", with = "optional_ns")]
    pub acquire_timeout: Option<Duration>,
    /// See [`PoolConfig::connect_timeout`].
    #[serde(rename = "connect_timeout_ns", with = "optional_ns")]
    pub connect_timeout: Option<Duration>,
    /// See [`PoolConfig::max_lifetime`].
    #[serde(rename = "max_lifetime_ns", with = "optional_ns")]
    pub max_lifetime: Option<Duration>,
    /// See [`PoolConfig::max_exchanges`].
    pub max_exchanges: Option<u32>,
    /// See [`PoolConfig::max_idle_per_origin`]; `None`: as many as there may be connections.
    pub max_idle: Option<usize>,
}

impl Default for Limits {
    fn default() -> Limits {
        let pool = PoolConfig::default();
        Limits {
            idle_timeout: pool.idle_timeout,
            acquire_timeout: pool.acquire_timeout,
            connect_timeout: pool.connect_timeout,
            max_lifetime: pool.max_lifetime,
            max_exchanges: pool.max_exchanges,
            max_idle: None,
        }
    }
}

impl Arm {
    /// Connections are kept: the control.
    pub fn on(limits: Limits) -> Arm {
        Arm { name: "on".into(), keep_alive: true, resume: false, limits, target: None }
    }

    /// A new plain connection for every request.
    pub fn off(limits: Limits) -> Arm {
        Arm { name: "off".into(), keep_alive: false, resume: false, limits, target: None }
    }

    /// A new TLS connection for every request, its handshake resumed.
    pub fn off_resumed(limits: Limits) -> Arm {
        Arm { name: "off-resumed".into(), keep_alive: false, resume: true, limits, target: None }
    }

    /// A new TLS connection for every request, its handshake full.
    pub fn off_full(limits: Limits) -> Arm {
        Arm { name: "off-full".into(), keep_alive: false, resume: false, limits, target: None }
    }

    /// The same arm with a target of its own.
    pub fn at(self, target: Target) -> Arm {
        Arm { target: Some(target), ..self }
    }

    /// The pool configuration for a worker that may hold `connections`.
    pub fn pool(&self, connections: usize) -> PoolConfig {
        let limits = &self.limits;
        PoolConfig::default()
            .keep_alive(self.keep_alive)
            .idle_timeout(limits.idle_timeout)
            .acquire_timeout(limits.acquire_timeout)
            .connect_timeout(limits.connect_timeout)
            .max_lifetime(limits.max_lifetime)
            .max_exchanges(limits.max_exchanges)
            .max_connections_per_origin(Some(connections))
            .max_idle_per_origin(limits.max_idle.unwrap_or(connections))
            .max_idle(limits.max_idle.unwrap_or(connections))
            .max_opening_per_origin(connections)
            // What was written and got no response is a failure to be counted; a second attempt would hide it.
            .retry(RetryPolicy::Unsent)
            // An arm's timeouts are what they say, whatever the target thinks of them.
            .hint(HintPolicy::Ignore)
            .lifetime_jitter(0.0)
            // Every request has a time limit: a peer that has vanished is noticed by that, and each connection is spared
            // five calls to the kernel.
            .tcp_keepalive(None)
            .tcp_user_timeout(None)
    }
}

/// When requests start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Model {
    /// Every connection sends its next request when the previous one is done.
    Closed,
    /// Requests arrive on a schedule, whatever the target does.
    Open {
        /// Requests per second.
        rate: f64,
        /// How the arrivals are spaced.
        arrivals: Arrivals,
    },
}

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// As independent users arrive: exponential gaps.
    Poisson,
    /// One every 1/rate.
    Constant,
}

/// The order in which a run visits its arms: in every round a fresh permutation, fixed by the seed. Strict
/// alternation would fall into step with periodic disturbances (a cron job, a collector, a scrape).
#[derive(Clone, Debug)]
pub struct Schedule {
    arms: usize,
    rounds: u32,
    random: Xoshiro256PlusPlus,
}

/// One visit to one arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The round, from 0.
    pub round: u32,
    /// Which arm, by its place in the plan.
    pub arm: usize,
    /// Its place within the round, from 0.
    pub order: u32,
}

impl Schedule {
    /// The visits of a plan.
    pub fn new(plan: &Plan) -> Schedule {
        let random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
        Schedule { arms: plan.arms.len(), rounds: plan.rounds, random }
    }

    /// Every visit, in order.
    pub fn visits(mut self) -> Vec<Visit> {
        let mut visits = Vec::with_capacity(self.arms * self.rounds as usize);
        for round in 0..self.rounds {
            let order = self.permutation();
            visits.extend(order.into_iter().zip(0..).map(|(arm, order)| Visit { round, arm, order }));
        }
        visits
    }

    /// Fisher and Yates' shuffle.
    fn permutation(&mut self) -> Vec<usize> {
        let mut arms: Vec<usize> = (0..self.arms).collect();
        for last in (1..arms.len()).rev() {
            // The bias of the remainder is below 2^-60 for so few arms.
            let pick = (self.random.next_u64() % (last as u64 + 1)) as usize;
            arms.swap(last, pick);
        }
        arms
    }
}

/// When requests are due: an exact schedule for one worker, as offsets from the slot's beginning.
#[derive(Clone, Debug)]
pub struct Pacer {
    curve: Curve,
    arrivals: Arrivals,
    nth: u64,
    /// Where arrivals have got to, in requests of all workers.
    level: f64,
    worker: usize,
    workers: usize,
    random: Xoshiro256PlusPlus,
    exactly: Option<Exactly>,
}

/// Poisson arrivals whose number is given.
#[derive(Clone, Copy, Debug)]
struct Exactly {
    /// Of all workers.
    requests: f64,
    /// Of this worker, those that are still to come.
    left: u64,
    /// The last moment at which one may be due.
    latest: Duration,
}

/// What is never due, in a time that can be added to any.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Pacer {
    /// The schedule of worker `worker` of `workers`, which together make `rate` requests per second. Constant
    /// arrivals of the workers interleave evenly; independent Poisson streams add up to one.
    pub fn new(rate: f64, arrivals: Arrivals, worker: usize, workers: usize, seed: u64) -> Pacer {
        Pacer::staged(vec![Stage::constant(NEVER, rate)], arrivals, worker, workers, seed)
    }

    /// The same for stages, one after another; past the last nothing is due for more than a hundred years.
    pub fn staged(stages: Vec<Stage>, arrivals: Arrivals, worker: usize, workers: usize, seed: u64) -> Pacer {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        Pacer {
            curve: Curve::new(stages),
            arrivals,
            nth: 0,
            level: 0.0,
            worker,
            workers,
            random,
            exactly: None,
        }
    }

    /// The same, with exactly so many requests of all workers within the time in which there are as many on average. Constant
    /// arrivals are so anyway. Poisson's, given their number, lie each anywhere, independently (Ross, *Introduction to
    /// Probability Models*, theorem 5.2): so they are drawn, in their order.
    pub fn of_exactly(mut self, requests: u64) -> Pacer {
        let end = self.curve.clone().due(requests as f64).map_or(NEVER, Duration::from_secs_f64);
        self.exactly = Some(Exactly {
            requests: requests as f64,
            left: share_of(requests, self.worker, self.workers),
            latest: end.saturating_sub(Duration::from_nanos(1)),
        });
        self
    }

    /// When the next request is due, from the beginning.
    pub fn next_due(&mut self) -> Duration {
        let workers = self.workers as f64;
        let mut latest = NEVER;
        let level = match (self.arrivals, &mut self.exactly) {
            // From the count, so that rounding never adds up.
            (Arrivals::Constant, _) => self.nth as f64 * workers + self.worker as f64 + 0.5,
            (Arrivals::Poisson, None) => self.level - unit(&mut self.random).ln() * workers,
            (Arrivals::Poisson, Some(exactly)) => {
                if exactly.left == 0 {
                    return NEVER;
                }
                // The least of so many that lie anywhere in what is left.
                let beyond = exactly.requests - self.level;
                let share = unit(&mut self.random).powf(1.0 / exactly.left as f64);
                exactly.left -= 1;
                latest = exactly.latest;
                exactly.requests - beyond * share
            }
        };
        self.nth += 1;
        self.level = level;
        self.curve.due(level).map_or(NEVER, Duration::from_secs_f64).min(latest)
    }
}

/// A worker's share of what all have to do.
pub(crate) fn share_of(all: u64, worker: usize, workers: usize) -> u64 {
    let workers = workers as u64;
    all / workers + u64::from((worker as u64) < all % workers)
}

/// Uniform in (0, 1]: 53 random bits, and never the zero whose logarithm is infinite.
fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A seed for one worker in one slot, far from those of its neighbours (splitmix64's finaliser).
pub(crate) fn mix(seed: u64, slot: u64, worker: u64) -> u64 {
    let mut z = seed ^ slot.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ worker.wrapping_mul(0xD1B5_4A32_D192_ED03);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arms: usize, rounds: u32, seed: u64) -> Plan {
        let arms = (0..arms).map(|n| Arm { name: n.to_string(), ..Arm::on(Limits::default()) }).collect();
        let target = Target {
            url: "http://x/".into(),
            method: "GET".into(),
            headers: vec![],
            body_len: 0,
            body: vec![],
        };
        Plan {
            target,
            arms,
            model: Model::Closed,
            rounds,
            slot: Duration::from_secs(1),
            washout: Duration::ZERO,
            connections: 1,
            threads: 1,
            max_time: Duration::from_secs(5),
            seed,
            requests: None,
            expect_status: None,
            stages: Vec::new(),
            think: None,
            search: None,
            several: None,
        }
    }

    #[test]
    fn a_workers_pool_may_open_and_keep_as_many_connections_as_it_may_hold() {
        let pool = Arm::on(Limits::default()).pool(5_000);
        assert_eq!(pool.max_connections_per_origin, Some(5_000));
        let others = (pool.max_opening_per_origin, pool.max_idle_per_origin, pool.max_idle);
        assert_eq!(others, (5_000, 5_000, 5_000));
        assert_eq!((pool.max_connections, pool.max_waiting_per_origin), (None, None));
        assert_eq!(pool.on_miss, crate::config::OnMiss::Open);
    }

    #[test]
    fn every_round_visits_every_arm_once() {
        let visits = Schedule::new(&plan(3, 40, 7)).visits();
        for round in visits.chunks(3) {
            let mut arms: Vec<_> = round.iter().map(|visit| visit.arm).collect();
            arms.sort_unstable();
            assert_eq!(arms, [0, 1, 2]);
        }
    }

    #[test]
    fn a_seed_fixes_the_order_and_orders_are_equally_frequent() {
        assert_eq!(Schedule::new(&plan(3, 9, 1)).visits(), Schedule::new(&plan(3, 9, 1)).visits());
        let visits = Schedule::new(&plan(2, 2000, 42)).visits();
        let on_first = visits.chunks(2).filter(|round| round[0].arm == 0).count();
        assert!((900..1100).contains(&on_first), "{on_first} of 2000");
    }

    #[test]
    fn constant_arrivals_of_two_workers_interleave_evenly() {
        let due = |worker| Pacer::new(1000.0, Arrivals::Constant, worker, 2, 1);
        let (mut a, mut b) = (due(0), due(1));
        for n in 0..100_u64 {
            assert_eq!(a.next_due().as_micros() as u64, 2000 * n + 500);
            assert_eq!(b.next_due().as_micros() as u64, 2000 * n + 1500);
        }
    }

    /// The greatest distance of the values' distribution from this one, and what 1 % of samples exceed (Kolmogorov, Smirnov).
    fn distance(mut values: Vec<f64>, cumulative: impl Fn(f64) -> f64) -> (f64, f64) {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let far = |(value, rank): (&f64, i32)| (cumulative(*value) - f64::from(rank) / n).abs();
        (values.iter().zip(1..).map(far).fold(0.0, f64::max), 1.63 / n.sqrt())
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let mut pacer = Pacer::new(1000.0, Arrivals::Poisson, 0, 1, 99);
        let mut last = Duration::ZERO;
        let gaps: Vec<f64> = (0..10_000)
            .map(|_| {
                let due = pacer.next_due();
                (due - std::mem::replace(&mut last, due)).as_secs_f64() * 1000.0
            })
            .collect();
        let (farthest, critical) = distance(gaps, |gap| 1.0 - (-gap).exp());
        assert!(farthest < critical, "{farthest}");
    }

    fn exactly(requests: u64, arrivals: Arrivals, workers: usize, seed: u64) -> Vec<Duration> {
        let of = |worker| {
            let seed = mix(seed, 1, worker as u64);
            let mut pacer = Pacer::new(1e5, arrivals, worker, workers, seed).of_exactly(requests);
            let end = Duration::from_secs_f64(requests as f64 / 1e5);
            std::iter::from_fn(move || Some(pacer.next_due()).filter(|&due| due < end)).collect::<Vec<_>>()
        };
        let all: Vec<Vec<Duration>> = (0..workers).map(of).collect();
        assert!(all.iter().all(|dues| dues.is_sorted()));
        all.concat()
    }

    #[test]
    fn a_number_of_requests_is_due_exactly_among_any_number_of_workers() {
        for seed in 0..200 {
            for (requests, workers) in [(1, 1), (1, 4), (5, 2), (16, 16), (1000, 3)] {
                for arrivals in [Arrivals::Poisson, Arrivals::Constant] {
                    let due = exactly(requests, arrivals, workers, seed).len() as u64;
                    assert_eq!(due, requests, "{arrivals:?}, {workers} workers, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn poisson_arrivals_of_a_given_number_lie_anywhere_with_gaps_as_others_have_them() {
        let mut dues: Vec<f64> =
            exactly(10_000, Arrivals::Poisson, 2, 7).iter().map(|due| due.as_secs_f64() * 1e5).collect();
        let (farthest, critical) = distance(dues.clone(), |due| due / 10_000.0);
        assert!(farthest < critical, "{farthest}");
        dues.sort_by(f64::total_cmp);
        let gaps = dues.windows(2).map(|two| two[1] - two[0]).collect();
        let (farthest, critical) = distance(gaps, |gap| 1.0 - (-gap).exp());
        assert!(farthest < critical, "{farthest}");
    }

    #[test]
    fn credentials_are_not_saved_and_other_fields_are() {
        let mut plan = plan(1, 1, 1);
        plan.target.headers = [("Authorization", "Bearer x"), ("X-Auth-Token", "x"), ("Accept", "a/b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let text = serde_json::to_string(&plan).unwrap();
        assert!(!text.contains("Bearer") && text.contains("Authorization") && text.contains("a/b"), "{text}");
    }

    #[test]
    fn a_plan_is_read_back_as_it_was_written() {
        let plan = plan(2, 3, 4);
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains(r#""slot_ns":1000000000"#), "{text}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn an_arm_asks_its_own_target_and_a_plan_from_before_arms_had_one_is_read() {
        let mut plan = plan(2, 3, 4);
        assert!(!serde_json::to_string(&plan.arms).unwrap().contains("target"), "as it was written before");
        let own = Target { url: "http://y/".into(), ..plan.target.clone() };
        plan.arms[1] = Arm::on(Limits::default()).at(own.clone());
        let text = serde_json::to_string(&plan).unwrap();
        let read: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!(read.arms.iter().map(|arm| read.target_of(arm)).collect::<Vec<_>>(), [&plan.target, &own]);
    }
}
