//! The probe: what a path does to idle connections. It opens a few connections to one address, asks once on each,
//! and then is silent: some watch how they end, some ask again after a chosen time. What it saw is a
//! [`Findings`].
//!
//! Nothing here goes through the pool, which would reuse and retry: the probe dates every byte and every end itself.

use std::fmt;
use std::time::Duration;

use crate::config::Resolve;
use crate::findings::{Findings, Soak};
use crate::load::{Refusal, Stop};
use crate::plan::Target;
use crate::tls::TlsConfig;

mod answer;
mod behind;
mod crew;
mod diag;
mod field;
mod find;
mod first_look;
mod first_request;
mod gate;
mod judge;
mod layer;
mod limits;
mod line;
mod pulse;
mod race;
mod run;
mod soak;
mod target;

pub use self::soak::Soaking;

/// What to probe, and within which bounds.
#[derive(Clone, Debug)]
pub struct Probing {
    /// What is asked.
    pub target: ProbeTarget,
    /// How TLS is spoken with an `https` target.
    pub tls: TlsConfig,
    /// Addresses to use instead of the resolver's.
    pub resolve: Vec<Resolve>,
    /// The command line, to be saved with the findings.
    pub command: Vec<String>,
    /// The bounds.
    pub limits: ProbeLimits,
}

/// What is asked on every connection.
#[derive(Clone, Debug)]
pub enum ProbeTarget {
    /// An HTTP request.
    Http(Target),
    /// Bytes over plain TCP.
    Tcp {
        /// `tcp://host:port`.
        url: String,
        /// What is sent first, and again to ask whether the connection lives; empty: nothing, so that only a
        /// visible close can be seen.
        send: Vec<u8>,
        /// What the answer, or the greeting, contains; empty: anything.
        expect: Vec<u8>,
    },
}

/// The bounds of a probe. Every one is a promise to the target.
#[derive(Clone, Debug)]
pub struct ProbeLimits {
    /// The longest idle time that is tried. Default: 10 minutes.
    pub max_idle: Duration,
    /// The longest that the whole probe may take; `None`: four times `max_idle`, in which a silent drop can be
    /// found and confirmed. Default: `None`.
    pub budget: Option<Duration>,
    /// The most connections held at a time. Default: 32.
    pub connections: u32,
    /// The most connections opened in a second. Default: 20.
    pub connects_per_s: u32,
    /// Whether to wait for the end of connections that sent no request, up to `max_idle`; otherwise they are
    /// watched only while the rest goes on. Default: no.
    pub first_request: bool,
    /// The most requests that are sent on one connection, 200 a second, to see whether their number is limited; 0:
    /// none. Default: 2,000.
    pub requests: u64,
    /// The age up to which connections in use are followed, to see whether that is limited; `None`: it is not tried.
    /// Default: none.
    pub lifetime: Option<Duration>,
    /// Whether to ask close to the timeout, to see from when on requests are lost. Default: no.
    pub race: bool,
    /// Whether to try which keep-alive holds the path open: TCP's, or requests. Default: no.
    pub layer: bool,
    /// How long one answer may take. Default: 5 s.
    pub max_time: Duration,
    /// How long name lookup, TCP and TLS may take together. Default: 10 s.
    pub connect_timeout: Duration,
}

impl Default for ProbeLimits {
    fn default() -> ProbeLimits {
        ProbeLimits {
            max_idle: Duration::from_secs(600),
            budget: None,
            connections: 32,
            connects_per_s: 20,
            first_request: false,
            requests: 2000,
            lifetime: None,
            race: false,
            layer: false,
            max_time: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl ProbeLimits {
    /// The budget in force.
    pub fn budget(&self) -> Duration {
        self.budget.unwrap_or(self.max_idle.saturating_mul(4))
    }

    /// What cannot work, said with the cure; `None` when everything fits.
    pub fn fault(&self) -> Option<String> {
        const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
        if self.max_idle < Duration::from_millis(100) {
            return Some("--max-idle is below 100ms: nothing could be told apart; use 100ms or more".into());
        }
        if self.max_idle > LONGEST || self.budget() > LONGEST * 4 {
            return Some("--max-idle is above a week: no timer is worth that; use less".into());
        }
        if self.budget() < self.max_idle {
            return Some("--budget is below --max-idle: raise it, or lower --max-idle".into());
        }
        if self.connections < 12 {
            return Some(
                "--connections is below 12: watchers and senders need that many; use 12 or more".into(),
            );
        }
        if self.connects_per_s == 0 {
            return Some("--connects-per-second is 0: nothing could be opened; use 1 or more".into());
        }
        if self.max_time.is_zero() {
            return Some("--max-time is 0: no answer could come; use 1s or more".into());
        }
        None
    }
}

/// What happens now, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// The target answered.
    Reached {
        /// Its address.
        address: String,
    },
    /// Connections are idle, and the longest has been for so long.
    Holding {
        /// How many.
        connections: usize,
        /// For how long.
        longest: Duration,
    },
    /// Connections were seen to end; both sides of that are being tried again.
    Found {
        /// After this idle time.
        idle: Duration,
    },
    /// Connections that look alive are dead after some idle time; it is being narrowed down.
    Bracketed {
        /// Alive after so long.
        alive: Duration,
        /// Dead after so long.
        dead: Duration,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Reached { address } => write!(f, "reached {address}"),
            Progress::Holding { connections, longest } => {
                write!(f, "alive after {} s, {connections} connections held", longest.as_secs())
            }
            Progress::Found { idle } => {
                write!(f, "connections ended after {:.2} s; trying both sides of it", idle.as_secs_f64())
            }
            Progress::Bracketed { alive, dead } => write!(
                f,
                "alive after {:.2} s and dead after {:.2} s; narrowing it down",
                alive.as_secs_f64(),
                dead.as_secs_f64()
            ),
        }
    }
}

/// Probes a path. Blocks the calling thread until there is an answer, the budget is spent, or it is asked to stop;
/// what is known by then is in the findings.
///
/// # Errors
///
/// A [`Refusal`] when nothing could be probed: the settings cannot work, or the target did not answer at first.
pub fn run(probing: Probing, stop: &Stop, watch: &mut dyn FnMut(Progress)) -> Result<Findings, Refusal> {
    run::run(probing, stop, watch)
}

/// Holds many connections at one idle time and counts those that a client could still have used. Blocks the calling
/// thread as [`run`] does.
///
/// # Errors
///
/// A [`Refusal`] when nothing could be tried: the settings cannot work, or the target did not answer at first.
pub fn soak(
    probing: Probing,
    soaking: Soaking,
    stop: &Stop,
    watch: &mut dyn FnMut(Progress),
) -> Result<Soak, Refusal> {
    soak::soak(probing, soaking, stop, watch)
}
