//! The load driver: visits the arms of a [`Plan`] in short slots, in a fresh random order every round, through
//! the library's own pool, and hands on a [`Measurement`].

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::measurement::{Measurement, Slot};
use crate::plan::{Arrivals, Model, Plan};
use crate::tls::TlsConfig;

mod driver;
pub(crate) mod first_look;
mod highest;
pub mod live;
mod network;
mod processes;
mod purity;
mod ready;
mod recorder;
mod request;
mod search;
mod tickets;
mod usage;
mod worker;

pub use live::Live;
pub use network::{ConnectTo, Network};
pub use ready::until_it_answers;

/// A flag by which a run is asked to stop early. What was measured until then is kept.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

/// How often somebody who waits for something else looks at the flag.
const GLANCE: Duration = Duration::from_millis(20);

impl Stop {
    /// Asks the run to stop.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was asked to.
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// What comes of this, unless it is asked to stop before.
    pub(crate) async fn unless_set<T>(&self, coming: impl Future<Output = T>) -> Option<T> {
        let mut coming = pin!(coming);
        while !self.is_set() {
            if let Ok(come) = tokio::time::timeout(GLANCE, coming.as_mut()).await {
                return Some(come);
            }
        }
        None
    }

    fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// The load to offer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Closed loop: every connection sends its next request when the previous one is done.
    Closed,
    /// Open loop at a rate.
    Rate(f64, Arrivals),
    /// Open loop at the highest rate that holds the plan's goal ([`Plan::search`]).
    Search(Arrivals),
    /// Open loop at half of the smallest capacity of any arm, found in a short search; or at less, for the sending threads to
    /// have time to spare.
    HalfOfCapacity(Arrivals),
}

/// A comparison to be run: the plan, and what a plan does not say.
#[derive(Clone, Debug)]
pub struct Comparing {
    /// What to do. Its model is replaced by what `load` comes to.
    pub plan: Plan,
    /// The load to offer.
    pub load: Load,
    /// TLS for all arms; whether an arm resumes is the arm's own.
    pub tls: TlsConfig,
    /// By which way connections go.
    pub network: Network,
    /// Whether every arm is asked in up to five short looks until it is steady, uncounted, before the rounds. Half of
    /// the capacity cannot be known without them.
    pub warm_up: bool,
    /// The command line, to be saved with the result.
    pub command: Vec<String>,
    /// Whether the target is keeplive's own server in this process.
    pub embedded: bool,
}

/// What happens now, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// The target was reached.
    Reached {
        /// Its address.
        address: String,
    },
    /// An arm's capacity is being looked for.
    Searching {
        /// The arm's name.
        arm: String,
    },
    /// An arm's capacity was found.
    Found {
        /// The arm's name.
        arm: String,
        /// Requests per second.
        requests_per_s: f64,
    },
    /// A rate is looked at, to see whether the goal holds.
    Looking {
        /// Requests per second.
        rate: f64,
    },
    /// The offered rate is settled and the rounds begin.
    Begins {
        /// Requests per second; `None` in a closed loop.
        rate: Option<f64>,
    },
    /// A slot begins.
    Slot {
        /// The round, from 1.
        round: u32,
        /// Of so many.
        rounds: u32,
        /// The arm's name.
        arm: String,
        /// How long everything will still take, if the target answers.
        left: Duration,
    },
}

/// Why a run could not be made. Its text tells the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The plan cannot work.
    Usage(String),
    /// The target did not answer the first request.
    Unreachable(String),
    /// This machine has too few local ports or descriptors.
    Budget(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Usage(text) | Refusal::Unreachable(text) | Refusal::Budget(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Refusal {}

/// Runs a comparison: first look, search, budget, rounds. Blocks the calling thread; the sending is done by
/// threads of its own.
///
/// # Errors
///
/// A [`Refusal`] when nothing was measured because nothing could be.
pub fn compare(
    comparing: Comparing,
    stop: &Stop,
    mut watch: &mut dyn FnMut(Progress),
) -> Result<Measurement, Refusal> {
    accompanied(comparing, stop, &mut watch)
}

/// Whoever accompanies a run: is told what happens, and may act between its rounds. A closure that takes a
/// [`Progress`] is one that only listens.
pub trait Companion {
    /// What happens now.
    fn tell(&mut self, progress: Progress);

    /// Where the run is to be counted while it runs.
    fn live(&self) -> Live {
        Live::default()
    }

    /// The load is settled and the rounds are about to begin.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] ends the run before its first round.
    fn settled(&mut self, _model: Model) -> Result<(), Refusal> {
        Ok(())
    }

    /// So many rounds are done, with these slots; the next is about to begin, if [`Next::Go`] is answered.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when the run cannot go on and nothing of it is to be kept.
    fn after_round(&mut self, _done: u32, _slots: &[Slot]) -> Result<Next, Refusal> {
        Ok(Next::Go)
    }

    /// The process that is an arm's target, where it runs on this machine and is known: what it and its descendants
    /// use is counted.
    fn process(&self, _arm: usize) -> Option<u32> {
        None
    }
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next round.
    Go,
    /// What was measured is enough.
    Enough,
}

impl<F: FnMut(Progress)> Companion for F {
    fn tell(&mut self, progress: Progress) {
        self(progress);
    }
}

/// As [`compare`], accompanied.
///
/// # Errors
///
/// A [`Refusal`] when nothing was measured because nothing could be, or what the companion refused.
pub fn accompanied(
    comparing: Comparing,
    stop: &Stop,
    companion: &mut dyn Companion,
) -> Result<Measurement, Refusal> {
    driver::Driver::new(comparing, stop.clone())?.run(companion)
}

/// A seed for a run that was given none.
pub fn fresh_seed() -> u64 {
    let now = crate::clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Twelve digits are enough, and can be typed.
    (now.as_nanos() / 1000 % 1_000_000_000_000) as u64
}
