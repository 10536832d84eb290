//! [`Profile`]: what a server does to its clients on purpose, so that what a load tester reports can be held
//! against what is true. Pure: when a response is ready is a function of when its request arrived.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

/// One deliberate behaviour, in the form `name:arguments`. Several may be combined, each name once: their waits add
/// up, and a stall holds back what would be ready within it. No request ever waits for another, except in
/// [`Profile::RateCap`], where that is the point.
///
/// | profile | what it does |
/// |---|---|
/// | `const:D` | every response is ready D after its request |
/// | `kth:K,D1,D2` | every K-th request of the server takes D2, the others D1 |
/// | `stall:T,S` | at the start of every T, responses are held for S |
/// | `once:T0,S` | at T0, responses are held for S, once |
/// | `conn-stall:K,D` | requests on every K-th connection take D longer |
/// | `rate-cap:R` | one queue, R requests per second: under Poisson arrivals exactly M/D/1 |
/// | `slow-accept:D` | a connection is attended to D after it was opened |
/// | `tls-cost:D` | the TLS handshake is answered D later |
/// | `two-write:D` | head and body are written D apart, with Nagle's algorithm on |
/// | `close-after:N` | the N-th response of a connection announces its end |
/// | `ignore-close` | a request's `Connection: close` is ignored: the connection stays open |
/// | `error:K` | every K-th response of the server is a 500 |
/// | `truncate:K` | every K-th response of the server ends in the middle of its body |
/// | `dribble:N,D` | the body comes in N pieces, D apart |
/// | `idle-close:D` | a connection idle for D gets a FIN |
/// | `idle-reset:D` | a connection idle for D gets a RST |
/// | `idle-408:D` | a connection idle for D gets an unsolicited 408 and a FIN |
/// | `idle-silence:D` | on a connection idle for D nothing is ever answered again (its kernel still acknowledges) |
///
/// T, S and D are durations (`1s`, `100ms`, `250us`), K and N numbers from 1, R a number above 0. The time of
/// `stall` and `once` begins with the first request, and stands in the server's log.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Profile {
    /// `const:D`
    Const(Duration),
    /// `kth:K,D1,D2`
    Kth(NonZeroU64, Duration, Duration),
    /// `stall:T,S`
    Stall(Duration, Duration),
    /// `once:T0,S`
    Once(Duration, Duration),
    /// `conn-stall:K,D`
    ConnStall(NonZeroU64, Duration),
    /// `rate-cap:R`
    RateCap(f64),
    /// `slow-accept:D`
    SlowAccept(Duration),
    /// `tls-cost:D`
    TlsCost(Duration),
    /// `two-write:D`
    TwoWrite(Duration),
    /// `close-after:N`
    CloseAfter(NonZeroU64),
    /// `ignore-close`
    IgnoreClose,
    /// `error:K`
    Error(NonZeroU64),
    /// `truncate:K`
    Truncate(NonZeroU64),
    /// `dribble:N,D`
    Dribble(NonZeroU64, Duration),
    /// `idle-close:D`, `idle-reset:D`, `idle-408:D`, `idle-silence:D`
    Idle(IdleEnd, Duration),
}

/// How a connection that was idle for too long is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleEnd {
    /// With a FIN, unannounced.
    Close,
    /// With a RST.
    Reset,
    /// With a `408 Request Timeout` that nobody asked for, and a FIN.
    Answer408,
    /// Not at all; but nothing is answered on it any more.
    Silence,
}

/// The names and what follows them, for errors.
const FORMS: [&str; 18] = [
    "const:D",
    "kth:K,D1,D2",
    "stall:T,S",
    "once:T0,S",
    "conn-stall:K,D",
    "rate-cap:R",
    "slow-accept:D",
    "tls-cost:D",
    "two-write:D",
    "close-after:N",
    "ignore-close",
    "error:K",
    "truncate:K",
    "dribble:N,D",
    "idle-close:D",
    "idle-reset:D",
    "idle-408:D",
    "idle-silence:D",
];

impl Profile {
    /// The part before the colon; the four idle ends exclude each other, so they share one.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Profile::Const(_) => "const",
            Profile::Kth(..) => "kth",
            Profile::Stall(..) => "stall",
            Profile::Once(..) => "once",
            Profile::ConnStall(..) => "conn-stall",
            Profile::RateCap(_) => "rate-cap",
            Profile::SlowAccept(_) => "slow-accept",
            Profile::TlsCost(_) => "tls-cost",
            Profile::TwoWrite(_) => "two-write",
            Profile::CloseAfter(_) => "close-after",
            Profile::IgnoreClose => "ignore-close",
            Profile::Error(_) => "error",
            Profile::Truncate(_) => "truncate",
            Profile::Dribble(..) => "dribble",
            Profile::Idle(..) => "idle",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Profile::Const(d) | Profile::SlowAccept(d) | Profile::TlsCost(d) | Profile::TwoWrite(d) => {
                write!(f, "{name}:{d:?}")
            }
            Profile::Kth(k, fast, slow) => write!(f, "{name}:{k},{fast:?},{slow:?}"),
            Profile::Stall(a, b) | Profile::Once(a, b) => write!(f, "{name}:{a:?},{b:?}"),
            Profile::ConnStall(n, d) | Profile::Dribble(n, d) => write!(f, "{name}:{n},{d:?}"),
            Profile::RateCap(rate) => write!(f, "{name}:{rate}"),
            Profile::CloseAfter(n) | Profile::Error(n) | Profile::Truncate(n) => write!(f, "{name}:{n}"),
            Profile::IgnoreClose => f.write_str(name),
            Profile::Idle(end, d) => {
                let end = match end {
                    IdleEnd::Close => "close",
                    IdleEnd::Reset => "reset",
                    IdleEnd::Answer408 => "408",
                    IdleEnd::Silence => "silence",
                };
                write!(f, "{name}-{end}:{d:?}")
            }
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let Some(form) = FORMS.into_iter().find(|form| form.split(':').next() == Some(name)) else {
            return Err(format!("there is no profile `{name}`: write one of {}", FORMS.join(" ")));
        };
        let arguments: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split(',').collect() };
        parse(name, &arguments)
            .ok_or_else(|| format!("`{text}` is not of the form {form}: {}", forms_of_values(form)))
    }
}

/// How what stands in a form is written.
fn forms_of_values(form: &str) -> &'static str {
    match form {
        "rate-cap:R" => "R is requests per second, as in rate-cap:400",
        "close-after:N" | "error:K" | "truncate:K" => "a whole number, 1 or more",
        "ignore-close" => "it takes nothing",
        "stall:T,S" => "durations as 1s, 100ms or 250us, S shorter than T",
        _ => "durations as 1s, 100ms or 250us, K and N whole numbers, 1 or more",
    }
}

fn parse(name: &str, arguments: &[&str]) -> Option<Profile> {
    Some(match (name, arguments) {
        ("const", [d]) => Profile::Const(duration(d)?),
        ("kth", [k, fast, slow]) => Profile::Kth(k.parse().ok()?, duration(fast)?, duration(slow)?),
        ("stall", [every, length]) => {
            let (every, length) = (duration(every)?, duration(length)?);
            (length < every).then_some(Profile::Stall(every, length))?
        }
        ("once", [at, length]) => Profile::Once(duration(at)?, duration(length)?),
        ("conn-stall", [k, d]) => Profile::ConnStall(k.parse().ok()?, duration(d)?),
        ("rate-cap", [rate]) => {
            Profile::RateCap(rate.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)?)
        }
        ("slow-accept", [d]) => Profile::SlowAccept(duration(d)?),
        ("tls-cost", [d]) => Profile::TlsCost(duration(d)?),
        ("two-write", [d]) => Profile::TwoWrite(duration(d)?),
        ("close-after", [n]) => Profile::CloseAfter(n.parse().ok()?),
        ("ignore-close", []) => Profile::IgnoreClose,
        ("error", [k]) => Profile::Error(k.parse().ok()?),
        ("truncate", [k]) => Profile::Truncate(k.parse().ok()?),
        ("dribble", [n, d]) => Profile::Dribble(n.parse().ok()?, duration(d)?),
        ("idle-close", [d]) => Profile::Idle(IdleEnd::Close, duration(d)?),
        ("idle-reset", [d]) => Profile::Idle(IdleEnd::Reset, duration(d)?),
        ("idle-408", [d]) => Profile::Idle(IdleEnd::Answer408, duration(d)?),
        ("idle-silence", [d]) => Profile::Idle(IdleEnd::Silence, duration(d)?),
        _ => return None,
    })
}

/// A number with its unit: `1.5s`, `20ms`, `250us`, `0`.
fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "" if number == "0" => 0.0,
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok()? * scale;
    // Thirty years, as everywhere: sums of them are still instants.
    (0.0..=1e9).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// When a response is ready, as far as that depends on its own request alone. Times are since the first request.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Vec<Profile>);

impl Holds {
    pub(super) fn of(profiles: &[Profile]) -> Holds {
        Holds(profiles.to_vec())
    }

    /// The instant at which the `nth` request of the server, on its `connection`-th connection, is to be answered
    /// when it has arrived, or left the queue, at `arrival`.
    pub(super) fn ready(&self, arrival: Duration, nth: u64, connection: u64) -> Duration {
        let waits: Duration = self
            .0
            .iter()
            .map(|profile| match *profile {
                Profile::Const(d) => d,
                Profile::Kth(k, fast, slow) => {
                    if nth.is_multiple_of(k.get()) {
                        slow
                    } else {
                        fast
                    }
                }
                Profile::ConnStall(k, d) if connection.is_multiple_of(k.get()) => d,
                _ => Duration::ZERO,
            })
            .sum();
        self.0.iter().fold(arrival + waits, |ready, profile| match *profile {
            Profile::Stall(every, length) => after_stall(ready, every, length),
            Profile::Once(at, length) if ready >= at => ready.max(at + length),
            _ => ready,
        })
    }
}

/// The end of the stall that `at` falls into, or `at`.
fn after_stall(at: Duration, every: Duration, length: Duration) -> Duration {
    let into = Duration::from_nanos((at.as_nanos() % every.as_nanos()) as u64);
    at + length.saturating_sub(into)
}

/// One server that does one thing at a time, each taking the same time: the queue of M/D/1, D/D/1 and their like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    service: Duration,
    free_at: Duration,
}

impl Queue {
    pub(super) fn of(profiles: &[Profile]) -> Option<Queue> {
        profiles.iter().find_map(|profile| match profile {
            Profile::RateCap(rate) => {
                Some(Queue { service: Duration::from_secs_f64(1.0 / rate), free_at: Duration::ZERO })
            }
            _ => None,
        })
    }

    /// Takes a request in at `arrival`; answers when it will have been served.
    pub(super) fn served(&mut self, arrival: Duration) -> Duration {
        self.free_at = self.free_at.max(arrival) + self.service;
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    fn profile(text: &str) -> Profile {
        text.parse().unwrap()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The latencies of evenly spaced requests, shortest first.
    fn latencies(profiles: &[&str], per_s: u64, seconds: u64) -> Vec<Duration> {
        let holds = Holds::of(&profiles.iter().map(|text| profile(text)).collect::<Vec<_>>());
        let mut all: Vec<_> = (0..per_s * seconds)
            .map(|n| {
                let arrival = Duration::from_nanos((2 * n + 1) * 500_000_000 / per_s);
                holds.ready(arrival, n + 1, 1) - arrival
            })
            .collect();
        all.sort_unstable();
        all
    }

    fn quantile(sorted: &[Duration], q: f64) -> f64 {
        sorted[((sorted.len() as f64 * q).ceil() as usize).max(1) - 1].as_secs_f64() * 1e3
    }

    fn mean(all: &[Duration]) -> f64 {
        all.iter().sum::<Duration>().as_secs_f64() * 1e3 / all.len() as f64
    }

    #[test]
    fn every_form_reads_back_as_it_prints() {
        for text in [
            "const:5ms",
            "kth:50,1ms,200ms",
            "stall:1s,100ms",
            "once:10s,10s",
            "conn-stall:10,20ms",
            "rate-cap:1000",
            "slow-accept:20ms",
            "tls-cost:20ms",
            "two-write:250µs",
            "close-after:100",
            "ignore-close",
            "error:10",
            "truncate:3",
            "dribble:4,2ms",
            "idle-close:5s",
            "idle-reset:5s",
            "idle-408:5s",
            "idle-silence:5s",
        ] {
            let text = text.replace('µ', "u");
            assert_eq!(profile(&text).to_string().replace('µ', "u"), text);
        }
    }

    #[test]
    fn what_is_no_profile_is_refused_with_its_form() {
        for (text, hint) in [
            ("slow", "write one of const:D"),
            ("const", "const:D"),
            ("const:fast", "const:D"),
            ("const:10000000000s", "const:D"),
            ("kth:0,1ms,2ms", "kth:K,D1,D2"),
            ("stall:1s,2s", "stall:T,S: durations as 1s, 100ms or 250us, S shorter than T"),
            ("rate-cap:0", "rate-cap:R: R is requests per second"),
            ("ignore-close:1", "ignore-close: it takes nothing"),
            ("error:0", "error:K: a whole number, 1 or more"),
        ] {
            let error = text.parse::<Profile>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    /// P(L > x) = (S + s - x)/T for s < x < S + s; mean = s + S^2/(2T).
    #[test]
    fn a_stall_of_100_ms_each_second_has_the_closed_forms_quantiles() {
        let all = latencies(&["const:1ms", "stall:1s,100ms"], 10_000, 10);
        for (q, expected) in [(0.5, 1.0), (0.90, 1.0), (0.95, 51.0), (0.99, 91.0)] {
            assert!((quantile(&all, q) - expected).abs() < 0.2, "p{}: {}", q * 100.0, quantile(&all, q));
        }
        assert!((mean(&all) - 6.0).abs() < 0.05, "{}", mean(&all));
    }

    /// Tene's freeze, a tenth of its length: 10 s good, 10 s frozen.
    #[test]
    fn a_freeze_of_half_the_run_is_felt_by_half_of_the_requests() {
        let all = latencies(&["const:1ms", "once:10s,10s"], 100, 20);
        for (q, expected) in [(0.5, 1.0), (0.75, 5_001.0), (0.90, 8_001.0), (0.99, 9_801.0)] {
            assert!((quantile(&all, q) - expected).abs() <= 10.0, "p{}: {}", q * 100.0, quantile(&all, q));
        }
        assert!((mean(&all) - 2_501.0).abs() < 10.0, "{}", mean(&all));
    }

    #[test]
    fn every_fiftieth_request_is_slow_and_no_other() {
        let all = latencies(&["kth:50,1ms,200ms"], 500, 10);
        assert_eq!((quantile(&all, 0.95), quantile(&all, 0.99)), (1.0, 200.0));
        assert!((mean(&all) - 4.98).abs() < 1e-9);
    }

    #[test]
    fn every_kth_connection_is_slow_and_waits_add_up() {
        let holds = Holds::of(&[profile("const:1ms"), profile("conn-stall:3,20ms")]);
        assert_eq!(holds.ready(ms(5), 1, 3), ms(26));
        assert_eq!(holds.ready(ms(5), 1, 4), ms(6));
    }

    /// Pollaczek and Khinchine for deterministic service: mean wait = rho s / (2 (1 - rho)).
    #[test]
    fn the_queue_is_m_d_1_under_poisson_and_empty_under_even_arrivals() {
        let responses = |gap: &mut dyn FnMut() -> f64| {
            let mut queue = Queue::of(&[profile("rate-cap:1000")]).unwrap();
            let mut at = 0.0;
            let n = 400_000;
            let sum: Duration = (0..n)
                .map(|_| {
                    at += gap();
                    let arrival = Duration::from_secs_f64(at);
                    queue.served(arrival) - arrival
                })
                .sum();
            sum.as_secs_f64() * 1e3 / f64::from(n)
        };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut poisson = || -(1.0 - (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).ln() / 700.0;
        let expected = 1.0 + 0.7 / (2.0 * 0.3);
        assert!((responses(&mut poisson) / expected - 1.0).abs() < 0.03);
        assert!((responses(&mut || 1.0 / 700.0) - 1.0).abs() < 1e-6);
    }
}
